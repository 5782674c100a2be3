"""Arguments that come as JSON, from the command line: what is wrong with them is said, never what they hold.

There may be keys among them, so that a message names arguments and places, and shows no value.
"""

import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from smcgen.errors import SECRET, InvalidArgument, SmcgenError, UnknownName

_UNKNOWN = re.compile(r"(?:unexpected keyword argument|multiple values for argument) '(\w+)'")
_PASSED_ON = ("engine_args", "model_kwargs")  # names of what engines hand to other libraries


def json_object(name: str, text: str | None, shown: bool = False) -> dict[str, Any]:
    """The arguments; none if there is no text. What is wrong is `shown` only where there can be no key.

    Raises:
        InvalidArgument: it is not a JSON object.
    """
    came = text if shown else "..."
    try:
        found = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        # not "from error", which holds the text
        raise InvalidArgument(
            name, came, f"a JSON object; at {where}: {error.msg.split(':')[0]}"
        ) from None
    except RecursionError:
        raise InvalidArgument(name, came, "a JSON object, less deep") from None
    if not isinstance(found, dict):
        raise InvalidArgument(name, came, f"a JSON object, not a {type(found).__name__}")
    return found


def asked(
    what: str, kinds: Mapping[str, tuple[str, str]], kind: str, name: str, options: str | None
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """What makes a `kind`, given by module and name and imported now, and its arguments.

    Raises:
        UnknownName: there is no such kind.
        InvalidArgument: the options are not a JSON object.
    """
    if kind not in kinds:
        raise UnknownName(what, kind, kinds)
    arguments = json_object(name, options)
    module, attribute = kinds[kind]
    return getattr(importlib.import_module(module), attribute), arguments


def made(name: str, make: Callable[..., Any], first: Any, arguments: Mapping[str, Any]) -> Any:
    """`make(first, **arguments)`; if it fails because of the arguments, it says so in one line.

    Raises:
        InvalidArgument: there is no such argument, or what makes the object cannot use it.
    """
    try:
        return make(first, **arguments)
    except SmcgenError as error:
        if not isinstance(error, InvalidArgument) or error.name not in _PASSED_ON:
            raise
        _raise_unknown(name, make, arguments, error)
        raise
    except (TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        _raise_unknown(name, make, arguments, error)
        if not arguments:
            raise
        said = _hidden(str(error), arguments).strip().split("\n")[0][:200]
        allowed = f"what {_called(make)} can use ({type(error).__name__}: {said})"
        raise InvalidArgument(name, sorted(arguments), allowed) from error


def _raise_unknown(name: str, make: Any, arguments: Mapping[str, Any], error: Exception) -> None:
    found = _UNKNOWN.search(str(error))
    if found is None or found[1] not in arguments:
        return
    parameters = list(inspect.signature(make).parameters.values())
    known = [p.name for p in parameters[1:] if p.kind is not p.VAR_KEYWORD]
    if parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        known.append("or those of what it loads")
    allowed = f"an argument of {_called(make)}: {', '.join(known)}"
    raise InvalidArgument(name, found[1], allowed) from error


def _called(make: Any) -> str:
    return getattr(make, "__name__", "it").lstrip("_")


def _hidden(text: str, arguments: Mapping[str, Any]) -> str:
    """Without the values of arguments that are named like secrets."""
    for key, value in arguments.items():
        if SECRET.search(key) and str(value):
            text = text.replace(str(value), "***")
    return text

"""What vLLM says of arguments that it does not take, as one short error that names the argument."""

import dataclasses
import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from smcgen.errors import InvalidArgument


def check_known(engine_args: Mapping[str, Any]) -> None:
    """Refuse what is no engine argument of vLLM's.

    Raises:
        InvalidArgument: the first such argument, with the name that was meant if there is one like it.
    """
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    known = {field.name for field in dataclasses.fields(EngineArgs)}
    known |= set(inspect.signature(LLM.__init__).parameters) - {"self", "kwargs"}
    for name in engine_args:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise InvalidArgument(name, engine_args[name], f"an engine argument of vLLM's{meant}")


def refused(
    error: Exception,
    args: Mapping[str, Any],
    longest: Callable[[], int] | None = None,
) -> InvalidArgument:
    """The error to raise for what vLLM raised while it was configured with `args`.

    `longest` tells how many tokens the model takes without a `max_model_len`.
    """
    if longest is not None and any("max_model_len" in f"{n} {why}" for n, why in _said(error)):
        try:
            most = longest()
        except InvalidArgument as other:  # it is not the length alone
            return other
        got = args["max_model_len"]
        return InvalidArgument("max_length", got, f"None or an integer in [1, {most}]")
    allowed = f"what vLLM accepts ({reason(error)})"
    return named(error, args) or InvalidArgument("engine_args", sorted(args), allowed)


def named(error: Exception, args: Mapping[str, Any]) -> InvalidArgument | None:
    """The error that names the one of `args` that vLLM complains about, if it can be told."""
    said = _said(error)
    found = [(name, why) for name, why in said if name in args]
    if not found and isinstance(error, TypeError):
        found = _of_wrong_type(args)
    if not found:  # the reason may speak of it
        words = set(re.findall(r"\w+", " ".join(why for _, why in said)))
        found = [(name, reason(error)) for name in args if name in words and name != "model"]
    if not found:
        return None
    name = found[0][0]
    reasons = dict.fromkeys(why for n, why in found if n == name)
    return InvalidArgument(name, args[name], f"what vLLM accepts ({'; '.join(reasons)})")


def reason(error: Exception) -> str:
    """All that an error says, on one line."""
    return "; ".join(dict.fromkeys(why for _, why in _said(error)))


def _said(error: Exception) -> list[tuple[str, str]]:
    """(argument or "", reason), without what pydantic writes around them."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return [("", " ".join(str(error).split()))]
    return [
        (str(one["loc"][0]) if one["loc"] else "", one["msg"].removeprefix("Value error, "))
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def _of_wrong_type(args: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The arguments of another type than vLLM declares: it computes with some before it looks."""
    from pydantic import TypeAdapter, ValidationError
    from vllm.engine.arg_utils import EngineArgs

    found = []
    for field in dataclasses.fields(EngineArgs):
        if field.name in args and not isinstance(field.type, str):
            try:
                TypeAdapter(field.type).validate_python(args[field.name])
            except ValidationError as error:
                found += [(field.name, why) for _, why in _said(error)]
            except Exception:  # a type that pydantic does not know says nothing
                continue
    return found

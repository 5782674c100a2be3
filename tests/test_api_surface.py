"""The public API, written out: a change of it changes `tests/api_surface.txt`, seen in review.

If the change is meant:  python tests/test_api_surface.py --update
"""

import difflib
import enum
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SURFACE = Path(__file__).with_name("api_surface.txt")
ROOT = Path(__file__).parents[1]


def packages() -> list[str]:
    """smcgen and its public packages, outer ones first."""
    folders = [file.parent.relative_to(ROOT).parts for file in ROOT.glob("smcgen/**/__init__.py")]
    public = [parts for parts in folders if not any(part.startswith("_") for part in parts)]
    return [".".join(parts) for parts in sorted(public, key=lambda parts: (len(parts), parts))]


def surface() -> str:
    """Every public name of the public packages with its signature, listed where it comes first."""
    lines: list[str] = []
    seen: set[int] = set()
    for package in packages():
        module = importlib.import_module(package)
        for name in sorted(getattr(module, "__all__", [])):
            value = getattr(module, name)
            if inspect.ismodule(value) or (callable(value) and id(value) in seen):
                continue
            seen.add(id(value))
            lines += describe(f"{package}.{name}", value)
    return "\n".join(lines) + "\n"


def describe(name: str, value: object) -> Iterator[str]:
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        yield f"enum {name}: {', '.join(value.__members__)}"
    elif inspect.isclass(value):
        yield f"class {name}{signature(value)}"
        for member, raw in sorted(members(value).items()):
            if isinstance(raw, property):
                yield f"    {member}: property"
            elif isinstance(raw, classmethod | staticmethod):
                yield f"    {type(raw).__name__} {member}{signature(raw.__func__)}"
            elif callable(raw):
                yield f"    {member}{signature(raw)}"
    elif callable(value):
        yield f"def {name}{signature(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def members(cls: type) -> dict[str, object]:
    """Public methods and properties, those inherited from our own classes included."""
    ours = [base for base in reversed(cls.__mro__) if base.__module__.startswith("smcgen")]
    found = {name: raw for base in ours for name, raw in vars(base).items()}
    return {name: raw for name, raw in found.items() if not name.startswith("_")}


def signature(value: object) -> str:
    """Parameter names, kinds and defaults; types are for the documentation."""
    try:
        sig = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    bare = [p.replace(annotation=p.empty) for p in sig.parameters.values()]
    text = str(sig.replace(parameters=bare, return_annotation=sig.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def test_public_api_is_the_one_on_file():
    # In a process of its own, without the run-time checks of the test run.
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    on_file = SURFACE.read_text(encoding="utf-8") if SURFACE.exists() else ""
    difference = difflib.unified_diff(
        on_file.splitlines(), done.stdout.splitlines(), "on file", "now", lineterm="", n=0
    )
    message = "\n".join(difference)
    assert not message, f"{message}\n\nIf meant: python tests/test_api_surface.py --update"


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.path.insert(0, str(ROOT))
    if "--update" in sys.argv[1:]:
        text = surface()
        SURFACE.write_text(text, encoding="utf-8")
        print(f"wrote {SURFACE.name}: {text.count(chr(10))} lines")
    else:
        sys.stdout.reconfigure(encoding="utf-8")
        sys.stdout.write(surface())

"""Where the small trained models are that ship with smcgen."""

from pathlib import Path

from smcgen.errors import UnknownName

_PACKAGE = Path(__file__).parent
# a wheel carries them inside the package; a checkout has them beside it
_PLACES = (_PACKAGE / "_models", _PACKAGE.parent / "models")


def shipped(name: str) -> Path:
    """Folder of a shipped model (`"tape-policy"`) or data file (`"data/tape.jsonl"`).

    The models load with `from_pretrained(shipped(name))`; each folder's README.md is its card.
    """
    for place in _PLACES:
        if (place / name).exists():
            return place / name
    known = {
        p.name
        for place in _PLACES
        if place.is_dir()
        for p in place.iterdir()
        if (p / "config.json").exists()
    }
    raise UnknownName("name", name, known)

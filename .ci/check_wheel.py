"""Check the built wheel: it carries the models and no leftovers, and imports.

Usage: python .ci/check_wheel.py DIST_FOLDER
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Run in a process of its own, outside the repository, with the unpacked wheel first on its path.
# The package's dependencies need not be installed: what is asked is where it is found.
PROBE = """
import importlib.util, pathlib, sys
spec = importlib.util.find_spec("smcgen")
root = pathlib.Path(sys.argv[1]).resolve()
assert spec is not None and spec.origin is not None, "smcgen is not found"
assert pathlib.Path(spec.origin).resolve().is_relative_to(root), spec.origin
if importlib.util.find_spec("jax") is not None:
    import smcgen
    from smcgen._version import __version__
    print("imported smcgen", __version__, "from the wheel")
"""


def main(dist: Path) -> None:
    """Check the one wheel in `dist`."""
    [wheel] = dist.glob("smcgen-*.whl")
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        names = archive.namelist()
        complain(names)
        archive.extractall(folder)
        env = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        subprocess.run([sys.executable, "-P", "-c", PROBE, folder], cwd=folder, env=env, check=True)
    size = wheel.stat().st_size / 2**20
    print(f"{wheel.name}: {len(names)} files, {size:.1f} MiB")


def complain(names: list[str]) -> None:
    """Exit with a message if the list of files is not what a wheel of ours should hold."""
    models = [name for name in names if name.startswith("smcgen/_models/")]
    expected = {
        "no models in the wheel": bool(models),
        "no weights among the models": any(name.endswith(".safetensors") for name in models),
        "py.typed is missing": "smcgen/py.typed" in names,
        "a top-level package besides smcgen": all(
            name.startswith(("smcgen/", "smcgen-")) for name in names
        ),
        "caches or logs": not any(
            "__pycache__" in name or name.endswith((".log", ".pyc")) for name in names
        ),
        "pickled files": not any(name.endswith((".pkl", ".pt", ".bin", ".pth")) for name in names),
    }
    if wrong := [complaint for complaint, fine in expected.items() if not fine]:
        sys.exit("wheel: " + "; ".join(wrong))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

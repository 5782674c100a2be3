"""Without the extra: importing the server says what to install, and the command line works."""

import importlib
import subprocess
import sys

import pytest

from smcgen.errors import MissingExtra


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_importing_says_what_is_missing(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"{package}.*smcgen\[serve\]"):
        importlib.reload(sys.modules["smcgen.serve"])


def test_the_command_line_does_not_need_it():
    code = (
        "import sys\nfor name in ('fastapi', 'uvicorn', 'prometheus_client'): sys.modules[name] = None\n"
        "from typer.testing import CliRunner; from smcgen.cli import app\n"
        "assert 'serve' in CliRunner().invoke(app, ['--help']).output\n"
        "done = CliRunner().invoke(app, ['serve', 'm'])\n"
        "assert done.exit_code == 2 and 'smcgen[serve]' in done.stderr, done.stderr\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)

"""Documentation that runs: examples and the README's code do what they say.

They run in this process, compiled as the other tests are; one example and one block run as a user runs them, in a
Python of their own without the settings of the tests.
"""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# tried with pipelines that fit in tests/diffusion/pipelines/test_examples.py
ON_A_GPU = {"stable_diffusion.py", "flux.py"}
EXAMPLES = [p for p in sorted((ROOT / "examples").glob("*.py")) if p.name not in ON_A_GPU]
PAGES = [p for p in sorted((ROOT / "docs").glob("*.md")) if "```python" in p.read_text()]


def blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


README = blocks(ROOT / "README.md")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example_runs(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("code", README, ids=range(len(README)))
def test_readme_code_runs(code, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize(
    "arguments",
    [["examples/stochastic_volatility.py"], ["-c", README[2]]],
    ids=["example", "README"],
)
def test_on_its_own(arguments):
    ours = {"JAX_DISABLE_MOST_OPTIMIZATIONS", "XLA_FLAGS", "MPLBACKEND"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k not in ours},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_the_code_of_a_page_runs(path, monkeypatch):
    """Blocks of a page marked `python`, in order, as one program; those marked `py` are only read."""
    monkeypatch.chdir(ROOT)
    exec(compile("\n".join(blocks(path)), path.name, "exec"), {"__name__": "page"})

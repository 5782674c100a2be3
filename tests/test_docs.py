"""Documentation that runs: examples and the README's code do what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# tried with pipelines that fit in tests/diffusion/pipelines/test_examples.py
ON_A_GPU = {"stable_diffusion.py", "flux.py"}
EXAMPLES = [p for p in sorted((ROOT / "examples").glob("*.py")) if p.name not in ON_A_GPU]
PAGES = [p for p in sorted((ROOT / "docs").glob("*.md")) if "```python" in p.read_text()]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def run(arguments: list[str]) -> str:
    # optimised, as users run it; XLA's emitters are those of the other tests, which compile sooner
    env = {k: v for k, v in os.environ.items() if k != "JAX_DISABLE_MOST_OPTIMIZATIONS"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_example_runs(path):
    assert run([str(path)]).strip()


@pytest.mark.slow
@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_readme_code_runs(code):
    run(["-c", code])


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_the_code_of_a_page_runs(path, monkeypatch):
    """Blocks of a page marked `python`, in order, as one program; those marked `py` are only read."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
    monkeypatch.chdir(ROOT)
    exec(compile(code, path.name, "exec"), {"__name__": "page"})

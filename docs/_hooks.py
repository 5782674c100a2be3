"""MkDocs hook: one API page for each public package, so that a new package is documented by existing."""

from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add `api/PACKAGE.md` for smcgen and each of its public packages."""
    root = Path(config.config_file_path).parent
    packages = list(public_packages(root / "smcgen", root))
    for package in packages:
        files.append(File.generated(config, f"api/{package}.md", content=f"::: {package}\n"))
    return files


def public_packages(folder: Path, root: Path) -> Iterator[str]:
    """Dotted names of the packages at and under `folder`, private ones left out."""
    if not (folder / "__init__.py").exists():
        return
    yield ".".join(folder.relative_to(root).parts)
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith(("_", ".")):
            yield from public_packages(child, root)

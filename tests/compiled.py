"""The modules that mypyc compiles (pyproject.toml, setup.py): are they there, and are they of the sources beside them?"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def sources() -> list[Path]:
    """Of the modules that are compiled."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return [ROOT / name for name in settings["tool"]["envoy-waf"]["compiled"]]


def _extension(source: Path) -> Path:
    return source.with_name(source.stem + EXTENSION_SUFFIXES[0])


def interpreted() -> list[Path]:
    """Sources whose extension module is missing."""
    return [source for source in sources() if not _extension(source).exists()]


def stale() -> list[Path]:
    """Sources that have changed since they were compiled, or that are not to be compiled any more: their extension
    modules are found first all the same."""
    built = ROOT / f"waf__mypyc{EXTENSION_SUFFIXES[0]}"
    if not built.exists():
        return []
    chosen = set(sources())
    folders = {source.parent for source in chosen}
    found = sorted(s for folder in folders for s in folder.glob("*.py") if _extension(s).exists())
    return [s for s in found if s not in chosen or s.stat().st_mtime > built.stat().st_mtime]


def complaint() -> str:
    """What is wrong and what to do, for a person; empty if nothing is."""
    changed = [str(source.relative_to(ROOT)) for source in stale()]
    return f"compiled before they changed: {', '.join(changed)}; run `make setup`, or `make pure`" if changed else ""


class _Sources(MetaPathFinder):
    """Finds our modules by their sources alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in ("waf_core", "extproc"):
            return None
        for folder in path or [str(ROOT)]:
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None:
                return spec
        return None


def interpret() -> None:
    """Leave the compiled modules alone; to be called before anything of ours is imported."""
    sys.meta_path.insert(0, _Sources())

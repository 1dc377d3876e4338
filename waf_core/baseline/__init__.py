"""The rule text that ships inside the package: engine settings and the built-in rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent


def resolve(argument: str) -> Sequence[str] | None:
    """`@recommended` and `@baseline` for Include; None for anything else."""
    if argument == "@recommended":
        return [str(FOLDER / "recommended.conf")]
    if argument == "@baseline":
        return [str(path) for path in sorted((FOLDER / "rules").glob("*.conf"))]
    return None

"""The rule text that ships inside the package: engine settings and the built-in rules."""

from __future__ import annotations

from collections.abc import Sequence
from glob import escape
from pathlib import Path

FOLDER = escape(str(Path(__file__).parent))


def resolve(argument: str) -> Sequence[str] | None:
    """`@recommended` and `@baseline` for Include: a pattern; None for anything else."""
    if argument == "@recommended":
        return [f"{FOLDER}/recommended.conf"]
    if argument == "@baseline":
        return [f"{FOLDER}/rules/*.conf"]
    return None

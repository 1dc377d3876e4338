"""The rule text that ships inside the package: engine settings and the built-in rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from waf_core.reading import within

FOLDER = Path(__file__).parent


def resolve(argument: str) -> Sequence[str] | None:
    """`@recommended` and `@baseline` for Include: a pattern; None for anything else."""
    if argument == "@recommended":
        return [within(FOLDER, "recommended.conf")]
    if argument == "@baseline":
        return [within(FOLDER / "rules", "*.conf")]
    return None

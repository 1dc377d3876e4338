"""Tables, and the machine that a bench ran on."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import compiled

MEMORY_BOUND_MB = 150
"""Of one worker."""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain columns, the first two to the left."""
    widths = [max(len(str(row[i])) for row in [heads, *rows]) for i in range(len(heads))]
    lines = []
    for row in [heads, *rows]:
        cells = [
            str(c).ljust(w) if i < 2 else str(c).rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def verdict(good: bool) -> str:
    """Of a bound."""
    return "holds" if good else "MISSED"


def bound_text(ratio: float, bound: float | None) -> str:
    """The verdict, with the bound."""
    if bound is None:
        return ""
    return f"1/{bound} {verdict(ratio >= bound)}"


def p99(values: Sequence[float]) -> float:
    """Of sorted values."""
    return values[int(len(values) * 0.99)]


def resident_mb(process: int | str = "self") -> float:
    """What a process holds in memory (proc(5), status: VmRSS)."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            model = next((line.split(":")[1].strip() for line in handle if line.startswith("model name")), model)
    except OSError:
        pass
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        # Which one matters: those of distributions and of Docker's images are built with profile-guided optimization.
        "python": f"{platform.python_version()} ({sys.base_prefix})",
        "engine": "interpreted" if compiled.interpreted() else "compiled",
        "system": platform.platform(),
        "date": datetime.date.today().isoformat(),
    }

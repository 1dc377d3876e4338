"""Where tests find the Core Rule Set: CRS_ROOT, the data folder, or beside the project."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).parent.parent


def find_crs() -> Path | None:
    """The newest CRS within reach that has its regression tests, or None."""
    if os.environ.get("CRS_ROOT"):
        path = Path(os.environ["CRS_ROOT"])
        return path if (path / "rules").is_dir() else None
    beside = PROJECT.parent / "shared" / "crs"
    for path in sorted(beside.glob("coreruleset-*"), reverse=True):
        if (path / "rules").is_dir():
            return path
    return None

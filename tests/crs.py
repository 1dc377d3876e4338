"""The Core Rule Set that tests use: one that has its regression tests."""

from __future__ import annotations

from pathlib import Path

from demo import stack


def find_crs() -> Path | None:
    """CRS_ROOT, the data folder, or the copy beside the project; None where there is none."""
    return stack.find_crs(with_tests=True)

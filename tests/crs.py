"""The Core Rule Set that tests use: one that has its regression tests."""

from __future__ import annotations

from pathlib import Path

from demo import stack


def find_crs() -> Path | None:
    """CRS_ROOT, the data folder, or the copy beside the project; None where there is none."""
    return stack.find_crs(with_tests=True)


def crs_or_skip() -> Path:
    """The same; without any the test is skipped."""
    import pytest  # the benches import this module where there is none

    root = find_crs()
    if root is None:
        pytest.skip("no Core Rule Set: run `envoy-waf crs install`, or set CRS_ROOT")
    return root

"""The regression tests of the Core Rule Set, in this process."""

from __future__ import annotations

import pytest

from tests.conformance.__main__ import amend, load_exceptions
from tests.conformance.engine import make_waf, run_case
from tests.conformance.ftw import load_cases
from tests.crs import find_crs


@pytest.mark.parametrize("part", range(4))
def test_every_crs_test_passes(part: int) -> None:
    root = find_crs()
    if root is None:
        pytest.skip("no Core Rule Set: run `envoy-waf crs install`, or set CRS_ROOT")
    waf = make_waf(root)
    exceptions = load_exceptions()
    cases = list(load_cases(root / "tests" / "regression" / "tests"))[part::4]
    assert len(cases) > 1000
    failed = {c.name: run_case(waf, c) for c in cases if amend(c, exceptions)}
    assert {name: found for name, found in failed.items() if found} == {}

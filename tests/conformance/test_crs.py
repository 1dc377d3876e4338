"""The regression tests of the Core Rule Set, in this process."""

from __future__ import annotations

import pytest

from extproc.ftw.tests import load_cases
from tests.conformance.__main__ import amend, load_exceptions
from tests.conformance.engine import make_waf, run_case
from tests.crs import crs_or_skip
from waf_core.compiler import CompileOptions


@pytest.mark.parametrize("part", range(4))
def test_every_crs_test_passes(part: int) -> None:
    root = crs_or_skip()
    waf = make_waf(root)
    exceptions = load_exceptions()
    cases = list(load_cases(root / "tests" / "regression" / "tests"))[part::4]
    assert len(cases) > 1000
    failed = {c.name: run_case(waf, c) for c in cases if amend(c, exceptions)}
    assert {name: found for name, found in failed.items() if found} == {}


def test_multiphase_evaluation_passes_them_too() -> None:
    """Except one: a rule that another rule of phase 2 removes has judged the query before."""
    root = crs_or_skip()
    waf = make_waf(root, CompileOptions(multiphase=True))
    exceptions = load_exceptions()
    cases = [c for c in load_cases(root / "tests" / "regression" / "tests") if amend(c, exceptions)]
    assert [case.name for case in cases if run_case(waf, case)] == ["920540-5"]

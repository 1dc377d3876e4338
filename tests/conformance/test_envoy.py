"""The regression tests of the Core Rule Set through the real Envoy."""

from __future__ import annotations

import pytest

from extproc.ftw.tests import load_cases
from tests.conformance.__main__ import amend, load_exceptions
from tests.conformance.envoy import EXCEPTIONS, run
from tests.crs import crs_or_skip

MAX_EXCEPTIONS = 40


@pytest.mark.xdist_group("crs-envoy")
def test_every_crs_test_passes_through_envoy_and_no_exception_is_idle() -> None:
    root = crs_or_skip()
    exceptions = load_exceptions(EXCEPTIONS)
    assert len(exceptions) <= MAX_EXCEPTIONS
    folder = root / "tests" / "regression" / "tests"
    excused = [case for case in load_cases(folder) if case.name in exceptions]
    assert set(run(excused, root, "buffered")) == set(exceptions)
    cases = [case for case in load_cases(folder) if amend(case, exceptions)]
    assert len(cases) > 4900
    assert run(cases, root, "buffered") == {}

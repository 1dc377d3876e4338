"""JSON documents made at random, judged by the Core Rule Set with the scan and Hyperscan, and rule by rule."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conformance.engine import make_waf
from tests.core.test_elements import ELEMENTS, document, outcome
from tests.core.test_scan import FRAGMENTS
from tests.core.transactions import PLAIN, make_databases
from tests.crs import find_crs
from waf_core import WAF
from waf_core.compiler import CompileOptions
from waf_core.scan.hyperscan_set import available
from waf_core.scan.limits import ScanLimits

MORE = [
    "busybox", "sleep(5)", "order by 9 desc", "' and ", " having 1", "curl h | sh", "<?php ", "eval(", "javascript:", "onload=",
    ".sql.", "1.e(", "etc/gtk-2.0", "169.254.169.254", "md5", "7z", "x" * 20, "word and word ", "-- ", "\\\"", "%2e", "&#46;",
]  # fmt: skip
TEXT = st.lists(st.sampled_from([*FRAGMENTS, *MORE]), min_size=1, max_size=6).map("".join)
ARRAYS = st.lists(st.tuples(TEXT, ELEMENTS, st.integers(1, 24)), max_size=2, unique_by=lambda item: item[0])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[WAF, WAF]:
    root = find_crs()
    if root is None:
        pytest.skip("no Core Rule Set: run `envoy-waf crs install`, or set CRS_ROOT")
    if not available():
        pytest.skip("Hyperscan cannot be used here")
    scanned = make_waf(root, CompileOptions(limits=ScanLimits(hyperscan_folder=tmp_path_factory.mktemp("hs"))))
    make_databases(scanned)
    assert all(patterns.uses_hyperscan for patterns in scanned.program.pattern_sets)
    return scanned, make_waf(root, PLAIN)


@settings(max_examples=200, deadline=None)
@given(ARRAYS, st.lists(TEXT, max_size=8), st.dictionaries(TEXT, TEXT, max_size=3))
def test_the_same_rules_match(
    pair: tuple[WAF, WAF], arrays: list[tuple[str, str, int]], texts: list[str], members: dict[str, str]
) -> None:
    body = json.dumps([json.loads(document(arrays)), texts, members]).encode()
    matched = [outcome(waf, "/", body)[0] for waf in pair]
    assert matched[0] == matched[1]

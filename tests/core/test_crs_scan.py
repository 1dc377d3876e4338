"""The Core Rule Set with the scan and Hyperscan, and rule by rule: texts and JSON documents made at random."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.hostile import assignments
from extproc.ftw.tests import Expectation, Stage
from tests.conformance.engine import make_waf, run_stage
from tests.core.attacks import patterns_of, request
from tests.core.matching import cut_matches, operator_of, text_of
from tests.core.test_elements import ELEMENTS, document, outcome, said
from tests.core.test_operators import NoTransaction
from tests.core.test_scan import FRAGMENTS
from tests.core.transactions import PLAIN, make_databases, run
from tests.crs import crs_or_skip
from waf_core import WAF
from waf_core.compiler import CompileOptions
from waf_core.operators import Operator
from waf_core.scan.hyperscan_set import available
from waf_core.scan.limits import ScanLimits

pytestmark = pytest.mark.xdist_group("databases")

MORE = [
    "busybox", "sleep(5)", "order by 9 desc", "' and ", " having 1", "curl h | sh", "<?php ", "eval(", "javascript:", "onload=",
    ".sql.", "1.e(", "etc/gtk-2.0", "169.254.169.254", "md5", "7z", "x" * 20, "word and word ", "-- ", "\\\"", "%2e", "&#46;",
]  # fmt: skip
TEXT = st.lists(st.sampled_from([*FRAGMENTS, *MORE]), min_size=1, max_size=6).map("".join)
LONG = st.builds(lambda text, times: text * times, TEXT, st.sampled_from([1, 1, 1, 10, 70, 400]))
ARRAYS = st.lists(st.tuples(LONG, ELEMENTS, st.integers(1, 24)), max_size=2, unique_by=lambda item: item[0])


@pytest.fixture(scope="module")
def pair(crs_databases: Path) -> tuple[WAF, WAF]:
    root = crs_or_skip()
    if not available():
        pytest.skip("Hyperscan cannot be used here")
    scanned = make_waf(root, CompileOptions(limits=ScanLimits(hyperscan_folder=crs_databases)))
    make_databases(scanned)
    assert all(patterns.uses_hyperscan for patterns in scanned.program.pattern_sets)
    return scanned, make_waf(root, PLAIN)


@settings(max_examples=200, deadline=None)
@given(ARRAYS, st.lists(LONG, max_size=8), st.dictionaries(TEXT, LONG, max_size=3))
def test_the_same_rules_match(
    pair: tuple[WAF, WAF], arrays: list[tuple[str, str, int]], texts: list[str], members: dict[str, str]
) -> None:
    body = json.dumps([json.loads(document(arrays)), texts, members]).encode()
    matched = [outcome(waf, "/", body)[0] for waf in pair]
    assert matched[0] == matched[1]


FILL = (b"a", b" ", b"=(", b"\n", b"x ", b"'", b"\x00")


def surrounded(text: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """At any place of a vector, and beside what other expressions look for: a library may miss a match for that."""
    size = rng.randrange(130)
    ahead = (rng.choice(FILL) * size)[:size]
    return b"".join([*rng.choices(others, k=rng.randrange(4)), ahead, text, *rng.choices(others, k=rng.randrange(3))])


@pytest.fixture(scope="module")
def operators(pair: tuple[WAF, WAF]) -> list[list[Operator]]:
    """For each set of patterns, by their numbers."""
    return [[operator_of(pattern) for pattern in patterns.patterns] for patterns in pair[0].program.pattern_sets]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 64))
def test_what_a_pattern_matches_is_found_wherever_it_stands(
    pair: tuple[WAF, WAF], operators: list[list[Operator]], seed: int
) -> None:
    rng = random.Random(seed)
    for patterns, owners in zip(pair[0].program.pattern_sets, operators, strict=True):
        made = [(number, text_of(pattern, rng)) for number, pattern in enumerate(patterns.patterns)]
        texts = [(number, text) for number, text in made if text is not None]
        assert len(texts) > 0.9 * len(owners)
        others = [text for _, text in texts if len(text) < 60]
        placed = [(number, surrounded(text, others, rng)) for number, text in texts]
        matching_ones = [(number, text) for number, text in placed if owners[number].holds(text, NoTransaction())]
        assert len(matching_ones) > 0.5 * len(owners)
        patterns.begin()
        for number, text in matching_ones:
            assert patterns.find({text: 1 << number}).get(text, 0) >> number & 1, (patterns.patterns[number], text)
        everything = (1 << len(owners)) - 1
        joined = patterns.find(dict.fromkeys([text for _, text in matching_ones], everything))
        for number, text in matching_ones:
            assert joined.get(text, 0) >> number & 1, (patterns.patterns[number], text)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 64))
def test_the_same_rules_match_requests_made_of_what_they_look_for(pair: tuple[WAF, WAF], seed: int) -> None:
    _, raw = request(patterns_of(pair[0]), random.Random(seed))
    scanned, plain = [said(run_stage(waf, Stage(raw, Expectation()))[1]) for waf in pair]
    assert scanned == plain


@pytest.fixture(scope="module")
def pieces(pair: tuple[WAF, WAF]) -> Callable[[random.Random, int], bytes]:
    return cut_matches(pair[0].program.pattern_sets[0].patterns)


SIZES = st.sampled_from([20, 100, 300, 1000, 3000, 9000, 20_000])


OF_ANY_LONG_TEXT = {920273, 920370}
"""It has blanks, and is long."""

LARGE = [[150_000], [70_000], [40_000] * 8, [90_000, 90_000, 90_000, 500], [600_000]]


@pytest.mark.parametrize("sizes", LARGE, ids=str)
@pytest.mark.parametrize("kind", ["fragments", "assignments", "words"])
def test_the_same_rules_match_large_values(pair: tuple[WAF, WAF], sizes: list[int], kind: str) -> None:
    """Some of what is found is kept, some is made again, and what is noted is asked of in between."""
    rng = random.Random(f"{sizes} {kind}")
    if kind == "fragments":
        texts = [
            "".join(rng.choices([*FRAGMENTS, *MORE, "%u0041", "&lt;", "\\x3c", "/a/../"], k=s // 4)) for s in sizes
        ]
    elif kind == "words":
        texts = ["green shirt " * (size // 12) for size in sizes]
    else:
        texts = [json.loads(assignments(rng, size).body)["a"] for size in sizes]
    body = json.dumps(texts).encode()
    scanned, plain = [run(waf, method="POST", headers={"Content-Type": "application/json"}, body=body) for waf in pair]
    assert said(scanned) == said(plain)
    about_values = {match.rule.id for match in scanned.matched_rules if match.variable.startswith("ARGS:")}
    assert bool(about_values - OF_ANY_LONG_TEXT) is (kind != "words")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 64), SIZES, st.sampled_from([1, 1, 3, 8]), st.booleans())
def test_the_same_rules_match_pieces_of_what_large_expressions_match(
    pair: tuple[WAF, WAF], pieces: Callable[[random.Random, int], bytes], seed: int, size: int, count: int, whole: bool
) -> None:
    rng = random.Random(seed)
    texts = [pieces(rng, size)[: None if whole else -30].decode("latin-1") for _ in range(count)]
    scanned, plain = [outcome(waf, "/", json.dumps(texts).encode()) for waf in pair]
    assert scanned == plain

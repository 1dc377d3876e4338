"""Patterns that are too large for the main Hyperscan database: who reads which text."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from waf_core.scan.large import LONG_BYTES, MAX_RE2_BYTES, STEP_BYTES, LargePatterns
from waf_core.scan.limits import ScanLimits

LONGEST = STEP_BYTES[1]


def _large(pattern: bytes, re2_ns: int) -> tuple[LargePatterns, list[int]]:
    """And the lengths of what Hyperscan was asked about (which finds everything, here)."""
    asked: list[int] = []

    def hyperscan(text: bytes) -> list[int]:
        asked.append(len(text))
        return [7]

    patterns = LargePatterns({7: pattern}, hyperscan, ScanLimits(re2_ns=re2_ns))
    patterns.begin()
    return patterns, asked


def _found(patterns: LargePatterns, text: bytes) -> int:
    found: dict[bytes, int] = {}
    patterns.find([text], 1 << 7, None, found)
    return found.get(text, 0)


def test_a_long_text_that_is_read_in_steps_matches_across_them() -> None:
    patterns, asked = _large(b"needle[0-9]+x", 10**9)
    for place in (LONGEST - 5, MAX_RE2_BYTES - 1, 3 * LONGEST - 2):
        text = b"-" * place + b"needle123x" + b"-" * (2 * LONG_BYTES)
        assert _found(patterns, text) == 1 << 7
        assert _found(patterns, text.replace(b"needle", b"noodle")) == 0
    assert not asked


def test_hyperscan_reads_when_re2_has_had_its_time() -> None:
    patterns, asked = _large(b"needle", 0)
    assert _found(patterns, b"-" * 100) == 1 << 7
    assert asked == [101]


def test_re2_reads_on_in_a_long_text_while_it_is_quicker() -> None:
    patterns, asked = _large(b"needle", 0)
    text = b"-" * LONG_BYTES
    assert _found(patterns, text) == 0
    assert _found(patterns, text + b"needle") == 1 << 7
    assert not asked


def test_re2_gives_up_a_long_text_that_it_is_slow_with() -> None:
    """Each byte is a new state of hundreds of places."""
    patterns, asked = _large(b"a[ab]{700}c", 1)
    rng = random.Random(3)
    text = bytes(rng.choices(b"ab", k=2 * LONG_BYTES))
    assert _found(patterns, text) == 1 << 7
    assert asked == [len(text) + 1]


def test_a_long_text_is_not_given_up_because_others_have_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 5_000_000)
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(clock))
    patterns, asked = _large(b"needle", 8_000_000)
    text = b"-" * (4 * LONG_BYTES)
    assert _found(patterns, text) == 0
    assert not asked
    assert _found(patterns, b"-" * (LONG_BYTES // 2)) == 1 << 7  # a short one costs little there
    assert asked == [LONG_BYTES // 2 + 1]
    patterns.begin()
    monkeypatch.setattr(time, "thread_time_ns", lambda: next(clock))
    assert _found(patterns, text) == 1 << 7
    assert asked[1:] == [len(text) + 1]


def test_only_what_matches_is_a_candidate() -> None:
    """Expressions that have nothing in common are looked for one by one."""
    patterns = LargePatterns({1: b"needle[0-9]", 2: b"hay(?:stack|fork)", 5: b"^straw$"}, lambda text: [], ScanLimits())
    patterns.begin()
    found: dict[bytes, int] = {}
    everything = 1 << 1 | 1 << 2 | 1 << 5
    patterns.find([b"needle7", b"haystack", b"straw", b"hayfork needle1", b"nothing"], everything, None, found)
    asked = {form: mask for form, mask in found.items() if mask & everything}
    assert {b"needle7", b"haystack", b"straw", b"hayfork needle1"} <= asked.keys()
    alone: dict[bytes, int] = {}
    for form in asked:
        patterns.find([form], everything, None, alone)
    assert alone == {b"needle7": 1 << 1, b"haystack": 1 << 2, b"straw": 1 << 5, b"hayfork needle1": 1 << 1 | 1 << 2}


def test_those_that_are_alike_are_told_apart_by_their_ends() -> None:
    alike = {number: rb"(?:;|=)\s*[a-z]?x{1,2}" + end for number, end in ((1, b"(?:cat|w)"), (4, b"(?:ls|id)"))}
    for re2_ns, expected in ((8_000_000, [4]), (0, [1, 4])):
        patterns = LargePatterns(alike, lambda text: [1, 4], ScanLimits(re2_ns=re2_ns))
        patterns.begin()
        found: dict[bytes, int] = {}
        patterns.find([b"; axls"], 1 << 1 | 1 << 4, None, found)
        assert found == {b"; axls": sum(1 << number for number in expected)}


def test_what_is_behind_an_opening_is_found_there_only() -> None:
    alike = {number: rb"(?:;|time .*)\s*[a-z]?x{1,2}" + end for number, end in ((1, b"(?:cat|w)"), (4, b"(?:ls|id)"))}
    patterns = LargePatterns(alike, lambda text: [1, 4], ScanLimits())
    forms = [b"time to go, xls", b"xls time to go", b";xcat time ", b"no times xid", b"time " * 100 + b"xw"]
    expected = [1 << 4, 0, 1 << 1, 0, 1 << 1]
    for form, mask in zip(forms, expected, strict=True):
        patterns.begin()
        found: dict[bytes, int] = {}
        patterns.find([form], 1 << 1 | 1 << 4, None, found)
        assert found.get(form, 0) == mask, form

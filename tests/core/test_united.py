"""What an expression matches, the one matches that it was united in."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.matching import matching
from tests.core.test_operators import NoTransaction
from waf_core.operators.regex import Rx
from waf_core.scan.united import Family, Whole, united

HEADS = [
    b"a", b"b(?:c|d)", b"e(?:c|d)", b"[|)(]", b"^", rb"\(", rb"\bx", b"[^b]", b"", b"a.*", b"e(?:c.*|d)", b"x[.*]", rb"x\.*",
    b"b(?:c.*){2}", b"(?:a|.*)",
]  # fmt: skip
ELEMENTS = [
    rb"\s*", b"[a-z]?", b"x{1,2}", b"x{1,3}", b"y*?", b"[]a]", b"[]a]+", rb"\.", b"(?:u|v)+", b"{", b"q", rb"\Q(|\E", b"[^A]",
    b"q|r",
]  # fmt: skip
WHOLE = [b"a|b", b"(?:a|b)", b"x(?-i)yzuv", b"(?P<n>a)bcd", b"(?:(?s)a|.)bcd", b"a{2", b""]
ONE_HEAD = [b"(a|B)cde", b"(?:a|B){2}cde", b"(?:a|B)?cde"]
GROUPS = st.lists(st.sampled_from(HEADS), min_size=1, max_size=3).map(lambda heads: b"(?:" + b"|".join(heads) + b")")
TAILS = st.lists(st.sampled_from([*ELEMENTS, b"(?:cat|ls)", b"$"]), max_size=3).map(b"".join)


@st.composite
def families(draw: st.DrawFn) -> list[bytes]:
    """Expressions with a part in common, and others."""
    common = b"".join(draw(st.lists(st.sampled_from(ELEMENTS), min_size=2, max_size=5)))
    flags = st.sampled_from([b"", b"(?i)"])
    alike = st.builds(
        lambda flag, head, tail: flag + head + common + tail, flags, GROUPS | st.sampled_from(HEADS), TAILS
    )
    others = st.sampled_from([*WHOLE, *ONE_HEAD])
    expressions: list[bytes] = draw(st.lists(alike | others, min_size=2, max_size=6))
    return expressions


@given(families(), st.integers(0, 1 << 32))
@example([rb"(?:a)\s*\s*\s*", rb"a\s*\s*\s*\s*{q|r"], 0)
def test_whatever_one_of_them_matches_they_match_united(expressions: list[bytes], seed: int) -> None:
    rng = random.Random(seed)
    groups = united(dict(enumerate(expressions)))
    assert sorted(number for family in groups for number in family.numbers) == list(range(len(expressions)))
    for family in groups:
        wholes = [Rx(_expression(whole)) for whole in family.wholes]
        for number in family.numbers:
            end = Rx(family.ends.get(number, b""))
            text = matching(expressions[number], rng)
            beside = rng.choice((b"A", b"(", b"x", b"")) + (text or b"") + b"z"
            for sample in (text or b"", beside, rng.randbytes(8), b"r"):
                if Rx(expressions[number]).holds(sample, NoTransaction()):
                    assert any(whole.holds(sample, NoTransaction()) for whole in wholes), (
                        expressions[number], family.wholes, sample,
                    )  # fmt: skip
                    assert end.holds(sample, NoTransaction()), (expressions[number], family.ends, sample)


def test_those_that_are_alike_are_united() -> None:
    one, other = rb"(?i)(?:;|=|bb)\s*[a-z]*x{1,2}(?:cat|w)", rb"(?i)(?:^|;|=)\s*[a-z]*x{1,2}(?:ls|w)z"
    whole = Whole(rb"(?i)(?:;|=|bb|^)\s*[a-z]*x{1,2}(?:(?:cat|w)|(?:ls|w)z)")
    assert united({4: one, 7: other}) == [Family([4, 7], [whole], {4: b"(?i)(?:cat|w)", 7: b"(?i)(?:ls|w)z"})]


def test_what_begins_with_anything_at_its_end_is_by_itself() -> None:
    one, other = rb"(?i)(?:;|e(?:n|v.*)|time.*)\s*[a-z]*x{1,2}cat", rb"(?i)(?:=|e(?:n|v.*))\s*[a-z]*x{1,2}ls"
    closed = Whole(rb"(?i)(?:;|en|=)\s*[a-z]*x{1,2}(?:cat|ls)")
    opened = Whole(b"(?i)(?:cat|ls)", b"(?i)(?:ev|time)")
    assert united({4: one, 7: other})[0].wholes == [closed, opened]
    assert united({4: rb"(?:a.*)[a-z]*\s*\s*x", 7: rb"(?:a.*)[a-z]*\s*\s*y"})[0].wholes == [Whole(b"(?:x|y)", b"(?:a)")]


@pytest.mark.parametrize("expression", WHOLE)
def test_what_cannot_be_taken_apart_stays_by_itself(expression: bytes) -> None:
    assert united({1: expression, 2: expression + b"$"})[0] == Family([1], [Whole(expression)], {})


def _expression(whole: Whole) -> bytes:
    return whole.opening + b".*" + whole.expression if whole.opening else whole.expression

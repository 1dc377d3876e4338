"""Phrases in long texts are found wherever the parts are that these are looked through in."""

from __future__ import annotations

import random

import pytest
from ahocorasick_rs import BytesAhoCorasick

from waf_core.operators.automaton import PART_BYTES, Automaton


@pytest.mark.parametrize(("longest", "times"), [(1, 60), (3, 60), (20, 60), (PART_BYTES // 3, 10)])
def test_it_finds_what_the_whole_has(longest: int, times: int) -> None:
    """The last one takes longer parts; the package's time to build it goes by its square."""
    rng = random.Random(longest)
    for _ in range(times):
        phrases = list({bytes(rng.choices(b"ab", k=rng.randrange(min(longest, 12)) + 1)) for _ in range(4)})
        phrases = list(dict.fromkeys([*phrases, b"a" * longest]))
        whole = BytesAhoCorasick(phrases)
        automaton = Automaton(phrases)
        size = rng.choice((PART_BYTES, 2 * PART_BYTES, 5 * PART_BYTES)) + rng.randrange(-30, 30)
        text = bytearray(b"x" * size)
        for _ in range(rng.choice((0, 1, 3))):
            # Somewhere, and about where parts end.
            place = rng.choice(
                (rng.randrange(size), rng.randrange(1, 2 + size // PART_BYTES) * PART_BYTES - rng.randrange(40))
            )
            phrase = rng.choice(phrases)
            text[place : place + len(phrase)] = phrase
        found = whole.find_matches_as_indexes(bytes(text))
        assert automaton.first(bytes(text)) == (found[0][1:] if found else None)
        assert automaton.which(bytes(text)) == {
            m[0] for m in whole.find_matches_as_indexes(bytes(text), overlapping=True)
        }


@pytest.mark.parametrize("length", [1, 2, 20, 4000])
def test_nothing_is_missed_where_parts_meet(length: int) -> None:
    phrase = b"b" + b"a" * (length - 1)
    automaton = Automaton([phrase, b"c"])
    size = 3 * PART_BYTES
    for end in (PART_BYTES, 2 * PART_BYTES - length + 1):
        for place in range(end - length - 20, end + 20):
            text = b"x" * place + phrase + b"x" * (size - place - length)
            assert automaton.first(text) == (place, place + length)
            assert automaton.which(text) == {0}


def test_a_phrase_may_be_longer_than_a_part() -> None:
    phrase = b"b" + b"a" * PART_BYTES
    automaton = Automaton([phrase, b"c"])
    text = b"x" * 5 * PART_BYTES + phrase
    assert automaton.first(text) == (5 * PART_BYTES, len(text))
    assert automaton.which(text) == {0}

"""`FirstMatch` says what a search says, whatever the text and however little memory it has."""

from __future__ import annotations

import random

import pytest

from tests.core.test_operators import NoTransaction
from waf_core.errors import WafError
from waf_core.operators.ahead import ahead_of_re2
from waf_core.operators.regex import Rx
from waf_core.scan.first_match import FirstMatch

MEMORY = 1 << 20
EXPRESSIONS = (
    b"ab", b"^ab", b"ab$", b"^$", b"(?m:^a)", b"(?m:b$)", rb"\bab\b", rb"\Ba", b"a|^b|c$", b"a.*b", b"(?i)AB[^c]", b"", b"a{2,3}",
    rb"[^\x00]\x00", rb"\xff+a", b"(?:a|b(c))*c$",
)  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_it_matches_where_a_search_does(expression: bytes) -> None:
    rng = random.Random(5)
    first, search = FirstMatch(expression, MEMORY), Rx(b"(?m:" + expression + b")")
    answers = set()
    for _ in range(500):
        text = bytes(rng.choices(b"abcB\n\0\xff ", k=rng.randrange(9)))
        answer = search.holds(text, NoTransaction())
        assert first.is_in(text) is answer, (expression, text)
        answers.add(answer)
    assert answers == ({True} if expression == b"" else {True, False})


@pytest.mark.parametrize("opening", EXPRESSIONS)
def test_behind_an_opening_it_matches_where_a_search_does(opening: bytes) -> None:
    rng = random.Random(6)
    for expression in rng.sample(EXPRESSIONS, 5):
        first = FirstMatch(expression, MEMORY, opening=opening)
        search = Rx(b"(?m:" + opening + b").*(?m:" + expression + b")")
        for _ in range(100):
            text = bytes(rng.choices(b"abcB\n\0\xff ", k=rng.randrange(12)))
            assert first.is_in(text) is search.holds(text, NoTransaction()), (opening, expression, text)


def _rest(first: FirstMatch) -> None:
    """A busy machine makes some searches slow, and others are left to RE2 then."""
    for ahead in first._aheads:
        ahead.state.rest = 0


def test_pcre2_tells_what_is_behind_an_opening_in_one_go() -> None:
    """Trying each opening it would look through the rest of the text as often, and give up."""
    words = "|".join(f"word{number:03}" for number in range(400)).encode()
    first = FirstMatch(words, MEMORY, opening=b"(?:time|env) ")
    text = b"time env word " * 200
    assert first.backtracks(b"word001 " + text) is False
    _rest(first)
    assert first.backtracks(text + b"word001") is True
    assert FirstMatch(b"(?:time|env) .*(?:" + words + b")", MEMORY).backtracks(text) is None


def test_what_is_too_large_for_pcre2_is_looked_for_in_parts() -> None:
    words = [f"word{number:05}" for number in range(9000)]
    expression = f"(?:{'|'.join(words)})x".encode()
    assert ahead_of_re2(expression, lines=True) is None
    first = FirstMatch(expression, MEMORY, opening=b"time ")
    for word in (words[0], words[4500], words[-1]):
        for text, found in ((f"time -{word}x", True), (f"{word}x time -{word}y", False)):
            _rest(first)
            assert first.backtracks(b"-" * 100 + text.encode()) is found


def test_with_too_little_memory_for_its_states_it_says_the_same() -> None:
    """RE2 starts over, and simulates the rest in the end."""
    expression = b"a[ab]{80}c"
    rng = random.Random(5)
    small, large = FirstMatch(expression, 1 << 15), FirstMatch(expression, 64 << 20)
    for place in (0, 9_000, 19_000):
        text = bytearray(rng.choices(b"ab", k=20_000))
        assert small.is_in(bytes(text)) is large.is_in(bytes(text)) is False
        text[place] = ord("a")
        text[place + 81] = ord("c")
        assert small.is_in(bytes(text)) is large.is_in(bytes(text)) is True


def test_what_cannot_be_looked_for_is_an_error() -> None:
    with pytest.raises(WafError, match=r"cannot look for b'\(a': missing \): "):
        FirstMatch(b"(a", MEMORY)


def test_a_program_that_does_not_fit_gets_more_memory() -> None:
    """With many large expressions each has little."""
    large = FirstMatch(b"(?:abcdefghij){900}", 1 << 15)
    assert large.is_in(b"-" + b"abcdefghij" * 900)
    assert not large.is_in(b"abcdefghij" * 899)

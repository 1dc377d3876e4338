"""PCRE2 says what RE2 says, or that it does not know."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from typing import Any

import pcre2
import pytest
import re2
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from tests.conformance.engine import make_waf
from tests.core.matching import cut_matches
from tests.core.test_operators import NoTransaction
from tests.core.test_spelling import PATTERN, VALUE
from tests.core.transactions import ids, make, run
from tests.crs import crs_or_skip
from tests.refusing import CANNOT, REFUSE
from waf_core.compiler import CompileOptions
from waf_core.operators import OperatorError
from waf_core.operators.ahead import (
    ANYWHERE,
    BEHIND,
    COLD_STEP_NS,
    FIRST_STEPS,
    LONG_STEPS,
    MAX_BYTES,
    MIN_BYTES,
    PATTERN_BYTES,
    REST,
    REST_GROWTH,
    SLOW_BYTES,
    SLOW_NS,
    STEP_NS,
    STEPS,
    Ahead,
    State,
    ahead_of_re2,
    no_machine_code,
    spelled_for_pcre2,
)
from waf_core.operators.needs import of_pattern
from waf_core.operators.regex import Rx, re2_options
from waf_core.operators.sequence import MAX_DEPTH
from waf_core.operators.spelling import as_re2
from waf_core.operators.validation import Verify


def _re2(pattern: bytes, text: bytes, start: int, *, lines: bool) -> tuple[int, int]:
    expression = b"(?m:" + pattern + b")" if lines else pattern
    found = re2._re2.RE2(expression, re2_options()).Match(re2._re2.RE2.Anchor.UNANCHORED, text, start, len(text))
    first, end = found[0]
    return first, end


@settings(max_examples=1500, deadline=None)
@given(PATTERN, st.lists(VALUE, min_size=1, max_size=8), st.booleans(), st.integers(0, 2))
def test_random_expressions_match_where_they_match_for_re2(
    pattern: bytes, values: list[bytes], lines: bool, start: int
) -> None:
    try:
        pattern = Rx(pattern).pattern
    except OperatorError:
        assume(False)
    spelled = as_re2(pattern, lines=lines)
    assume(spelled is not None)
    assert spelled is not None
    expression = Ahead(ANYWHERE % spelled)
    for value in values:
        begin = min(start, len(value))
        # Of a repeated part that may be empty the first way is PCRE2's last: the match may end earlier.
        found = expression.search(value, begin)
        assert found is not None
        assert found[0] == _re2(pattern, value, begin, lines=lines)[0], value


HEADS = [
    b"a", b"b(?:c|d.*)", b"e(?:c.*|d)", b"[|)(]", b"^", rb"\bx", b"b.*", b"b?.*", b"e(?:c.*|x(?:a|b.*))", b"x[.*]", rb"x\.*", b"(?:a.*)+",
    b"a.*?", b"", b".*",
]  # fmt: skip
ELEMENTS = [
    rb"\s*", b"[a-d]?", b"x{0,2}", b"(?:c|dd)*", b"c*?", b"d??", b"(?:bc)?", rb"\.?", b"[]a]+", b"c+?", b"d{1,2}?", rb"\?", b"(?:e?)",
    b"(x|y)?",
]  # fmt: skip
TEXT = st.text("aabbccddexy .?]|\n", max_size=14).map(str.encode)


@settings(max_examples=2000, deadline=None)
@given(
    st.sampled_from([b"", b"(?i)"]),
    st.lists(st.sampled_from(HEADS), min_size=1, max_size=3),
    st.lists(st.sampled_from(ELEMENTS), max_size=5),
    st.sampled_from([b"(?:b|cd|dc*)", b"e$", b"c", b"", b"(?:a|d.*)x?"]),
    st.lists(TEXT, min_size=1, max_size=12),
)
def test_what_is_skipped_behind_anything_makes_no_difference(
    flags: bytes, heads: list[bytes], elements: list[bytes], end: bytes, texts: list[bytes]
) -> None:
    pattern = Rx(flags + b"(?:" + b"|".join(heads) + b")" + b"".join(elements) + end).pattern
    for lines in (False, True):
        plain, quick = as_re2(pattern, lines=lines), spelled_for_pcre2(pattern, lines=lines)
        assert plain is not None
        assert quick is not None
        if plain != quick:
            event("differently spelled")
        for text in texts:
            assert Ahead(ANYWHERE % quick).search(text, 0) == Ahead(ANYWHERE % plain).search(text, 0), (quick, text)


def test_what_may_be_empty_is_skipped_behind_anything() -> None:
    quick = spelled_for_pcre2(rb"(?i)(?:;|e(?:n|v.*)|time.*)\s*[a-z]*x(?:ls|cat)", lines=False)
    assert quick == rb"(?J)(?i)(?:;|e(?:n|v.*(?<d>))|time.*(?<d>))(?(<d>)|(?i)\s*[a-z]*)(?:(?i)x(?:ls|cat))"
    for pattern in (b"(?:;|time)[a-z]*x", b"(?:;|time.*)[a-z]+x", b"(?:;|time.*)()[a-z]*x", b"(?:;|time.*)|[a-z]*x"):
        assert spelled_for_pcre2(pattern, lines=False) == pattern


@pytest.mark.parametrize("depth", [3, MAX_DEPTH, MAX_DEPTH + 1, 900, 20_000])
def test_groups_in_groups_are_looked_into_but_not_without_end(depth: int) -> None:
    """The last ones have more of them than RE2 and PCRE2 take; they are read in a second, not in hours."""
    pattern = b"(?:" * depth + b"a.*|b" + b")" * depth + rb"\s*(?:x|y)"
    quick = spelled_for_pcre2(pattern, lines=False)
    assert quick is not None
    assert (b"(?<d>)" in quick) == (depth < MAX_DEPTH)
    expression = Rx(pattern)
    assert expression.holds(b"a-- x", NoTransaction())
    assert expression.holds(b"b y", NoTransaction())
    assert not expression.holds(b"b- y", NoTransaction())


@settings(max_examples=1000, deadline=None)
@given(PATTERN, PATTERN, st.lists(VALUE, min_size=1, max_size=8))
def test_nothing_is_missed_behind_an_opening(opening: bytes, pattern: bytes, values: list[bytes]) -> None:
    try:
        opening, pattern = Rx(opening).pattern, Rx(pattern).pattern
    except OperatorError:
        assume(False)
    spelled, spelled_opening = as_re2(pattern, lines=True), as_re2(opening, lines=True)
    assume(spelled is not None and spelled_opening is not None)
    assert spelled is not None
    assert spelled_opening is not None
    shortest = of_pattern(opening).length
    expression = Ahead(BEHIND % (spelled_opening, shortest, spelled))
    for value in values:
        found = expression.search(value, 0)
        assert found is not None
        if _re2(opening + b".*" + pattern, value, 0, lines=True)[0] != -1:
            assert found[0] != -1, value
        if found[0] != -1:
            first = _re2(opening, value, 0, lines=True)[0]
            assert first != -1, value
            assert _re2(pattern, value, first + shortest, lines=True)[0] != -1, value


@pytest.fixture(scope="module")
def large() -> list[bytes]:
    """The large patterns of the Core Rule Set, of all levels."""
    program = make_waf(crs_or_skip(), CompileOptions()).program
    operators = (link.operator for unit in program.units for link in unit.links)
    return sorted({op.pattern for op in operators if isinstance(op, Rx) and len(op.pattern) >= PATTERN_BYTES})


def test_large_patterns_of_the_core_rule_set_match_where_they_match_for_re2(large: list[bytes]) -> None:
    rng = random.Random(4)
    cut = cut_matches(large)
    texts = [cut(rng, rng.choice((300, 700, 2000))) for _ in range(12)]
    texts += [bytes(rng.choices(b"abc;=$ \n", k=600)), rng.randbytes(600), b"a" * 600]
    assert len(large) > 20
    matches = 0
    unknown = 0
    for pattern in large:
        for lines in (False, True):
            expression = ahead_of_re2(pattern, lines=lines)
            assert expression is not None
            for text in texts:
                expression.state.rest = 0
                expected = _re2(pattern, text, 0, lines=lines)
                assert expression.place(text, 0) in (expected, None), (pattern, text)
                place = expression.search(text, 0)
                assert place in (expected, None), (pattern, text)
                unknown += place is None
                matches += place is not None and place[0] != -1
    assert matches > len(large)
    assert unknown < len(texts) * len(large) / 4  # of twice as many


WORDS = "|".join(f"word{number:03}" for number in range(400))


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (rf"(?:[a-z]| ?[a-z])*(?:{WORDS})", b"word " * 3000),  # leaves ways open, which takes room
        (rf"[a-z]*[a-z ]*[a-z]*[a-z ]*(?:{WORDS})", b"word" * 100 + b"-"),  # tries them in vain, which takes steps
    ],
)
def test_where_pcre2_gives_up_re2_answers(pattern: str, text: bytes) -> None:
    operator = Rx(pattern.encode())
    operator.get_ready()
    expression = ahead_of_re2(operator.pattern, lines=False)
    assert expression is not None
    assert MIN_BYTES <= len(text) <= MAX_BYTES
    assert expression.search(text, 0) is None
    assert not operator.holds(text, NoTransaction())
    assert operator.holds(text + b"word399", NoTransaction())


def test_steps_are_counted_over_a_whole_text() -> None:
    """PCRE2 counts them anew for each place where a match may begin."""
    spelled, text = rb"(?:;|=)[a-z ]*(?:[a-z]| )*!", b"!" + b"; time x " * 1000
    anew = pcre2.compile(rb"(*LIMIT_MATCH=%d)" % STEPS + spelled, pcre2.DOTALL, jit=True)
    assert anew.search(text) is None
    assert Ahead(ANYWHERE % spelled).search(text[:1000], 0) == (-1, -1)
    assert Ahead(ANYWHERE % spelled).search(text, 0) is None


def test_after_a_slow_search_others_are_left_to_re2() -> None:
    operator = Rx(f"(?:{WORDS})x+".encode())
    operator.get_ready()
    expression = operator._ahead
    assert expression is not None
    text = b"-" * MIN_BYTES + b"word123xx"
    assert expression.place(text, 0) == (MIN_BYTES, len(text))
    expression.state.rest = REST[0]
    assert [expression.place(text, 0) for _ in range(REST[0])] == [None] * REST[0]
    assert expression.state.rest == 0
    assert expression.place(text, 0) == (MIN_BYTES, len(text))
    expression.state.rest = REST[0]
    assert operator.place(text, 0) == (MIN_BYTES, len(text))
    assert expression.state.rest == REST[0] - 1


def test_a_search_that_takes_too_long_is_the_last_for_a_while() -> None:
    """Each byte begins a run up to the end, which is one step."""
    pattern = f"[a-z][a-z]*[0-9](?:{WORDS})".encode()
    expression = ahead_of_re2(pattern, lines=True)
    other = ahead_of_re2(b"-" + pattern, lines=True)
    assert expression is not None
    assert other is not None
    assert expression.place(b"1word399" + b"a" * (MAX_BYTES - 8), 0) in ((-1, -1), None)
    assert expression.state.rest == REST[0]
    assert other.place(b"b" * MIN_BYTES, 0) == (-1, -1)


def test_the_more_searches_are_slow_the_fewer_there_are() -> None:
    state = State()
    size = 1000
    limit = (size + SLOW_BYTES) * SLOW_NS
    rests: list[int] = []
    for _ in range(5):
        state.took(limit + 1, size)
        rests.append(state.rest)
    assert rests == [REST[0], REST[0] * REST_GROWTH, REST[0] * REST_GROWTH**2, REST[1], REST[1]]
    for _ in range(REST[1] - REST[0] + 10):
        state.took(limit, size)
    state.took(limit + 1, size)
    assert state.rest == REST[0]


def test_where_the_first_steps_are_slow_there_are_no_others() -> None:
    """Each reads a run of 8 kB."""
    pattern = f"[a-z][a-z]*[0-9](?:{WORDS})".encode()
    text = b"1word399" + b"a" * 8000
    confirming = ahead_of_re2(pattern, lines=False)
    assert confirming is not None
    assert confirming.search(text, 0) == (-1, -1)
    assert confirming.place(text, 0) is None
    operator = Rx(pattern)
    operator.get_ready()
    assert not operator.holds(text, NoTransaction())


def test_what_takes_more_than_the_first_steps_gets_the_others() -> None:
    pattern = f"[a-z]*[a-z ]*[a-z]*X(?:{WORDS})?".encode()
    text = b"-" * MIN_BYTES + b"abcd" * 6 + b"-X"
    confirming = ahead_of_re2(pattern, lines=False)
    assert confirming is not None
    first = rb"(*LIMIT_MATCH=%d)" % FIRST_STEPS + ANYWHERE % pattern
    with pytest.raises(pcre2.LibraryError):
        pcre2.compile(first, pcre2.DOTALL, jit=True).search(text)
    for _ in range(20):  # a busy machine may make the first steps slow
        confirming.state.rest = 0
        if confirming.place(text, 0) == (len(text) - 1, len(text)):
            return
    pytest.fail("PCRE2 did not tell")


QUICK, COLD, SLOW = FIRST_STEPS * STEP_NS - 1, FIRST_STEPS * STEP_NS, FIRST_STEPS * COLD_STEP_NS


@pytest.mark.parametrize(
    ("steps", "told"),
    [((QUICK,), True), ((COLD, QUICK), True), ((COLD, COLD), False), ((SLOW - 1, QUICK), True), ((SLOW,), False)],
)
def test_the_first_steps_are_made_again_if_they_may_have_been_cold(
    monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...], told: bool
) -> None:
    """`steps`: how long they took each time."""
    pattern = f"[a-z]*[a-z ]*[a-z]*X(?:{WORDS})?".encode()
    text = b"-" * MIN_BYTES + b"abcd" * 6 + b"-X"
    confirming = ahead_of_re2(pattern, lines=False)
    assert confirming is not None
    clock = [time for place, spent in enumerate(steps) for time in (place * 10**9, place * 10**9 + spent)] + [0]
    left = iter(clock)
    monkeypatch.setattr("time.thread_time_ns", lambda: next(left))
    assert (confirming.place(text, 0) is not None) is told
    assert list(left) == []


def test_short_and_long_texts_and_small_patterns_are_left_to_re2() -> None:
    assert ahead_of_re2(b"a" * (PATTERN_BYTES - 1), lines=False) is None
    expression = ahead_of_re2(b"a" * PATTERN_BYTES, lines=False)
    assert expression is not None
    for size, place in ((MIN_BYTES - 1, None), (MIN_BYTES, (-1, -1)), (MAX_BYTES, (-1, -1)), (MAX_BYTES + 1, None)):
        expression.state.rest = 0  # a busy machine makes some slow
        assert expression.place(b"b" * size, 0) == place


def test_in_long_texts_matches_are_found_that_begin_soon(large: list[bytes]) -> None:
    rng = random.Random(5)
    words = bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz$$$   ", k=3 * MAX_BYTES))
    texts = [b";time a=<$ " + words, cut_matches(large)(rng, 1000) + words, words + b";ls", b'< "' * MAX_BYTES]
    found = 0
    for pattern in large:
        expression = ahead_of_re2(pattern, lines=False)
        assert expression is not None
        for text in texts:
            expression.state.rest = 0
            place = expression.place(text, 0)
            assert place is None or place == _re2(pattern, text, 0, lines=False), (pattern, text)
            found += place is not None
    assert found > 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b";word001" + b"a" * MAX_BYTES, (0, 8)),
        (b"x" + b"a" * 1900 + b"word001" + b"a" * MAX_BYTES + b"word002a", (0, 1908 + MAX_BYTES + 7)),
        (b"x" + b"a" * MAX_BYTES + b"word001aa", None),  # it is not there soon
        (b"x" + b"a" * 1900 + b"word001" + b"a" * 4 * MAX_BYTES, None),  # it takes more steps
    ],
    ids=["at once", "and later", "later", "soon only"],
)
def test_in_long_texts_the_first_steps_have_to_be_quick(
    monkeypatch: pytest.MonkeyPatch, text: bytes, place: tuple[int, int] | None
) -> None:
    expression = ahead_of_re2(f"(?:;|x.*)(?:{WORDS})".encode(), lines=False)
    assert expression is not None
    for spent, expected in ((0, place), (LONG_STEPS * STEP_NS + 1, None)):
        monkeypatch.setattr("time.thread_time_ns", itertools.count(0, spent).__next__)
        assert expression.place(text, 0) == expected


def test_of_what_comes_with_a_request_no_machine_code_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    real = pcre2.compile

    def counted(text: bytes, *rest: Any, **more: Any) -> Any:
        made.append(text)
        return real(text, *rest, **more)

    monkeypatch.setattr(pcre2, "compile", counted)
    own = "b" * (PATTERN_BYTES + 1)
    waf = make(
        f'SecRule ARGS:a "@rx {own}" "id:1,phase:2,pass,log"\nSecRule ARGS:a "@rx ^%{{ARGS.c}}$" "id:2,phase:2,pass,log"'
    )
    assert len(made) == 3  # for the first steps, for long texts, and for all
    text = "c" * PATTERN_BYTES
    assert ids(run(waf, f"/?a={text}&c={text}")) == [2]
    assert len(made) == 3


def test_where_machine_code_may_not_be_made_re2_does_all() -> None:
    """As systemd's MemoryDenyWriteExecute has it: in a process of its own, which may not make memory executable."""
    done = subprocess.run(
        [sys.executable, "-c", REFUSE + WITHOUT_CODE], capture_output=True, text=True, timeout=60, check=False
    )
    if CANNOT in done.stderr:
        pytest.skip(done.stderr)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["None", "True", "True", "True"], "")


WITHOUT_CODE = r"""
from tests.core.test_operators import NoTransaction
from waf_core.operators.ahead import ahead_of_re2, no_machine_code
from waf_core.operators.regex import BacktrackingRx, Rx
print(ahead_of_re2(b"a" * 3000, lines=False))
operator = Rx(b"a" * 500 + b"[ab]" * 500)
operator.get_ready()
print(operator.holds(b"a" * 3000, NoTransaction()))
print(BacktrackingRx(b"(a)\\1(?!b)").match(b"xaac", NoTransaction()) == (b"aa", b"a"))
print("memory" in no_machine_code())
"""


def test_where_it_may_be_made_nothing_is_said() -> None:
    assert no_machine_code() == ""


def test_only_what_rules_may_ask_is_made_ready() -> None:
    """What a paranoia level leaves out is checked, and takes no more time or memory than that."""
    waf = make(
        f"""
SecAction "id:1,phase:1,pass,nolog,setvar:tx.level=1"
SecRule TX:level "@lt 2" "id:2,phase:1,pass,nolog,skipAfter:END"
SecRule ARGS "@rx (?:{WORDS})(x)" "id:3,phase:1,deny"
SecMarker END
SecRule ARGS "@rx (?:{WORDS})y" "id:4,phase:1,deny"
SecRule ARGS "@verifyCC (?:{WORDS})z" "id:5,phase:1,deny"
"""
    )
    operators = {unit.info.id: unit.links[0].operator for unit in waf.program.units}
    left_out, asked, verify = operators[3], operators[4], operators[5]
    assert isinstance(left_out, Rx)
    assert isinstance(asked, Rx)
    assert isinstance(verify, Verify)
    assert left_out._ahead is None
    for expression in (asked, verify._pattern):
        assert isinstance(expression, Rx)
        assert expression._ahead is not None
    assert left_out._find is None
    assert left_out.match(b"-word007x", NoTransaction()) == (b"word007x", b"x")
    assert left_out.holds(b"-word007x", NoTransaction())

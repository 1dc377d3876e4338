"""Values that begin alike, and matches that only count: the same as each by itself."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_operators import NoTransaction
from tests.core.test_spelling import PATTERN, VALUE
from tests.core.transactions import run, three_ways
from waf_core import WAF
from waf_core.operators import OperatorError
from waf_core.operators.phrases import Phrases
from waf_core.operators.regex import Rx
from waf_core.scan.forms import FEW_FORMS, shared_beginning


@settings(max_examples=1000, deadline=None)
@given(PATTERN, VALUE, st.lists(VALUE, min_size=1, max_size=6))
def test_what_a_beginning_settles_holds_whatever_follows(pattern: bytes, beginning: bytes, ends: list[bytes]) -> None:
    try:
        operator = Rx(pattern)
    except OperatorError:
        return
    if operator.settled_by(beginning):
        for end in ends:
            assert operator.holds(beginning + end, NoTransaction()), (pattern, beginning, end)


@pytest.mark.parametrize(
    ("pattern", "beginning", "settled"),
    [
        (b"ab", b"xab", True),
        (b"ab", b"xa", False),
        (b"ab+", b"xab", True),
        (b"ab$", b"xab", False),
        (rb"ab\b", b"xab", False),
        (rb"ab\b", b"xab ", True),
        (rb"ab\B", b"xabc", True),
        (b"^ab$", b"ab", False),
        (b"", b"x", True),
    ],
)
def test_what_a_beginning_settles(pattern: bytes, beginning: bytes, settled: bool) -> None:
    assert Rx(pattern).settled_by(beginning) is settled


def test_phrases_are_settled_by_a_beginning_that_has_one() -> None:
    operator = Phrases([b"etc/passwd"])
    assert operator.settled_by(b"../ETC/passwd.")
    assert not operator.settled_by(b"../etc/passw")


@given(st.binary(max_size=4), st.lists(st.binary(max_size=4), min_size=1, max_size=5))
def test_the_shared_beginning_is_the_longest(beginning: bytes, ends: list[bytes]) -> None:
    forms = [beginning + end for end in ends]
    shared = shared_beginning(forms)
    assert shared.startswith(beginning)
    assert all(form.startswith(shared) for form in forms)
    longer = {form[: len(shared) + 1] for form in forms}
    assert len(longer) > 1 or shared in forms


RULES = r"""
SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecAction "id:2,phase:1,pass,nolog,setvar:tx.five=5,setvar:tx.low=-3,setvar:tx.big=999999999999999990"
SecRule ARGS_NAMES|ARGS "@rx (?i)union\s+(sel)ect" "id:10,phase:2,pass,capture,logdata:'%{TX.0} %{TX.1} %{MATCHED_VAR_NAME}',setvar:tx.score=+%{tx.five},setvar:tx.seen=+1"
SecRule ARGS_NAMES "@rx (select)\.(\d+)$" "id:11,phase:2,pass,capture,logdata:'%{TX.1} %{TX.2}',setvar:tx.score=-2"
SecRule ARGS_NAMES "@rx word\b" "id:12,phase:2,pass,setvar:tx.low=+1,setvar:tx.big=+1"
SecRule ARGS_NAMES "@rx ^json\.(a|b)" "id:13,phase:2,pass,capture,setvar:'tx.last=%{TX.1}'"
SecRule ARGS_NAMES "@rx union" "id:14,phase:2,pass,chain,setvar:tx.chained=+1"
  SecRule MATCHED_VARS "@rx \.1\d$" "t:none,capture,setvar:tx.chained=+10"
SecRule ARGS_NAMES "@pm etc/passwd /bin/sh" "id:15,phase:2,pass,capture,t:lowercase,logdata:'%{TX.0}',setvar:tx.score=+3"
SecRule ARGS_NAMES "!@rx select" "id:16,phase:2,pass,setvar:tx.others=+1"
SecRule ARGS_NAMES "@rx ." "id:17,phase:2,pass,nolog,setvar:'tx.names=%{tx.names}x'"
SecRule ARGS_NAMES "@rx script:.+[(.]" "id:18,phase:2,pass,capture,t:removeWhitespace,logdata:'%{TX.0}',setvar:tx.score=+4"
SecRule ARGS_NAMES "@rx ;" "id:19,phase:2,pass,t:htmlEntityDecode,multiMatch,capture,setvar:tx.score=+1"
SecRule ARGS_NAMES "@detectSQLi" "id:20,phase:2,pass,capture,logdata:'%{TX.0}',setvar:tx.sql=+1"
SecRule ARGS_NAMES "@rx 2[0-9]" "id:21,phase:2,pass,setvar:tx.score=+1,setvar:ip.count=+1"
SecRule ARGS_NAMES "@rx word.*union" "id:22,phase:2,pass,capture,logdata:'%{TX.0}',setvar:tx.wide=+1"
SecRule TX:score "@gt 4" "id:30,phase:2,pass,logdata:'%{TX.score} %{MATCHED_VAR}'"
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[WAF]:
    return three_ways(RULES, tmp_path_factory.mktemp("hs"))


KEY = st.lists(
    st.sampled_from(["union", " ", "select", ".", "word", "a", "b", "/bin/sh", "etc/passwd", "javascript:", "&lt;", "'", "1=1"]),
    min_size=1, max_size=4,
).map("".join)  # fmt: skip
SIZES = st.integers(1, 3 * FEW_FORMS)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(KEY, SIZES), min_size=1, max_size=3, unique_by=lambda pair: pair[0]))
def test_names_of_arrays_are_judged_alike(engines: list[WAF], arrays: list[tuple[str, int]]) -> None:
    body = json.dumps({key: list(range(size)) for key, size in arrays}).encode()
    outcomes = []
    for waf in engines:
        tx = run(waf, "/", method="POST", headers={"Content-Type": "application/json"}, body=body)
        matched = [(m.rule.id, m.message, m.data, m.variable, m.value, m.matches) for m in tx.matched_rules]
        outcomes.append((matched, tx.tx, tx.matched_var, tx.matched_var_name))
    for other in outcomes[1:]:
        assert other == outcomes[0]


def test_what_matches_count_is_exact_for_large_numbers(engines: list[WAF]) -> None:
    """Past 18 digits a number is not read to its end: then it matters that each match adds by itself."""
    body = json.dumps({"word": list(range(40))}).encode()
    for waf in engines:
        tx = run(waf, "/", method="POST", headers={"Content-Type": "application/json"}, body=body)
        assert tx.tx[b"big"] == engines_big(40)
        assert tx.tx[b"low"] == b"38"


def engines_big(times: int) -> bytes:
    text = b"999999999999999990"
    for _ in range(times + 1):
        text = b"%d" % (int(text[:18]) + 1)
    return text

"""Rules that find their matches among many values: the same ones in the same order as rule by rule."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.transactions import PLAIN, make, run
from waf_core import WAF
from waf_core.places import FEW, MIN_PAIRS, Places

RULES = """
SecRuleEngine DetectionOnly
SecArgumentsLimit 1000
SecRule ARGS "@rx ^evil[12]" "id:1,phase:2,pass,capture,log,setvar:tx.score=+5"
SecRule ARGS|!ARGS:n3|!ARGS:/^m/ "@rx evil" "id:2,phase:2,pass,log,logdata:'%{MATCHED_VAR_NAME}'"
SecRule ARGS:n1|ARGS_NAMES "@rx [13]" "id:3,phase:2,pass,log"
SecRule REQUEST_COOKIES|ARGS "@streq evil1" "id:4,phase:2,pass,log,t:lowercase,multiMatch"
SecRule ARGS "@streq evil2" "id:5,phase:2,pass,nolog,ctl:ruleRemoveTargetById=6;ARGS:n2"
SecRule REQUEST_COOKIES|ARGS "@contains vil" "id:6,phase:2,pass,log"
SecRule ARGS "@streq evil3" "id:7,phase:2,pass,nolog,ctl:ruleRemoveTargetById=8-9;REQUEST_COOKIES"
SecRule REQUEST_COOKIES|ARGS "@contains evil" "id:8,phase:2,pass,log"
SecRule ARGS "@contains evil" "id:9,phase:2,pass,log,chain"
SecRule MATCHED_VARS "@contains 3" "t:none"
"""

WAFS = make(RULES), make(RULES, PLAIN)

PAIRS = st.lists(
    st.tuples(
        st.sampled_from(["n1", "n2", "n3", "m1", "m2"]), st.sampled_from(["evil1", "EVIL1", "evil2", "evil3", "a", "b"])
    ),
    max_size=4 * MIN_PAIRS,
)
PLENTY = [(f"p{number}", f"v{number % 5}") for number in range(2 * FEW * MIN_PAIRS)]


def _matches(waf: WAF, uri: str, cookies: str) -> list[object]:
    tx = run(waf, uri, headers={"Cookie": cookies})
    return [(rule.rule.id, rule.variable, rule.value, rule.data, rule.matches) for rule in tx.matched_rules]


@settings(max_examples=200)
@given(PAIRS, PAIRS, st.integers(0, len(PLENTY)))
def test_same_matches_in_the_same_order(
    arguments: list[tuple[str, str]], cookies: list[tuple[str, str]], place: int
) -> None:
    pairs = [*PLENTY[:place], *arguments, *PLENTY[place:]]
    uri = "/?" + "&".join(f"{name}={quote(value)}" for name, value in pairs)
    cookie = "; ".join(f"{name}={value}" for name, value in [*cookies, *PLENTY])
    assert _matches(WAFS[0], uri, cookie) == _matches(WAFS[1], uri, cookie)


def test_places_are_of_these_pairs_as_they_were() -> None:
    pairs = [(b"a", b"1"), (b"b", b"2"), (b"c", b"1")]
    places = Places(pairs)
    assert places.having({b"1": 0, b"3": 0}) == [(b"a", b"1"), (b"c", b"1")]
    assert places.having([b"2", b"1"]) == pairs
    assert places.are_of(pairs)
    assert not places.are_of(list(pairs))
    pairs.append((b"d", b"1"))
    assert not places.are_of(pairs)

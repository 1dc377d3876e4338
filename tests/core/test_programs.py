"""Small rule programs made at random: what is folded, scanned and remembered never changes an answer."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.transactions import PLAIN, ids, make, run
from waf_core import WAF

NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(0, 3)
TESTS = st.one_of(
    st.builds('ARGS:{} "@streq {}"'.format, NAMES, NUMBERS),
    st.builds('ARGS|!ARGS:{} "@rx ^[{}x]"'.format, NAMES, NUMBERS),
    st.builds('ARGS "@within 0%{{tx.{}}}"'.format, NAMES),
    st.builds('TX:{} "@eq {}"'.format, NAMES, NUMBERS),
    st.builds('TX:{} "!@ge {}"'.format, NAMES, NUMBERS),
    st.builds('&TX:{} "@eq {}"'.format, NAMES, st.integers(0, 1)),
    st.builds('TX:{} "@within %{{tx.{}}}"'.format, NAMES, NAMES),
    st.builds('TX:/^[{}x]/ "@ge {}"'.format, NAMES, NUMBERS),
    st.just('TX:0 "@rx [12]"'),
    st.just('MATCHED_VAR "@rx [12]"'),
)
VALUES = st.one_of(
    NUMBERS.map(str),
    st.builds("+{}".format, NUMBERS),
    st.builds("-{}".format, NUMBERS),
    st.builds("%{{tx.{}}}".format, NAMES),
    st.builds("+%{{tx.{}}}".format, NAMES),
    st.sampled_from(["%{MATCHED_VAR}", "%{TX.0}"]),
)
EFFECTS = st.lists(
    st.one_of(
        st.builds("setvar:tx.{}={}".format, NAMES, VALUES),
        st.builds("setvar:tx.{}={}".format, NAMES, VALUES),
        st.builds("setvar:tx.%{{tx.{}}}={}".format, NAMES, VALUES),
        st.builds("setvar:!tx.{}".format, NAMES),
        st.builds("ctl:ruleRemoveById={}".format, st.integers(1, 12)),
        st.builds("ctl:ruleRemoveTargetById={};ARGS:{}".format, st.integers(1, 12), NAMES),
        st.just("capture"),
    ),
    max_size=3,
)
SKIPS = st.sampled_from(["pass,skip:1", "pass,skip:2", "pass,skip:4", "pass,skipAfter:m", "pass,skipAfter:n"])
FLOW = st.one_of(*[st.just("pass")] * 4, SKIPS, st.sampled_from(["deny", "allow", "allow:phase", "allow:request"]))
PHASES = st.sampled_from([1, 1, 1, 2, 2, 3, 4, 5])


@st.composite
def rules(draw: st.DrawFn) -> str:
    lines = []
    for number in range(1, draw(st.integers(2, 12)) + 1):
        if draw(st.integers(0, 5)) == 0:
            lines.append(f"SecMarker {draw(st.sampled_from(['m', 'n']))}")
        log = draw(st.sampled_from(["log", "nolog"]))
        actions = [f"id:{number},phase:{draw(PHASES)},{draw(FLOW)},{log},t:none", *draw(EFFECTS)]
        if draw(st.booleans()):
            lines.append(f'SecAction "{",".join(actions)}"')
            continue
        links = draw(st.sampled_from([1, 1, 2, 3]))
        for link in range(links):
            actions += ["chain"] if link < links - 1 else []
            lines.append(f'SecRule {draw(TESTS)} "{",".join(actions)}"')
            actions = ["t:none", *draw(EFFECTS)]
    return "\n".join([*lines, "SecMarker m", "SecMarker n"])


URIS = st.lists(st.builds("{}={}".format, NAMES, NUMBERS), max_size=3).map(lambda pairs: "/?" + "&".join(pairs))


def outcome(waf: WAF, uri: str) -> tuple[object, ...]:
    """What can be seen of a transaction.  Captures that no rule reads need not be there."""
    tx = run(waf, uri)
    return ids(tx), tx.interruption, tx.detected, {n: v for n, v in tx.tx.items() if not n.isdigit()}


@settings(max_examples=150, deadline=None)
@given(rules(), st.lists(URIS, min_size=2, max_size=4))
def test_programs_give_the_same_verdicts_and_variables(text: str, uris: list[str]) -> None:
    """The requests repeat, so that what was remembered is used."""
    planned, plain = make(text), make(text, PLAIN)
    for uri in uris * 2:
        assert outcome(planned, uri) == outcome(plain, uri), uri

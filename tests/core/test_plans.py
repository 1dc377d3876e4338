"""Plans leave out what cannot match, for one value and for many: the same matches as asking every rule."""

from __future__ import annotations

from itertools import combinations
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.transactions import PLAIN, make, run
from waf_core import WAF
from waf_core.scan.batch import CROWD
from waf_core.scan.budget import NEW_PLANS
from waf_core.scan.planner import FORESEEN_FROM, SIGHTINGS

STEPS = [
    "urlDecodeUni", "htmlEntityDecode", "jsDecode", "cssDecode", "lowercase", "compressWhitespace", "removeWhitespace",
    "removeNulls", "replaceComments", "normalizePath", "cmdLine", "base64Decode", "utf8toUnicode", "escapeSeqDecode",
]  # fmt: skip

OPERATORS = [
    "@rx (?i)union.select", "@rx ^[0-9]+$", "@rx <x", "@rx ['\\\"]", "@rx \\.\\./", "@rx A{3}", "@rx [^a-z]q",
    "!@rx ^[a-z]*$", "@pm etc/passwd select <x", "@contains ;", "@streq ab", "@within ab/cd", "@detectSQLi",
    "@detectXSS", "@rx ^.{40}", "@contains select", "@contains union ", "@rx x{18}", "@rx \\x00",
    "@rx [\\x80-\\xff]", "@contains u00e9",
]  # fmt: skip

PIECES = [
    "a", "ab", "AAA", "9", "1", "q", "'", '"', ";", "<x", " ", "\t", "..", "/", "etc/passwd", "union", "select", "%3Cx",
    "%2527", "&lt;", "\\x3c", "\\", "/*", "*/", "\0", "+", "é", "^", "x", "X", "YWI=", "%", "=", "-- ", "xxxxxxxxxx",
    "é'<;$`^\\{", "\0'<;$`^\\{",
]  # fmt: skip

SPECIAL = "'<;[\\/*%-.:"

RULES = st.lists(
    st.tuples(st.lists(st.sampled_from(STEPS), max_size=4), st.sampled_from(OPERATORS), st.booleans()),
    min_size=1,
    max_size=30,
)
VALUES = st.lists(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join), min_size=1, max_size=CROWD * 2
)


def matches(waf: WAF, values: list[str]) -> list[tuple[int, str, bytes]]:
    """What matches in a query of such arguments."""
    uri = "/?" + "&".join(f"a{i}={quote(value)}" for i, value in enumerate(values))
    return [(m.rule.id, m.variable, m.value) for m in run(waf, uri).matched_rules]


@settings(max_examples=60, deadline=None)
@given(RULES, st.lists(st.tuples(VALUES, st.sampled_from([0, CROWD])), min_size=1, max_size=SIGHTINGS + 1))
def test_plans_never_change_what_matches(
    rules: list[tuple[list[str], str, bool]], requests: list[tuple[list[str], int]]
) -> None:
    text = ""
    for number, (steps, operator, multi) in enumerate(rules, 1):
        actions = ["t:none", *[f"t:{step}" for step in steps], *(["multiMatch"] if multi else [])]
        text += f'SecRule ARGS "{operator}" "id:{number},phase:1,pass,log,{",".join(actions)}"\n'
    planned, plain = make(text), make(text, PLAIN)
    for values, ordinary in requests:
        values += [f"w{number}" for number in range(ordinary)]
        assert matches(planned, values) == matches(plain, values)


def test_plans_are_made_ahead_for_what_lacks_a_class_that_others_had() -> None:
    text = "".join(
        f'SecRule ARGS "{operator}" "id:{number},phase:1,pass,log,t:none,t:urlDecodeUni,t:{step}"\n'
        for number, (operator, step) in enumerate(zip(OPERATORS, STEPS * 2, strict=False), 1)
    )
    planned, plain = make(text), make(text, PLAIN)
    patterns = planned.program.pattern_sets[0]
    (planner,) = patterns.planners
    values = [f"Ab1{''.join(special)}" for special in combinations(SPECIAL, 3)]
    for start in range(0, len(values), NEW_PLANS):
        matches(planned, values[start : start + NEW_PLANS])
    assert sum(map(len, planner._plans)) > FORESEEN_FROM
    patterns.foresee()
    kept = list(map(len, planner._plans))
    foreseen = dict(planner._foreseen)
    pairs = [f"xY2{''.join(special)}" for special in combinations(SPECIAL, 2)]
    assert matches(planned, pairs) == matches(plain, pairs)
    # None of them was new.
    assert (list(map(len, planner._plans)), planner._foreseen) == (kept, foreseen)
    assert foreseen

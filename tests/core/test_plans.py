"""Plans leave out what cannot match, for one value and for many: the same matches as asking every rule."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.transactions import PLAIN, make, run
from waf_core.scan.batch import CROWD
from waf_core.scan.planner import SIGHTINGS

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

RULES = st.lists(
    st.tuples(st.lists(st.sampled_from(STEPS), max_size=4), st.sampled_from(OPERATORS), st.booleans()),
    min_size=1,
    max_size=30,
)
VALUES = st.lists(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join), min_size=1, max_size=CROWD * 2
)


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
        uri = "/?" + "&".join(f"a{i}={quote(value)}" for i, value in enumerate(values))
        expected, found = (
            [(m.rule.id, m.variable, m.value) for m in run(waf, uri).matched_rules] for waf in (plain, planned)
        )
        assert found == expected

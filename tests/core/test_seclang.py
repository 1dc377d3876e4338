"""The parser: quoting, continuation, lists, Include, and errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.transactions import ids, run
from waf_core import WAF, SecLangError
from waf_core.seclang import DirectiveNode, RuleNode, RuleSource, parse_files, parse_text


def rule(text: str) -> RuleNode:
    (node,) = parse_text(text)
    assert isinstance(node, RuleNode)
    return node


def test_continuation_lines_keep_their_positions() -> None:
    node = rule('SecRule ARGS "@rx a" \\\n    "id:1,\\\n     deny"')
    assert [str(action.position) for action in node.actions] == ["<directives>:2:6", "<directives>:3:6"]


def test_escaped_quotes_and_kept_backslashes() -> None:
    node = rule(r'SecRule ARGS "@rx \"\d\\" "id:1"')
    assert node.operator is not None
    assert node.operator.argument == r'"\d\\'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ARGS", [("ARGS", None, False, False, False)]),
        ("ARGS:a|!ARGS:/^b|c$/", [("ARGS", "a", False, False, False), ("ARGS", "^b|c$", True, True, False)]),
        ("&TX:x", [("TX", "x", False, False, True)]),
        ("XML:/*|XML://@*", [("XML", "/*", False, False, False), ("XML", "//@*", False, False, False)]),
        (
            r"ARGS:'/a\/b/'|REQUEST_URI",
            [("ARGS", "a/b", True, False, False), ("REQUEST_URI", None, False, False, False)],
        ),
        ("ARGS:'a b'", [("ARGS", "a b", False, False, False)]),
    ],
)
def test_variable_lists(text: str, expected: list[tuple[str, str | None, bool, bool, bool]]) -> None:
    node = rule(f'SecRule {text} "@rx a" "id:1"' if " " not in text else f'SecRule "{text}" "@rx a" "id:1"')
    assert [(t.name, t.selector, t.is_regex, t.negated, t.counted) for t in node.targets] == expected


def test_actions_with_quotes_and_commas() -> None:
    node = rule("SecAction \"id:1,msg:'a, \\'b\\'',setvar:'tx.a=1,2',setvar:tx.b='c,d',nolog\"")
    assert [(a.name, a.value) for a in node.actions] == [
        ("id", "1"),
        ("msg", "a, 'b'"),
        ("setvar", "tx.a=1,2"),
        ("setvar", "tx.b='c,d'"),
        ("nolog", None),
    ]


@pytest.mark.parametrize(
    ("text", "name", "argument", "negated"),
    [
        ("@rx a b", "rx", "a b", False),
        ("!@streq x", "streq", "x", True),
        ("plain", "rx", "plain", False),
        ("!plain", "rx", "plain", True),
        ("@detectSQLi", "detectsqli", "", False),
    ],
)
def test_operators(text: str, name: str, argument: str, negated: bool) -> None:
    operator = rule(f'SecRule ARGS "{text}" "id:1"').operator
    assert operator is not None
    assert (operator.name, operator.argument, operator.negated) == (name, argument, negated)


def test_include_with_glob_relative_path_and_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.conf").write_text("SecMarker a\nInclude sub/*.conf\nSecMarker z\n")
    (tmp_path / "sub" / "2.conf").write_text("SecMarker c\n")
    (tmp_path / "sub" / "1.conf").write_text("SecMarker b\n")
    source = RuleSource(str(tmp_path))
    nodes = parse_files([str(tmp_path / "main.conf")], source)
    assert [n.arguments[0] for n in nodes if isinstance(n, DirectiveNode)] == ["a", "b", "c", "z"]
    assert [Path(f).name for f in source.files] == ["main.conf", "1.conf", "2.conf"]


def test_files_that_were_written_on_windows(tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(b"\xef\xbb\xbfevil\r\nbad\r\n")
    text = 'SecRuleEngine On\r\nSecRule ARGS "@pmFromFile words" \\\r\n "id:1,phase:1,deny"\r\n'
    (tmp_path / "main.conf").write_bytes(b"\xef\xbb\xbf" + text.encode())
    waf = WAF.from_files([str(tmp_path / "main.conf")])
    for word in ("evil", "bad"):
        assert ids(run(waf, f"/?a={word}")) == [1]


def test_include_loop_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.conf").write_text("Include a.conf\n")
    with pytest.raises(SecLangError, match="include each other without end"):
        parse_files([str(tmp_path / "a.conf")])


ERRORS = {
    'SecRule ARGS "@rx a': r"1:14: a \" is opened and never closed",
    "SecRule ARGS": r"1:1: SecRule takes variables, an operator",
    'SecRule ARGS "@rx a" "id:1"x': r"1:28: text follows the closing",
    'SecRule ARGS "@rx a" "id:1,msg:\'a"': r"1:32: a ' is opened and never closed",
    'SecRule | "@rx a" "id:1"': r"1:9: a variable name is missing",
    "Include /no/such/file": r"1:1: the included file does not exist: '/no/such/file'",
    "Include @nothing": r"unknown named rule set: '@nothing' \(known are @baseline",
    "SecRuleEngine On \\": r"1:1: the file ends in the middle of a directive",
    "<IfModule x>": r"1:1: Apache sections have no meaning here",
    "SecFoo On": r"1:1: unknown directive: 'SecFoo' \(see docs/directives.md\)",
    "@/rules/own.conf": r"unknown directive: '@/rules/own.conf' \(this is read as the text of rules; files are named with",
    "SecRuleEngin On": r"unknown directive: 'SecRuleEngin' \(did you mean SecRuleEngine",
    "SecRuleEngine Maybe": r"SecRuleEngine takes one of on, detectiononly, off: 'Maybe'",
    "SecRequestBodyLimit x": r"SecRequestBodyLimit takes a number from 0",
    "SecRuleScript a.lua": r"SecRuleScript is refused: .*\(Lua rules run code",
    'SecRule ARGZ "@rx a" "id:1"': r"1:9: unknown variable: 'ARGZ'",
    'SecRule TX.a "@rx a" "id:1"': r"1:9: unknown variable: 'TX.A' \(did you mean TX:a\?\)",
    'SecRule REQUEST_URI:a "@rx a" "id:1"': r"1:9: REQUEST_URI is a single value and takes no key",
    'SecRule SCRIPT_UID "@rx a" "id:1"': r"1:9: the variable SCRIPT_UID is not supported",
    'SecRule ARGS "@rx a" "id:1,t:nope"': r"1:28: unknown transformation",
    'SecRule ARGS "@rx a" "id:1,frobnicate"': r"1:28: unknown action: 'frobnicate'",
    'SecRule ARGS "@rx a" "id:1,exec:/bin/x"': r"the action exec is refused",
    'SecRule ARGS "@rx a" "deny"': r"1:1: the rule has no id",
    'SecAction "id:1"\nSecAction "id:1"': r"2:1: the id 1 is already used at <directives>:1:1",
    'SecRule ARGS "@rx a" "id:1,chain"': r"1:1: the rules end inside a chain",
    'SecRule ARGS "@rx a" "id:1,chain"\nSecMarker x': r"2:1: a chain is open",
    'SecAction "id:1,phase:9"': r"a phase is a number from 1 to 5",
    'SecAction "id:1,setvar:foo.x=1"': r"setvar cannot set 'foo.x'",
    'SecAction "id:1,ctl:nope=1"': r"unknown ctl option 'nope'",
    'SecAction "id:1,status:999"': r"a status is a number from 200 to 599",
    'SecRule ARGS "@pmFromFile no.data" "id:1"': r"the data file 'no.data' does not exist",
    'SecRule ARGS "@ipMatch 1.2.3" "id:1"': r"'1.2.3' is no address or CIDR block",
    'SecDefaultAction "phase:1,block"': r"SecDefaultAction cannot have block: it says what block means",
    "SecDefaultAction \"phase:1,pass,msg:'x'\"": r"SecDefaultAction cannot have msg",
    'SecDefaultAction "phase:1,pass,skipAfter:END"': r"SecDefaultAction cannot have skipafter",
    'SecRule ARGS "@rx a" "id:1,chain"\nSecRule ARGS "@rx b" "t:none,deny"': r"2:\d+: deny in a chained rule.*rule .*1",
    'SecRule ARGS "@rx a" "id:1,chain"\nSecRule ARGS "@rx b" "msg:x"': r"msg in a chained rule",
    'SecDefaultAction "phase:1,pass,setvar:tx.a=1"': r"SecDefaultAction cannot change anything",
    'SecDefaultAction "phase:1,pass,ctl:ruleRemoveById=1"': r"SecDefaultAction cannot change anything",
    'SecDefaultAction "phase:1,pass,sanitiseMatched"': r"SecDefaultAction cannot change anything",
    'SecAuditLogRelevantStatus "^(5"': r"SecAuditLogRelevantStatus takes a regular expression",
    'SecAction "id:1,phase:1,pass,ctl:parseXmlIntoArgs=Perhaps"': r"ctl:parseXmlIntoArgs takes On, Off, OnlyArgs",
    'SecAction "id:1,phase:1,pass,ctl:auditLogParts=+Q"': r"ctl:auditLogParts takes letters",
    "SecParseXmlIntoArgs Perhaps": r"SecParseXmlIntoArgs takes one of on, off, onlyargs",
    'SecRule ARGS "@rx (?u)a" "id:1"': r"the pattern is no regular expression: cannot use UNICODE flag",
    f'SecRule ARGS "@rx {"(" * 4000}a(?=b){")" * 4000}" "id:1"': r"the pattern is no regular expression",
    'SecRule ARGS "@rx a{1,99999999999999999999}(?=b)" "id:1"': r"the pattern is no regular expression",
    "SecRuleRemoveById 9-5": r"the range ends before it begins.*write 5-9",
    "Include /nowhere/*.conf": r"1:1: no file fits the pattern: '/nowhere/\*.conf' \(write IncludeOptional",
    'SecAction "id:1,phase:1,pass,expirevar:ip.a"': r"expirevar cannot expire 'ip.a'",
    "SecRuleRemoveById x": r"rules are chosen by id or range",
}


@pytest.mark.parametrize("text", ERRORS)
def test_error_says_what_where_and_what_to_do(text: str) -> None:
    with pytest.raises(SecLangError, match=ERRORS[text]) as caught:
        WAF.from_directives(text)
    assert caught.value.position.line >= 1


@given(st.text(alphabet="SecRule ARGS|\"'@rx:,\\\n#!&/id1", max_size=120))
def test_any_text_parses_or_raises_a_seclang_error(text: str) -> None:
    try:
        WAF.from_directives(text)
    except SecLangError as error:
        assert error.position.line >= 1

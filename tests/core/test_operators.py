"""Every operator against its table; refusals; what holds for any value."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import re2
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.core.transactions import ids, make, run
from waf_core import WAF, SecLangError
from waf_core.limits import Limit
from waf_core.operators import REFUSED, REGISTRY, OperatorEnv, OperatorError, injection
from waf_core.operators.regex import BacktrackingRx, Rx

CASES: dict[str, list[list[Any]]] = yaml.safe_load(Path(__file__).with_name("operators.yaml").read_text("utf-8"))
FROM_FILES = {
    "pmf", "pmfromfile", "pmfromdataset", "ipmatchf", "ipmatchfromfile", "ipmatchfromdataset", "validateschema",
    "geolookup", "rbl", "validatedtd",
}  # fmt: skip


class NoTransaction:
    """Operators with constant arguments ask nothing."""

    def __init__(self) -> None:
        self.tx: dict[bytes, bytes] = {}
        self.matched_var = self.matched_var_name = b""
        self.limits: list[str] = []

    def note_limit(self, limit: Limit) -> None:
        self.limits.append(limit)

    def lookup(self, name: str, key: bytes | None) -> bytes:
        raise AssertionError("a pure operator looked something up")


@pytest.mark.parametrize(
    ("name", "argument", "value", "expected"),
    [pytest.param(n, *c, id=f"{n}-{i}") for n, cases in CASES.items() for i, c in enumerate(cases)],
)
def test_table(name: str, argument: Any, value: Any, expected: Any) -> None:
    built = REGISTRY[name](str(argument).encode("latin-1"), OperatorEnv())
    captures = built.match(str(value).encode("latin-1"), NoTransaction())
    if expected is False:
        assert captures is None
    elif expected is True:
        assert captures == ()
    else:
        assert captures is not None
        assert captures[0] == str(expected).encode("latin-1")


def test_every_operator_has_cases_here_or_with_its_files() -> None:
    assert set(CASES) | FROM_FILES == set(REGISTRY)


@pytest.mark.parametrize("name", sorted(CASES))
@given(value=st.binary(max_size=200))
def test_never_raises(name: str, value: bytes) -> None:
    argument = str(CASES[name][0][0]).encode("latin-1")
    REGISTRY[name](argument, OperatorEnv()).match(value, NoTransaction())


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refusal_names_the_operator_the_place_and_an_alternative(name: str) -> None:
    with pytest.raises(SecLangError, match=rf"<directives>:1:\d+: the operator @{name} is refused.*\(.*use|\(.*hint|;"):
        WAF.from_directives(f'SecRule ARGS "@{name} x" "id:1,phase:2,pass"')


def test_patterns_beyond_re2_run_on_the_bounded_engine_and_are_noted() -> None:
    env = OperatorEnv()
    built = REGISTRY["rx"](rb"(a)\1(?!b)", env)
    assert isinstance(built, BacktrackingRx)
    assert built.match(b"xaac", NoTransaction()) == (b"aa", b"a")
    assert built.match(b"aab", NoTransaction()) is None
    assert "backtracking" in env.notes[0]


SLOW = rb"^(a|aa)+(?!c)$"
"""Takes the backtracking engine longer than the world has been for 60 letters."""


def test_backtracking_that_explodes_counts_as_a_match_and_is_noted() -> None:
    for built in (BacktrackingRx(SLOW), REGISTRY["verifycc"](SLOW, OperatorEnv())):
        tx = NoTransaction()
        assert built.match(b"a" * 60 + b"b", tx) is not None
        assert tx.limits == ["rx_time"]
        assert built.match(b"b" * 60, tx) is None
        assert tx.limits == ["rx_time"]


def test_what_an_expression_cannot_do_is_noted_with_the_request() -> None:
    waf = make(
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.open=(,setvar:tx.word=a+"\n'
        'SecRule ARGS:a "@rx %{tx.open}" "id:2,phase:2,pass,log"\n'
        'SecRule ARGS:c "@rx %{ARGS.c}" "id:5,phase:2,pass,log"\n'
        'SecRule ARGS:a "@rx ^%{tx.word}$" "id:3,phase:2,pass,log"\n'
        f'SecRule ARGS:b "@rx {SLOW.decode()}" "id:4,phase:2,deny"'
    )
    tx = run(waf, "/?a=aa")
    assert (ids(tx), tx.limits, tx.interruption) == ([3], ["rx_invalid"], None)
    for pattern in ("(?u)a", "(" * 4000 + "(?=a)" + ")" * 4000):
        tx = run(waf, "/?c=" + quote(pattern))
        assert (ids(tx), tx.limits, tx.interruption) == ([], ["rx_invalid"], None)
    tx = run(waf, "/?b=" + "a" * 60 + "b")
    assert (ids(tx), tx.limits) == ([4], ["rx_time"])
    assert tx.interruption is not None


def test_expressions_that_requests_bring_leave_no_notes_behind() -> None:
    waf = make('SecRule ARGS:c "@rx %{ARGS.c}" "id:1,phase:2,pass,log"')
    before = list(waf.program.notes)
    assert ids(run(waf, "/?c=" + quote("a(?=b)"))) == []
    assert ids(run(waf, "/?c=" + quote("^(?=.)"))) == [1]
    assert waf.program.notes == before


def test_rules_may_ask_what_expressions_could_not_do() -> None:
    waf = make(
        'SecAction "id:1,phase:1,pass,nolog,setvar:tx.open=("\nSecRule ARGS:a "@rx %{tx.open}" "id:2,phase:2,pass,log"\n'
        f'SecRule ARGS:b "@rx {SLOW.decode()}" "id:3,phase:2,pass,nolog"\n'
        'SecRule MSC_PCRE_ERROR "@eq 1" "id:4,phase:2,pass,log"\n'
        'SecRule MSC_PCRE_LIMITS_EXCEEDED "@eq 1" "id:5,phase:2,pass,log"'
    )
    assert ids(run(waf, "/?a=aa")) == [4]
    assert ids(run(waf, "/?b=" + "a" * 60 + "b")) == [4, 5]
    assert ids(run(waf, "/?c=1")) == []


def test_data_files_are_found_beside_the_rules(tmp_path: Path) -> None:
    (tmp_path / "words.data").write_text("# comment\n\nevil\nWorse thing\n")
    (tmp_path / "ips.data").write_text("192.0.2.0/24\n")
    env = OperatorEnv(folders=(str(tmp_path),))
    assert REGISTRY["pmfromfile"](b"words.data", env).match(b"a WORSE THING", NoTransaction()) == (b"WORSE THING",)
    assert REGISTRY["ipmatchfromfile"](b"ips.data", env).match(b"192.0.2.7", NoTransaction()) == ()
    assert env.files == [str(tmp_path / "words.data"), str(tmp_path / "ips.data")]


def test_datasets() -> None:
    env = OperatorEnv(datasets={"bad": [b"evil", b"worse"], "nets": [b"192.0.2.0/24"]})
    assert REGISTRY["pmfromdataset"](b"bad", env).match(b"EVIL", NoTransaction()) == (b"EVIL",)
    assert REGISTRY["ipmatchfromdataset"](b"nets", env).match(b"192.0.2.7", NoTransaction()) == ()


def test_schemas(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('{"type": "object", "required": ["a"]}')
    xsd = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{}</xs:schema>'
    (tmp_path / "s.xsd").write_text(
        xsd.format('<xs:include schemaLocation="part.xsd"/><xs:element name="a" type="number"/>')
    )
    number = '<xs:simpleType name="number"><xs:restriction base="xs:integer"/></xs:simpleType>'
    (tmp_path / "part.xsd").write_text(xsd.format(number))
    env = OperatorEnv(folders=(str(tmp_path),))
    by_json = REGISTRY["validateschema"](b"s.json", env)
    assert by_json.match(b'{"a": 1}', NoTransaction()) is None
    assert by_json.match(b'{"b": 1}', NoTransaction()) == ()
    assert by_json.match(b"{", NoTransaction()) == ()
    (tmp_path / "s.dtd").write_text("<!ELEMENT a (#PCDATA)>")
    by_dtd = REGISTRY["validatedtd"](b"s.dtd", env)
    assert by_dtd.match(b"<a>1</a>", NoTransaction()) is None
    assert by_dtd.match(b"<b/>", NoTransaction()) == ()
    for name in ("validateschema", "validatedtd"):
        (tmp_path / "large").write_text("<!ELEMENT a (#PCDATA)>" + " " * (4 << 20))
        with pytest.raises(OperatorError, match=r"the schema '.*large': it has more than 4194304 bytes"):
            REGISTRY[name](b"large", env)
    by_xml = REGISTRY["validateschema"](b"s.xsd", env)
    assert by_xml.match(b"<a>1</a>", NoTransaction()) is None
    assert by_xml.match(b"<a>x</a>", NoTransaction()) == ()


def test_pattern_error_has_position_and_text() -> None:
    with pytest.raises(SecLangError, match=r"<directives>:1:15: .*'@rx a\('"):
        WAF.from_directives('SecRule ARGS "@rx a(" "id:1,phase:2,pass"')


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (rb"(b+)\b", b"b c"),
        (rb"^(a)|(z)$", b"z"),
        (rb"(x)(y)?$", b"xy"),
        (rb"\B(n)o", b"no ano"),
        (rb"(q)(?:r|$)", b"q"),
        (rb"(a+|b)", b"aa"),
        (rb"(a)|b", b"b"),
        (rb"(a)|(?:b)", b"b"),
        (rb"(a|b)(?:c)", b"bc"),
        (rb"(a\))", b"a)"),
        (rb"(a)\)", b"a)"),
        (rb"([)(])(?:a)", b")a"),
        (rb"([)(]a)", b")a"),
    ],
)
@pytest.mark.parametrize("padding", [0, 200])
def test_groups_of_long_values_are_those_of_the_whole(pattern: bytes, value: bytes, padding: int) -> None:
    import re as reference

    text = b" " * padding + value + (b" " * padding if b"$" not in pattern else b"")
    found = reference.search(pattern, text)
    captures = REGISTRY["rx"](pattern, OperatorEnv()).match(text, NoTransaction())
    assert captures == ((found.group(), *found.groups()) if found else None)


def test_re2_is_the_engine_of_ordinary_patterns() -> None:
    assert isinstance(REGISTRY["rx"](rb"a+b", OperatorEnv()), Rx)


@pytest.mark.parametrize("pattern", [b".*", b"^.*", b".*$", b"^.*$", b"^.+$", b"^(.*)$"])
@pytest.mark.parametrize("value", [b"", b"a", b"a\nb\n", bytes(range(256)) * 3])
def test_an_expression_for_everything_matches_all_of_it(pattern: bytes, value: bytes) -> None:
    import re as reference

    found = reference.match(pattern, value, reference.DOTALL)
    captures = REGISTRY["rx"](pattern, OperatorEnv()).match(value, NoTransaction())
    assert captures == ((value,) * (1 + len(found.groups())) if found else None)


def test_what_re2_puts_off_is_done_before_traffic_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for expressions that come with a request."""
    asked: dict[str, set[str]] = {}

    class Watched:
        def __init__(self, pattern: bytes, options: re2.Options) -> None:
            self._automaton = real(pattern, options)
            self._asked = asked.setdefault(pattern.decode(), set())

        def __getattr__(self, name: str) -> Any:
            self._asked.add(name)
            return getattr(self._automaton, name)

    real = re2._re2.RE2
    monkeypatch.setattr(re2._re2, "RE2", Watched)
    waf = make(
        'SecRule ARGS "@rx ^(own)$" "id:1,phase:1,pass,log"\nSecRule ARGS "@rx ^(t%{ARGS.x})$" "id:2,phase:1,pass,log"'
    )
    put_off = {"ReverseProgramSize", "Match"}
    assert asked["^(own)$"] >= put_off
    assert ids(run(waf, "/?a=own&b=there&x=here")) == [1, 2]
    assert "ReverseProgramSize" not in asked["^(there)$"]


_SQL = [
    b"json.", b"json._", b"select", b"union", b"UNION.SELECT", b"all", b"from", b"where", b"null", b"or", b"and", b"1", b"1e5",
    b"0x41", b".", b"..", b"_", b"sleep", b"DBMS_PIPE.RECEIVE_MESSAGE", b"x", b"N", b"e", b"version", b"having", b"int",
]  # fmt: skip


@given(st.lists(st.sampled_from(_SQL), max_size=8).map(b"".join))
def test_what_is_taken_for_one_token_is_no_sql_to_libinjection(end: bytes) -> None:
    for value in (b"json." + end, end.replace(b".", b"").replace(b"_", b"")):
        assert not injection._sqli(value, ctypes.c_size_t(len(value)), (ctypes.c_char * injection.FINGERPRINT_BYTES)())
        assert not REGISTRY["detectsqli"](b"", OperatorEnv()).holds(value, NoTransaction())


def test_names_that_are_more_than_a_word_are_asked_about() -> None:
    operator = REGISTRY["detectsqli"](b"", OperatorEnv())
    assert operator.holds(b"json.a' or 1=1 --", NoTransaction())
    assert operator.holds(b"-1' or 1=1 --", NoTransaction())

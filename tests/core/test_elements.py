"""The elements of arrays, judged by one of them: the same as each by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.test_operators import CASES, NoTransaction
from tests.core.transactions import run, three_ways
from waf_core import WAF, transformations
from waf_core.operators import REGISTRY, Operator, OperatorEnv, OperatorError
from waf_core.operators.indexes import relaxed, relaxed_phrases, tells_apart
from waf_core.operators.injection import DetectSqli, DetectXss
from waf_core.operators.phrases import Phrases
from waf_core.operators.regex import Rx
from waf_core.scan.elements import _from_index, take_arrays, without_indexes
from waf_core.scan.limits import ScanLimits, ScanStatistics
from waf_core.scan.patterns import PatternSet
from waf_core.scan.scanner import Scanner
from waf_core.transaction import Transaction
from waf_core.transformations import ENDS, KEEPS, MIXES, TRAITS

DIGITS = b"0123456789"
PIECE = st.lists(
    st.sampled_from([
        b"", b"a", b"json", b"/", b"\\", b".", b"..", b"/..", b"/.", b"0", b"7", b"0x", b"0x6", b"x41", b"\\x4", b"\\u00", b"%", b"%2",
        b"%u00", b"&#", b"&#x", b"&lt", b"&", b"+", b" ", b"\t", b"\0", b"\xa0", b"\xc3", b"\xa9", b"'", b'"', b"--", b"#", b"/*", b"*/",
        b"<!--", b"-->", b"e", b"E", b"1.e", b"^", b",", b";", b"(", b"or", b"union select ", b"<svg ", b"onload=", b"javascript:", b"@",
    ]),
    max_size=4,
).map(b"".join)  # fmt: skip


@st.composite
def alike(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two values that differ in nothing but the digits of indexes."""
    first = second = draw(PIECE)
    for _ in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 3))
        one, other = (bytes(draw(st.lists(st.sampled_from(DIGITS), min_size=size, max_size=size))) for _ in range(2))
        piece = draw(PIECE)
        end = b"." + piece if draw(st.booleans()) else b""
        first, second = first + b"." + one + end, second + b"." + other + end
        if not end:
            break
    return first, second


@settings(max_examples=300)
@given(alike())
def test_values_that_differ_in_indexes_are_found_to_be_alike(pair: tuple[bytes, bytes]) -> None:
    first, second = pair
    assert without_indexes(first) == without_indexes(second)
    assert len(without_indexes(first)) == len(first)


@pytest.mark.parametrize(
    ("value", "zeros"),
    [
        (b"json.a.17", b"json.a.00"),
        (b"json.7.a.1.2", b"json.0.a.0.0"),
        (b"1.2", b"1.0"),
        (b"json.a1.1a.b", b"json.a1.1a.b"),
        (b"17", b"17"),
        (b"", b""),
        (b".1", b".0"),
        (b"a.1/b", b"a.1/b"),
        (b"a.\xb2", b"a.\xb2"),
    ],
)
def test_an_index_is_a_run_of_digits_between_dots(value: bytes, zeros: bytes) -> None:
    assert without_indexes(value) == zeros


@pytest.mark.parametrize(
    "name", sorted(name for name, f in transformations.REGISTRY.items() if TRAITS[f].indexes != MIXES)
)
@settings(max_examples=400, deadline=None)
@given(pair=alike())
def test_transformations_do_to_indexes_what_their_traits_say(name: str, pair: tuple[bytes, bytes]) -> None:
    function = transformations.REGISTRY[name]
    effect = TRAITS[function].indexes
    first, second = map(function, pair)
    if effect == ENDS:
        assert first == second
        return
    assert without_indexes(first) == without_indexes(second)
    end, other = map(_from_index, pair)
    if effect == KEEPS and end:
        assert first[: -len(end)] == second[: -len(end)]
        assert (first[-len(end) :].lower(), second[-len(end) :].lower()) == (end.lower(), other.lower())


def check(operator: Operator, first: bytes, second: bytes) -> None:
    tx = NoTransaction()
    minds = operator.minds_indexes()
    if isinstance(minds, Operator):
        assert minds.holds(first, tx) == minds.holds(second, tx)
        minds = minds.holds(first, tx)
    if not minds:
        assert operator.holds(first, tx) == operator.holds(second, tx)


@pytest.mark.parametrize(
    ("name", "argument"), sorted({(name, str(case[0])) for name, cases in CASES.items() for case in cases})
)
@settings(max_examples=50, deadline=None)
@given(pair=alike())
def test_operators_that_are_said_not_to_mind_indexes_do_not(
    name: str, argument: str, pair: tuple[bytes, bytes]
) -> None:
    check(REGISTRY[name](argument.encode("latin-1"), OperatorEnv()), *pair)


@pytest.mark.parametrize(
    ("name", "argument", "minds"),
    [
        ("validatebyterange", b"32-126", False),
        ("validatebyterange", b"0-31", False),
        ("validatebyterange", b"32-53", True),
        ("validateutf8encoding", b"", False),
        ("unconditionalmatch", b"", False),
        ("contains", b"a.b", False),
        ("contains", b"a.1", True),
        ("contains", b"%{tx.a}", True),
        ("detectsqli", b"", False),
        ("eq", b"1", True),
    ],
)
def test_which_operators_mind_indexes(name: str, argument: bytes, minds: bool) -> None:
    assert REGISTRY[name](argument, OperatorEnv()).minds_indexes() is minds


PATTERN = st.lists(
    st.sampled_from([
        b".", rb"\.", b"0", b"1", b"7", b"[0-7]", b"[^3]", rb"\d", rb"[\d.]", rb"[^\d]", rb"\w", b"a", b"json", b"[a-f0-9]", b"\\b", b"^", b"$",
        b"(?:0|1)", b"(?:a|.1)", b"(?:7|b)*", b"[12]{2}", b"(?:[0-4].)+", b"1?", b"x*", b".*", b".+?", b"(?i:E)", b"(7)", b"|", b"(?:", b")",
        b"(?:)", b"9{1,2}",
    ]),
    min_size=1, max_size=6,
).map(b"".join)  # fmt: skip


@settings(max_examples=3000, deadline=None)
@given(PATTERN, alike())
def test_expressions_that_are_said_not_to_tell_indexes_apart_do_not(pattern: bytes, pair: tuple[bytes, bytes]) -> None:
    try:
        operator = Rx(pattern)
    except OperatorError:
        return
    check(operator, *pair)


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([b"1", b"7", b"0", b".", b"a", b"1.e", b"json"]), min_size=1, max_size=4), min_size=1
    ),
    alike(),
)
def test_phrases_that_are_said_not_to_tell_indexes_apart_do_not(
    phrases: list[list[bytes]], pair: tuple[bytes, bytes]
) -> None:
    check(Phrases([b"".join(pieces) for pieces in phrases]), *pair)


@settings(max_examples=3000, deadline=None)
@given(alike())
def test_libinjection_does_not_tell_indexes_apart(pair: tuple[bytes, bytes]) -> None:
    tx = NoTransaction()
    for operator in (DetectSqli(), DetectXss()):
        check(operator, *pair)
    assert DetectSqli().match(pair[0], tx) == DetectSqli().match(pair[1], tx)


@pytest.mark.parametrize(
    ("pattern", "tells"),
    [
        (rb"(?i)union\s+select", False),
        (rb"md5|base64|7z[^a-z]|0x[0-9a-f]+", False),
        (rb"json\.items\.\d+$", False),
        (rb"^[\d.]{3}", False),
        (rb"[0-9]{2}", False),
        (rb"rot13", False),
        (rb"python3?", False),
        (rb"\.[0-7]+$", True),
        (rb"1\.e", True),
        (rb"=1", False),
        (rb"7", True),
        (rb"(?:^|,)0*$", True),
        (rb"[^5]$", True),
        (rb"\.1[a-z]", False),
        (rb"(?!a)", True),
    ],
)
def test_which_expressions_tell_indexes_apart(pattern: bytes, tells: bool) -> None:
    assert tells_apart(pattern) is tells


def test_a_relaxed_expression_lets_indexes_be_any() -> None:
    pattern = relaxed(rb"^json\.(?:429|1\.[0-4]e)$")
    assert pattern is not None
    operator = Rx(pattern)
    for value, holds in ((b"json.000", True), (b"json.7.9e", False), (b"json.7.4e", True), (b"json.42", False)):
        assert operator.holds(value, NoTransaction()) is holds, value


def test_phrases_that_tell_indexes_apart_are_relaxed() -> None:
    assert relaxed_phrases([b"md5", b"7z", b"etc/passwd"]) is None
    assert relaxed_phrases([b"md5", b".sql.001", b"1.e"]) == rb"(?i)(?:\.sql\.[0-9]{3}|[0-9]{1}\.e)"


RULES = r"""
SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule ARGS_NAMES|ARGS "@rx (?i)union\s+(sel)ect" "id:10,phase:2,pass,capture,logdata:'%{TX.0} %{TX.1} %{MATCHED_VAR_NAME}'"
SecRule ARGS_NAMES "@rx \.1[0-5]$" "id:11,phase:2,pass,capture,logdata:'%{TX.0}',setvar:tx.low=+1"
SecRule ARGS_NAMES "!@rx \.[0-4](?:\.|$)" "id:12,phase:2,pass,setvar:tx.not=+1"
SecRule ARGS_NAMES "@pm sql.001 .7 passwd.22.a /bin/sh" "id:13,phase:2,pass,t:lowercase,setvar:tx.phrases=+1"
SecRule ARGS_NAMES "@rx ^[\w.]+$" "id:14,phase:2,pass,t:base64Decode,setvar:tx.decoded=+1"
SecRule ARGS_NAMES "@rx ^.[0-7]" "id:15,phase:2,pass,t:sha1,t:hexEncode,setvar:tx.digest=+1"
SecRule ARGS_NAMES "@rx [13]$" "id:16,phase:2,pass,t:length,setvar:tx.length=+1"
SecRule ARGS_NAMES "@rx a .?$" "id:17,phase:2,pass,t:replaceComments,multiMatch,setvar:tx.comments=+1"
SecRule ARGS_NAMES "@detectSQLi" "id:18,phase:2,pass,capture,t:urlDecodeUni,logdata:'%{TX.0}',setvar:tx.sql=+1"
SecRule ARGS_NAMES "@detectXSS" "id:19,phase:2,pass,t:htmlEntityDecode,setvar:tx.xss=+1"
SecRule ARGS_NAMES "@rx etc/passwd" "id:20,phase:2,pass,capture,t:normalizePath,logdata:'%{TX.0}',setvar:tx.path=+1"
SecRule ARGS_NAMES "@endsWith 3" "id:21,phase:2,pass,setvar:tx.text=+1"
SecRule ARGS_NAMES "@contains a" "id:22,phase:2,pass,t:cmdLine,setvar:tx.text=+1"
SecRule ARGS_NAMES "@validateByteRange 33-55,57-126" "id:23,phase:2,pass,setvar:tx.range=+1"
SecRule ARGS_NAMES "@rx union" "id:24,phase:2,pass,t:lowercase,chain,setvar:tx.chained=+1"
  SecRule MATCHED_VARS "@rx \.1\d(?:\.|$)" "t:none,capture,setvar:tx.chained=+10"
SecRule ARGS_NAMES "@rx (?i)1\.e[(]|(?:\.|^)2+\.A" "id:25,phase:2,pass,multiMatch,capture,t:urlDecode,t:jsDecode,logdata:'%{TX.0}'"
SecRule ARGS_NAMES "@rx \.[0-4]$" "id:27,phase:2,pass,multiMatch,t:length,setvar:tx.multi=+1"
SecRule ARGS_NAMES "@rx ^(a.*)" "id:28,phase:2,pass,t:urlDecode,t:removeComments,logdata:'%{MATCHED_VAR}',setvar:tx.moved=+1"
SecRule ARGS_NAMES "@rx \.5$" "id:29,phase:2,pass,t:hexDecode,logdata:'%{MATCHED_VAR}',setvar:tx.ended=+1"
SecRule ARGS_NAMES "@rx ^json\.(.)" "id:26,phase:2,pass,capture,setvar:'tx.last=%{TX.1}'"
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[WAF]:
    return three_ways(RULES, tmp_path_factory.mktemp("hs"))


KEY = st.lists(
    st.sampled_from([
        "union", " ", "select", ".", "sql", "a", "/bin/sh", "../etc/passwd", "javascript:", "&lt;svg ", "onload=", "'", "1=1", "/*", "*/",
        "1.e(", "%75", "\\u006a", "x.22", "22", "A", "\x07",
    ]),
    min_size=1, max_size=4,
).map("".join)  # fmt: skip
ELEMENTS = st.sampled_from(["numbers", "objects", "arrays", "numbered"])


def document(arrays: Sequence[tuple[str, str, int]]) -> bytes:
    out: dict[str, object] = {}
    for key, kind, size in arrays:
        if kind == "numbers":
            out[key] = list(range(size))
        elif kind == "objects":
            out[key] = [{"a": n, "B": "union select"} for n in range(size)]
        elif kind == "arrays":
            out[key] = [[n, n + 1] for n in range(size)]
        else:
            out[key] = {str(n * 7): n for n in range(size)}
    return json.dumps(out).encode()


def outcome(waf: WAF, uri: str, body: bytes) -> tuple[object, ...]:
    return said(run(waf, uri, method="POST", headers={"Content-Type": "application/json"}, body=body))


def said(tx: Transaction) -> tuple[object, ...]:
    """All that rules have found, and left behind."""
    matched = [(m.rule.id, m.message, m.data, m.variable, m.value, m.matches) for m in tx.matched_rules]
    return matched, tx.tx, tx.matched_var, tx.matched_var_name


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(KEY, ELEMENTS, st.integers(1, 130)), min_size=1, max_size=3, unique_by=lambda item: item[0]))
def test_names_of_elements_are_judged_alike(engines: list[WAF], arrays: list[tuple[str, str, int]]) -> None:
    """The second time, what was remembered is used."""
    body = document(arrays)
    for _ in range(2):
        expected, *others = [outcome(waf, "/", body) for waf in engines]
        for other in others:
            assert other == expected


@pytest.mark.parametrize(("name", "rule"), [("a%252e5--.", 28), ("2e35.", 29), ("b.", None)])
def test_forms_that_have_lost_their_index_are_not_given_another(
    engines: list[WAF], name: str, rule: int | None
) -> None:
    """Such a form may end with what looks like it."""
    uri = "/?" + "&".join(f"{name}{number}=1" for number in (5, 1, 2, 3, 4, 6, 7))
    expected, *others = [outcome(waf, uri, b"") for waf in engines]
    assert rule is None or any(rule == matched[0] for matched in expected[0])  # type: ignore[attr-defined]
    for other in others:
        assert other == expected


@pytest.mark.parametrize("key", [b"a", b"a" * 3000])
def test_only_the_leader_of_an_array_is_left_to_be_judged(key: bytes) -> None:
    limits = ScanLimits()
    scanner = Scanner(limits)
    names = [b"json.%b.%d" % (key, number) for number in range(13)]
    pending = {scanner: dict.fromkeys([b"json.b", *names])}
    (array,) = take_arrays(pending, PatternSet(ScanStatistics(), limits))
    assert (array.scanner, array.leader, array.followers) == (scanner, names[0], names[1:10])
    assert list(pending[scanner]) == [b"json.b", names[0], *names[10:]]

"""Expressions mean to RE2, Hyperscan and `regex` what they mean to PCRE, which rules are written for."""

from __future__ import annotations

import ctypes
import ctypes.util
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.core.test_operators import NoTransaction
from waf_core.operators import OperatorEnv, OperatorError
from waf_core.operators.needs import of_bytes
from waf_core.operators.regex import BacktrackingRx, Rx, compile_pattern
from waf_core.operators.spelling import as_re2, for_re2, for_regex, tokens
from waf_core.scan.hyperscan_set import available, compile_patterns, load_set

DOTALL, DOLLAR_ENDONLY = 0x20, 0x10
"""pcre2.h: what ModSecurity v2 compiles expressions with."""
NO_START_OPTIMIZE = 0x10000
"""With its optimizations PCRE2 10.42 does not find `(?=a)\\s*a` in `a`."""


class Pcre:
    """PCRE2's 8-bit library."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        self._library.pcre2_compile_8.restype = ctypes.c_void_p
        self._library.pcre2_match_data_create_from_pattern_8.restype = ctypes.c_void_p

    def holds(self, pattern: bytes, value: bytes) -> bool | None:
        """None: it is no expression of PCRE's."""
        error, place = ctypes.c_int(), ctypes.c_size_t()
        code = self._library.pcre2_compile_8(
            pattern, ctypes.c_size_t(len(pattern)), DOTALL | DOLLAR_ENDONLY | NO_START_OPTIMIZE,
            ctypes.byref(error), ctypes.byref(place), None,
        )  # fmt: skip
        if not code:
            return None
        compiled = ctypes.c_void_p(code)
        data = ctypes.c_void_p(self._library.pcre2_match_data_create_from_pattern_8(compiled, None))
        found = self._library.pcre2_match_8(
            compiled, value, ctypes.c_size_t(len(value)), ctypes.c_size_t(0), 0, data, None
        )
        self._library.pcre2_match_data_free_8(data)
        self._library.pcre2_code_free_8(compiled)
        return bool(found >= 0)


LIBRARY = ctypes.util.find_library("pcre2-8")
WORDS = "sSvVhHNwWdD"
MEMBERS = [
    "\\s",
    "\\S",
    "\\v",
    "\\V",
    "\\h",
    "\\H",
    "\\w",
    "\\d",
    "a",
    "\\]",
    "\\x0b",
    "\\x{85}",
    "[:alpha:]",
    "[:^space:]",
    "[",
]
ATOMS = [
    *(f"\\{word}" for word in WORDS), *(f"[{member}]" for member in MEMBERS), *(f"[^{member}]" for member in MEMBERS),
    *(f"[\\s{member}-]" for member in MEMBERS), "[]a]", "[^]a]", "[a&&b]", "[a||b]", "a", "b", " ", ".", "\\.", "\\e", "\\cA", "\\x1", "\\C",
    "^", "$", "\\z", "\\Z", "\\A", "\\b", "\\B", "\\Qa.b\\E", "{,2}", "(?i)", "(?-i)", "(?m)", "(?-s)", "\\\\s", "\\\\z",
]  # fmt: skip
PATTERN = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "*?"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        st.tuples(st.sampled_from(["(", "(?:", "(?i:", "(?-m:", "(?s:"]), inner).map(
            lambda pair: f"{pair[0]}{pair[1]})"
        ),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
    ),
    max_leaves=5,
).map(str.encode)
BEYOND_RE2 = st.tuples(st.sampled_from([b"(?=a)", b"(?!a)", b"(?<!b)", b"(?>a+)", b"b++"]), PATTERN).map(b"".join)
VALUE = st.text(alphabet="ab AB.01[]-|&{,\\sz\n\r\t\x0b\x0c\x01\x1b\x00\x85\xa0\xe9\xff", max_size=6).map(
    lambda text: text.encode("latin-1")
)


@pytest.mark.skipif(LIBRARY is None, reason="there is no PCRE2 on this machine")
@settings(max_examples=1500, deadline=None)
@given(PATTERN | BEYOND_RE2, st.lists(VALUE, min_size=1, max_size=8))
def test_expressions_hold_where_they_hold_for_pcre(pattern: bytes, values: list[bytes]) -> None:
    assert LIBRARY is not None
    pcre = Pcre(LIBRARY)
    assume(pcre.holds(pattern, b"") is not None)
    # In PCRE options reach into later alternatives, a ^ does not hold behind the last of several lines, and
    # \S+ before \h never gives back a byte of \h.
    assume(b"|" not in pattern or not re.search(rb"\(\?-?[ims]", pattern))
    assume(b"(?m" not in pattern)
    assume(not re.search(rb"\\[SNVDHW].*(\\[hHvV]|85)", pattern))
    operator = compile_pattern(pattern, OperatorEnv())
    for value in values:
        assert (operator.match(value, NoTransaction()) is not None) == pcre.holds(pattern, value), value


@pytest.mark.skipif(not available(), reason="hyperscan is not installed on this platform")
@settings(max_examples=400, deadline=None)
@given(PATTERN, st.lists(VALUE, min_size=1, max_size=8), VALUE, VALUE)
def test_the_scan_finds_at_least_what_the_expression_finds(
    pattern: bytes, values: list[bytes], before: bytes, behind: bytes
) -> None:
    try:
        operator = Rx(pattern)
    except OperatorError:
        assume(False)
    needs = operator.needs()
    databases, numbers = compile_patterns([operator.pattern])
    sets = [load_set(data) for data in databases.values()]
    for value in values:
        if operator.holds(value, NoTransaction()):
            assert len(value) >= needs.length
            assert all(of_bytes(value) & clause for clause in needs.clauses)
            for text in (value, b"\n".join((before, value, behind))):
                assert numbers["left"] or any(found.match(text) for found in sets)


@pytest.mark.parametrize(
    ("word", "members"),
    [("s", b"\t\n\x0b\x0c\r "), ("v", b"\n\x0b\x0c\r\x85"), ("h", b"\t \xa0"), ("N", bytes({*range(256)} - {10}))],
)
def test_what_words_mean(word: str, members: bytes) -> None:
    """The lists of pcre2pattern(3), in both engines, alone and in a class."""
    patterns = [f"^\\{word}$"] if word == "N" else [f"^\\{word}$", f"^[x\\{word}]$", f"^[^\\{word.upper()}]$"]
    opposite = [] if word == "N" else [f"^\\{word.upper()}$", f"^[^x\\{word}]$"]
    for make in (Rx, BacktrackingRx):
        for texts, wanted in ((patterns, True), (opposite, False)):
            for text in texts:
                operator = make(text.encode())
                for byte in {*range(256)} - {ord("x")}:
                    holds = operator.match(bytes((byte,)), NoTransaction()) is not None
                    assert holds == ((byte in members) is wanted), (text, byte)


@pytest.mark.parametrize(
    ("pattern", "spelled"),
    [
        (rb"a\\s", rb"a\\s"),
        (rb"[\s-x]", rb"[\t-\r\x20\-x]"),
        (rb"[x-\s]", rb"[x\-\t-\r\x20]"),
        (rb"[\]\s]\s", rb"[\]\t-\r\x20][\t-\r\x20]"),
        (rb"\x{41}\x9\cA\x", rb"\x41\x09\x01\x00"),
        (rb"a\E\Qb\s\E", rb"a\Qb\s\E"),
    ],
)
def test_spelling_for_re2(pattern: bytes, spelled: bytes) -> None:
    assert for_re2(pattern) == spelled
    assert b"".join(token for token, _ in tokens(pattern)) == pattern


def test_spelling_for_regex() -> None:
    assert for_regex(rb"(?=a)[[$]\Q.\E{,2}$\z") == rb"(?=a)[\[$]\.\{,2}\Z\Z"
    assert for_regex(rb"(?m)a$") == rb"(?m)a$"
    assert for_regex(rb"[^a]|[^]]|[^ab]|[a]") == rb"[^aa]|[^]\]]|[^ab]|[a]"
    assert all(BacktrackingRx(rb"[^a]|[^]]").match(value, NoTransaction()) for value in (b"a", b"]"))


@pytest.mark.parametrize(
    ("pattern", "spelled"),
    [
        (rb"(?i)^a[$^]\$$", (rb"(?i)\Aa[$^]\$\z", rb"(?i)(?<![^\n])a[$^]\$(?![^\n])")),
        (rb"(?:a{2}|b{3,}|c{4,5})\xbf\xff", (rb"(?:a{2}|b{3,}|c{4,5})\xbf\xff",) * 2),
        *((text, (None, None)) for text in (
            rb"a{,2}", b"a{ 1}", b"a{x", rb"\xc3", rb"[\xd0-\xd9]", b"\xe9", rb"\Qa\E", rb"\12", rb"\pL", rb"\x{100}",
            b"(?P<n>a)", b"a(?i)b", b"(?m:^a)", b"(?i:a)",
        )),
    ],
)  # fmt: skip
def test_spelling_of_what_re2_takes(pattern: bytes, spelled: tuple[bytes | None, bytes | None]) -> None:
    """For PCRE2: of the whole, of lines."""
    assert tuple(as_re2(pattern, lines=lines) for lines in (False, True)) == spelled


def test_a_vertical_tab_is_a_blank() -> None:
    """MySQL reads `UNION<VT>SELECT`."""
    assert compile_pattern(rb"(?i)union\s+select", OperatorEnv()).holds(b"union\x0bselect", NoTransaction())

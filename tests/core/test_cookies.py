"""Cookies: what is in the header, and what servers make of it."""

from __future__ import annotations

from http.cookies import SimpleCookie

import pytest

from tests.core.transactions import ids, run
from waf_core.cookies import parse_cookies


@pytest.mark.parametrize(
    ("header", "cookies"),
    [
        (b"a=1; b=2", [(b"a", b"1"), (b"b", b"2")]),
        (b" a=1=2 ;b;; =c", [(b"a", b"1=2"), (b"b", b""), (b"", b"c")]),
        (b'a="x"', [(b"a", b'"x"')]),
        (b"a=x\\y", [(b"a", b"x\\y")]),
        (rb'a="\047\"\q"', [(b"a", rb'"\047\"\q"'), (b"a", b"'\"q")]),
        (rb'a= "\0417', [(b"a", rb' "\0417'), (b"a", b"!7")]),
        (rb'"\047"', [(rb'"\047"', b""), (b"", b"'")]),
        (b'a="x;y"; b=1', [(b"a", b'"x'), (b'y"', b""), (b"b", b"1"), (b"a", b"x;y")]),
        (rb'k; a ="x;\073y"', [(b"k", b""), (b"a ", b'"x'), (rb'\073y"', b""), (b"a", b"x;;y")]),
        (b'x="a; b="c;d"', [(b"x", b'"a'), (b"b", b'"c'), (b'd"', b""), (b"x", b"a; b="), (b"b", b"c;d")]),
        (b'a="x;y', [(b"a", b'"x'), (b"y", b"")]),
        (b"", []),
    ],
)
def test_cookies(header: bytes, cookies: list[tuple[bytes, bytes]]) -> None:
    assert parse_cookies(header, b";", 10) == (cookies, False)


def test_what_python_reads_is_among_them() -> None:
    for value in (r'"\047\040or"', r'"\"x\\"', r'"\300\q"', r'"a\10"', '"x; y=z"', r'"a;\047"'):
        (read,) = SimpleCookie(f"a={value}").values()
        cookies, _ = parse_cookies(f"a={value}".encode(), b";", 10)
        assert (b"a", read.value.encode("latin-1")) in cookies


def test_the_limit() -> None:
    assert parse_cookies(b"a=1; b=2", b";", 2) == ([(b"a", b"1"), (b"b", b"2")], False)
    assert parse_cookies(b"a=1; b=2", b";", 1) == ([(b"a", b"1")], True)
    assert parse_cookies(rb'a="\1"', b";", 1) == ([(b"a", rb'"\1"')], True)
    assert parse_cookies(b"a", b";", 0) == ([], True)
    assert parse_cookies(b'a="1;2"', b";", 2) == ([(b"a", b'"1'), (b'2"', b"")], True)
    rules = 'SecArgumentsLimit 3\nSecRule REQUEST_COOKIES "@streq x" "id:1,phase:1,deny"'
    stopped = run(rules, headers={"Cookie": "a=1; b=2; c=3; d=4"}).interruption
    assert stopped is not None
    assert stopped.status == 400


def test_long_headers_take_no_longer_than_their_length() -> None:
    """What would be quadratic takes minutes for these."""
    for text in (b'="', b'="\\', b'= "', b"= ", b'a="\\"', b'"=', b'";="', b"a", b'"'):
        parse_cookies(text * (400_000 // len(text)), b";", 10**6)


def test_an_attack_in_octal_is_found() -> None:
    rule = 'SecRule REQUEST_COOKIES:a "@contains \' or" "id:1,phase:1,deny"'
    assert ids(run(rule, headers={"Cookie": r'a=";\047\040or"'})) == [1]
    assert ids(run(rule, headers={"Cookie": r'a="\047\040or"'})) == [1]

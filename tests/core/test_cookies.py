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
        (b"", []),
    ],
)
def test_cookies(header: bytes, cookies: list[tuple[bytes, bytes]]) -> None:
    assert parse_cookies(header, b";", 10) == (cookies, False)


def test_what_python_reads_is_among_them() -> None:
    for value in (r'"\047\040or"', r'"\"x\\"', r'"\300\q"', r'"a\10"'):
        (read,) = SimpleCookie(f"a={value}").values()
        cookies, _ = parse_cookies(f"a={value}".encode(), b";", 10)
        assert (b"a", read.value.encode("latin-1")) in cookies


def test_the_limit() -> None:
    assert parse_cookies(b"a=1; b=2", b";", 2) == ([(b"a", b"1"), (b"b", b"2")], False)
    assert parse_cookies(b"a=1; b=2", b";", 1) == ([(b"a", b"1")], True)
    assert parse_cookies(rb'a="\1"', b";", 1) == ([(b"a", rb'"\1"')], True)
    assert parse_cookies(b"a", b";", 0) == ([], True)
    rules = 'SecArgumentsLimit 3\nSecRule REQUEST_COOKIES "@streq x" "id:1,phase:1,deny"'
    stopped = run(rules, headers={"Cookie": "a=1; b=2; c=3; d=4"}).interruption
    assert stopped is not None
    assert stopped.status == 400


def test_an_attack_in_octal_is_found() -> None:
    rule = 'SecRule REQUEST_COOKIES:a "@contains \' or" "id:1,phase:1,deny"'
    assert ids(run(rule, headers={"Cookie": r'a="\047\040or"'})) == [1]

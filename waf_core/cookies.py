"""The Cookie header (RFC 6265, section 4.2.1), and what servers make of cookies in quotes."""

from __future__ import annotations

import re
from typing import Final

from waf_core.bodies import Pair
from waf_core.octets import BACKSLASH, QUOTE

_ESCAPE: Final = re.compile(rb"\\(?:([0-3][0-7]{2})|(.))", re.DOTALL)

_QUOTED: Final = re.compile(rb'=[ \t]*"(?=((?:[^\\"]|\\.)*)")', re.DOTALL)
"""Where a value in quotes opens, and what is in it.  (The quote that opens another one is not escaped: so what is in
two of them does not overlap, and this takes a time that grows with the header's length.)"""

_OUTSIDE_A_NAME: Final = re.compile(rb'[ \t=";]')


def parse_cookies(header: bytes, separator: bytes, limit: int) -> tuple[list[Pair], bool]:
    """Names and values, and whether there are more than `limit`.

    Python's servers (http.cookies: Django, Flask, Starlette) and Java's read escapes within quotes, octal ones too:
    `"\\047 or 1=1"` is `' or 1=1` to them.  Such a cookie is there twice: as it came, and as they read it.  Some
    (http.cookies itself, Werkzeug) look for separators only behind the quotes: so is one with a separator within."""
    cookies: list[Pair] = []
    escapes = BACKSLASH in header
    for piece in header.split(separator):
        name, equals, value = piece.strip(b" \t").partition(b"=")
        if not name and not value:
            continue
        cookies.append((name, value))
        if escapes and BACKSLASH in piece:
            # What has no `=` is a value without a name to Django.
            owner, text = (name, value.strip(b" \t")) if equals else (b"", name)
            if text[:1] == b'"':
                cookies.append((owner, _unescaped(text[1:].removesuffix(b'"'))))
        if len(cookies) > limit:
            return cookies[:limit], True
    if QUOTE in header:
        _add_quoted(header, separator, cookies)
    return cookies[:limit], len(cookies) > limit


def _add_quoted(header: bytes, separator: bytes, cookies: list[Pair]) -> None:
    """Those with a separator within their quotes."""
    behind = 0
    for opening in _QUOTED.finditer(header):
        text = opening[1]
        if text.find(separator) >= 0:
            name = _OUTSIDE_A_NAME.split(header[behind : opening.start()].rstrip(b" \t"))[-1]
            cookies.append((name, _unescaped(text)))
        behind = opening.end()


def _unescaped(text: bytes) -> bytes:
    return _ESCAPE.sub(_byte, text) if BACKSLASH in text else text


def _byte(escape: re.Match[bytes]) -> bytes:
    octal, byte = escape.groups()
    return bytes(byte) if octal is None else bytes((int(octal, 8),))

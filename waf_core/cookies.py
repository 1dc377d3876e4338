"""The Cookie header (RFC 6265, section 4.2.1), and what servers make of cookies in quotes."""

from __future__ import annotations

import re
from typing import Final

from waf_core.bodies import Pair
from waf_core.octets import BACKSLASH

_ESCAPE: Final = re.compile(rb"\\(?:([0-3][0-7]{2})|(.))", re.DOTALL)


def parse_cookies(header: bytes, separator: bytes, limit: int) -> tuple[list[Pair], bool]:
    """Names and values, and whether there are more than `limit`.

    Python's servers (http.cookies: Django, Flask, Starlette) and Java's read escapes within quotes, octal ones too:
    `"\\047 or 1=1"` is `' or 1=1` to them.  Such a cookie is there twice: as it came, and as they read it."""
    cookies: list[Pair] = []
    for piece in header.split(separator):
        name, equals, value = piece.strip(b" \t").partition(b"=")
        if not name and not value:
            continue
        cookies.append((name, value))
        if BACKSLASH in piece:
            # What has no `=` is a value without a name to Django.
            owner, text = (name, value.strip(b" \t")) if equals else (b"", name)
            if text[:1] == b'"':
                cookies.append((owner, _ESCAPE.sub(_unescaped, text[1:].removesuffix(b'"'))))
        if len(cookies) > limit:
            return cookies[:limit], True
    return cookies, False


def _unescaped(escape: re.Match[bytes]) -> bytes:
    octal, byte = escape.groups()
    return bytes(byte) if octal is None else bytes((int(octal, 8),))

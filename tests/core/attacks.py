"""Requests made of what rules look for: texts that their patterns match, encoded, cut and placed at random."""

from __future__ import annotations

import base64
import html
import json
import random
import urllib.parse
from collections.abc import Callable, Sequence

from tests.core.matching import text_of
from waf_core import WAF
from waf_core.scan.hyperscan_set import Pattern

MANY = (1, 1, 2, 8, 40)
"""So many values are in a request."""

_ENCODINGS: tuple[Callable[[bytes], bytes], ...] = (
    lambda text: html.escape(text.decode("latin-1")).encode("latin-1"),
    lambda text: b"".join(b"%%%02x" % byte for byte in text),
    lambda text: b"".join(b"%%u%04x" % byte for byte in text),
    lambda text: b"".join(b"\\x%02x" % byte for byte in text),
    lambda text: b"".join(b"\\u%04x" % byte for byte in text),
    lambda text: b"".join(b"&#%d;" % byte for byte in text),
    base64.b64encode,
    bytes.swapcase,
    lambda text: b"/**/".join(text[start : start + 3] for start in range(0, len(text), 3)),
)
_BESIDE = (b"x", b"1 ", b"a'", b"\\", b'"', b"<", b">", b";", b"=", b"%", b"\n", b"\x00", b"(", b")", b"/")


def patterns_of(waf: WAF) -> list[Pattern]:
    """What its rules look for."""
    return [pattern for each in waf.program.pattern_sets for pattern in each.patterns]


def attack(patterns: Sequence[Pattern], rng: random.Random) -> bytes:
    """One text."""
    text = None
    while not text:
        text = text_of(rng.choice(patterns), rng)
    if rng.random() < 0.5:
        text = rng.choice(_ENCODINGS)(text)
    if rng.random() < 0.5:
        text = rng.choice(_BESIDE) + text
    if rng.random() < 0.4:
        text += rng.choice(_BESIDE)
    return text


def request(patterns: Sequence[Pattern], rng: random.Random) -> tuple[str, bytes]:
    """Where the texts are, and a whole request of HTTP/1.1, as on the wire."""
    texts = [attack(patterns, rng) for _ in range(rng.choice(MANY))]
    kind = rng.choice(list(_KINDS))
    return kind, _KINDS[kind](texts, rng)


def _raw(head: bytes, headers: Sequence[bytes] = (), content_type: bytes = b"", body: bytes = b"") -> bytes:
    lines = [head + b" HTTP/1.1", b"Host: localhost", b"User-Agent: test", b"Accept: */*", *headers]
    if content_type:
        lines += [b"Content-Type: " + content_type, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _quoted(text: bytes) -> bytes:
    return urllib.parse.quote(text, safe="").encode()


def _pairs(texts: Sequence[bytes], rng: random.Random) -> bytes:
    names = [rng.choice((b"a%d" % number, _quoted(text))) for number, text in enumerate(texts)]
    return b"&".join(name + b"=" + _quoted(text) for name, text in zip(names, texts, strict=True))


def _line(text: bytes) -> bytes:
    """As it may be in a header."""
    return text.translate(None, b"\r\n\0").strip()


def _query(texts: Sequence[bytes], rng: random.Random) -> bytes:
    return _raw(b"GET /get?" + _pairs(texts, rng))


def _path(texts: Sequence[bytes], rng: random.Random) -> bytes:
    return _raw(b"GET /" + _quoted(texts[0]))


def _cookies(texts: Sequence[bytes], rng: random.Random) -> bytes:
    return _raw(
        b"GET /", [b"Cookie: " + b"; ".join(b"c%d=" % number + _line(text) for number, text in enumerate(texts))]
    )


def _header(texts: Sequence[bytes], rng: random.Random) -> bytes:
    return _raw(b"GET /", [rng.choice((b"Referer: ", b"X-Test: ", b"User-Agent: ")) + _line(texts[0])])


def _form(texts: Sequence[bytes], rng: random.Random) -> bytes:
    return _raw(b"POST /", (), b"application/x-www-form-urlencoded", _pairs(texts, rng))


def _json(texts: Sequence[bytes], rng: random.Random) -> bytes:
    values = [text.decode("latin-1") for text in texts]
    document = rng.choice((values, {values[0]: values}, {value: value for value in values}))
    return _raw(b"POST /", (), b"application/json", json.dumps(document).encode())


def _xml(texts: Sequence[bytes], rng: random.Random) -> bytes:
    readable = ["".join(char for char in text.decode("latin-1") if char >= " ") for text in texts]
    elements = "".join(f'<b c="{html.escape(text)}">{html.escape(text)}</b>' for text in readable)
    return _raw(b"POST /", (), b"application/xml", f'<?xml version="1.0"?><a>{elements}</a>'.encode())


def _multipart(texts: Sequence[bytes], rng: random.Random) -> bytes:
    parts = [b'--bb\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n' % n + text for n, text in enumerate(texts)]
    file = b'--bb\r\nContent-Disposition: form-data; name="f"; filename="x.txt"\r\n\r\n' + texts[0]
    return _raw(b"POST /", (), b"multipart/form-data; boundary=bb", b"\r\n".join([*parts, file, b"--bb--", b""]))


_KINDS: dict[str, Callable[[Sequence[bytes], random.Random], bytes]] = {
    "query": _query, "path": _path, "cookies": _cookies, "header": _header, "form": _form, "JSON": _json, "XML": _xml,
    "multipart": _multipart,
}  # fmt: skip

"""Bodies that are anything but what their type says."""

from __future__ import annotations

from fuzz.pieces import Pieces, cut
from waf_core.bodies.coding import CODINGS, decode
from waf_core.bodies.json import parse_json
from waf_core.bodies.multipart import MultipartParser
from waf_core.bodies.urlencoded import parse_pairs
from waf_core.bodies.xml import MAX_FOUND, MIN_FOUND_BYTES, XmlDocument
from waf_core.bodies.xpath import XPath
from waf_core.transformations.url import url_decode

LIMIT = 20
DECODED = 100_000
DEPTH = 10
XPATHS = (XPath("//*"), XPath("//a"), XPath("count(//*)"))


def _multipart(content_type: bytes, pieces: list[bytes]) -> tuple[object, ...]:
    parser = MultipartParser(content_type, fields_limit=LIMIT, files_limit=LIMIT, keep_files=True)
    for piece in pieces:
        parser.feed(piece)
    parser.close()
    assert len(parser.fields) <= LIMIT
    assert len(parser.file_sizes) <= LIMIT
    return (
        parser.fields, parser.files, parser.file_sizes, parser.file_contents, parser.part_headers, parser.error,
        parser.flags, parser.fields_overflow,
    )  # fmt: skip


def multipart(data: bytes) -> None:
    """It does not matter where a body is cut."""
    pieces = Pieces(data)
    sizes = pieces.text()
    content_type = b"multipart/form-data; boundary=" + (pieces.text() or b"b")
    body = pieces.rest()
    assert _multipart(content_type, [body]) == _multipart(content_type, cut(body, sizes))


def json(data: bytes) -> None:
    """Arguments within the limits, or an error in words."""
    pairs, overflow, error = parse_json(data, DEPTH, LIMIT)
    assert len(pairs) <= LIMIT
    assert not (overflow and error)
    assert all(isinstance(part, bytes) for pair in pairs for part in pair)


def xml(data: bytes) -> None:
    """Values, or an error in words; a document type declaration is always an error."""
    document = XmlDocument(data)
    values = [*document.texts, *document.attributes, *(part for pair in document.arguments() for part in pair)]
    for xpath in XPATHS:
        found, whole = document.find(xpath)
        assert sum(map(len, found[:-1])) <= max(MAX_FOUND * len(data), MIN_FOUND_BYTES)
        assert whole or found
        values += found
    assert all(isinstance(value, bytes) for value in values)
    if data.startswith(b"<!DOCTYPE"):
        assert document.error is not None


def urlencoded(data: bytes) -> None:
    """What a plain reading gives, up to the limit."""
    pairs, overflow = parse_pairs(data, b"&", LIMIT)
    expected = [piece.partition(b"=") for piece in data.split(b"&") if piece]
    assert pairs == [(url_decode(name), url_decode(value)) for name, _, value in expected[:LIMIT]]
    assert overflow == (len(expected) > LIMIT)


def coding(data: bytes) -> None:
    """No more than was asked for; less asked for is the beginning of it, as far as there is no mistake."""
    names = sorted(CODINGS)
    name, data = names[data[0] % len(names)] if data else names[0], data[1:]
    whole, beginning = decode(name, data, DECODED), decode(name, data, LIMIT)
    assert len(whole.data) <= DECODED
    assert len(beginning.data) <= LIMIT
    assert not (whole.more and whole.error)
    size = min(len(beginning.data), len(whole.data))
    assert beginning.data[:size] == whole.data[:size]
    if not whole.error:
        assert beginning.data == whole.data[:LIMIT]
        assert beginning.more == (len(whole.data) > LIMIT)

"""Taking a raw HTTP/1.1 request message apart, as lenient as the least strict server."""

from __future__ import annotations


def split_request(raw: bytes) -> tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]], bytes]:
    """Method, URI, version, headers, body: as lenient as the least strict server.

    The body is what framing says (RFC 9112, section 6): chunks win over Content-Length, which
    is then dropped, and a request with neither has no body.
    """
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *header_lines = head.split(b"\r\n")
    method, _, rest = line.partition(b" ")
    if line.startswith(b" "):
        method, _, rest = line.lstrip(b" ").partition(b" ")
    uri, _, version = rest.rpartition(b" ")
    headers = []
    for item in header_lines:
        name, _, value = item.partition(b":")
        headers.append((name, value.strip(b" \t")))
    if any(n.lower() == b"transfer-encoding" and b"chunked" in v.lower() for n, v in headers):
        body = _dechunk(body)
        headers = [(n, v) for n, v in headers if n.lower() != b"content-length"]
    elif not any(n.lower() == b"content-length" for n, _ in headers):
        body = b""
    return method, uri, version, headers, body


def _dechunk(body: bytes) -> bytes:
    out = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        try:
            length = int(size.split(b";")[0], 16)
        except ValueError:
            return out or body
        if length == 0:
            break
        out += rest[:length]
        body = rest[length + 2 :]
    return out

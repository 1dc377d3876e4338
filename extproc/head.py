"""The head of a request, as Envoy shows it in a stream's first message and as rules see it."""

from __future__ import annotations

from dataclasses import dataclass

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest

from extproc.config import ENVOYS_OWN

ORIGINAL_PREFIX = "x-envoy-waf-original-"
"""Copies of headers that Envoy consumes or drops; made by the filter's recommended configuration."""

ORIGINALS = frozenset({"connection", "referer", "transfer-encoding"})
"""Headers of which there may be copies: that configuration takes away those that clients send.  Any other copy is
a client's, and an ordinary header."""

MAX_ID_CHARACTERS = 64
"""Of x-request-id and traceparent."""

_PLAIN = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-.:_"


@dataclass(slots=True)
class RequestHead:
    """`headers` are those that rules see, with Host first; `attributes` are Envoy's (`request_attributes` of the filter
    chooses them)."""

    method: bytes
    path: bytes
    authority: bytes
    protocol: str
    headers: list[tuple[bytes, bytes]]
    forwarded: list[bytes]
    """X-Forwarded-For, in order."""
    request_id: str | None
    """x-request-id."""
    trace_parent: str
    """traceparent (W3C Trace Context)."""
    attributes: dict[str, str]
    grpc: bool
    upgrade: bool
    length: bytes
    """Content-Length, as it came."""
    chunked: bool
    """Is there a Transfer-Encoding?"""

    @property
    def connect(self) -> bool:
        return self.method == b"CONNECT"

    @property
    def announces_body(self) -> bool:
        """Is it said that a body follows?"""
        return self.chunked or self.length.strip(b"0") != b""

    def contradicts(self, size: int) -> bool:
        """Is a body of so many bytes another one than Content-Length says?"""
        return self.length.isdigit() and self.length.lstrip(b"0") != (b"%d" % size).lstrip(b"0")

    @property
    def target(self) -> bytes:
        """The request target (RFC 9112, section 3.2): of CONNECT the authority."""
        return self.authority if self.connect and not self.path else self.path


def read_head(message: ProcessingRequest, hidden: frozenset[str]) -> RequestHead:
    """`hidden`: names of headers that rules do not see.  Envoy's own are shown all the same when a value is none that
    Envoy writes: then it is a client's."""
    method = path = b""
    authority: bytes | None = None
    shown: list[tuple[str, bytes]] = []
    originals: list[tuple[str, bytes]] = []
    forwarded: list[bytes] = []
    request_id: str | None = None
    trace_parent = ""
    length = b""
    grpc = upgrade = False
    for header in message.request_headers.headers.headers:
        name = header.key
        value = header.raw_value or header.value.encode("utf-8", "surrogateescape")
        if name[:1] == ":":
            if name == ":method":
                method = value
            elif name == ":path":
                path = value
            elif name == ":authority":
                authority = value
            continue
        if name == "x-forwarded-for":
            forwarded.append(value)
        elif name == "x-request-id":
            request_id = value.decode("latin-1") if _is_plain(value) else None
        elif name == "content-length":
            length = value
        elif name == "content-type":
            grpc = value[:16] == b"application/grpc"
        elif name == "traceparent":
            trace_parent = value[:MAX_ID_CHARACTERS].decode("latin-1")
        elif name == "connection":
            upgrade = b"upgrade" in value.lower()
        if name.startswith(ORIGINAL_PREFIX) and name[len(ORIGINAL_PREFIX) :] in ORIGINALS:
            originals.append((name[len(ORIGINAL_PREFIX) :], value))
        elif name not in hidden or (name in ENVOYS_OWN and not _is_plain(value)):
            shown.append((name, value))
    # Next to what Envoy left, not in its place: where no configuration takes a client's copies away they hide nothing.
    shown += [item for item in originals if item not in shown]
    headers = [] if authority is None else [(b"Host", authority)]
    headers += [(name.encode("latin-1", "replace"), value) for name, value in shown]
    attributes = _attributes(message)
    chunked = any(name == "transfer-encoding" for name, _ in shown)
    head = RequestHead(
        method, path, authority or b"", attributes.get("request.protocol", "HTTP/1.1"), headers, forwarded, request_id,
        trace_parent, attributes, grpc, upgrade, length, chunked,
    )  # fmt: skip
    bodiless = message.request_headers.end_of_stream or upgrade or head.connect
    if not (length or chunked or bodiless) and head.protocol == "HTTP/1.1":
        # Envoy's codec consumes Transfer-Encoding; a body without a length was chunked.
        headers.append((b"Transfer-Encoding", b"chunked"))
    return head


def _is_plain(value: bytes) -> bool:
    """Is it like what Envoy writes: an id, an address, a word?"""
    return len(value) <= MAX_ID_CHARACTERS and not value.translate(None, _PLAIN)


def _attributes(message: ProcessingRequest) -> dict[str, str]:
    out: dict[str, str] = {}
    for struct in message.attributes.values():
        for name, value in struct.fields.items():
            out[name] = value.string_value
    return out

"""ext_proc messages in any order, with anything in them."""

from __future__ import annotations

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from google.protobuf.message import DecodeError

from extproc.answers import serialize
from extproc.piece import Piece
from extproc.policies import PolicySet
from extproc.received import Received, unpack
from extproc.stream import Stream, StreamError, StreamOptions
from extproc.transport.messages import RpcError
from fuzz.pieces import Pieces, cut
from waf_core import WAF

RULES = """
SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess On
SecRule ARGS|REQUEST_HEADERS|REQUEST_COOKIES "@contains evil" "id:1,phase:1,deny"
SecRule ARGS_POST|REQUEST_BODY|FILES|XML:/* "@contains evil" "id:2,phase:2,deny"
SecRule RESPONSE_HEADERS|RESPONSE_STATUS "@contains evil" "id:3,phase:3,deny"
SecRule RESPONSE_BODY "@contains evil" "id:4,phase:4,deny"
"""
_POLICIES = PolicySet.single(WAF.from_directives(RULES))
_KINDS = (
    "request_headers",
    "request_body",
    "request_trailers",
    "response_headers",
    "response_body",
    "response_trailers",
)
_CONTENT_TYPES = (
    b"application/x-www-form-urlencoded",
    b"multipart/form-data; boundary=b",
    b"application/json",
    b"text/xml",
)


def any_messages(data: bytes) -> None:
    """A stream raises StreamError or answers; behind a verdict it says nothing more, and it can always be closed."""
    pieces = Pieces(data)
    stream = Stream(_POLICIES, StreamOptions())
    try:
        while pieces.more:
            blocked = stream.blocked
            received = _received(_message(pieces), pieces.text())
            stream.weight(*received)
            answers = stream.handle(received.request, received.body)
            assert not (blocked and answers)
            for answer in answers:
                if isinstance(answer, Piece):
                    ProcessingResponse.FromString(b"".join(answer.parts()))
                else:
                    serialize(answer)
    except (StreamError, RpcError):
        pass
    stream.close()
    stream.close()


def _received(message: bytes, sizes: bytes) -> Received:
    """It is what protobuf makes of it, wherever it is cut and whether its body is beside it or not.  Raises RpcError."""
    try:
        expected = ProcessingRequest.FromString(message)
    except DecodeError:
        expected = None
    received = unpack(cut(message, sizes) or [b""])
    whole = ProcessingRequest()
    whole.CopyFrom(received.request)
    if received.body is not None:
        getattr(whole, str(whole.WhichOneof("request"))).body = b"".join(received.body)
    assert whole == expected
    return received


def _message(pieces: Pieces) -> bytes:
    kind = pieces.byte()
    if kind >= 128:
        return pieces.text()
    request = ProcessingRequest()
    name = _KINDS[kind % len(_KINDS)]
    flags = pieces.byte()
    part = getattr(request, name)
    part.SetInParent()
    if name.endswith("headers"):
        part.end_of_stream = bool(flags & 1)
        request.protocol_config.request_body_mode = flags >> 1 & 7
        request.protocol_config.response_body_mode = flags >> 4 & 7
        for key in (":method", ":path", ":authority", ":status", "content-length", "cookie", "x"):
            if pieces.byte() & 1:
                part.headers.headers.add(key=key, raw_value=pieces.text())
        chosen = pieces.byte()
        if chosen < len(_CONTENT_TYPES):
            part.headers.headers.add(key="content-type", raw_value=_CONTENT_TYPES[chosen])
    elif name.endswith("body"):
        part.end_of_stream = bool(flags & 1)
        part.body = pieces.text()
    return bytes(request.SerializeToString())

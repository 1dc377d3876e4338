"""A message of Envoy's, a large body in the pieces that it came in.

protobuf alone would have 10 MB of an upload copied three times: joined, parsed, handed out.  That takes up to 6 ms
each while other streams wait, and hardly anything looks at those bytes as a whole.  So the body is cut out of the
message beforehand.
"""

from __future__ import annotations

from typing import NamedTuple

from envoy.service.ext_proc.v3.external_processor_pb2 import HttpBody, ProcessingRequest
from google.protobuf.message import DecodeError

from extproc import varint
from extproc.transport import messages
from extproc.transport.messages import Message, RpcError

HEAD_BYTES = 32
"""More than what comes ahead of a body; what takes more is not laid out as they are."""

_BODIES = {
    varint.tag(ProcessingRequest.REQUEST_BODY_FIELD_NUMBER)[0]: "request_body",
    varint.tag(ProcessingRequest.RESPONSE_BODY_FIELD_NUMBER)[0]: "response_body",
}
_BODY = varint.tag(HttpBody.BODY_FIELD_NUMBER)[0]


class Received(NamedTuple):
    """`body`: the bytes of `request_body` or `response_body`, which has none then; None: they are where they belong.
    `size`: bytes of the message."""

    request: ProcessingRequest
    body: Message | None
    size: int


def unpack(message: Message) -> Received:
    """Raises RpcError."""
    size = sum(map(len, message))
    try:
        apart = _apart(message, size) if len(message) > 1 else None
        return apart or Received(ProcessingRequest.FromString(b"".join(message)), None, size)
    except DecodeError as error:
        raise RpcError(messages.INVALID_ARGUMENT, "not a ProcessingRequest") from error


def _apart(message: Message, total: int) -> Received | None:
    """None: not a message of a body, or not laid out as they are, the body ahead of all else."""
    pieces = list(message)
    while len(pieces) > 1 and len(pieces[0]) < HEAD_BYTES:
        pieces[:2] = [pieces[0] + pieces[1]]
    head = pieces[0][:HEAD_BYTES]
    try:
        name = _BODIES.get(head[0])
        outer, inner = varint.read(head, 1)
        if name is None or head[inner] != _BODY:
            return None
        size, start = varint.read(head, inner + 1)
    except IndexError:
        return None
    others = outer - (start - inner) - size
    if others < 0 or start + size + others > total:
        return None
    body: list[bytes] = []
    behind: list[bytes] = []
    pieces[0] = pieces[0][start:]
    for piece in pieces:
        body.append(piece[:size])
        behind.append(piece[size:])
        size -= len(body[-1])
    request = ProcessingRequest.FromString(head[:1] + varint.write(others) + b"".join(behind))
    if request.WhichOneof("request") != name or getattr(request, name).body:
        return None  # the last of several counts
    return Received(request, body, total)

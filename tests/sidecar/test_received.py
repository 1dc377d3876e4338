"""Messages with their bodies beside them, against protobuf's own reading and writing."""

from __future__ import annotations

import pytest
from envoy.service.ext_proc.v3.external_processor_pb2 import HttpBody, ProcessingRequest, ProcessingResponse
from hypothesis import example, given
from hypothesis import strategies as st

from extproc import varint
from extproc.piece import Piece
from extproc.received import unpack
from extproc.transport.messages import RpcError
from tests.sidecar.messages import request_body, request_headers, response_body

BODY = bytes(range(256)) * 80


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    out, at = [], 0
    for size in sizes:
        out.append(data[at : at + size])
        at += size
    return [*out, data[at:]]


def whole(data: bytes, sizes: list[int]) -> ProcessingRequest:
    """What `unpack` makes of it, the body put back."""
    request, body, size = unpack(cut(data, sizes))
    assert size == len(data)
    if body is not None:
        side = getattr(request, str(request.WhichOneof("request")))
        assert side.body == b""
        side.body = b"".join(body)
    return request


def with_more(message: ProcessingRequest) -> ProcessingRequest:
    message.protocol_config.request_body_mode = 4
    message.attributes["envoy.filters.http.ext_proc"].update({"source.address": "1.2.3.4:5"})
    message.request_body.grpc_message_compressed = True
    return message


@pytest.mark.parametrize(
    "message",
    [
        request_body(BODY),
        request_body(BODY, end=False),
        request_body(b"", end=True),
        request_body(b"x"),
        response_body(BODY),
        with_more(request_body(BODY, end=False)),
        request_headers("/" + "x" * 30_000),
    ],
)
@pytest.mark.parametrize("sizes", [[], [1], [0, 0, 2, 3], [5, 16384], [16379], [16384], [1] * 60, [40, 20_430]])
def test_messages_in_pieces(message: ProcessingRequest, sizes: list[int]) -> None:
    assert whole(message.SerializeToString(), sizes) == message


def test_a_large_body_is_not_copied() -> None:
    pieces = cut(request_body(BODY).SerializeToString(), [16384])
    request, body, _ = unpack(pieces)
    assert body is not None
    assert b"".join(body) == BODY
    assert not request.request_body.body
    assert request.request_body.end_of_stream


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), min_size=1, max_size=4))
@example(b"\x22\x05\x0a\x03abc\x22\x05\x0a\x03abc", [4])
@example(b"\x22\x05\x0a\x03abc\x2a\x05\x0a\x03abc", [4])
@example(b"\x22\x0a\x0a\x03abc\x0a\x03abc", [4])
@example(b"\x22\x85\x80\x80\x80\x00\x0a\x03abc", [4])
@example(b"\x22\x02\x0a\x03abc", [4])
@example(b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x0a\x03abc", [4])
@example(b"\x22\x0a\x0a\xff\xff\xff\xff\x0f\x0a\x03abc", [4])
def test_any_bytes_are_read_as_protobuf_reads_them(data: bytes, sizes: list[int]) -> None:
    try:
        expected = ProcessingRequest.FromString(data)
    except Exception:
        with pytest.raises(RpcError):
            unpack(cut(data, sizes))
        return
    assert whole(data, sizes) == expected


@pytest.mark.parametrize("request_side", [True, False])
@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("body", [[], [b""], [b"x"], [b"a" * 100, b"b" * 100], [BODY, b"", BODY * 20]])
def test_a_piece_is_what_protobuf_makes_of_it(body: list[bytes], end: bool, request_side: bool) -> None:
    expected = ProcessingResponse()
    side = expected.request_body if request_side else expected.response_body
    streamed = side.response.body_mutation.streamed_response
    streamed.body, streamed.end_of_stream = b"".join(body), end
    streamed.SetInParent()
    assert ProcessingResponse.FromString(b"".join(Piece(body, end, request_side).parts())) == expected


@given(st.integers(0, 2**64 - 1))
def test_numbers(value: int) -> None:
    assert varint.read(varint.write(value) + b"x", 0) == (value, len(varint.write(value)))


def test_field_heads() -> None:
    assert varint.head(HttpBody.BODY_FIELD_NUMBER, 300) + b"x" * 300 == HttpBody(body=b"x" * 300).SerializeToString()

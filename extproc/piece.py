"""A piece of a body that goes on (FULL_DUPLEX_STREAMED: the sidecar gives Envoy every byte back).

Its message is a head, the bytes as they came, and an end: they are not copied into a message of protobuf's and out of
it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envoy.service.ext_proc.v3.external_processor_pb2 import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    ProcessingResponse,
    StreamedBodyResponse,
)

from extproc import varint

_END = StreamedBodyResponse(end_of_stream=True).SerializeToString()
_AROUND = (
    BodyMutation.STREAMED_RESPONSE_FIELD_NUMBER,
    CommonResponse.BODY_MUTATION_FIELD_NUMBER,
    BodyResponse.RESPONSE_FIELD_NUMBER,
)
"""Fields around a StreamedBodyResponse, from the inside."""
_SIDES = (ProcessingResponse.RESPONSE_BODY_FIELD_NUMBER, ProcessingResponse.REQUEST_BODY_FIELD_NUMBER)
"""And the one around these, by whether it is of the request."""


@dataclass(frozen=True, slots=True)
class Piece:
    """`request`: of the request's body, else of the response's."""

    body: Sequence[bytes]
    end_of_stream: bool
    request: bool

    def parts(self) -> list[bytes]:
        """The ProcessingResponse, serialized.  Parts may be empty."""
        size = sum(map(len, self.body))
        head = varint.head(StreamedBodyResponse.BODY_FIELD_NUMBER, size)
        end = _END if self.end_of_stream else b""
        size += len(end)
        for field in (*_AROUND, _SIDES[self.request]):
            head = varint.head(field, size + len(head)) + head
        return [head, *self.body, end]


Answer = ProcessingResponse | Piece
"""What Envoy is told."""

"""A piece of a body that goes on (FULL_DUPLEX_STREAMED: the sidecar gives Envoy every byte back).

A held body is let go in pieces.  The message of each is made when it is sent: all at once they would take as much
memory again, and hold up whoever else waits for the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse


@dataclass(frozen=True, slots=True)
class Piece:
    """`request`: of the request's body, else of the response's."""

    body: bytes
    end_of_stream: bool
    request: bool

    def message(self) -> ProcessingResponse:
        answer = ProcessingResponse()
        # Filled in place: a message that is given to another is copied.
        side = answer.request_body if self.request else answer.response_body
        streamed = side.response.body_mutation.streamed_response
        streamed.body, streamed.end_of_stream = self.body, self.end_of_stream
        return answer


Answer = ProcessingResponse | Piece
"""What Envoy is told."""

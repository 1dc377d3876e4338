"""Where one direction of a stream stands, and what of it is held back."""

from __future__ import annotations

from collections.abc import Sequence

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingResponse

from extproc.answers import Continue
from extproc.modes import BUFFERED, FULL_DUPLEX, STREAMED
from extproc.piece import Answer, Piece

MAX_HELD_BYTES = 64 << 20
"""What one direction holds back in FULL_DUPLEX_STREAMED mode, whatever the rules' limits say."""


class Side:
    """`request`: the request's direction, else the response's; `go_on`: the answers of this direction."""

    __slots__ = (
        "_held", "_recorded", "ended", "expects_body", "go_on", "held_bytes", "held_headers", "judged", "mode",
        "recorded_bytes", "request", "seen_bytes",
    )  # fmt: skip

    def __init__(self, request: bool, go_on: Continue) -> None:
        self.request = request
        self.go_on = go_on
        self.mode: int = BUFFERED
        self.expects_body = False
        self.ended = False
        """Its last piece, or its trailers, have come."""
        self.judged = False
        """The body phase has run: what still comes is passed on."""
        self.held_bytes = 0
        self.held_headers: ProcessingResponse | None = None
        self._held: list[Sequence[bytes]] = []
        self._recorded: list[bytes] = []
        self.recorded_bytes = 0
        self.seen_bytes = 0
        """Bytes of the body that `record` was shown."""

    def record(self, piece: bytes, limit: int) -> None:
        """Keep a piece for `recorded`, which has no more than `limit` bytes."""
        room = limit - self.seen_bytes
        if room > 0 and piece:
            self._recorded.append(piece[:room])
            self.recorded_bytes += min(len(piece), room)
        self.seen_bytes += len(piece)

    @property
    def recorded(self) -> bytes:
        return b"".join(self._recorded)

    def hold(self, body: Sequence[bytes]) -> None:
        """Until the verdict."""
        self._held.append(body)
        self.held_bytes += sum(map(len, body))

    def ends_with(self, size: int, last: bool) -> bool:
        """Is the body judged with a piece of so many bytes, the last one or not, whatever the rules' limits are?"""
        return last or self.mode not in (STREAMED, FULL_DUPLEX) or self.held_bytes + size > MAX_HELD_BYTES

    @property
    def awaits_body(self) -> bool:
        """Has the body still to come, or to end, before it can be judged?"""
        return self.expects_body and not self.judged

    @property
    def over(self) -> bool:
        """Does nothing more of it need an answer?"""
        return self.judged and (self.ended or not self.expects_body or self.mode != FULL_DUPLEX)

    def pass_on(self, body: Sequence[bytes], end: bool) -> Answer:
        """A piece that is not held."""
        return Piece(body, end, self.request) if self.mode == FULL_DUPLEX else self.go_on.body

    def release(self, end: bool) -> list[Answer]:
        """What was held; `end`: its last piece ends the body."""
        out: list[Answer] = [] if self.held_headers is None else [self.held_headers]
        last = len(self._held) - 1
        out += [Piece(body, end and i == last, self.request) for i, body in enumerate(self._held)]
        self.held_headers = None
        self._held = []
        self.held_bytes = 0
        return out

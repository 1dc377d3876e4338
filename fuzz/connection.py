"""HTTP/2 and gRPC from a peer that sends anything."""

from __future__ import annotations

from typing import Any

from extproc.transport import frames
from extproc.transport.connection import Connection, Limits
from extproc.transport.frames import ProtocolError, frame
from extproc.transport.messages import RESOURCE_EXHAUSTED
from extproc.transport.room import Room
from fuzz.pieces import Pieces, cut

ROOM = 1 << 20
SMALL_ROOM = 400
CALLS = 3
START = frames.PREFACE + frames.settings({})
CALL = bytes.fromhex("83864004") + b"path" + b"\x04/a/b" + b"\x40\x0ccontent-type\x10application/grpc"
"""POST, http, and what a call has to have (RFC 7541, section 6)."""

_Outcome = tuple[list[tuple[Any, ...]], bytes, int | None]


def _serve(pieces: list[bytes], *, answer: bool, size: int = ROOM) -> _Outcome:
    """What happens, what is sent, and the code that the connection ends with."""
    sent: list[bytes] = []
    connection = Connection(sent.append, Limits(1000, CALLS), room := Room(size))
    seen: list[tuple[Any, ...]] = []
    code = None
    try:
        for piece in pieces:
            connection.receive(piece)
            while connection.events:
                event = connection.next_event()
                seen.append((event.kind, event.call.id, b"".join(event.message), event.size))
                if answer and event.kind == "message":
                    event.call.send(b"".join(event.message))
                    event.call.release(event.size)
                elif answer and event.kind == "ended":
                    event.call.finish()
                elif event.kind == "crowded":
                    event.call.finish(RESOURCE_EXHAUSTED)
            assert len(connection.calls) <= CALLS
            assert size == SMALL_ROOM or room.left >= 0
    except ProtocolError as error:
        code = error.code
    connection.lost()
    assert not connection.calls
    assert room.left == size
    return seen, b"".join(sent), code


def any_bytes(data: bytes) -> None:
    """The connection ends with a ProtocolError or goes on, and does the same wherever the bytes are cut."""
    pieces = Pieces(data)
    sizes, rest = pieces.text(), pieces.rest()
    whole = _serve([START + rest], answer=False)
    apart = _serve(cut(START + rest, sizes), answer=False)
    # What came ahead of the mistake has happened in pieces, and may not have been seen in one.
    if whole[2] is None:
        assert apart == whole
    else:
        assert apart[2] == whole[2]


def any_frames(data: bytes) -> None:
    """The same, of frames that are well formed, with answers."""
    pieces = Pieces(data)
    parts = [START]
    while pieces.more:
        kind, flags, stream = pieces.byte() % 11, pieces.byte(), pieces.byte() % 8
        payload = pieces.text()
        if kind == frames.HEADERS and not payload:
            flags, payload = frames.END_HEADERS, CALL
        elif kind == frames.DATA and flags & 2:
            payload = b"\0" + len(payload).to_bytes(4, "big") + payload
        parts.append(frame(kind, flags, stream, payload))
    _serve(parts, answer=True)
    _serve(parts, answer=True, size=SMALL_ROOM)

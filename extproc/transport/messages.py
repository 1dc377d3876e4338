"""Length-prefixed messages (gRPC over HTTP/2: one byte for compression, four for the length, the message)."""

from __future__ import annotations

from collections.abc import Sequence

PREFIX_BYTES = 5

OK, INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 0, 3, 5, 8, 9
UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 12, 13, 14

Message = Sequence[bytes]
"""A message in the pieces that it came in: a large one need not be joined where it is received."""


class RpcError(Exception):
    """A call ends with this gRPC status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def prefix(size: int) -> bytes:
    """What goes ahead of a message over the wire: uncompressed, so many bytes."""
    return b"\0" + size.to_bytes(4, "big")


class Assembler:
    """Messages of one call, out of pieces that are cut anywhere."""

    __slots__ = ("_limit", "_missing", "_pieces", "_prefix")

    def __init__(self, limit: int) -> None:
        """`limit`: bytes of the largest message."""
        self._limit = limit
        self._prefix = b""
        self._missing = 0
        """Bytes of the message that are still to come; 0: the next is a prefix."""
        self._pieces: list[bytes] = []

    @property
    def unfinished(self) -> bool:
        """Is a message, or its prefix, on its way?"""
        return bool(self._prefix or self._missing)

    def clear(self) -> None:
        """Begin anew; what there is of a message is dropped."""
        self._prefix, self._missing, self._pieces = b"", 0, []

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are complete now.  Raises RpcError for a compressed one, or one beyond the limit."""
        if not self._missing and not self._prefix and len(data) >= PREFIX_BYTES:
            # Nearly always: one frame, one message.
            size = int.from_bytes(data[1:PREFIX_BYTES], "big")
            if data[0] == 0 and size == len(data) - PREFIX_BYTES and size <= self._limit:
                return [[data[PREFIX_BYTES:]]]
        done: list[Message] = []
        at = 0
        while at < len(data):
            if not self._missing:
                wanted = PREFIX_BYTES - len(self._prefix)
                self._prefix += data[at : at + wanted]
                at += wanted
                if len(self._prefix) < PREFIX_BYTES:
                    break
                self._missing = self._size(self._prefix)
                self._prefix = b""
                if not self._missing:
                    done.append([b""])
                continue
            piece = data[at : at + self._missing]
            at += len(piece)
            self._missing -= len(piece)
            self._pieces.append(piece)
            if not self._missing:
                done.append(self._pieces)
                self._pieces = []
        return done

    def _size(self, prefix: bytes) -> int:
        if prefix[0]:
            raise RpcError(UNIMPLEMENTED, "compressed messages are not accepted")
        size = int.from_bytes(prefix[1:], "big")
        if size > self._limit:
            raise RpcError(RESOURCE_EXHAUSTED, f"a message of {size} bytes; {self._limit} is the limit")
        return size

"""Bytes taken apart: small numbers first, then the rest."""

from __future__ import annotations


class Pieces:
    """Reads from the front; at the end everything is zero or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def byte(self) -> int:
        """0 to 255."""
        return self.take(1)[0] if self.more else 0

    def take(self, size: int) -> bytes:
        """Up to so many bytes."""
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def text(self) -> bytes:
        """A piece whose length comes ahead of it."""
        return self.take(self.byte())

    def rest(self) -> bytes:
        return self.take(len(self._data))


def cut(data: bytes, sizes: bytes) -> list[bytes]:
    """The data in pieces of these sizes, again and again; all of it."""
    out, at, turn = [], 0, 0
    while at < len(data):
        size = (sizes[turn % len(sizes)] if sizes else 0) or len(data)
        out.append(data[at : at + size])
        at += size
        turn += 1
    return out

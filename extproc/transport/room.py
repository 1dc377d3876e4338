"""Memory for what peers send: one account for all connections of a process.

What takes bytes subtracts them from `left`, and adds them again when it lets go.  Who finds it `crowded` gives up.
"""

from __future__ import annotations

RESERVE_PART = 4
"""The reserve is one of so many parts, on top of the whole."""

SMALL_BYTES = 1 << 16
"""A call that has no more than this may take of the reserve: where uploads fill the room, others go on."""


class Room:
    """So many bytes, and the reserve."""

    __slots__ = ("_reserve", "left")

    def __init__(self, size: int) -> None:
        self.left = size
        self._reserve = size // RESERVE_PART

    def crowded(self, own: int) -> bool:
        """Has too much been taken for a call that has `own` bytes?"""
        return self.left < 0 and (own > SMALL_BYTES or self.left < -self._reserve)

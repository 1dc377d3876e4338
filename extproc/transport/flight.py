"""How much of large messages is on its way to the peer.

All calls of a connection share it, in order: a small answer waits behind everything that was written before it, in
the buffers of this process, of the kernel and of the peer, and those take megabytes.  So large messages go in parts:
a PING behind each (RFC 9113, section 6.7) says by its answer that the peer has taken what came before.  Small
messages do not wait.  (A peer can do the same by its windows, as SETTINGS_INITIAL_WINDOW_SIZE; Envoy's are 16 MB and
more if nobody says so.)
"""

from __future__ import annotations

from typing import Generic, TypeVar

FLIGHT_BYTES = 1 << 17
"""Bytes of large messages that are on their way at the same time."""

SMALL_BYTES = 4096
"""A message of no more goes at once."""

PAYLOAD = b"envoywaf"
"""Of our PINGs."""

CallT = TypeVar("CallT")


class Flight(Generic[CallT]):
    """Of one connection."""

    def __init__(self) -> None:
        self._bytes = 0
        self._asked = 0
        """Bytes ahead of the PING that has not been answered; 0: none is out."""
        self._waiting: dict[CallT, None] = {}

    @property
    def room(self) -> int:
        """Bytes that may be sent now."""
        return FLIGHT_BYTES - self._bytes

    @property
    def crowded(self) -> bool:
        """Do calls wait?  Then others wait behind them."""
        return bool(self._waiting)

    def take(self, size: int) -> None:
        """So many bytes are sent."""
        self._bytes += size

    def wait(self, call: CallT) -> None:
        """It has more to send than there is room for."""
        self._waiting[call] = None

    def forget(self, call: CallT) -> None:
        """It is over."""
        self._waiting.pop(call, None)

    def asks(self) -> bool:
        """Is a PING to be sent behind what was sent last?"""
        if self._asked or not (self._waiting or self._bytes >= FLIGHT_BYTES // 2):
            return False
        self._asked = self._bytes
        return True

    def landed(self) -> list[CallT]:
        """The PING is answered.  Whose turn it is; who has still more to send shall `wait` again."""
        self._bytes -= self._asked
        self._asked = 0
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

"""Numbers and field heads of protobuf's wire format (protobuf.dev, "Encoding").

For the two messages that carry large bodies only (received.py, piece.py): all others are protobuf's own work.
"""

from __future__ import annotations

LENGTH_DELIMITED = 2


def write(value: int) -> bytes:
    """Seven bits a byte, lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends).  Raises IndexError if `data` ends within it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def tag(field: int) -> bytes:
    """Of a field of bytes: a string or a message.  `field` below 16."""
    return bytes((field << 3 | LENGTH_DELIMITED,))


def head(field: int, size: int) -> bytes:
    """What goes ahead of so many bytes of a field."""
    return tag(field) + write(size)

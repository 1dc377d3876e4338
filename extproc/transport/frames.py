"""The layout of HTTP/2 frames (RFC 9113, sections 4 and 6)."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

HEAD = struct.Struct(">HBBBL")
"""Length (two fields: 16 and 8 bits), type, flags, stream."""

HEAD_BYTES = 9
STREAM_MASK = 0x7FFFFFFF

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(5, 10)
ENHANCE_YOUR_CALM = 11

SETTING_MAX_STREAMS = 3
SETTING_INITIAL_WINDOW = 4
SETTING_MAX_FRAME = 5
SETTING_MAX_HEADERS = 6

DEFAULT_WINDOW = 65535
DEFAULT_MAX_FRAME = 16384
LARGEST_MAX_FRAME = (1 << 24) - 1
LARGEST_WINDOW = (1 << 31) - 1

_SETTING = struct.Struct(">HL")


class ProtocolError(Exception):
    """The peer broke the protocol: the connection ends with this code (RFC 9113, section 7)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def head(size: int, kind: int, flags: int, stream: int) -> bytes:
    """What goes ahead of a payload of so many bytes."""
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return head(len(payload), kind, flags, stream) + payload


def number(value: int) -> bytes:
    """A 32-bit field."""
    return value.to_bytes(4, "big")


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values.items()))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """(name, value) of each.  Raises ProtocolError."""
    if len(payload) % _SETTING.size:
        raise ProtocolError(FRAME_SIZE_ERROR, "SETTINGS of an odd length")
    return list(_SETTING.iter_unpack(payload))


def unpadded(flags: int, payload: bytes) -> bytes:
    """The content of DATA or HEADERS.  Raises ProtocolError."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]

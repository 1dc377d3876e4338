"""Content codings of responses (RFC 9110, section 8.4.1): gzip, deflate, br (RFC 7932), zstd (RFC 8878).

A few bytes may stand for gigabytes: no more comes out than is asked for.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

BLOCK_BYTES: Final = 16384
"""What is taken, and what comes out, at a time: of a block with a mistake nothing does."""

FINE_BYTES: Final = 64
"""The same, once there is a mistake: clients may show all that comes before it."""

MAX_ZSTD_WINDOW: Final = 8 << 20
"""What a server may use (RFC 9659)."""


class Decoded(NamedTuple):
    """`more`: there is more than was asked for.  `error`: why what comes behind `data` cannot be told, or ""."""

    data: bytes
    more: bool
    error: str


class CodingError(Exception):
    """The bytes are not what the coding allows."""


class TruncatedError(CodingError):
    """They end too early; nothing of what they stand for is missing."""

    def __init__(self) -> None:
        super().__init__("it ends in the middle")


Blocks = Callable[[bytes, int, int], Iterator[bytes]]
"""(data, bytes to take at a time, bytes to give at a time): what the bytes stand for, in blocks that are not much
larger than that.  Raises CodingError."""


def decode(coding: bytes, data: bytes, limit: int) -> Decoded:
    """No more than `limit` bytes of what `data` stands for; `coding` is one of CODINGS."""
    out: list[bytes] = []
    why = ""
    for step in (BLOCK_BYTES, FINE_BYTES):
        out, size = [], 0
        try:
            for block in CODINGS[coding](data, step, min(limit + 1, step)):
                out.append(block)
                size += len(block)
                if size > limit:
                    return Decoded(b"".join(out)[:limit], True, "")
            return Decoded(b"".join(out), False, "")
        except CodingError as error:
            why = str(error)
            if isinstance(error, TruncatedError):
                break
    return Decoded(b"".join(out), False, why)


def _inflated(data: bytes, take: int, give: int, wbits: int, magic: bytes = b"") -> Iterator[bytes]:
    """One member, and those behind it that begin with `magic`; what else is there counts as little as it does to
    clients."""
    member = zlib.decompressobj(wbits)
    rest, place = b"", 0
    while rest or place < len(data):
        if not rest:
            rest, place = data[place : place + take], place + take
        try:
            piece = member.decompress(rest, give)
        except zlib.error as error:
            raise CodingError(str(error)) from error
        yield piece
        rest = member.unconsumed_tail
        if member.eof:
            rest = member.unused_data
            if not magic or not (rest + data[place : place + len(magic)]).startswith(magic):
                return
            member = zlib.decompressobj(wbits)
    raise TruncatedError


def _gzip(data: bytes, take: int, give: int) -> Iterator[bytes]:
    return _inflated(data, take, give, zlib.MAX_WBITS | 16, b"\x1f\x8b")


def _deflate(data: bytes, take: int, give: int) -> Iterator[bytes]:
    """zlib's format (RFC 1950); what has not its two bytes ahead is the bare stream, which some servers send."""
    framed = len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _inflated(data, take, give, zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)


def _brotli(data: bytes, take: int, give: int) -> Iterator[bytes]:
    import brotli  # here and below: most workers never need it

    decoder = brotli.Decompressor()
    place = 0
    try:
        while not decoder.is_finished():
            rest = data[place : place + take] if decoder.can_accept_more_data() else b""
            place += len(rest)
            piece = decoder.process(rest, output_buffer_limit=give)
            if not piece and place >= len(data) and not decoder.is_finished():
                raise TruncatedError
            yield piece
    except brotli.error as error:
        raise CodingError(str(error)) from error


def _zstd(data: bytes, take: int, give: int) -> Iterator[bytes]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    try:
        with decoder.stream_reader(io.BytesIO(data), read_size=take, read_across_frames=True) as reader:
            while piece := reader.read(give):
                yield piece
    except zstandard.ZstdError as error:
        raise CodingError(str(error)) from error


CODINGS: Final[dict[bytes, Blocks]] = {
    b"gzip": _gzip, b"x-gzip": _gzip, b"deflate": _deflate, b"br": _brotli, b"zstd": _zstd,
}  # fmt: skip

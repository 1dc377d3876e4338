"""Content codings of responses (RFC 9110, section 8.4.1): gzip, deflate, br (RFC 7932), zstd (RFC 8878).

A few bytes may stand for gigabytes: no more comes out than is asked for.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

BLOCK_BYTES: Final = 16384
"""What is decoded at a time: of a block with a mistake nothing comes out."""

MAX_ZSTD_WINDOW: Final = 8 << 20
"""What a server may use (RFC 9659)."""


class Decoded(NamedTuple):
    """`more`: there is more than was asked for.  `error`: why what comes behind `data` cannot be told, or ""."""

    data: bytes
    more: bool
    error: str


class CodingError(Exception):
    """The bytes are not what the coding allows."""


Blocks = Callable[[bytes, int], Iterator[bytes]]
"""What bytes stand for, a block at a time, none much larger than the given size.  Raises CodingError."""


def decode(coding: bytes, data: bytes, limit: int) -> Decoded:
    """No more than `limit` bytes of what `data` stands for; `coding` is one of CODINGS."""
    out: list[bytes] = []
    size = 0
    try:
        for block in CODINGS[coding](data, min(limit + 1, BLOCK_BYTES)):
            out.append(block)
            size += len(block)
            if size > limit:
                return Decoded(b"".join(out)[:limit], True, "")
    except CodingError as error:
        return Decoded(b"".join(out), False, str(error))
    return Decoded(b"".join(out), False, "")


def _inflated(data: bytes, block: int, wbits: int) -> Iterator[bytes]:
    """Members, one behind the other; what comes behind the last one counts as little as it does to clients."""
    member = zlib.decompressobj(wbits)
    started = False
    rest, place = b"", 0
    while rest or place < len(data):
        if not rest:
            rest, place = data[place : place + BLOCK_BYTES], place + BLOCK_BYTES
        try:
            piece = member.decompress(rest, block)
        except zlib.error as error:
            if started:
                return
            raise CodingError(str(error)) from error
        yield piece
        rest = member.unconsumed_tail
        if member.eof:
            rest = member.unused_data
            member, started = zlib.decompressobj(wbits), True
        elif piece:
            started = False
    if not started:
        raise CodingError("it ends in the middle")


def _gzip(data: bytes, block: int) -> Iterator[bytes]:
    return _inflated(data, block, zlib.MAX_WBITS | 16)


def _deflate(data: bytes, block: int) -> Iterator[bytes]:
    """zlib's format (RFC 1950); what has not its two bytes ahead is the bare stream, which some servers send."""
    framed = len(data) > 1 and data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return _inflated(data, block, zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)


def _brotli(data: bytes, block: int) -> Iterator[bytes]:
    import brotli  # here and below: most workers never need it

    decoder = brotli.Decompressor()
    place = 0
    try:
        while not decoder.is_finished():
            rest = data[place : place + BLOCK_BYTES] if decoder.can_accept_more_data() else b""
            place += len(rest)
            piece = decoder.process(rest, output_buffer_limit=block)
            if not piece and place >= len(data) and not decoder.is_finished():
                raise CodingError("it ends in the middle")
            yield piece
    except brotli.error as error:
        raise CodingError(str(error)) from error


def _zstd(data: bytes, block: int) -> Iterator[bytes]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
    try:
        with decoder.stream_reader(io.BytesIO(data), read_across_frames=True) as reader:
            while piece := reader.read(block):
                yield piece
    except zstandard.ZstdError as error:
        raise CodingError(str(error)) from error


CODINGS: Final[dict[bytes, Blocks]] = {
    b"gzip": _gzip, b"x-gzip": _gzip, b"deflate": _deflate, b"br": _brotli, b"zstd": _zstd,
}  # fmt: skip

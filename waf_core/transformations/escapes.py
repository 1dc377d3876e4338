"""Escapes, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from waf_core.transformations.pieces import Cut, in_pieces
from waf_core.turns import LONG_BYTES

MAX_MEANINGS: Final = 4096
"""Escapes of one kind whose meaning is remembered."""

MAX_REMEMBERED_BYTES: Final = 12
"""Longer ones are not (zeros may stand ahead of a number)."""

_HEX: Final = b"0123456789abcdefABCDEF"

PAIRS: Final = [bytes((a, b)) for a in _HEX for b in _HEX]
"""Two hexadecimal digits."""


class Meanings(dict[bytes, bytes]):
    """Escape, without what begins it -> what it stands for.  Others than the `known` ones are remembered, too, as long
    as there is room."""

    def __init__(self, meaning: Callable[[bytes], bytes], known: Iterable[bytes]) -> None:
        super().__init__({escape: meaning(escape) for escape in known})
        self._meaning = meaning

    def __missing__(self, escape: bytes) -> bytes:
        meaning = self._meaning(escape)
        if len(self) < MAX_MEANINGS and len(escape) <= MAX_REMEMBERED_BYTES:
            self[escape] = meaning
        return meaning


def unescape(value: bytes, split: Callable[[bytes], list[bytes]], meanings: Meanings, cut: Cut) -> bytes:
    """`split` gives text and escapes in turns."""
    if len(value) > LONG_BYTES:
        return in_pieces(partial(_unescape, split, meanings), value, cut)
    return _unescape(split, meanings, value)


def _unescape(split: Callable[[bytes], list[bytes]], meanings: Meanings, value: bytes) -> bytes:
    pieces = split(value)
    if len(pieces) == 1:
        return value
    for number in range(1, len(pieces), 2):
        pieces[number] = meanings[pieces[number]]
    return b"".join(pieces)


def low_byte(digits: bytes) -> bytes:
    """The byte a four-digit escape stands for; U+FF01..U+FF5E are ASCII in full width."""
    code = int(digits[2:], 16)
    if digits[:2].lower() == b"ff" and 0 < code < 0x5F:
        code += 0x20
    return bytes((code,))

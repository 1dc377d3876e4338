"""What URL escapes stand for."""

from __future__ import annotations

from collections.abc import Mapping

from waf_core.transformations.javascript import low_byte

_HEX = b"0123456789abcdefABCDEF"

BYTES = {bytes((a, b)): bytes((int(bytes((a, b)), 16),)) for a in _HEX for b in _HEX}
"""Two digits -> the byte."""


class Escapes(dict[bytes, bytes]):
    """What stands behind `%` -> the byte; `unicode_map` is the table of SecUnicodeMapFile."""

    def __init__(self, unicode_map: Mapping[int, int] | None = None) -> None:
        super().__init__(BYTES)
        self._map = unicode_map or {}

    def __missing__(self, escape: bytes) -> bytes:
        mapped = self._map.get(int(escape[1:], 16))
        return low_byte(escape[1:]) if mapped is None else bytes((mapped & 0xFF,))

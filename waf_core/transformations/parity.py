"""`t:parityEven7bit`, `t:parityOdd7bit`, `t:parityZero7bit`: bit 7 set to the parity.

ModSecurity's code (v2 and v3) counts all eight bits, where the reference manual speaks of seven."""

from __future__ import annotations

from waf_core.transformations import transformation


def _table(odd: int) -> bytes:
    return bytes((b & 0x7F) | (0x80 if (b.bit_count() + odd) % 2 else 0) for b in range(256))


_EVEN = _table(0)
_ODD = _table(1)
_ZERO = bytes(b & 0x7F for b in range(256))


@transformation("parityEven7bit")
def parity_even_7bit(value: bytes) -> bytes:
    return value.translate(_EVEN)


@transformation("parityOdd7bit")
def parity_odd_7bit(value: bytes) -> bytes:
    return value.translate(_ODD)


@transformation("parityZero7bit")
def parity_zero_7bit(value: bytes) -> bytes:
    return value.translate(_ZERO)

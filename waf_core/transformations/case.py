"""`t:lowercase` and `t:uppercase`: ASCII only, as in the C locale."""

from __future__ import annotations

from typing import Final

from waf_core.transformations import KEEPS, transformation

_UPPER: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@transformation("lowercase", effects=((_UPPER, _UPPER.lower()),), growth=1, joined=b"", indexes=KEEPS)
def lowercase(value: bytes) -> bytes:
    lowered = value.lower()
    return value if lowered == value else lowered


@transformation("uppercase", effects=((_UPPER.lower(), _UPPER),), growth=1, joined=b"", indexes=KEEPS)
def uppercase(value: bytes) -> bytes:
    raised = value.upper()
    return value if raised == value else raised

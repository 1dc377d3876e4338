"""`t:lowercase` and `t:uppercase`: ASCII only, as in the C locale."""

from __future__ import annotations

from waf_core.transformations import transformation

_UPPER = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@transformation("lowercase", touches=_UPPER, emits=_UPPER.lower())
def lowercase(value: bytes) -> bytes:
    lowered = value.lower()
    return value if lowered == value else lowered


@transformation("uppercase", touches=_UPPER.lower(), emits=_UPPER)
def uppercase(value: bytes) -> bytes:
    raised = value.upper()
    return value if raised == value else raised

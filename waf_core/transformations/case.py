"""`t:lowercase` and `t:uppercase`: ASCII only, as in the C locale."""

from __future__ import annotations

from waf_core.transformations import transformation


@transformation("lowercase")
def lowercase(value: bytes) -> bytes:
    lowered = value.lower()
    return value if lowered == value else lowered


@transformation("uppercase")
def uppercase(value: bytes) -> bytes:
    raised = value.upper()
    return value if raised == value else raised

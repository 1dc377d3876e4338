"""`t:md5` and `t:sha1` (raw digests) and `t:length` (decimal)."""

from __future__ import annotations

import hashlib

from waf_core.transformations import ENDS, transformation


@transformation("md5")
def md5(value: bytes) -> bytes:
    return hashlib.md5(value, usedforsecurity=False).digest()


@transformation("sha1")
def sha1(value: bytes) -> bytes:
    return hashlib.sha1(value, usedforsecurity=False).digest()


@transformation("length", indexes=ENDS)
def length(value: bytes) -> bytes:
    return b"%d" % len(value)

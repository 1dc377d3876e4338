"""`python -m waf_core.scan.precompile FOLDER`: compile a Hyperscan database for the patterns on standard
input (for each its length, a newline, its bytes).  DatabaseCache.start runs it."""

from __future__ import annotations

import sys
from pathlib import Path

from waf_core.scan.hyperscan_set import DatabaseCache


def read_patterns(data: bytes) -> list[bytes]:
    """The patterns that DatabaseCache.start wrote."""
    patterns = []
    while data:
        size, _, data = data.partition(b"\n")
        patterns.append(data[: int(size)])
        data = data[int(size) :]
    return patterns


if __name__ == "__main__":
    DatabaseCache(Path(sys.argv[1])).store(read_patterns(sys.stdin.buffer.read()))

"""`python -m waf_core.scan.precompile FOLDER`: compile a Hyperscan database for the patterns on standard
input (for each its length, a newline, its bytes).  DatabaseCache.start runs it."""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from waf_core.scan.databases import DatabaseCache, decode
from waf_core.scan.hyperscan_set import Pattern


def read_patterns(data: bytes) -> list[Pattern]:
    """The patterns that DatabaseCache.start wrote."""
    patterns: list[Pattern] = []
    while data:
        size, _, data = data.partition(b"\n")
        patterns.append(decode(data[: int(size)]))
        data = data[int(size) :]
    return patterns


def compile_once(cache: DatabaseCache, patterns: list[Pattern]) -> None:
    """Several workers may ask at the same time: the first compiles, the others wait for its file."""
    cache.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(cache.lock_path(patterns), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if cache.load(patterns) is None:
            cache.store(patterns)
    finally:
        os.close(lock)


if __name__ == "__main__":
    compile_once(DatabaseCache(Path(sys.argv[1])), read_patterns(sys.stdin.buffer.read()))

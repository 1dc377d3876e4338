"""A search without a guide: what is known to be interesting, changed at random."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

MAX_CHANGES = 8
"""Of one input."""


def search(target: Callable[[bytes], None], corpus: Path, seconds: float, crash: Path) -> int:
    """Returns how many inputs kept every promise.  The bytes are in `crash` before the target gets them, since it may
    take the process down; the file is gone when all is well."""
    known = [path.read_bytes() for path in sorted(corpus.iterdir())] or [b""]
    for data in known:
        _run(target, data, crash)
    count = len(known)
    rng = random.Random()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _run(target, changed(rng, known), crash)
        count += 1
    crash.unlink()
    return count


def changed(rng: random.Random, known: list[bytes]) -> bytes:
    """One of them, or two of them joined, with some pieces cut, repeated or overwritten."""
    data = bytearray(rng.choice(known))
    if rng.random() < 0.3:
        data[rng.randint(0, len(data)) :] = rng.choice(known)
    for _ in range(rng.randint(1, MAX_CHANGES)):
        start = rng.randint(0, len(data))
        end = min(len(data), start + rng.randint(0, 8))
        piece = data[start:end]
        data[start:end] = rng.choice((b"", piece * 2, rng.randbytes(len(piece)), rng.randbytes(1) + piece))
    return bytes(data)


def _run(target: Callable[[bytes], None], data: bytes, crash: Path) -> None:
    crash.write_bytes(data)
    target(data)

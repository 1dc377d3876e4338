"""Ordinary text, the same in every process: what patterns are timed with when databases are compiled."""

from __future__ import annotations

import random
import string

_TEXT = """
the and for with order item user name page price search login account street city green large small shirt
coffee table garden light summer Monday March true false null en-US text/html gzip Mozilla/5.0 Safari
max-age=0 no-cache application/json multipart/form-data https://www.example.com/shop/item?id= session=
"""
_WORDS = _TEXT.split()
_PIECE_BYTES = 1024
_PIECES = 16


def _make() -> bytes:
    rng = random.Random(1)
    out: list[str] = []
    size = 0
    while size < _PIECES * _PIECE_BYTES:
        kind = rng.randrange(4)
        if kind == 0:
            piece = str(rng.randrange(10**9))
        elif kind == 1:
            piece = "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randrange(4, 40)))
        else:
            piece = " ".join(rng.choices(_WORDS, k=rng.randrange(1, 8)))
        piece += rng.choice("\n\n\n&=;,")
        out.append(piece)
        size += len(piece)
    return "".join(out).encode()


SAMPLE = _make()
PIECES = tuple(SAMPLE[n * _PIECE_BYTES : (n + 1) * _PIECE_BYTES] for n in range(_PIECES))

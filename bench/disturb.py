"""`python -m bench.disturb URL KIND`: a client that sends the worst requests without pause, until it is killed.

A process of its own, with requests made beforehand: making them takes longer than sending, and would hold up
whoever measures in the same process.
"""

from __future__ import annotations

import itertools
import json
import random
import sys
from collections.abc import Callable

import httpx

from bench.cases import Request, _headers
from bench.hostile import GENERATORS, PATH, _json

HOSTILE_BYTES = 128_000
UPLOAD_BYTES = 10_000_000
SMALL_BYTES = (1000, 3000, 10_000)
"""Such requests are judged between others, unless they weigh much."""

TEXT_BYTES = 900_000
"""Nearly what SecRequestBodyNoFilesLimit lets a body without files be."""

ESCAPES = ("#", "&#65;", "%u0041", "%41", "\u00fc", "/**/", "<!--x-->", "/./", "\\")
"""What transformations decode or delete."""

REQUESTS = 40


BOUNDARY = "------------------------9f3c0d5b7a1e4628"
"""As long as clients make them: a short one occurs in 10 MB of random bytes."""


def upload(rng: random.Random, size: int = UPLOAD_BYTES) -> Request:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'.encode()
    body = head + rng.randbytes(size) + f"\r\n--{BOUNDARY}--\r\n".encode()
    return Request("POST", PATH, [*_headers(rng), ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")], body)


def hostile(rng: random.Random) -> Request:
    return rng.choice(list(GENERATORS.values()))(rng, HOSTILE_BYTES)


def small(rng: random.Random) -> Request:
    return rng.choice(list(GENERATORS.values()))(rng, rng.choice(SMALL_BYTES))


def escapes(rng: random.Random) -> Request:
    """One long text of them."""
    unit = rng.choice(ESCAPES)
    return _json(rng, {"a": unit * (TEXT_BYTES // len(json.dumps(unit)[1:-1])) + str(rng.randrange(10**6))})


KINDS: dict[str, tuple[Callable[[random.Random], Request], int]] = {
    "hostile": (hostile, REQUESTS),
    "small hostile": (small, 10 * REQUESTS),
    "escapes": (escapes, REQUESTS),
    "uploads": (upload, 4),
}


def main(url: str, kind: str) -> None:
    make, count = KINDS[kind]
    rng = random.Random(5)
    requests = [make(rng) for _ in range(count)]
    print("ready", flush=True)
    with httpx.Client(timeout=60) as client:
        for request in itertools.cycle(requests):
            headers = [(n, v) for n, v in request.headers if n != "Content-Length"]
            client.request(request.method, url + request.uri, headers=headers, content=request.body)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

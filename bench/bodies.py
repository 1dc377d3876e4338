"""`python -m bench bodies`: large bodies, of one client and of several at once.

Through the real Envoy, one worker.  Each client sends the next body when it has the answer to the last one; no two
bodies are alike.  What several clients get together should be no less than what one gets alone, and none of them
should wait much longer than for its turn: heavy bodies are judged on threads, which share one core's worth of Python,
and what is decided by time (which engine searches a text) must not be decided by who else had the processor.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import httpx

from bench.cases import Request, _post, _text, json_body
from bench.disturb import upload
from bench.envoy import await_databases, quiet, spare_collector, start_noop, without_filter
from bench.neighbour import SERVERS
from bench.report import p99, table, verdict
from demo.stack import Stack
from tests.crs import find_crs

CLIENTS = 4
SECONDS = 4.0
WARM_SECONDS = 1.0
REQUESTS = 24
"""Made beforehand for each client, which starts over at the end."""

TEXT_BYTES = 400_000
UPLOAD_BYTES = 900_000
"""Buffered, Envoy takes bodies of a mebibyte by default."""

RATE_BOUND = 0.9
"""Of one client's bodies a second, what several get together."""

WAIT_BOUND = 2.0
"""Of what a body takes alone, times the clients: p99 of one among them."""


def json_text(rng: random.Random) -> Request:
    return _post(rng, "/api", "application/json", b'{"text": "%b"}' % _text(rng, TEXT_BYTES).encode())


def form_text(rng: random.Random) -> Request:
    text = _text(rng, TEXT_BYTES).replace(" ", "+").encode()
    return _post(rng, "/form", "application/x-www-form-urlencoded", b"comment=" + text)


KINDS: dict[str, Callable[[random.Random], Request]] = {
    "JSON text 400 kB": json_text,
    "form text 400 kB": form_text,
    "JSON 20 kB": json_body(20_000),
    "upload 900 kB": partial(upload, size=UPLOAD_BYTES),
}


class Seen(NamedTuple):
    """What clients saw: answers a second of all of them, and what one answer took (ms)."""

    rate: float
    p50: float
    p99: float
    longest: float


def _requests(kind: str, client: int) -> list[Request]:
    rng = random.Random(f"{kind} {client}")
    return [KINDS[kind](rng) for _ in range(REQUESTS)]


async def _send(url: str, requests: list[list[Request]], seconds: float) -> Seen:
    """One client for each list of requests."""
    took: list[float] = []
    start = time.perf_counter()

    async def client(own: list[Request]) -> None:
        async with httpx.AsyncClient(timeout=60) as session:
            for request in itertools.cycle(own):
                begin = time.perf_counter()
                if begin - start >= seconds:
                    break
                answer = await session.request(
                    request.method, url + request.uri, headers=request.headers, content=request.body
                )
                took.append((time.perf_counter() - begin) * 1000)
                if answer.status_code != 200:
                    raise SystemExit(f"a body of {len(request.body)} bytes was answered with {answer.status_code}")

    await asyncio.gather(*map(client, requests))
    rate = len(took) / (time.perf_counter() - start)
    took.sort()
    return Seen(rate, statistics.median(took), p99(took), took[-1])


def run() -> dict[str, Any]:
    rows: list[list[str]] = []
    results = []
    requests = {kind: [_requests(kind, client) for client in range(CLIENTS)] for kind in KINDS}
    spare_collector()
    for server, bootstrap in SERVERS.items():
        ours = server.startswith("envoy-waf")
        edit = without_filter if server == "no filter" else quiet
        with Stack(bootstrap, crs=find_crs(), settings={"log_level": "error"}, edit=edit, sidecar=ours) as stack:
            if server == "no-op":
                start_noop(stack)
            if ours:
                await_databases(stack.admin_port)
            time.sleep(2)
            for kind, made in requests.items():
                asyncio.run(_send(stack.url, made, WARM_SECONDS))
                one = asyncio.run(_send(stack.url, made[:1], SECONDS))
                several = asyncio.run(_send(stack.url, made, SECONDS))
                share = several.rate / one.rate
                wait = several.p99 / (one.p50 * CLIENTS)
                rows.append(
                    [server, kind, f"{one.rate:.0f}", f"{one.p50:.0f}", f"{one.p99:.0f}",
                     f"{several.rate:.0f}", f"{several.p50:.0f}", f"{several.p99:.0f}", f"{several.longest:.0f}",
                     f"{share:.2f} {verdict(share >= RATE_BOUND)}", f"{wait:.1f} {verdict(wait <= WAIT_BOUND)}"]
                )  # fmt: skip
                results.append({"server": server, "body": kind, "one": one._asdict(), "several": several._asdict()})
    print(
        table(
            ["server", "body", "1 client: /s", "p50 ms", "p99 ms", f"{CLIENTS} clients: /s", "p50 ms", "p99 ms",
             "longest", f"rate, bound {RATE_BOUND}", f"wait, bound {WAIT_BOUND}"],
            rows,
        )
    )  # fmt: skip
    print("rate: of one client's; wait: p99 of a body among others, against its p50 alone times the clients")
    return {"bodies": results}

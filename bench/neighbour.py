"""`python -m bench neighbour`: what small requests feel while one client sends the worst without pause.

Through the real Envoy, one worker: p99 of small GETs alone, beside hostile bodies, and beside 10 MB uploads;
the same with a server that does nothing, since the load generator, Envoy and the upstream share the cores.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx

from bench.cases import Request, _headers, browser_get
from bench.hostile import GENERATORS
from bench.report import table
from demo.stack import Process, Stack, http_manager
from tests.crs import find_crs

SECONDS = 6.0
PAUSE = 0.02
BOUND = 3.0
HOSTILE_BYTES = 128_000


def upload(rng: random.Random) -> Request:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    body = head + rng.randbytes(10_000_000) + b"\r\n--b--\r\n"
    return Request("POST", "/x", [*_headers(rng), ("Content-Type", "multipart/form-data; boundary=b")], body)


def hostile(rng: random.Random) -> Request:
    return rng.choice(list(GENERATORS.values()))(rng, HOSTILE_BYTES)


async def _send(client: httpx.AsyncClient, url: str, request: Request) -> None:
    headers = [(n, v) for n, v in request.headers if n != "Content-Length"]
    await client.request(request.method, url + request.uri, headers=headers, content=request.body)


async def measure(url: str, neighbour: Callable[[random.Random], Request] | None) -> list[float]:
    """Latencies in ms of small GETs."""
    latencies: list[float] = []
    rng = random.Random(5)
    stop = asyncio.Event()

    async def disturb() -> None:
        assert neighbour is not None
        async with httpx.AsyncClient(timeout=60) as client:
            while not stop.is_set():
                await _send(client, url, neighbour(rng))

    disturber = asyncio.ensure_future(disturb()) if neighbour else None
    async with httpx.AsyncClient(timeout=60) as client:
        deadline = time.perf_counter() + SECONDS
        while time.perf_counter() < deadline:
            request = browser_get(rng)
            start = time.perf_counter()
            await client.get(url + request.uri, headers=request.headers)
            latencies.append((time.perf_counter() - start) * 1000)
            await asyncio.sleep(PAUSE)
    stop.set()
    if disturber is not None:
        await disturber
    return sorted(latencies)


def run() -> dict[str, Any]:
    cases: dict[str, Callable[[random.Random], Request] | None] = {"alone": None, "hostile": hostile, "uploads": upload}

    def edit(config: dict[str, Any], stack: Stack) -> None:
        http_manager(config).pop("access_log")

    rows, results = [], []
    for server in ("no-op", "envoy-waf"):
        stack = Stack(
            "buffered", crs=find_crs(), settings={"log_level": "error"}, edit=edit, sidecar=server == "envoy-waf"
        )
        with stack:
            if server == "no-op":
                command = [sys.executable, "-m", "bench.noop", stack.listen]
                stack.processes.append(Process("noop", command, stack.folder))
            time.sleep(8)
            asyncio.run(measure(stack.url, None))
            base = 0.0
            for name, neighbour in cases.items():
                values = asyncio.run(measure(stack.url, neighbour))
                p50, p99 = statistics.median(values), values[int(len(values) * 0.99)]
                base = base or p99
                ratio = p99 / base
                verdict = "holds" if ratio <= BOUND else "MISSED"
                rows.append(
                    [server, name, f"{p50:.1f}", f"{p99:.1f}", f"{ratio:.1f} x", "" if neighbour is None else verdict]
                )
                results.append({"server": server, "neighbour": name, "p50_ms": p50, "p99_ms": p99, "ratio": ratio})
    print(table(["server", "neighbour", "p50 ms", "p99 ms", "p99 against alone", f"bound {BOUND:.0f} x"], rows))
    return {"neighbour": results}

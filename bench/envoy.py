"""`python -m bench envoy`: what the filter adds in the real Envoy.

Three paths, taken in turns: no filter, an ext_proc server that does nothing, and ours.  The load is
100 requests a second for CALLS calls (the headline measurement of coraza-proxy-wasm), then as many as
go.  The load generator shares the machine's cores with everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx

from bench.cases import browser_get
from bench.report import table
from demo.stack import Process, Stack, http_manager
from tests.crs import find_crs

CALLS = 1000
RATE = 100
ROUNDS = 2
SATURATION_SECONDS = 4.0
SATURATION_CLIENTS = 16


def without_filter(config: dict[str, Any], stack: Stack) -> None:
    manager = http_manager(config)
    manager["http_filters"] = [f for f in manager["http_filters"] if "ext_proc" not in f["name"]]
    manager.pop("access_log")


def quiet(config: dict[str, Any], stack: Stack) -> None:
    http_manager(config).pop("access_log")


@contextlib.contextmanager
def path(kind: str) -> Iterator[Stack]:
    """A running stack of one kind."""
    edit = without_filter if kind == "no filter" else quiet
    stack = Stack("buffered", crs=find_crs(), edit=edit, sidecar=kind == "envoy-waf", settings={"log_level": "error"})
    try:
        if kind == "no-op server":
            command = [sys.executable, "-m", "bench.noop", stack.listen]
            stack.processes.append(Process("noop", command, stack.folder))
        stack.start()
        yield stack
    finally:
        stack.stop()


async def steady(url: str) -> list[float]:
    """Latencies in ms of CALLS calls at RATE a second."""
    rng = random.Random(3)
    requests = [browser_get(rng) for _ in range(CALLS)]
    latencies: list[float] = []
    async with httpx.AsyncClient(timeout=30) as client:
        start = time.perf_counter()

        async def call(index: int) -> None:
            await asyncio.sleep(max(start + index / RATE - time.perf_counter(), 0))
            request = requests[index]
            begin = time.perf_counter()
            answer = await client.get(url + request.uri.replace("/shop", "/hello"), headers=request.headers)
            latencies.append((time.perf_counter() - begin) * 1000)
            assert answer.status_code in (200, 404), answer.status_code

        await asyncio.gather(*(call(i) for i in range(CALLS)))
    return latencies


async def saturate(url: str) -> float:
    """Requests per second."""
    deadline = time.perf_counter() + SATURATION_SECONDS
    count = 0

    async def client_loop(seed: int) -> None:
        nonlocal count
        rng = random.Random(seed)
        async with httpx.AsyncClient(timeout=30) as client:
            while time.perf_counter() < deadline:
                request = browser_get(rng)
                await client.get(url + request.uri, headers=request.headers)
                count += 1

    await asyncio.gather(*(client_loop(i) for i in range(SATURATION_CLIENTS)))
    return count / SATURATION_SECONDS


def run() -> dict[str, Any]:
    kinds = ("no filter", "no-op server", "envoy-waf")
    latencies: dict[str, list[float]] = {kind: [] for kind in kinds}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with contextlib.ExitStack() as stacks:
        urls = {kind: stacks.enter_context(path(kind)).url for kind in kinds}
        for url in urls.values():
            asyncio.run(saturate(url))
        for _ in range(ROUNDS):
            for kind, url in urls.items():
                latencies[kind] += asyncio.run(steady(url))
                rates[kind].append(asyncio.run(saturate(url)))
    base = statistics.median(latencies["no filter"])
    rows, results = [], []
    for kind in kinds:
        values = sorted(latencies[kind])
        average, p50, p99 = statistics.mean(values), statistics.median(values), values[int(len(values) * 0.99)]
        rate = statistics.median(rates[kind])
        rows.append([kind, "", f"{average:.2f}", f"{p50:.2f}", f"{p99:.2f}", f"{p50 - base:.2f}", f"{rate:.0f}"])
        results.append(
            {"path": kind, "average_ms": average, "p50_ms": p50, "p99_ms": p99, "added_p50_ms": p50 - base, "rps": rate}
        )
    print(table(["path", "", "average ms", "p50 ms", "p99 ms", "added p50 ms", "requests/s"], rows))
    return {"envoy": results}

"""`python -m bench envoy`: what the filter adds in the real Envoy.

Paths, taken in short turns, each of them first in turn, so that what else the machine does meets them all: no filter, an
ext_proc server that does nothing (with grpc.aio, as they are made; for comparison also on this project's transport), and
ours.  The load is 100 requests a second for CALLS calls in all (the headline measurement of coraza-proxy-wasm is 1,000),
and after each turn as many as go.  The load generator shares the machine's cores with everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from bench.cases import browser_get
from bench.report import p99, table, verdict
from demo.stack import Process, Stack, http_manager
from tests.crs import find_crs
from tests.waiting import eventually

CALLS = 2000
RATE = 100
ROUNDS = 20
SATURATION_SECONDS = 0.8
WARM_TURNS = 5
SATURATION_CLIENTS = 16
DATABASE_SECONDS = 120


def without_filter(config: dict[str, Any], stack: Stack) -> None:
    manager = http_manager(config)
    manager["http_filters"] = [f for f in manager["http_filters"] if "ext_proc" not in f["name"]]
    manager.pop("access_log")


def quiet(config: dict[str, Any], stack: Stack) -> None:
    http_manager(config).pop("access_log")


def headers_only(config: dict[str, Any], stack: Stack) -> None:
    """What Envoy sends when only the head of the request is wanted."""
    quiet(config, stack)
    found = next(f for f in http_manager(config)["http_filters"] if "ext_proc" in f["name"])
    found["typed_config"]["processing_mode"] = {
        "request_header_mode": "SEND", "response_header_mode": "SKIP", "request_body_mode": "NONE",
        "response_body_mode": "NONE", "request_trailer_mode": "SKIP", "response_trailer_mode": "SKIP",
    }  # fmt: skip


REQUEST_RULES_ONLY = """
SecResponseBodyAccess Off
SecRuleRemoveById 950000-959999
SecRuleRemoveById 980000-980999
"""

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "no filter": (without_filter, {}),
    "no-op, all messages": (quiet, {}),
    "no-op on our transport, all messages": (quiet, {}),
    "envoy-waf, all phases": (quiet, {}),
    "no-op, request headers": (headers_only, {}),
    "no-op on our transport, request headers": (headers_only, {}),
    "envoy-waf, no response rules": (quiet, {"directives": REQUEST_RULES_ONLY}),
}


def await_databases(admin_port: int) -> None:
    """Wait until a sidecar's Hyperscan databases serve: on a new machine they are compiled first."""
    status = f"http://127.0.0.1:{admin_port}/status"
    if not eventually(lambda: all(httpx.get(status).json()["hyperscan"]), DATABASE_SECONDS):
        raise TimeoutError(f"no Hyperscan databases after {DATABASE_SECONDS} s")


def spare_collector() -> None:
    """What the load generator has made so far stays: its collector would look at all of it now and then, and the calls
    of just then would seem to take 30 ms."""
    gc.collect()
    gc.freeze()


def start_noop(stack: Stack, *arguments: str) -> None:
    """A server that does nothing (bench/noop.py), where the stack's sidecar would listen."""
    command = [sys.executable, "-m", "bench.noop", stack.listen, *arguments]
    stack.processes.append(Process("noop", command, stack.folder))


@contextlib.contextmanager
def path(kind: str, **more: Any) -> Iterator[Stack]:
    """A running stack of one kind, with more settings."""
    edit, settings = KINDS[kind]
    ours = kind.startswith("envoy-waf")
    stack = Stack(
        "buffered", crs=find_crs(), edit=edit, sidecar=ours, settings={"log_level": "error", **settings, **more}
    )
    try:
        if kind.startswith("no-op"):
            start_noop(stack, *(["own"] if "our transport" in kind else []))
        stack.start()
        if ours:
            await_databases(stack.admin_port)
        yield stack
    finally:
        stack.stop()


async def steady(url: str, turn: int) -> list[float]:
    """Latencies in ms of a turn's calls at RATE a second."""
    rng = random.Random(turn)
    requests = [browser_get(rng) for _ in range(CALLS // ROUNDS)]
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

        await asyncio.gather(*(call(i) for i in range(len(requests))))
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
    kinds = tuple(KINDS)
    latencies: dict[str, list[float]] = {kind: [] for kind in kinds}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu: dict[str, dict[str, list[float]]] = {kind: {} for kind in kinds}
    with contextlib.ExitStack() as stacks:
        running = {kind: stacks.enter_context(path(kind)) for kind in kinds}
        urls = {kind: stack.url for kind, stack in running.items()}
        for _ in range(WARM_TURNS):
            for url in urls.values():
                asyncio.run(saturate(url))
        spare_collector()
        for turn in range(ROUNDS):
            first = turn % len(kinds)
            for kind in (*kinds[first:], *kinds[:first]):
                latencies[kind] += asyncio.run(steady(urls[kind], turn))
                before = cpu_of(running[kind])
                rate = asyncio.run(saturate(urls[kind]))
                rates[kind].append(rate)
                spent = {name: now - before.get(name, 0.0) for name, now in cpu_of(running[kind]).items()}
                for name, seconds in spent.items():
                    cpu[kind].setdefault(name, []).append(seconds / (rate * SATURATION_SECONDS) * 1000)
    base = statistics.median(latencies["no filter"])
    rows, results = [], []
    for kind in kinds:
        values = sorted(latencies[kind])
        average, p50, slow = statistics.mean(values), statistics.median(values), p99(values)
        rate = statistics.median(rates[kind])
        spent = {name: statistics.median(values) for name, values in cpu[kind].items()}
        server = spent.get("sidecar", spent.get("noop", 0.0))
        rows.append(
            [kind, "", f"{average:.2f}", f"{p50:.2f}", f"{slow:.2f}", f"{p50 - base:.2f}", f"{rate:.0f}",
             f"{spent.get('envoy', 0):.2f}", f"{server:.2f}"]
        )  # fmt: skip
        results.append(
            {
                "path": kind,
                "average_ms": average,
                "p50_ms": p50,
                "p99_ms": slow,
                "added_p50_ms": p50 - base,
                "rps": rate,
                "cpu_ms": spent,
            }
        )
    print(table(["path", "", "average ms", "p50 ms", "p99 ms", "added p50 ms", "requests/s",
                 "Envoy CPU ms", "server CPU ms"], rows))  # fmt: skip
    found: dict[Any, Any] = {item["path"]: item for item in results}
    for ours, noop, bound in (
        ("envoy-waf, all phases", "no-op, all messages", 1.4),
        ("envoy-waf, no response rules", "no-op, request headers", 1.5),
    ):
        ratio = found[ours]["added_p50_ms"] / max(found[noop]["added_p50_ms"], 0.01)
        share = found[ours]["rps"] / found[noop]["rps"]
        print(
            f"{ours}: added p50 {ratio:.2f} x the no-op server's (bound {bound} x:"
            f" {verdict(ratio <= bound)}), {share:.2f} x its requests a second"
        )
    return {"envoy": results}


def cpu_of(stack: Stack) -> dict[str, float]:
    """Seconds of CPU that each process of a stack has used."""
    return {process.name: cpu_seconds(process.child.pid) for process in stack.processes}


def cpu_seconds(pid: int) -> float:
    """What a process has used (proc(5), stat: utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

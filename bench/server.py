"""`python -m bench server`: what a stream costs a server, without Envoy.

The three messages of a GET (headers, response headers, response body), as Envoy sends them, through grpcio's client:
CPU of the server and requests a second, for a server that does nothing (with grpc.aio, and on this project's
transport) and for ours; for ours also of a GET that is blocked, on which many rules match, with all that is told of it;
then what a whole worker holds in memory after WORKER_REQUESTS more.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import grpc

from bench.cases import Request, browser_get, sqli
from bench.envoy import cpu_of, path
from bench.report import MEMORY_BOUND_MB, resident_mb, table, verdict
from extproc.modes import BUFFERED
from extproc.service import METHOD
from tests.sidecar.messages import request_headers, response_body, response_headers

SERVERS = ("no-op, all messages", "no-op on our transport, all messages", "envoy-waf, all phases")
REQUESTS = 1500
ROUNDS = 4
AT_ONCE = 4
WORKER_REQUESTS = 100_000


def messages(rng: random.Random) -> list[bytes]:
    """Of one request, serialized."""
    return _serialized(rng, browser_get(rng))


def attack(rng: random.Random) -> list[bytes]:
    """Of one that is blocked at its head."""
    return _serialized(rng, sqli(rng))[:1]


def _serialized(rng: random.Random, request: Request) -> list[bytes]:
    headers = {name.lower(): value for name, value in request.headers if name != "Host"}
    headers |= {"x-forwarded-proto": "http", "x-request-id": f"{rng.getrandbits(128):032x}"}
    attributes = {"source.address": "192.0.2.10:40000", "destination.address": "192.0.2.1:80"}
    all_messages = (
        request_headers(request.uri, headers=headers, mode=BUFFERED, attributes=attributes),
        response_headers(headers={"content-length": str(len(request.response)), "server": "envoy"}),
        response_body(request.response),
    )
    return [message.SerializeToString() for message in all_messages]


async def _send(address: str, requests: list[list[bytes]]) -> float:
    """Requests a second."""
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        method = channel.stream_stream(METHOD.decode(), request_serializer=bytes, response_deserializer=bytes)

        async def one(request: list[bytes]) -> None:
            call = method()
            for message in request:
                await call.write(message)
                await call.read()
            await call.done_writing()
            await call.read()

        start = time.perf_counter()
        for at in range(0, len(requests), AT_ONCE):
            await asyncio.gather(*map(one, requests[at : at + AT_ONCE]))
        return len(requests) / (time.perf_counter() - start)


def run() -> dict[str, Any]:
    rng = random.Random(5)
    rows, results = [], []
    resident: list[tuple[int, float]] = []
    for kind in SERVERS:
        with path(kind) as stack:
            ours = kind.startswith("envoy-waf")
            for make, name in ((messages, kind), (attack, "envoy-waf, blocked in phase 2"))[: 2 if ours else 1]:
                rate, cpu = _measure(stack, rng, make)
                rows.append([name, "", f"{cpu:.2f}", f"{rate:.0f}"])
                results.append({"server": name, "cpu_ms": cpu, "rps": rate})
            if ours:
                pid = next(p.child.pid for p in stack.processes if p.name == "sidecar")
                for done in range(0, WORKER_REQUESTS + 1, WORKER_REQUESTS // 4):
                    resident.append((done, resident_mb(pid)))
                    if done < WORKER_REQUESTS:
                        for _ in range(WORKER_REQUESTS // 4 // REQUESTS + 1):
                            asyncio.run(_send(stack.listen, [messages(rng) for _ in range(REQUESTS)]))
    print(table(["server", "", "CPU ms a request", "requests/s"], rows))
    memory_rows = [[f"{n}", "", f"{mb:.0f}", verdict(mb <= MEMORY_BOUND_MB)] for n, mb in resident]
    print("\n" + table(["more requests", "", "resident MB", f"bound {MEMORY_BOUND_MB} MB"], memory_rows))
    return {"server": {"streams": results, "worker_memory": resident}}


def _measure(stack: Any, rng: random.Random, make: Callable[[random.Random], list[bytes]]) -> tuple[float, float]:
    """Requests a second, and CPU of the server for one, in ms."""
    rates, spent = [], []
    for _ in range(1 + ROUNDS):  # the first is not counted
        requests = [make(rng) for _ in range(REQUESTS)]
        before = _server_cpu(stack)
        rates.append(asyncio.run(_send(stack.listen, requests)))
        spent.append((_server_cpu(stack) - before) / REQUESTS * 1000)
    return statistics.median(rates[1:]), statistics.median(spent[1:])


def _server_cpu(stack: Any) -> float:
    used = cpu_of(stack)
    return used.get("sidecar", used.get("noop", 0.0))

"""While one of several workers is down: who asked it is told so, all others are served by the next."""

from __future__ import annotations

import copy
import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from demo.stack import Process, Stack, free_port, waf_filter
from extproc.transport.server import HEARD_SECONDS
from tests.envoy.conftest import BROWSER, count_of_envoy
from tests.envoy.test_verdicts import FORM
from tests.envoy.test_workers import admin
from tests.waiting import eventually

pytestmark = pytest.mark.xdist_group("failover")

CLIENTS = 4
KILLED_AT = 0.5
REFUSED_SECONDS, SILENT_SECONDS = 1.5, 3.0
"""Until Envoy has noticed: its checks come each second, and wait one."""


ATTACK = b"&a=attack&"
RULES = """
SecRequestBodyAccess On
SecRequestBodyNoFilesLimit 1000000
SecRule ARGS "@streq attack" "id:1,phase:2,deny"
"""
RETRIES = {"retry_on": "connect-failure", "num_retries": 3, "retry_back_off": {"base_interval": "0.005s"}}
SETTINGS: dict[str, Any] = {"rules": [], "directives": RULES}
SIZES = (0, 100, 20_000, 70_000, 200_000)


def ask(stack: Stack, seconds: float) -> list[tuple[float, int]]:
    """(when it was sent, in seconds, and the status of) the requests of one client."""
    start = time.monotonic()
    asked = []
    with httpx.Client(headers=BROWSER, timeout=20) as client:
        while (at := time.monotonic() - start) < seconds:
            asked.append((at, client.get(f"{stack.url}/hello").status_code))
            time.sleep(0.01)
    return asked


def ask_while(stack: Stack, seconds: float, happens: Callable[[], None]) -> list[tuple[float, int]]:
    """The requests of all clients; it happens at KILLED_AT."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask, stack, seconds) for _ in range(CLIENTS)]
        time.sleep(KILLED_AT)
        happens()
        return [each for client in clients for each in client.result()]


def failures(stack: Stack, number: int, seconds: float) -> list[tuple[float, int]]:
    """Of what clients ask while a worker gets a signal."""
    (victim, _) = (worker["pid"] for worker in workers(stack))
    asked = ask_while(stack, seconds, lambda: os.kill(victim, number))
    if number == signal.SIGSTOP:
        os.kill(victim, signal.SIGCONT)
    assert len(asked) > 10 * CLIENTS
    return [(at, status) for at, status in asked if status != 200]


def workers(stack: Stack) -> list[dict[str, Any]]:
    found: dict[str, Any] = admin(stack, "/status")
    return found["workers"] if found["ready"] else []


@pytest.fixture(params=["buffered", "full-duplex"])
def pair(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Two workers, which Envoy takes for healthy."""
    with Stack(request.param, settings=SETTINGS | {"workers": 2}) as stack:
        all_are_healthy(stack)
        yield stack


def test_a_worker_that_ends_takes_only_its_own_requests_along(pair: Stack) -> None:
    failed = failures(pair, signal.SIGKILL, KILLED_AT + REFUSED_SECONDS + 1.5)
    if pair.bootstrap == "buffered":
        assert len(failed) <= CLIENTS
    assert all(at < KILLED_AT + REFUSED_SECONDS for at, _ in failed), failed
    assert eventually(lambda: len(workers(pair)) == 2)
    assert {status for _, status in ask(pair, 0.5)} == {200}


def test_a_worker_that_hangs_gets_no_more_requests() -> None:
    with Stack("buffered", settings=SETTINGS | {"workers": 2}) as stack:
        all_are_healthy(stack)
        failed = failures(stack, signal.SIGSTOP, KILLED_AT + SILENT_SECONDS + 1)
    assert all(at < KILLED_AT + SILENT_SECONDS for at, _ in failed), failed


@pytest.mark.parametrize("bootstrap", ["buffered", "full-duplex"])
def test_a_sidecar_that_is_told_to_end_loses_nothing(bootstrap: str, tmp_path: Path) -> None:
    """As pods do when there are new ones: Envoy hears of it before it may send nothing more."""
    port, admin_port = free_port(), free_port()
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(SETTINGS | {"listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin_port}"}))
    other = Process("other", [sys.executable, "-m", "extproc.cli", "serve", "--config", str(config)], tmp_path)

    def edit(config: dict[str, Any], stack: Stack) -> None:
        add_endpoint(config["static_resources"]["clusters"][1], port)

    try:
        other.wait_for(f"http://127.0.0.1:{admin_port}/readyz")
        with Stack(bootstrap, settings=SETTINGS, edit=edit) as stack:
            all_are_healthy(stack)
            before: list[int] = []

            def end() -> None:
                before.append(count_of_envoy(stack, "upstream_rq_total"))
                assert other.stop() == 0

            asked = ask_while(stack, KILLED_AT + HEARD_SECONDS + 1, end)
            assert count_of_envoy(stack, "upstream_rq_total") > before[0]
    finally:
        other.stop()
    assert {status for _, status in asked} == {200}


def add_endpoint(cluster: dict[str, Any], port: int) -> None:
    endpoints = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    endpoints.append(copy.deepcopy(endpoints[0]))
    endpoints[1]["endpoint"]["address"] = {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def all_are_healthy(stack: Stack) -> None:
    """The upstream, and two who judge."""
    url = f"http://127.0.0.1:{stack.envoy_admin_port}/clusters"
    assert eventually(lambda: httpx.get(url).text.count("::health_flags::healthy") == 3)


def beside_a_dead_one(retries: Any = None) -> Callable[[dict[str, Any], Stack], None]:
    """Let every second request go to an address where nobody listens, and let nobody check it."""

    def edit(config: dict[str, Any], stack: Stack) -> None:
        cluster = config["static_resources"]["clusters"][1]
        del cluster["health_checks"]
        cluster["circuit_breakers"]["thresholds"][0]["max_retries"] = 1000
        add_endpoint(cluster, free_port())
        if retries:
            waf_filter(config)["grpc_service"]["retry_policy"] = retries

    return edit


def upload(stack: Stack, rng: random.Random, *, chunked: bool) -> tuple[str, int]:
    """What becomes of a body, half of them with an attack somewhere: ("whole", 200) is all of it at the upstream."""
    body = b"x=" + b"word" * (rng.choice(SIZES) // 4)
    bad = rng.random() < 0.5
    if bad:
        at = rng.randrange(2, len(body) + 1)
        body = body[:at] + ATTACK + body[at:]

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 30_000):
            yield body[at : at + 30_000]

    answer = httpx.post(f"{stack.url}/up", headers=BROWSER | FORM, content=pieces() if chunked else body, timeout=20)
    if answer.status_code != 200:
        return "attack" if bad else "ordinary", answer.status_code
    whole = answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
    return "whole" if whole and not bad else "broken" if not whole else "missed", 200


@pytest.mark.parametrize("bootstrap", ["buffered", "buffered-partial", "streamed"])
def test_who_is_given_to_the_next_is_judged_whole(bootstrap: str) -> None:
    rng = random.Random(3)
    with Stack(bootstrap, settings=SETTINGS, edit=beside_a_dead_one()) as stack:
        seen = {upload(stack, rng, chunked=bool(number % 2)) for number in range(60)}
        retried = count_of_envoy(stack, "upstream_rq_retry_success")
    assert seen == {("whole", 200), ("attack", 403)}
    assert retried >= 20


def test_parts_that_envoy_loses_are_missed() -> None:
    """`retry_policy` in FULL_DUPLEX_STREAMED mode: Envoy 1.36 loses parts of long bodies, newer ones refuse them."""
    rng = random.Random(4)
    with Stack("full-duplex", settings=SETTINGS, edit=beside_a_dead_one(RETRIES)) as stack:
        seen = {upload(stack, rng, chunked=False) for _ in range(80)}
        retried = count_of_envoy(stack, "upstream_rq_retry_success")
    assert {("whole", 200), ("attack", 403)} <= seen
    assert seen <= {("whole", 200), ("attack", 403), ("attack", 500), ("ordinary", 500)}
    assert retried >= 20

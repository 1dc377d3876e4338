"""Several workers behind Envoy: one address each, one admin server for all."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.stack import Stack
from tests.envoy.conftest import BROWSER
from tests.waiting import eventually

pytestmark = pytest.mark.xdist_group("workers")


def rule(word: str) -> str:
    return f'SecAuditEngine On\nSecRule ARGS "@streq {word}" "id:1,phase:2,deny"\n'


@pytest.fixture(scope="module", params=["buffered", "buffered-socket"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path]]:
    rules = tmp_path_factory.mktemp("rules") / "own.conf"
    rules.write_text(rule("one"))
    settings = {"rules": ["@recommended", str(rules)], "workers": 2, "audit_log": str(rules.with_name("audit"))}
    with Stack(request.param, settings=settings) as stack:
        yield stack, rules


def status(stack: Stack, word: str) -> int:
    return httpx.get(f"{stack.url}/hello?a={word}", headers=BROWSER).status_code


def admin(stack: Stack, path: str) -> Any:
    return httpx.get(f"http://127.0.0.1:{stack.admin_port}{path}").json()


def test_both_serve_and_are_counted_together(running: tuple[Stack, Path]) -> None:
    stack, _ = running
    for _ in range(20):
        assert (status(stack, "one"), status(stack, "x")) == (403, 200)
    found = admin(stack, "/status")
    assert found["ready"]
    assert len({worker["pid"] for worker in found["workers"]}) == 2
    assert eventually(lambda: sum(c[0] for c in admin(stack, "/api/summary")["slices"].values()) >= 40)
    text = httpx.get(f"http://127.0.0.1:{stack.admin_port}/metrics").text
    line = 'envoy_waf_requests_total{phase="2",policy="default",status="403",verdict="deny"} '
    assert float(text.partition(line)[2].partition("\n")[0]) >= 20
    assert len(admin(stack, "/api/events?limit=100")["events"]) >= 20


def test_reload_of_a_changed_file_in_all_workers(running: tuple[Stack, Path]) -> None:
    stack, rules = running
    before = admin(stack, "/status")["generation"]
    rules.write_text(rule("two"))
    assert eventually(lambda: admin(stack, "/status")["generation"] > before)
    assert {status(stack, "two") for _ in range(10)} == {403}
    assert {status(stack, "one") for _ in range(10)} == {200}
    rules.write_text("SecRule ARGS broken")
    assert eventually(lambda: "reload failed; the old rules stay" in stack.sidecar.text())
    assert {status(stack, "two") for _ in range(10)} == {403}
    before = admin(stack, "/status")["generation"]
    rules.write_text(rule("one"))
    assert eventually(lambda: admin(stack, "/status")["generation"] > before)  # the last worker's
    assert {status(stack, "one") for _ in range(10)} == {403}


def test_a_hangup_reloads_all_workers_and_opens_their_logs_anew(running: tuple[Stack, Path]) -> None:
    stack, rules = running
    logs = [rules.with_name(f"audit.{index}") for index in range(2)]
    for log in logs:
        log.rename(log.with_suffix(".old"))
    before = [worker["generation"] for worker in admin(stack, "/status")["workers"]]
    os.kill(stack.sidecar.child.pid, signal.SIGHUP)

    def generations() -> list[int]:
        return [worker["generation"] for worker in admin(stack, "/status")["workers"]]

    assert eventually(lambda: generations() == [generation + 1 for generation in before])
    assert {status(stack, "one") for _ in range(20)} == {403}
    assert eventually(lambda: all(log.exists() and log.stat().st_size for log in logs))


def test_a_token_may_change_while_it_runs_and_the_log_says_what_may_not(running: tuple[Stack, Path]) -> None:
    stack, _ = running
    file = stack.folder / "settings.yaml"
    before = file.read_text()
    url = f"http://127.0.0.1:{stack.admin_port}/status"
    file.write_text(f"{before}\nadmin_token: s3cret\nadmin_tls_cert: /c\nadmin_tls_key: /k\nadmin_grpc: 127.0.0.1:1\n")
    try:
        assert eventually(lambda: httpx.get(url).status_code == 401)
        assert httpx.get(url, headers={"Authorization": "Bearer s3cret"}).status_code == 200
        assert '"admin_grpc","admin_tls_cert","admin_tls_key"' in stack.sidecar.text()
    finally:
        file.write_text(before)
    assert eventually(lambda: httpx.get(url).status_code == 200)


def test_a_worker_that_dies_comes_back(running: tuple[Stack, Path]) -> None:
    stack, _ = running
    victim = admin(stack, "/status")["workers"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: "a worker ended; it is started again" in stack.sidecar.text())

    def recovered() -> bool:
        found = admin(stack, "/status")
        return bool(found["ready"]) and victim not in {worker["pid"] for worker in found.get("workers", [])}

    assert eventually(recovered)
    assert eventually(lambda: {status(stack, "one") for _ in range(6)} == {403})

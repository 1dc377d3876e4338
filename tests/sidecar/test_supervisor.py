"""Several processes: what a supervisor does when one of them dies, hangs, or misses a reload.  Without Envoy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sidecar.supervised import RULE, Supervised
from tests.waiting import eventually

pytestmark = pytest.mark.xdist_group("supervisor")


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Supervised]:
    with Supervised(tmp_path) as found:
        yield found


def test_a_worker_that_hangs_is_started_again(running: Supervised) -> None:
    hung, other = running.pids()
    os.kill(hung, signal.SIGSTOP)
    assert eventually(lambda: "a worker does not answer; it is ended" in running.text())
    assert eventually(lambda: running.is_back(hung))
    assert running.pids()[1] == other
    assert [worker["restarts"] for worker in running.status()["workers"]] == [1, 0]
    assert running.count("envoy_waf_worker_restarts_total") == 1
    assert "Killed" in running.text()


def test_a_worker_that_dies_beside_broken_settings_comes_back_with_those_that_serve(running: Supervised) -> None:
    running.settings.write_text("no: settings: at all")
    victim = running.pids()[0]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: running.is_back(victim))
    assert [worker["generation"] for worker in running.status()["workers"]] == [1, 1]
    assert running.status()["workers"][0]["listen"] == running.values["listen"]


def test_settings_that_need_a_restart_stay_for_workers_that_start_later(running: Supervised) -> None:
    running.write(audit_log="/nowhere/at/all", mode="DetectionOnly")
    assert running.reload()["ok"]
    victim = running.pids()[1]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: running.is_back(victim))
    status = running.status()
    assert status["mode"] == "DetectionOnly"
    assert [worker["generation"] for worker in status["workers"]] == [status["generation"]] * 2


def test_a_refused_reload_counts(running: Supervised) -> None:
    assert running.reload() == {"ok": True, "generation": 2, "error": ""}
    assert running.count('envoy_waf_reloads_total{result="ok"}') == 2  # by each of them
    running.rules.write_text("SecRule ARGS broken")
    refused = running.reload()
    assert (refused["ok"], refused["generation"]) == (False, 2)
    assert "own.conf:1" in refused["error"]
    assert running.count('envoy_waf_reloads_total{result="failed"}') == 1
    families = [line.split()[2] for line in running.ask("/metrics").text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))


def test_a_worker_that_starts_during_a_reload_takes_it_before_it_is_ready(running: Supervised) -> None:
    old = set(running.pids())
    os.kill(running.pids()[0], signal.SIGKILL)
    (new,) = eventually(lambda: running.children() - old)
    os.kill(new, signal.SIGSTOP)
    running.rules.write_text(RULE.replace("one", "two") + RULE.replace("id:1", "id:2"))
    answer = running.reload()
    assert (answer["ok"], answer["generation"]) == (True, 2)
    os.kill(new, signal.SIGCONT)
    assert eventually(running.is_ready)
    assert [worker["generation"] for worker in running.status()["workers"]] == [2, 2]
    assert running.status()["rules"] == 2


def test_without_any_worker_the_admin_server_says_so(running: Supervised) -> None:
    running.rules.write_text("SecRule ARGS broken")
    for pid in running.pids():
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: running.ask("/api/summary").status_code == 503)
    assert running.ask("/api/events").json() == {"error": "worker 0 does not answer; try again"}
    status = running.status()
    assert (status["ready"], [worker["ready"] for worker in status["workers"]]) == (False, [False, False])
    running.rules.write_text(RULE)
    assert eventually(running.is_ready, 30)
    assert running.ask("/api/summary").status_code == 200

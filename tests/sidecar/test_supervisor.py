"""Several processes: what a supervisor does when one of them dies, hangs, or misses a reload.  Without Envoy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sidecar.supervised import RULE, Supervised, children_of
from tests.waiting import eventually

pytestmark = pytest.mark.xdist_group("supervisor")


LARGE = "".join(f'SecRule ARGS "@rx word{i}[a-z]+" "id:{i},phase:2,deny"\n' for i in range(1, 4000))
"""A trial of these takes a while."""


def serve(folder: Path, rules: str) -> subprocess.Popen[str]:
    """Two workers, as from a command line, with their files in `folder`."""
    (folder / "own.conf").write_text(rules)
    (folder / "tmp").mkdir()
    arguments = ["--workers", "2", "--listen", f"unix:{folder}/waf.sock", "--admin", "", "--data-dir", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-m", "extproc.cli", "serve", *arguments, "--rules", str(folder / "own.conf")],
        env={**os.environ, "TMPDIR": str(folder / "tmp")}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def part_of(pid: int) -> str:
    """Which module of ours a process runs; "": it has ended."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except FileNotFoundError:
        return ""
    return command[2].rpartition(".")[2] if len(command) > 2 else ""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Supervised]:
    with Supervised(tmp_path) as found:
        yield found


def test_rules_that_are_wrong_at_the_start_are_told_and_nothing_stays(tmp_path: Path) -> None:
    process = serve(tmp_path, "SecRule ARGS broken")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith(f"error: {tmp_path}/own.conf:1:1: the rule has no id")
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_is_broken_off_ends_in_order(tmp_path: Path, number: int) -> None:
    process = serve(tmp_path, LARGE)
    parts = ["trial_process", "worker_process", "worker_process"]
    assert eventually(lambda: sorted(map(part_of, children_of(process.pid))) == parts)
    children = children_of(process.pid)
    os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert eventually(lambda: not any(map(part_of, children)))


def test_a_trial_that_is_ended_changes_nothing(running: Supervised) -> None:
    running.rules.write_text(LARGE)
    workers = running.children()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(running.reload)
        (trial,) = eventually(lambda: running.children() - workers)
        assert eventually(lambda: Path(f"/proc/{trial}/oom_score_adj").read_text() == "1000\n")
        os.kill(trial, signal.SIGKILL)
        assert answer.result() == {
            "ok": False, "generation": 1, "error": "the rules could not be tried: Killed; is there memory for them?",
        }  # fmt: skip
    assert [(worker["generation"], worker["rules"]) for worker in running.each()] == [(1, 1), (1, 1)]


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


def test_a_worker_that_dies_beside_broken_rules_comes_back_with_those_that_serve(running: Supervised) -> None:
    running.rules.write_text(f"{RULE}Include parts/*.conf\n")
    (part := running.rules.parent / "parts" / "a.conf").parent.mkdir()
    part.write_text('SecRule ARGS "@pmFromFile words" "id:2,phase:2,deny"\n')
    (words := part.parent / "words").write_text("evil\r\nbad\n")
    assert running.reload() == {"ok": True, "generation": 2, "error": ""}
    # A mistake, a file that is gone, and a new one: none of that has been tried.
    running.rules.write_text("SecRule ARGS broken")
    words.unlink()
    (part.parent / "b.conf").write_text("SecBogus")
    victim = running.pids()[1]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: running.is_back(victim))
    assert [(worker["generation"], worker["rules"]) for worker in running.each()] == [(2, 2), (2, 2)]
    # The same again without what was stored: somebody has cleaned up.
    running.rules.write_text(RULE)
    (running.runtime / "tried").unlink()
    victim = running.pids()[0]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: running.is_back(victim))
    assert [worker["rules"] for worker in running.each()] == [1, 2]


def test_settings_that_need_a_restart_stay_for_workers_that_start_later(running: Supervised) -> None:
    running.write(audit_log="/nowhere/at/all", mode="DetectionOnly")
    assert running.reload()["ok"]
    victim = running.pids()[1]
    os.kill(victim, signal.SIGKILL)
    assert eventually(lambda: running.is_back(victim))
    status = running.status()
    assert status["mode"] == "DetectionOnly"
    assert [worker["generation"] for worker in status["workers"]] == [status["generation"]] * 2


def test_settings_that_nobody_has_set_are_not_told_to_do_nothing(running: Supervised) -> None:
    assert "has no effect" not in running.text()
    assert '"event":"rules loaded"' in running.text()


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
    # Whoever starts a process waits until it executes its program.
    assert eventually(lambda: part_of(new) == "worker_process")
    os.kill(new, signal.SIGSTOP)
    running.rules.write_text(RULE.replace("one", "two") + RULE.replace("id:1", "id:2"))
    answer = running.reload()
    assert (answer["ok"], answer["generation"]) == (True, 2)
    os.kill(new, signal.SIGCONT)
    assert eventually(running.is_ready)
    assert [worker["generation"] for worker in running.status()["workers"]] == [2, 2]
    assert running.status()["rules"] == 2


def test_without_any_worker_the_admin_server_says_so(running: Supervised) -> None:
    running.prevent_starts()
    for pid in running.pids():
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: running.ask("/api/summary").status_code == 503)
    assert running.ask("/api/events").json() == {"error": "worker 0 does not answer; try again"}
    status = running.status()
    assert (status["ready"], [worker["ready"] for worker in status["workers"]]) == (False, [False, False])
    running.rules.write_text(RULE)
    assert eventually(running.is_ready, 30)
    assert running.ask("/api/summary").status_code == 200

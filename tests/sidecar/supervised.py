"""A supervisor with two workers, without Envoy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

from demo.stack import free_port
from tests.asking import is_ready, total
from tests.waiting import eventually

RULE = 'SecRule ARGS "@streq one" "id:1,phase:2,deny"\n'

QUICK = """
import sys
import extproc.child as child
child.BEAT_SECONDS, child.MISSED_BEATS = 0.2, 3
from extproc.cli import main
main(["serve", "--config", sys.argv[1]])
"""
"""`envoy-waf serve`, which notices a worker that hangs within a second."""


def children_of(number: int) -> set[int]:
    return {int(pid) for pid in Path(f"/proc/{number}/task/{number}/children").read_text().split()}


class Supervised:
    """Starts with `with`."""

    def __init__(self, folder: Path) -> None:
        self.rules = folder / "own.conf"
        self.rules.write_text(RULE)
        self.settings = folder / "settings.yaml"
        self.runtime = folder / "run"
        self.port = free_port()
        self.values: dict[str, Any] = {
            "listen": f"unix:{folder}/waf.sock",
            "admin": f"127.0.0.1:{self.port}",
            "rules": [str(self.rules)],
            "workers": 2,
            "watch": False,
            "log_level": "info",
            "data_dir": str(folder / "data"),
            "runtime_dir": str(self.runtime),
        }
        self.write()
        self.log = folder / "log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", QUICK, str(self.settings)], stdout=out, stderr=subprocess.STDOUT
            )

    def __enter__(self) -> Supervised:
        assert eventually(self.is_ready, 60), self.text()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(40)

    def write(self, **more: Any) -> None:
        self.settings.write_text(yaml.safe_dump({**self.values, **more}))

    def text(self) -> str:
        return self.log.read_text()

    def ask(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=30)

    def prevent_starts(self) -> None:
        """Workers that end from now on stay away, until the rules are good again."""
        self.rules.write_text("SecRule ARGS broken")
        (self.runtime / "tried").unlink()

    def each(self) -> list[dict[str, Any]]:
        """What each worker says of itself."""
        sockets = sorted(self.runtime.glob("worker-*.sock"))
        clients = [httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=30) for socket in sockets]
        return [client.get("http://localhost/status").json() for client in clients]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("/status").json()
        return found

    def is_ready(self) -> bool:
        return is_ready(self.port)

    def pids(self) -> list[int]:
        return [worker["pid"] for worker in self.status()["workers"]]

    def children(self) -> set[int]:
        return children_of(self.process.pid)

    def is_back(self, victim: int) -> bool:
        """Do both serve, without the one that was killed?"""
        return bool(self.status()["ready"]) and victim not in self.pids()

    def count(self, series: str) -> float:
        return total(self.port, series)

    def reload(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.post(f"http://127.0.0.1:{self.port}/api/reload", json={}, timeout=60).json()
        return found

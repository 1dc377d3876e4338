"""What a sidecar holds in memory, and what it lets go of."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml

from demo.stack import Process, free_port
from extproc.generation import store
from extproc.loading import load_settings
from extproc.policies import compile_policies
from tests.waiting import eventually
from waf_core.reading import Recorder

COUNTING = """
import gc, pathlib, sys, threading, time
from waf_core import WAF

def tell(folder):
    while not (folder / "tell").exists():
        time.sleep(0.05)
    gc.unfreeze()
    found = [each for each in gc.get_objects() if isinstance(each, WAF)]
    (folder / "told.new").write_text(str(len(found)))
    (folder / "told.new").rename(folder / "told")

threading.Thread(target=tell, args=(pathlib.Path(sys.argv[1]),), daemon=True).start()
"""
"""It writes how many compiled programs there are, when it is asked."""

SERVE = """
from extproc.cli import main
main(["serve", "--config", sys.argv[2]])
"""

WORKER = """
sys.stdin = open(sys.argv[1] + "/head")
from extproc.worker_process import main
main()
"""

RARE = ("jsonschema_rs", "regex", "redis", "tarfile", "extproc.commands.check", "extproc.commands.tune")
"""Modules that single commands or rules need."""


@pytest.mark.parametrize("entry", [SERVE, WORKER], ids=["serve", "worker"])
def test_a_reload_lets_go_of_the_rules_that_served(tmp_path: Path, entry: str) -> None:
    port = free_port()
    settings = {
        "listen": f"unix:{tmp_path}/waf.sock",
        "admin": f"127.0.0.1:{port}",
        "rules": ["@recommended"],
        "data_dir": str(tmp_path),
        "watch": False,
    }
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    recorder = Recorder()
    compile_policies(load_settings(path), recorder)
    store(tmp_path / "tried", load_settings(path), recorder)
    head = {"index": 0, "generation": 1, "settings": settings, "own": {}, "tried": str(tmp_path / "tried")}
    (tmp_path / "head").write_text(json.dumps(head))
    process = Process("sidecar", [sys.executable, "-c", COUNTING + entry, str(tmp_path), str(path)], tmp_path)
    try:
        process.wait_for(f"http://127.0.0.1:{port}/readyz")
        for generation in (2, 3):
            answer = httpx.post(f"http://127.0.0.1:{port}/api/reload", json={}, timeout=60).json()
            assert answer == {"ok": True, "generation": generation, "error": ""}
        time.sleep(0.5)
        (tmp_path / "tell").touch()
        assert eventually((tmp_path / "told").exists)
        assert (tmp_path / "told").read_text() == "1"
    finally:
        process.stop()


def test_a_sidecar_does_not_load_what_few_need() -> None:
    """Each megabyte is one for each pod."""
    code = "import sys, extproc.cli, extproc.commands.serve, extproc.worker; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "extproc.worker" in loaded
    assert not set(RARE) & set(loaded)


def test_a_supervisor_does_not_load_the_engine() -> None:
    """Its workers have it, and a trial is a process of its own."""
    code = "import sys, extproc.cli, extproc.commands.serve, extproc.supervisor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "extproc.supervisor" in loaded
    assert not {*RARE, "waf_core.transaction", "waf_core.compiler", "re2", "hyperscan", "lxml", "grpc"} & set(loaded)

"""Reload on SIGHUP: new rules for new requests, and a mistake changes nothing."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import httpx
import pytest

from demo.stack import Stack
from tests.envoy.conftest import BROWSER
from tests.waiting import eventually

pytestmark = pytest.mark.xdist_group("reload")


def rule(word: str) -> str:
    return f'SecRule ARGS "@streq {word}" "id:1,phase:2,deny"\n'


def test_reload_swaps_rules_under_load_and_refuses_mistakes(tmp_path: Path) -> None:
    rules = tmp_path / "own.conf"
    rules.write_text(rule("one"))
    with Stack("buffered", settings={"rules": ["@recommended", str(rules)], "watch": False}) as stack:
        admin = f"http://127.0.0.1:{stack.admin_port}"

        def generation() -> int:
            return int(httpx.get(f"{admin}/status").json()["generation"])

        def status(word: str) -> int:
            return httpx.get(f"{stack.url}/hello?a={word}", headers=BROWSER).status_code

        assert (status("one"), status("two"), generation()) == (403, 200, 1)
        seen: list[tuple[int, int]] = []
        done = threading.Event()

        def load() -> None:
            while not done.is_set():
                seen.append((status("one"), status("neither")))

        thread = threading.Thread(target=load)
        thread.start()
        rules.write_text(rule("two"))
        os.kill(stack.sidecar.child.pid, signal.SIGHUP)
        assert eventually(lambda: generation() == 2)
        done.set()
        thread.join()
        # No request was dropped, none was judged by anything but the old or the new rules.
        assert {first for first, _ in seen} <= {403, 200}
        assert {second for _, second in seen} == {200}
        assert (status("one"), status("two")) == (200, 403)

        rules.write_text("SecRule ARGS broken")
        os.kill(stack.sidecar.child.pid, signal.SIGHUP)
        assert eventually(lambda: "reload failed; the old rules stay" in stack.sidecar.text())
        assert f"{rules}:1:1: the rule has no id" in stack.sidecar.text()
        assert (status("one"), status("two"), generation()) == (200, 403, 2)
        metrics = httpx.get(f"{admin}/metrics").text
        assert 'envoy_waf_reloads_total{result="failed"} 1.0' in metrics


def test_a_new_file_that_fits_a_pattern_serves(tmp_path: Path) -> None:
    (tmp_path / "one.conf").write_text(rule("one"))
    later = tmp_path / "sub" / "later.conf"
    later.parent.mkdir()
    (tmp_path / "two.conf").write_text(f'IncludeOptional "{later}"\n')
    with Stack("buffered", settings={"rules": ["@recommended", str(tmp_path / "*.conf")]}) as stack:

        def status(word: str) -> int:
            return httpx.get(f"{stack.url}/hello?a={word}", headers=BROWSER).status_code

        assert [status(word) for word in ("one", "three", "four")] == [403, 200, 200]
        (tmp_path / "three.conf").write_text(rule("three").replace("id:1", "id:3"))
        assert eventually(lambda: status("three") == 403)
        later.write_text(rule("four").replace("id:1", "id:4"))
        assert eventually(lambda: status("four") == 403)
        (tmp_path / "three.conf").unlink()
        assert eventually(lambda: status("three") == 200)
        assert status("one") == 403

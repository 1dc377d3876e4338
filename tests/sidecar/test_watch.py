"""Files that are watched, and what else is written to their folders."""

from __future__ import annotations

import asyncio
from pathlib import Path

from watchfiles import Change

from extproc.watch import filter_for, watch_files

SECONDS = 10.0


def test_what_a_change_may_mean(tmp_path: Path) -> None:
    real = tmp_path / "..1"
    real.mkdir()
    for name in ("own.conf", "audit.json"):
        (real / name).touch()
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "linked.conf").symlink_to("..data/own.conf")
    (tmp_path / "waf.log").touch()
    may_matter = filter_for([str(tmp_path / "linked.conf"), str(tmp_path / "plugins" / "*-before.conf")])

    def matter(*names: str) -> list[bool]:
        return [may_matter(Change.modified, str(tmp_path / name)) for name in names]

    # The file by either name, what fits the pattern, links, folders, and what is gone.
    assert matter("linked.conf", "..1/own.conf", "plugins/x-before.conf", "..data", "..1", "gone") == [True] * 6
    assert matter("waf.log", "..1/audit.json") == [False] * 2


def test_logs_beside_the_rules_cost_no_look_at_them(tmp_path: Path) -> None:
    asyncio.run(_write_beside(tmp_path))


async def _write_beside(tmp_path: Path) -> None:
    rules, log = tmp_path / "own.conf", tmp_path / "waf.log"
    rules.write_text("a")
    log.touch()
    looks = reloads = 0
    changed = asyncio.Event()

    def files() -> list[str]:
        nonlocal looks
        looks += 1
        return [str(rules), str(tmp_path / "*.rule")]

    async def reload() -> None:
        nonlocal reloads
        reloads += 1
        changed.set()

    async def reloaded() -> None:
        await asyncio.wait_for(changed.wait(), SECONDS)
        changed.clear()
        await asyncio.sleep(0.3)  # until it watches again

    watching = asyncio.create_task(watch_files(files, reload))
    try:
        await asyncio.sleep(0.3)
        before = looks
        for _ in range(30):
            with log.open("a") as out:
                out.write("x\n")
            await asyncio.sleep(0.05)
        assert looks <= before + 1  # it also looks now and then by itself
        for path in (rules, tmp_path / "new.rule"):
            path.write_text("changed")
            await reloaded()
        assert reloads == 2
    finally:
        watching.cancel()

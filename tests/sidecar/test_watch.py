"""Files that are watched, and what else is written to their folders."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from watchfiles import Change

from extproc.watch import CLOCK_SECONDS, POLL_MS, Filter, paths_of, watch_files

SECONDS = 15.0
LATER = CLOCK_SECONDS * 2
LOOK = 2
"""So often files are asked for where they are looked at."""


def test_what_a_change_may_mean(tmp_path: Path) -> None:
    real = tmp_path / "..1"
    real.mkdir()
    for name in ("own.conf", "audit.json"):
        (real / name).touch()
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "linked.conf").symlink_to("..data/own.conf")
    (tmp_path / "waf.log").touch()
    may_matter = Filter()
    may_matter.expect(paths_of([str(tmp_path / "linked.conf"), str(tmp_path / "plugins" / "*-before.conf")]))
    may_matter.looked()

    def matter(*names: str) -> list[bool]:
        return [may_matter(Change.modified, str(tmp_path / name)) for name in names]

    # The file by either name, what fits the pattern, links, folders, and what is gone.
    assert matter("linked.conf", "..1/own.conf", "plugins/x-before.conf", "..data", "..1", "gone") == [True] * 6
    assert matter("waf.log", "..1/audit.json") == [False] * 2
    # Nothing has been looked at for long.
    may_matter = Filter()
    assert matter("waf.log") == [True]


class Watched:
    """Watches its files, and counts how often it looks for them and is told of a change."""

    def __init__(self, *files: Path, since: float) -> None:
        self.files = [str(file) for file in files]
        self.looks = self.reloads = 0
        self.during: Callable[[], object] = lambda: None
        """What else happens in the next reload."""
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(watch_files(self._ask, self._reload, since))

    def _ask(self) -> list[str]:
        self.looks += 1
        return self.files

    async def _reload(self) -> None:
        self.reloads += 1
        during, self.during = self.during, lambda: None
        during()
        self._changed.set()

    async def reloaded(self) -> None:
        await asyncio.wait_for(self._changed.wait(), SECONDS)
        self._changed.clear()

    def end(self) -> None:
        self._task.cancel()


@contextlib.asynccontextmanager
async def watching(*files: Path, since: float, log: Path | None = None) -> AsyncIterator[Watched]:
    """`log`: written to all the time."""
    watched = Watched(*files, since=since)
    appending = asyncio.create_task(_append(log)) if log else None
    try:
        yield watched
    finally:
        watched.end()
        if appending:
            appending.cancel()


async def _append(log: Path) -> None:
    while True:
        with log.open("a") as out:
            out.write("x\n")
        await asyncio.sleep(0.05)


def test_logs_beside_the_rules_cost_no_look_at_them(tmp_path: Path) -> None:
    asyncio.run(_write_beside(tmp_path))


async def _write_beside(tmp_path: Path) -> None:
    rules, log = tmp_path / "own.conf", tmp_path / "waf.log"
    rules.write_text("a")
    log.touch()
    await asyncio.sleep(LATER)
    async with watching(rules, tmp_path / "*.rule", since=time.time(), log=log) as watched:
        await asyncio.sleep(1)
        before = watched.looks
        await asyncio.sleep(1.5)
        assert watched.looks <= before + LOOK  # it also looks now and then by itself
        for path in (rules, tmp_path / "new.rule"):
            path.write_text("changed")
            await watched.reloaded()
        assert watched.reloads == 2


def test_what_changes_during_a_reload_is_read_by_the_next(tmp_path: Path) -> None:
    asyncio.run(_write_during_reload(tmp_path))


async def _write_during_reload(tmp_path: Path) -> None:
    rules, other, more = (tmp_path / name for name in ("own.conf", "sub/other.conf", "more/more.conf"))
    rules.write_text("a")
    for folder in (other.parent, more.parent):
        folder.mkdir()
    await asyncio.sleep(LATER)
    async with watching(rules, since=time.time(), log=tmp_path / "waf.log") as watched:
        await asyncio.sleep(1)
        # A file that has been watched all along.
        watched.during = lambda: rules.write_text("ccc")
        rules.write_text("bb")
        await watched.reloaded()
        await watched.reloaded()

        # One that the reload has just read for the first time, from a folder that nobody watches yet.
        def write_another() -> None:
            watched.files.append(str(other))
            other.write_text("d")

        watched.during = write_another
        rules.write_text("eeeee")
        await watched.reloaded()
        await watched.reloaded()
        await asyncio.sleep(1)
        assert watched.reloads == 4

        # A folder that is replaced is watched on.
        (tmp_path / "sub").rename(tmp_path / "gone")
        (tmp_path / "more").rename(tmp_path / "sub")
        await watched.reloaded()
        await asyncio.sleep(1)
        other.write_text("f")
        begun = time.monotonic()
        await watched.reloaded()
        assert time.monotonic() - begun < POLL_MS / 2000


def test_what_has_changed_before_anybody_watches_is_read_anew(tmp_path: Path) -> None:
    asyncio.run(_write_before(tmp_path))


async def _write_before(tmp_path: Path) -> None:
    rules = tmp_path / "own.conf"
    begun = time.time()
    await asyncio.sleep(LATER)
    rules.write_text("a")
    async with watching(rules, tmp_path / "*.rule", since=begun) as watched:
        await watched.reloaded()


def test_a_folder_that_cannot_be_watched_is_looked_at(tmp_path: Path) -> None:
    asyncio.run(_write_where_nobody_watches(tmp_path))


async def _write_where_nobody_watches(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")  # what watches takes UTF-8 only
    folder.mkdir()
    rules = folder / "own.conf"
    rules.write_text("a")
    await asyncio.sleep(LATER)
    async with watching(rules, since=time.time()) as watched:
        await asyncio.sleep(0.5)
        for text in ("bb", "ccc"):
            rules.write_text(text)
            await watched.reloaded()
        assert watched.reloads == 2

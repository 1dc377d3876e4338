"""Reload when files change (watchfiles: inotify; where that is not to be had, files are looked at every five seconds).

Folders are watched, not files: editors replace files, and Kubernetes replaces the symbolic link `..data`
that a ConfigMap's files point through, which changes none of the files by name.  Logs may be written to the same
folders; nothing is looked at because of them.  Files are looked at on a thread: a file system may be slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import stat
import time
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import structlog
from watchfiles import Change, awatch

from extproc.loading import Reread

if TYPE_CHECKING:
    from extproc.policies import PolicySet

DEBOUNCE_MS = 400
"""A change is acted on when nothing else has changed for so long."""

STEP_MS = 200
"""So often what changes is collected: at 50 ms a sidecar that does nothing took twice as much CPU (2 ms a second)."""

POLL_MS = 5000
"""Files are looked at so often, whatever the file system tells."""

CLOCK_SECONDS = 0.02
"""A file's time may be so much behind the clock."""

MAX_FOLDERS = 256
MAX_FITTING = 10_000
"""Files that fit one pattern."""


def paths_of(files: Sequence[str]) -> list[str]:
    """Of these files and patterns: where they are by name, and where links lead."""
    return [path for file in files for path in (os.path.abspath(file), os.path.realpath(file))]


def folders_of(paths: Sequence[str]) -> dict[str, int]:
    """The folders to watch.  Each with its inode, which is another one when it was replaced."""
    found: dict[str, int] = {}
    for folder in dict.fromkeys(map(os.path.dirname, paths)):
        with contextlib.suppress(OSError):
            info = os.stat(folder)
            if stat.S_ISDIR(info.st_mode) and len(found) < MAX_FOLDERS:
                found[folder] = info.st_ino
    return found


def state_of(files: Sequence[str]) -> dict[str, object]:
    """What tells that a file has changed: where it really is, its size and its time.  Of a pattern: which files fit."""
    state: dict[str, object] = {}
    for file in files:
        try:
            info = os.stat(file)
        except OSError:
            state[file] = sorted(glob.glob(file))[:MAX_FITTING]
        else:
            state[file] = (os.path.realpath(file), info.st_size, info.st_mtime_ns)
    return state


class Differences:
    """What is different from the last look."""

    def __init__(self, since: float) -> None:
        """`since` (`time.time()`): the files were first read at or after that time."""
        self._since = since
        self._state: dict[str, object] = {}

    def of(self, files: Sequence[str]) -> list[str]:
        """Files and patterns that differ; of those that were not looked at before, what has changed since then: they
        may have been read before they were written to the end."""
        begun = time.time() - CLOCK_SECONDS
        now = state_of(files)
        different = [
            name
            for name, state in now.items()
            if (self._state[name] != state if name in self._state else _changed_at(name) >= self._since)
        ]
        self._state, self._since = now, begun
        return different


def _changed_at(file: str) -> float:
    """When it, or the newest that fits it, has changed, however that was done; 0 when there is none."""
    times = [0.0]
    for path in (file, *glob.glob(file)[:MAX_FITTING]):
        with contextlib.suppress(OSError):
            times.append(os.stat(path).st_ctime)
    return max(times)


class Filter:
    """May a change of this path mean one of the files and patterns?  Names are compared without folders, which links
    give several.  What is no ordinary file, or is gone, may be part of the way to any of them.  When nobody has looked
    for POLL_MS, everything may: a log that is written all the time must not hide what was missed."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._patterns: list[str] = []
        self._next_look = 0.0

    def expect(self, paths: Sequence[str]) -> None:
        """From now on it is about these."""
        self._names = set(map(os.path.basename, paths))
        self._patterns = [name for name in self._names if glob.has_magic(name)]

    def looked(self) -> None:
        """Somebody looks now."""
        self._next_look = time.monotonic() + POLL_MS / 1000

    def __call__(self, change: Change, path: str) -> bool:
        name = os.path.basename(path)
        if name in self._names or any(fnmatchcase(name, pattern) for pattern in self._patterns):
            return True
        if time.monotonic() >= self._next_look:
            return True
        try:
            return not stat.S_ISREG(os.lstat(path).st_mode)
        except OSError:
            return True


async def watch_files(
    files: Callable[[], Sequence[str]], changed: Callable[[], Awaitable[object]], since: float
) -> None:
    """Call `changed` whenever one of the files, asked for anew each time, has changed, or others fit one of the
    patterns among them.  `since` (`time.time()`): they were first read at or after that time.  Runs until cancelled."""
    log = structlog.get_logger("envoy_waf")
    differences, may_matter = Differences(since), Filter()

    async def look() -> None:
        different = await asyncio.to_thread(differences.of, files())
        if different:
            log.info("files changed; reloading", files=different[:5])
            try:
                await changed()
            except Exception:
                log.exception("reload failed; the old rules stay")

    told = ""
    while files():
        folders = await asyncio.to_thread(_expect, may_matter, files())
        try:
            # Also looks without an event now and then: some file systems do not tell, and nobody watches at first and
            # when the folders have become others.  What happens during a reload is told after it.
            async for _ in awatch(
                *folders,
                watch_filter=may_matter,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                recursive=False,
                rust_timeout=POLL_MS,
                yield_on_timeout=True,
            ):
                may_matter.looked()
                await look()
                if await asyncio.to_thread(_expect, may_matter, files()) != folders:
                    break
        except (OSError, RuntimeError, UnicodeError) as error:
            # Too many watch on this machine already (fs.inotify), or a folder's name is no UTF-8, or it is gone.
            if told != str(error):
                told = str(error)
                log.warning("files cannot be watched; they are looked at", every_seconds=POLL_MS / 1000, error=told)
            await asyncio.sleep(POLL_MS / 1000)
            await look()


def _expect(may_matter: Filter, files: Sequence[str]) -> dict[str, int]:
    """The folders to watch, for a filter that lets these files through."""
    paths = paths_of(files)
    may_matter.expect(paths)
    return folders_of(paths)


def rule_files(policies: PolicySet) -> list[str]:
    """What a change of means a reload: files of the rules, and patterns of Include."""
    programs = [policy.waf.program for policy in policies.policies]
    names = dict.fromkeys(name for program in programs for name in (*program.files, *program.sought))
    return [name for name in names if not name.startswith("<")]


def watched_files(of_rules: list[str], reread: Reread) -> list[str]:
    """Those, and the settings file."""
    return [*of_rules, *([str(reread.path)] if reread.path else [])]

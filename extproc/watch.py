"""Reload when files change (watchfiles: inotify, with a fallback to polling).

Folders are watched, not files: editors replace files, and Kubernetes replaces the symbolic link `..data`
that a ConfigMap's files point through, which changes none of the files by name.  Logs may be written to the same
folders; nothing is looked at because of them.  Files are looked at on a thread: a file system may be slow.
"""

from __future__ import annotations

import asyncio
import glob
import os
import stat
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
RETRY_SECONDS = 5.0
MAX_FOLDERS = 256
MAX_FITTING = 10_000
"""Files that fit one pattern."""


def folders_of(files: Sequence[str]) -> list[str]:
    """The folders to watch for these files and patterns: where they are by name, and where links lead."""
    found: dict[str, None] = {}
    for file in files:
        if not os.path.isabs(file) and file.startswith("<"):
            continue
        for path in (os.path.abspath(file), os.path.realpath(file)):
            folder = os.path.dirname(path)
            if os.path.isdir(folder):
                found[folder] = None
    return list(found)[:MAX_FOLDERS]


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


def filter_for(files: Sequence[str]) -> Callable[[Change, str], bool]:
    """May a change of this path mean one of these files and patterns?  Names are compared without folders, which links
    give several.  What is no ordinary file, or is gone, may be part of the way to any of them."""
    names = {os.path.basename(path) for file in files for path in (file, os.path.realpath(file))}
    patterns = [name for name in names if glob.has_magic(name)]

    def may_matter(change: Change, path: str) -> bool:
        name = os.path.basename(path)
        if name in names or any(fnmatchcase(name, pattern) for pattern in patterns):
            return True
        try:
            return not stat.S_ISREG(os.lstat(path).st_mode)
        except OSError:
            return True

    return may_matter


async def watch_files(files: Callable[[], Sequence[str]], changed: Callable[[], Awaitable[object]]) -> None:
    """Call `changed` whenever one of the files, asked for anew each time, has changed, or others fit one of the
    patterns among them.  Runs until cancelled."""
    log = structlog.get_logger("envoy_waf")
    state = await asyncio.to_thread(state_of, files())
    while True:
        watched = files()
        folders = await asyncio.to_thread(folders_of, watched)
        if not folders:
            return
        try:
            # Also looks without an event now and then: some file systems do not tell.
            async for _ in awatch(
                *folders,
                watch_filter=await asyncio.to_thread(filter_for, watched),
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                recursive=False,
                rust_timeout=POLL_MS,
                yield_on_timeout=True,
            ):
                now = await asyncio.to_thread(state_of, files())
                different = [name for name, what in now.items() if name in state and state[name] != what]
                state = now
                if different:
                    log.info("files changed; reloading", files=different[:5])
                    try:
                        await changed()
                    except Exception:
                        log.exception("reload failed; the old rules stay")
                    break
        except UnicodeError as error:  # a folder's name that is not UTF-8
            log.warning("files cannot be watched: reload by SIGHUP", error=str(error))
            return
        except (OSError, RuntimeError) as error:
            log.warning("files cannot be watched", error=str(error))
            await asyncio.sleep(RETRY_SECONDS)


def rule_files(policies: PolicySet) -> list[str]:
    """What a change of means a reload: files of the rules, and patterns of Include."""
    programs = [policy.waf.program for policy in policies.policies]
    return list(dict.fromkeys(name for program in programs for name in (*program.files, *program.sought)))


def watched_files(of_rules: list[str], reread: Reread) -> list[str]:
    """Those, and the settings file."""
    return [*of_rules, *([str(reread.path)] if reread.path else [])]

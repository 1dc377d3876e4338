"""Where the files of rules are read from: the disk, or what another process has read there.

A supervisor's trial remembers what it reads (`Recorder`), and the workers compile just that (`Recorded`): they take
the rules that were tried, whatever has become of the files by then.  What a library opens by itself is always the
disk's: GeoIP databases, DTDs, and the parts of an XML Schema.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path


def within(folder: str | Path, pattern: str) -> str:
    """A pattern for what fits one in this folder, whatever the folder is called."""
    return os.path.join(glob.escape(str(folder)), pattern.lstrip("/"))


def is_private(info: os.stat_result) -> bool:
    """Ours, and writable by nobody else."""
    return info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


class Reader:
    """The disk."""

    def read(self, path: str, limit: int) -> bytes:
        """A file's content.  Raises OSError, also when that is more than `limit` bytes."""
        with open(path, "rb") as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit} bytes", path)
        return content

    def fitting(self, pattern: str) -> list[str]:
        """Paths that fit a pattern (as in `glob`), in order."""
        return sorted(glob.glob(pattern))

    def is_file(self, path: str) -> bool:
        """Is there a file?"""
        return os.path.isfile(path)


DISK = Reader()


class Recorder(Reader):
    """The disk, and remembers what it has said."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.found: dict[str, list[str]] = {}
        """Pattern -> the paths that fit it."""
        self.files: set[str] = set()
        """Of those that were asked for, the ones that there are."""

    def read(self, path: str, limit: int) -> bytes:
        content = self.contents[path] = super().read(path, limit)
        return content

    def fitting(self, pattern: str) -> list[str]:
        paths = self.found[pattern] = super().fitting(pattern)
        return paths

    def is_file(self, path: str) -> bool:
        found = super().is_file(path)
        if found:
            self.files.add(path)
        return found


class Recorded(Reader):
    """Says what a Recorder was told."""

    def __init__(self, contents: Mapping[str, bytes], found: Mapping[str, list[str]], files: Iterable[str]) -> None:
        self._contents = contents
        self._found = found
        self._files = frozenset(files)

    def read(self, path: str, limit: int) -> bytes:
        if path not in self._contents:
            raise FileNotFoundError(errno.ENOENT, "it was not read when the rules were tried", path)
        return self._contents[path]

    def fitting(self, pattern: str) -> list[str]:
        return self._found.get(pattern, [])

    def is_file(self, path: str) -> bool:
        return path in self._files

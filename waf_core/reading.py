"""Where the files of rules are read from: the disk, or what another process has read there.

A supervisor's trial remembers what it reads (`Recorder`), and the workers compile just that (`Recorded`): they take
the rules that were tried, whatever has become of the files by then.  What a library opens by itself is always the
disk's: GeoIP databases, DTDs, and the parts of an XML Schema.
"""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Mapping
from typing import Any


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
        self._contents: dict[str, bytes] = {}
        self._fitting: dict[str, list[str]] = {}
        self._files: set[str] = set()

    def read(self, path: str, limit: int) -> bytes:
        content = self._contents[path] = super().read(path, limit)
        return content

    def fitting(self, pattern: str) -> list[str]:
        paths = self._fitting[pattern] = super().fitting(pattern)
        return paths

    def is_file(self, path: str) -> bool:
        found = super().is_file(path)
        if found:
            self._files.add(path)
        return found

    def to_dict(self) -> dict[str, Any]:
        """For `Recorded`, and as JSON: bytes are Latin-1."""
        return {
            "contents": {path: content.decode("latin-1") for path, content in self._contents.items()},
            "fitting": self._fitting,
            "files": sorted(self._files),
        }


class Recorded(Reader):
    """Says what a Recorder was told (`Recorder.to_dict`)."""

    def __init__(self, recorded: Mapping[str, Any]) -> None:
        self._contents: Mapping[str, str] = recorded["contents"]
        self._fitting: Mapping[str, list[str]] = recorded["fitting"]
        self._files = frozenset(recorded["files"])

    def read(self, path: str, limit: int) -> bytes:
        if path not in self._contents:
            raise FileNotFoundError(errno.ENOENT, "it was not read when the rules were tried", path)
        return self._contents[path].encode("latin-1")

    def fitting(self, pattern: str) -> list[str]:
        return self._fitting.get(pattern, [])

    def is_file(self, path: str) -> bool:
        return path in self._files

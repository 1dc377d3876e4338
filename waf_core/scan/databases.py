"""Hyperscan databases in files: they take seconds to compile, and a start finds them again.

The folder belongs to its owner alone.  It is bounded: rules that change leave databases behind that nobody wants any
more, and those that have not been loaded for longest go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from weakref import WeakValueDictionary

from waf_core.operators import indexes as indexes_module
from waf_core.operators import needs as needs_module
from waf_core.operators.indexes import tells_apart
from waf_core.operators.needs import Needs, of_pattern, of_phrases
from waf_core.reading import is_private
from waf_core.scan.hyperscan_set import KINDS, HyperscanSet, Pattern, compile_patterns, hyperscan, load_set

FORMAT = b"envoy-waf-hs-11"
MAX_DATABASE_BYTES = 256 << 20

MAX_DATABASES = 64
MAX_FOLDER_BYTES = 512 << 20
"""When a database is stored, those that were loaded longest ago go until the others are no more than these."""

MAX_PART_SECONDS = 3600
"""A file that is still being written after so long has lost its writer."""

_SUFFIX, _PART, _LOCK = ".hsdb", ".part", ".lock"
"""A database, one that is being written, and what is locked while one is compiled."""


def encode(pattern: Pattern) -> bytes:
    """For hashes and pipes; `decode` takes it back."""
    return b"r" + pattern if isinstance(pattern, bytes) else b"p" + b" ".join(p.hex().encode() for p in pattern)


def decode(text: bytes) -> Pattern:
    if text[:1] == b"r":
        return text[1:]
    return tuple(bytes.fromhex(phrase.decode()) for phrase in text[1:].split(b" "))


@cache
def _versions() -> bytes:
    """Of the library, and of how needs are told: other code, or another Python's parser of expressions, may tell
    others."""
    code = Path(needs_module.__file__).read_bytes() + Path(indexes_module.__file__).read_bytes()
    return version("hyperscan").encode() + hashlib.sha256(code).digest() + sys.version.encode()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Databases:
    """`main` has most patterns, `common` those that are found in almost any text of some length, `large` the
    pieces of those that are too large for Hyperscan (waf_core/operators/split.py), and those that it is slow with:
    bounded too, but ten times slower than the rest together.  `numbers` are those of the patterns in each;
    those in "left" are in none.  What follows from the patterns is kept with them: to tell it takes a fifth of a
    start."""

    main: HyperscanSet
    common: HyperscanSet
    large: HyperscanSet
    numbers: dict[str, list[int]]
    needs: list[Needs]
    """By number."""
    tell: list[bool]
    """By number: may it tell indexes apart (waf_core/operators/indexes.py)?"""


_loaded_databases: WeakValueDictionary[tuple[str, int, int], Databases] = WeakValueDictionary()
"""(path, time, size) of a file -> what was loaded from it: policies with the same patterns share it."""


class DatabaseCache:
    """Databases in files of a folder that only its owner can write.

    The name is a hash of patterns, format and library; the content carries its own hash.  What does
    not fit is thrown away and compiled anew, in a process of its own, so that this one goes on
    serving with RE2 meanwhile.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, patterns: Sequence[Pattern]) -> Path:
        digest = hashlib.sha256(FORMAT + _versions())
        for text in map(encode, patterns):
            digest.update(b"%d:" % len(text) + text)
        return self.folder / f"{digest.hexdigest()[:32]}{_SUFFIX}"

    def lock_path(self, patterns: Sequence[Pattern]) -> Path:
        """The file to lock while they are compiled."""
        return self.path(patterns).with_suffix(_LOCK)

    def load(self, patterns: Sequence[Pattern]) -> Databases | None:
        """The databases; None when there is no good file."""
        path = self.path(patterns)
        try:
            info = path.stat()
            if not is_private(self.folder.stat()) or not is_private(info):
                return None
            if info.st_size > MAX_DATABASE_BYTES:
                return None
            key = (str(path), info.st_mtime_ns, info.st_size)
            known = _loaded_databases.get(key)
            if known is not None:
                return known
            content = path.read_bytes()
        except OSError:
            return None
        # When it was last wanted: many systems do not note that.  The folder may be one that is only read.
        with contextlib.suppress(OSError):
            os.utime(path, ns=(time.time_ns(), info.st_mtime_ns))
        digest, _, body = content.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        head, _, data = body.partition(b"\n")
        try:
            sizes = json.loads(head)
            sets: dict[str, HyperscanSet] = {}
            for kind in KINDS:
                size = sizes["sizes"][kind]
                sets[kind] = load_set(data[:size])
                data = data[size:]
            needs = [
                Needs(length, tuple([int(clause, 16) for clause in clauses])) for length, clauses in sizes["needs"]
            ]
            databases = Databases(**sets, numbers=sizes["numbers"], needs=needs, tell=sizes["tell"])
        except (hyperscan.error, ValueError, TypeError, KeyError):
            return None
        _loaded_databases[key] = databases
        return databases

    def store(self, patterns: Sequence[Pattern]) -> None:
        """Compile and write, atomically."""
        compiled, numbers = compile_patterns(patterns)
        needs = [of_pattern(p) if isinstance(p, bytes) else of_phrases(p) for p in patterns]
        told = [(need.length, [f"{clause:x}" for clause in need.clauses]) for need in needs]
        sizes = {kind: len(compiled[kind]) for kind in KINDS}
        tell = [tells_apart(p) for p in patterns]
        head = json.dumps({"sizes": sizes, "numbers": numbers, "needs": told, "tell": tell}).encode()
        body = head + b"\n" + b"".join(compiled[kind] for kind in KINDS)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=_PART, delete=False) as out:
            out.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        os.chmod(out.name, 0o600)
        path = self.path(patterns)
        os.replace(out.name, path)
        self._clear(path)

    def _clear(self, new: Path) -> None:
        """Keep the folder within its bounds, and the new file in it; what somebody has loaded may go.  What cannot be
        removed stays: the new database serves all the same."""
        files: list[tuple[int, int, Path]] = []
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                info = path.stat()
                if path.suffix == _PART and time.time() - info.st_mtime > MAX_PART_SECONDS:
                    path.unlink()
                elif path.suffix == _SUFFIX and path != new:
                    files.append((info.st_atime_ns, info.st_size, path))
        left = MAX_FOLDER_BYTES - new.stat().st_size
        for number, (_, size, path) in enumerate(sorted(files, reverse=True), 2):
            left -= size
            if number > MAX_DATABASES or left < 0:
                with contextlib.suppress(OSError):
                    path.unlink()
                    path.with_suffix(_LOCK).unlink()

    def start(self, patterns: Sequence[Pattern]) -> subprocess.Popen[bytes]:
        """Compile in a process of its own; its input is the patterns, its result the file."""
        child = subprocess.Popen(  # noqa: S603  (this interpreter, our module)
            [sys.executable, "-m", "waf_core.scan.precompile", str(self.folder)], stdin=subprocess.PIPE
        )
        assert child.stdin is not None
        child.stdin.write(b"".join(b"%d\n" % len(text) + text for text in map(encode, patterns)))
        child.stdin.close()
        return child

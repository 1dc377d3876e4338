"""Patterns in a Hyperscan database: 15 to 140 ns a byte, whatever the bytes are.

RE2 builds its automaton while it reads; random bytes force it to build a new state for almost
each of them (8 us a byte, measured).  Hyperscan's automaton is built once (seconds), kept in a
file, and then costs the same for friend and foe.  Its answer is a superset: a few patterns need
HS_FLAG_PREFILTER, `^` and `$` hold at every newline.  RE2 confirms every candidate that a rule
wants to know of.

Where the syntaxes differ a pattern is respelled so that Hyperscan never matches less than RE2:
`\\s` and `\\S` do not mean vertical tab in RE2.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from waf_core.operators import needs as needs_module
from waf_core.operators.needs import Needs, of_pattern, of_phrases
from waf_core.scan.sample import PIECES, SAMPLE
from waf_core.scan.split import MAX_PIECES, halves

hyperscan: Any
try:
    hyperscan = importlib.import_module("hyperscan")
except ImportError:  # a platform without it: RE2 serves alone
    hyperscan = None

BASE_FLAGS = 0
if hyperscan is not None:
    BASE_FLAGS |= hyperscan.HS_FLAG_DOTALL | hyperscan.HS_FLAG_MULTILINE
    BASE_FLAGS |= hyperscan.HS_FLAG_ALLOWEMPTY | hyperscan.HS_FLAG_SINGLEMATCH
"""MULTILINE: forms are joined with newlines (waf_core/scan/batch.py)."""

FORMAT = b"envoy-waf-hs-9"
MAX_DATABASE_BYTES = 256 << 20

HEAVY_NS = 4.0
"""Nanoseconds a byte of ordinary text from which on a pattern is kept out of the main database: most take less
than one, and a few (CRS has one at level 1, three at level 4) more than all others together."""

COMMON_SHARE = 0.75
"""Share of pieces of ordinary text, of 1 kB, from which on a pattern is common."""

_SPACE = rb"\t\n\f\r "


Pattern = bytes | tuple[bytes, ...]
"""A regular expression that RE2 accepts, or a list of phrases in lower case, which are found in any case."""


def available() -> bool:
    """Can Hyperscan be used on this machine?"""
    return hyperscan is not None


def respell(pattern: bytes) -> bytes | None:
    """RE2's meaning in Hyperscan's words; None when that cannot be said."""
    out = bytearray()
    in_class = False
    i = 0
    while i < len(pattern):
        byte = pattern[i : i + 1]
        if byte == b"\\":
            pair = pattern[i : i + 2]
            i += 2
            if pair == b"\\s":
                out += _SPACE if in_class else b"[" + _SPACE + b"]"
            elif pair == b"\\S":
                out += b"\\S\\x0b" if in_class else b"[^" + _SPACE + b"]"
            elif pair in (b"\\z", b"\\A", b"\\Q", b"\\C", b"\\p", b"\\P"):
                return None
            else:
                out += pair
            continue
        if in_class:
            if byte == b"]":
                in_class = False
            elif byte == b"[" and pattern[i + 1 : i + 2] == b":":
                end = pattern.find(b":]", i)
                if end == -1:
                    return None
                out += pattern[i : end + 2]
                i = end + 2
                continue
        elif byte == b"[":
            in_class = True
            out += byte
            i += 1
            for special in (b"^", b"]"):
                if pattern[i : i + 1] == special:
                    out += b"\\]" if special == b"]" else special
                    i += 1
            continue
        out += byte
        i += 1
    return bytes(out)


class HyperscanSet:
    """A loaded database.  `match` yields numbers of the patterns it was compiled from."""

    def __init__(self, database: Any) -> None:
        """`database` None: there are no patterns."""
        self._scan: Callable[..., Any] | None = database.scan if database is not None else None
        self._hits: list[int] = []
        # One callback and one scratch space for all scans: threads take turns.
        self._lock = threading.Lock()
        append = self._hits.append

        def on_match(number: int, start: int, end: int, flags: int, context: object) -> None:
            append(number)

        self._on_match = on_match

    def match(self, value: bytes) -> list[int]:
        """Candidates, each once."""
        if self._scan is None:
            return []
        with self._lock:
            hits = self._hits
            hits.clear()
            self._scan(value, match_event_handler=self._on_match)
            return hits[:]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Databases:
    """`main` has most patterns, `common` those that are found in almost any text of some length, `large` the
    pieces of those that are too large for Hyperscan (waf_core/scan/split.py), and those that it is slow with:
    bounded too, but ten times slower than the rest together.  `numbers` are those of the patterns in each;
    those in "left" are in none.  `needs` of all are kept with them: to tell them takes a fifth of a start."""

    main: HyperscanSet
    common: HyperscanSet
    large: HyperscanSet
    numbers: dict[str, list[int]]
    needs: list[Needs]
    """By number."""


_Item = tuple[bytes, int, int]
"""(expression, number, flags)"""

_KINDS = ("main", "common", "large")


def encode(pattern: Pattern) -> bytes:
    """For hashes and pipes; `decode` takes it back."""
    return b"r" + pattern if isinstance(pattern, bytes) else b"p" + b" ".join(p.hex().encode() for p in pattern)


def decode(text: bytes) -> Pattern:
    if text[:1] == b"r":
        return text[1:]
    return tuple(bytes.fromhex(phrase.decode()) for phrase in text[1:].split(b" "))


def compile_patterns(patterns: Sequence[Pattern]) -> tuple[dict[str, bytes], dict[str, list[int]]]:
    """Serialized databases by kind, and the numbers in each.  Takes seconds."""
    items: dict[str, list[_Item]] = {kind: [] for kind in _KINDS}
    left: list[int] = []
    for number, pattern in enumerate(patterns):
        if isinstance(pattern, tuple):
            phrases = [(_escaped(phrase), number, BASE_FLAGS | hyperscan.HS_FLAG_CASELESS) for phrase in pattern]
            kind = _kind(phrases)
            if kind is None:
                left.append(number)
            else:
                # Never `large`, however long it took: RE2, which serves those, has no phrase lists.
                items["main" if kind == "large" else kind] += phrases
            continue
        spelled = respell(pattern)
        if spelled is None:
            left.append(number)
        elif (kind := _kind([(spelled, number, BASE_FLAGS)])) is not None:
            items[kind].append((spelled, number, BASE_FLAGS))
        elif (pieces := _pieces(spelled)) is not None:
            items["large"] += [(piece, number, flag) for piece, flag in pieces]
        else:
            left.append(number)
    numbers = {kind: sorted({number for _, number, _ in chosen}) for kind, chosen in items.items()}
    numbers["left"] = left
    return {kind: _database(chosen) for kind, chosen in items.items()}, numbers


def _escaped(phrase: bytes) -> bytes:
    return b"".join([b"\\x%02x" % byte for byte in phrase])


def _database(items: Sequence[_Item]) -> bytes:
    return bytes(hyperscan.dumpb(_compiled(items))) if items else b""


def _compiled(items: Sequence[_Item]) -> Any:
    """Raises hyperscan.error."""
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    expressions, ids, flags = zip(*items, strict=True)
    database.compile(expressions=list(expressions), ids=list(ids), elements=len(items), flags=list(flags))
    return database


def _pieces(pattern: bytes) -> list[tuple[bytes, int]] | None:
    """Expressions and flags that together find what the pattern finds; None when there are none."""
    base = BASE_FLAGS
    done: list[tuple[bytes, int]] = []
    waiting = [pattern]
    while waiting:
        piece = waiting.pop()
        if _compiles(piece, base):
            done.append((piece, base))
            continue
        two = halves(piece)
        if two is not None and len(done) + len(waiting) < MAX_PIECES:
            waiting.extend(two)
        elif _compiles(piece, base | hyperscan.HS_FLAG_PREFILTER):
            done.append((piece, base | hyperscan.HS_FLAG_PREFILTER))
        else:
            return None
    return done


def _compiles(pattern: bytes, flag: int) -> bool:
    try:
        _compiled([(pattern, 0, flag)])
    except hyperscan.error:
        return False
    return True


def _kind(items: Sequence[_Item]) -> str | None:
    """Which database a pattern belongs in, by what it does to ordinary text; None when it does not compile."""
    try:
        database = _compiled(items)
    except hyperscan.error:
        return None
    database.scratch = hyperscan.Scratch(database)
    alone = HyperscanSet(database)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter_ns()
        alone.match(SAMPLE)
        best = min(best, time.perf_counter_ns() - start)
    if best / len(SAMPLE) >= HEAVY_NS:
        return "large"
    found = sum(bool(alone.match(piece)) for piece in PIECES)
    return "common" if found >= COMMON_SHARE * len(PIECES) else "main"


@cache
def _needs_version() -> bytes:
    """Of how needs are told: other code, or another Python's parser of expressions, may tell others."""
    return hashlib.sha256(Path(needs_module.__file__).read_bytes()).digest() + sys.version.encode()


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
        digest = hashlib.sha256(FORMAT + version("hyperscan").encode() + _needs_version())
        for text in map(encode, patterns):
            digest.update(b"%d:" % len(text) + text)
        return self.folder / f"{digest.hexdigest()[:32]}.hsdb"

    def load(self, patterns: Sequence[Pattern]) -> Databases | None:
        """The databases; None when there is no good file."""
        path = self.path(patterns)
        try:
            if not self._private(self.folder) or not self._private(path):
                return None
            info = path.stat()
            if info.st_size > MAX_DATABASE_BYTES:
                return None
            key = (str(path), info.st_mtime_ns, info.st_size)
            known = _loaded_databases.get(key)
            if known is not None:
                return known
            content = path.read_bytes()
        except OSError:
            return None
        digest, _, body = content.partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        head, _, data = body.partition(b"\n")
        try:
            sizes = json.loads(head)
            sets: dict[str, HyperscanSet] = {}
            for kind in _KINDS:
                size = sizes["sizes"][kind]
                sets[kind] = _loaded(data[:size])
                data = data[size:]
            needs = [
                Needs(length, tuple([int(clause, 16) for clause in clauses])) for length, clauses in sizes["needs"]
            ]
            databases = Databases(**sets, numbers=sizes["numbers"], needs=needs)
        except (hyperscan.error, ValueError, TypeError, KeyError):
            return None
        _loaded_databases[key] = databases
        return databases

    @staticmethod
    def _private(path: Path) -> bool:
        """Ours, and writable by nobody else."""
        info = path.stat()
        return info.st_uid == os.geteuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

    def store(self, patterns: Sequence[Pattern]) -> None:
        """Compile and write, atomically."""
        compiled, numbers = compile_patterns(patterns)
        needs = [of_pattern(p) if isinstance(p, bytes) else of_phrases(p) for p in patterns]
        told = [(need.length, [f"{clause:x}" for clause in need.clauses]) for need in needs]
        sizes = {kind: len(compiled[kind]) for kind in _KINDS}
        head = json.dumps({"sizes": sizes, "numbers": numbers, "needs": told}).encode()
        body = head + b"\n" + b"".join(compiled[kind] for kind in _KINDS)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as out:
            out.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        os.chmod(out.name, 0o600)
        os.replace(out.name, self.path(patterns))

    def start(self, patterns: Sequence[Pattern]) -> subprocess.Popen[bytes]:
        """Compile in a process of its own; its input is the patterns, its result the file."""
        child = subprocess.Popen(  # noqa: S603  (this interpreter, our module)
            [sys.executable, "-m", "waf_core.scan.precompile", str(self.folder)], stdin=subprocess.PIPE
        )
        assert child.stdin is not None
        child.stdin.write(b"".join(b"%d\n" % len(text) + text for text in map(encode, patterns)))
        child.stdin.close()
        return child


def _loaded(data: bytes) -> HyperscanSet:
    if not data:
        return HyperscanSet(None)
    database = hyperscan.loadb(data, mode=hyperscan.HS_MODE_BLOCK)
    database.scratch = hyperscan.Scratch(database)
    return HyperscanSet(database)

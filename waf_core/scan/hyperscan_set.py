"""Patterns in a Hyperscan database: 15 to 140 ns a byte, whatever the bytes are.

RE2 builds its automaton while it reads; random bytes force it to build a new state for almost
each of them (8 us a byte, measured).  Hyperscan's automaton is built once (seconds), kept in a
file, and then costs the same for friend and foe.  Its answer is a superset: a few patterns need
HS_FLAG_PREFILTER, `^` and `$` hold at every newline.  RE2 confirms every candidate that a rule
wants to know of.

Where the syntaxes differ a pattern is respelled so that Hyperscan never matches less than RE2
(waf_core/operators/spelling.py has done most of it).
"""

from __future__ import annotations

import importlib
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final

from waf_core.operators.spelling import tokens
from waf_core.operators.split import MAX_PIECES, halves
from waf_core.scan.sample import PIECES, SAMPLE
from waf_core.scan.trial import missed

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

HEAVY_NS: Final = 6.0
"""Nanoseconds a byte of ordinary text from which on a pattern is kept out of the main database: most take less
than one, and a few (CRS has one at level 1, three at level 4) more than all others together.  Those take 34 to 45 on a
host, and the next one 4, when that is half as fast as at other times: which they are must not depend on the hour."""

HEAVY_TRIALS: Final = 30
"""A pattern is heavy if it takes so long each time: the answer is kept, and the machine may be busy."""

COMMON_SHARE: Final = 0.75
"""Share of pieces of ordinary text, of 1 kB, from which on a pattern is common."""

_UNSAID: Final = frozenset((rb"\z", rb"\A", rb"\Q", rb"\p", rb"\P"))

_SINGLE_LINE: Final = re.compile(rb"\(\?[a-zA-Z]*-[a-zA-Z]*m")
"""`(?-m)`: `^` would hold at the beginning of all joined forms only."""

Pattern = bytes | tuple[bytes, ...]
"""A regular expression that RE2 accepts, or a list of phrases in lower case, which are found in any case."""


def available() -> bool:
    """Can Hyperscan be used on this machine?"""
    return not unusable()


@cache
def unusable() -> str:
    """Why Hyperscan cannot be used; empty if it can."""
    if hyperscan is None:
        return "there is none for this platform"

    def prepare(expressions: Sequence[bytes]) -> Callable[[bytes], list[int]]:
        items = [(expression, number, BASE_FLAGS) for number, expression in enumerate(expressions)]
        return _ready(_compiled(items)).match

    for pattern, text in missed(prepare):
        return f"hyperscan {hyperscan.__version__} does not find {pattern!r} in {text!r}: install hyperscan<0.7.22"
    return ""


def respell(pattern: bytes) -> bytes | None:
    """RE2's meaning in Hyperscan's words; None when that cannot be said."""
    if _SINGLE_LINE.search(pattern):
        return None
    out = bytearray()
    for token, _ in tokens(pattern):
        if token[:2] in _UNSAID:
            return None
        out += token.replace(b"]", b"\\]") if token in (b"[]", b"[^]") else token
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


_Item = tuple[bytes, int, int]
"""(expression, number, flags)"""

KINDS: Final = ("main", "common", "large")
"""Of databases."""


def compile_patterns(patterns: Sequence[Pattern]) -> tuple[dict[str, bytes], dict[str, list[int]]]:
    """Serialized databases by kind, and the numbers in each.  Takes seconds."""
    items: dict[str, list[_Item]] = {kind: [] for kind in KINDS}
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
    alone = _ready(database)
    if _is_heavy(alone):
        return "large"
    found = sum(bool(alone.match(piece)) for piece in PIECES)
    return "common" if found >= COMMON_SHARE * len(PIECES) else "main"


def _is_heavy(patterns: HyperscanSet) -> bool:
    for _ in range(HEAVY_TRIALS):
        start = time.thread_time_ns()
        patterns.match(SAMPLE)
        if time.thread_time_ns() - start < HEAVY_NS * len(SAMPLE):
            return False
    return True


def _ready(database: Any) -> HyperscanSet:
    """To be asked."""
    database.scratch = hyperscan.Scratch(database)
    return HyperscanSet(database)


def load_set(data: bytes) -> HyperscanSet:
    """What `compile_patterns` has serialized.  Raises hyperscan.error."""
    if not data:
        return HyperscanSet(None)
    return _ready(hyperscan.loadb(data, mode=hyperscan.HS_MODE_BLOCK))

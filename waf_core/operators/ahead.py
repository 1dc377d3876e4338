r"""PCRE2 ahead of RE2, for large expressions.

RE2 builds an automaton while it reads.  Text that is new to a large expression costs it 1 us a byte in each direction;
PCRE2, compiled to machine code, mostly reads the same text in a tenth to a hundredth of that, and keeps nothing.

There are texts that PCRE2 is slow with, and those who look for them will find some, so it is bounded in three ways.
Steps are counted over the whole text: it is `.*?\K(?:...)` that is looked for, since PCRE2 counts anew wherever a match
may begin.  A step may read a run of bytes, so texts are not longer than MAX_BYTES.  And a search that took longer than
RE2 might have is the last one for a while.
"""

from __future__ import annotations

import time
from typing import Final
from weakref import WeakValueDictionary

import pcre2

from waf_core.operators.spelling import as_re2

PATTERN_BYTES: Final = 2048
"""What RE2 has to learn of smaller patterns is quickly learnt."""

MIN_BYTES: Final = 64
"""So is what it learns of shorter texts."""

MAX_BYTES: Final = 16384
"""Where each byte begins a run up to the end, this takes 35 ms."""

STEPS: Final = 30_000
"""PCRE2's match limit (pcre2api(3)): up to 0.5 ms, where it reads 1 kB."""

SLOW_NS: Final = 400
"""So many nanoseconds of the processor's time for a byte are too many."""

SLOW_BYTES: Final = 250
"""What a search may cost besides, in bytes."""

REST: Final = 256
"""So many searches are left to RE2 after one that was slow."""

_compiled: Final[WeakValueDictionary[bytes, pcre2.Pattern]] = WeakValueDictionary()
"""What rules, policies and their scans share, by the expression."""


class State:
    """Of all expressions: where one is slow others are."""

    def __init__(self) -> None:
        self.rest = 0
        """Searches that are left to RE2."""


state: Final = State()


class Ahead:
    """An expression that `spelling.as_re2` has spelled.  The dot matches newlines."""

    def __init__(self, spelled: bytes) -> None:
        """Raises pcre2.LibraryError when it is too large for PCRE2, or the system does not let machine code be made."""
        known = _compiled.get(spelled)
        if known is None:
            text = rb"(*LIMIT_MATCH=%d)(*LF).*?\K(?:%b)" % (STEPS, spelled)
            known = _compiled[spelled] = pcre2.compile(text, pcre2.DOTALL, jit=True)
        self._pattern: pcre2.Pattern = known

    def place(self, text: bytes, start: int) -> tuple[int, int] | None:
        """As `Rx.place`; None: ask RE2."""
        size = len(text)
        if size < MIN_BYTES or size > MAX_BYTES:
            return None
        if state.rest > 0:
            state.rest -= 1
            return None
        began = time.thread_time_ns()
        found = self.search(text, start)
        if time.thread_time_ns() - began > (size + SLOW_BYTES) * SLOW_NS:
            state.rest = REST
        return found

    def search(self, text: bytes, start: int) -> tuple[int, int] | None:
        """Whatever the text; None: it took more steps, or left open more ways (32 kB of them), than it may."""
        try:
            found = self._pattern.search(text, start)
        except pcre2.LibraryError:
            return None
        if found is None:
            return -1, -1
        first, end = found.span()
        return first, end


def ahead_of_re2(pattern: bytes, *, lines: bool) -> Ahead | None:
    """What may be asked before RE2 is; None: RE2 does as well, or the two may differ.  `lines`: `^` and `$` hold at
    newlines."""
    spelled = as_re2(pattern, lines=lines) if len(pattern) >= PATTERN_BYTES else None
    if spelled is None:
        return None
    try:
        return Ahead(spelled)
    except (pcre2.LibraryError, MemoryError):
        return None

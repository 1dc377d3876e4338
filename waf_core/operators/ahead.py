r"""PCRE2 ahead of RE2, for large expressions.

RE2 builds an automaton while it reads.  Text that is new to a large expression costs it 1 us a byte in each direction;
PCRE2, compiled to machine code, mostly reads the same text in a tenth to a hundredth of that, and keeps nothing.

There are texts that PCRE2 is slow with, and those who look for them will find some, so it is bounded.  Steps are
counted over the whole text: it is `.*?\K(?:...)` that is looked for, since PCRE2 counts anew wherever a match may
begin.  A step may read a run of bytes, so texts are not longer than MAX_BYTES, and if the first steps are slow there
are no others.  And a search that took longer than RE2 might have is the last one with its expression for a while.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Final
from weakref import WeakValueDictionary

import pcre2

from waf_core.operators.needs import of_pattern
from waf_core.operators.sequence import either, marked, may_skip, sequence_of
from waf_core.operators.spelling import as_re2

PATTERN_BYTES: Final = 2048
"""What RE2 has to learn of smaller patterns is quickly learnt."""

MIN_BYTES: Final = 64
"""So is what it learns of shorter texts."""

MAX_BYTES: Final = 16384
"""Where each step reads a run up to the end, STEPS of them take 75 ms, or 12 where there are 1000 bytes."""

SOON_BYTES: Final = 2048
"""In longer texts PCRE2 looks for matches that begin within so many bytes, in LONG_STEPS."""

LONG_STEPS: Final = 8000

STEPS: Final = 30_000
"""PCRE2's match limit (pcre2api(3)): mostly 0.1 to 0.4 ms."""

FIRST_STEPS: Final = 2000
"""A text that RE2 has not begun with gets so many first, and half of those that match need no more.  Where they are
slow it has long runs, which RE2 is quick with: 1 kB of `<` takes 0.2 ms then, instead of 3."""

STEP_NS: Final = 35
"""Nanoseconds; most take 3 to 15, and 150 in runs of 1 kB."""

COLD_STEP_NS: Final = 120
"""Where the code is not in the processor's caches they take up to 60.  So if the first steps took longer than STEP_NS,
and no longer than this, they are made again."""

SLOW_NS: Final = 400
"""So many nanoseconds of the processor's time for a byte are too many."""

SLOW_BYTES: Final = 250
"""What a search may cost besides, in bytes."""

REST: Final = 16, 1024
"""So many searches are left to RE2 after one that was slow, and at most, when one is again and again."""

REST_GROWTH: Final = 4

ANYWHERE: Final = rb".*?\K(?:%b)"
BEHIND: Final = rb"\A(?>.*?(?=%b)).{%d}.*(?:%b)"
"""What is behind an opening, for certain: the first one, however long that is, and its fewest bytes."""
_SKIPPING: Final = rb"(?J)%b(?(<d>)|%b)(?:%b)"
_MARK: Final = b"(?<d>)"
_PLAIN_MARK: Final = b"()"

SPELLED: Final = 128
"""Expressions whose spelling is remembered: several rules and policies have the same."""

_compiled: Final[WeakValueDictionary[tuple[bytes, int], pcre2.Pattern]] = WeakValueDictionary()
"""What rules, policies and their scans share, by the expression and its steps."""


class State:
    """Of one expression: who makes it slow does not take PCRE2 from the others, with which RE2 may be slower still."""

    def __init__(self) -> None:
        self.rest = 0
        """Searches that are left to RE2."""
        self.next_rest: int = REST[0]
        """So many will be after a slow one."""

    def took(self, nanoseconds: int, size: int) -> None:
        """For a text of so many bytes."""
        if nanoseconds > (size + SLOW_BYTES) * SLOW_NS:
            self.rest = self.next_rest
            self.next_rest = min(self.next_rest * REST_GROWTH, REST[1])
        elif self.next_rest > REST[0]:
            self.next_rest -= 1


class Ahead:
    """An expression (`ANYWHERE`, `BEHIND`) that `spelling.as_re2` has spelled.  The dot matches newlines."""

    def __init__(self, expression: bytes, *, begins: bool = False) -> None:
        """`begins`: RE2 has not been asked about the texts.  Raises pcre2.LibraryError when it is too large for PCRE2,
        or the system does not let machine code be made."""
        self._all: pcre2.Pattern = _machine_code(expression, STEPS)
        self._first: pcre2.Pattern | None = _machine_code(expression, FIRST_STEPS) if begins else None
        self._long: pcre2.Pattern | None = _machine_code(expression, LONG_STEPS) if begins else None
        self.state: State = State()

    def place(self, text: bytes, start: int) -> tuple[int, int] | None:
        """As `Rx.place`; None: ask RE2."""
        size = len(text)
        long = self._long
        if size < MIN_BYTES or (size > MAX_BYTES and long is None):
            return None
        if self.state.rest > 0:
            self.state.rest -= 1
            return None
        began = time.thread_time_ns()
        first = self._first
        if size > MAX_BYTES and long is not None:
            found = _soon(long, text, start)
            size = SOON_BYTES
        elif first is None:
            found = self.search(text, start)
        else:
            found = _search(first, text, start)
            if found is None and _quick(first, text, start, time.thread_time_ns() - began):
                found = self.search(text, start)
        self.state.took(time.thread_time_ns() - began, size)
        return found

    def search(self, text: bytes, start: int) -> tuple[int, int] | None:
        """Whatever the text; None: it took more steps, or left open more ways (32 kB of them), than it may."""
        return _search(self._all, text, start)


def no_machine_code() -> str:
    """Why PCRE2 makes none in this process, so that RE2 does all; empty if it does."""
    try:
        _machine_code(b"a", STEPS)
    except (pcre2.LibraryError, MemoryError) as error:
        return str(error)
    return ""


def _machine_code(expression: bytes, steps: int) -> pcre2.Pattern:
    known = _compiled.get((expression, steps))
    if known is None:
        text = rb"(*LIMIT_MATCH=%d)(*LF)%b" % (steps, expression)
        known = _compiled[expression, steps] = pcre2.compile(text, pcre2.DOTALL, jit=True)
    return known


def _quick(first: pcre2.Pattern, text: bytes, start: int, spent: int) -> bool:
    """Were the first steps, or are they the second time?"""
    if FIRST_STEPS * STEP_NS <= spent < FIRST_STEPS * COLD_STEP_NS:
        began = time.thread_time_ns()
        _search(first, text, start)
        spent = time.thread_time_ns() - began
    return spent < FIRST_STEPS * STEP_NS


def _soon(long: pcre2.Pattern, text: bytes, start: int) -> tuple[int, int] | None:
    """In a text of more than MAX_BYTES: a match that begins near `start`, if the steps to it are quick.  What `.*` has
    run over it gives back from the end on, where the next steps have little to read: LONG_STEPS of them take 13 ms."""
    began = time.thread_time_ns()
    found = _search(long, text[: start + SOON_BYTES], start)
    if found is None or found[0] == -1 or time.thread_time_ns() - began > LONG_STEPS * STEP_NS:
        return None
    return _search(long, text, start)


def _search(pattern: pcre2.Pattern, text: bytes, start: int) -> tuple[int, int] | None:
    try:
        found = pattern.search(text, start)
    except pcre2.LibraryError:
        return None
    if found is None:
        return -1, -1
    first, end = found.span()
    return first, end


@lru_cache(maxsize=SPELLED)
def spelled_for_pcre2(pattern: bytes, *, lines: bool) -> bytes | None:
    r"""For PCRE2, in fewer steps: `(?:;|time .*)\s*\w*(?:ls|cat)` as `(?:;|time .*(?<d>))(?(<d>)|\s*\w*)(?:ls|cat)`.
    Where `.*` has matched as much as it may, what may be empty is empty (else `.*` could have matched that, too)."""
    spelled = as_re2(pattern, lines=lines)
    sequence = sequence_of(pattern) if may_skip(pattern) and _PLAIN_MARK not in pattern else None
    if spelled is None or sequence is None:
        return spelled
    optional = sequence.optional()
    heads = either(sequence.heads)
    with_marks = marked(heads, _PLAIN_MARK)
    if with_marks == heads:
        return spelled
    parts = (with_marks, b"".join(sequence.rest[:optional]), b"".join(sequence.rest[optional:]))
    head, skipped, rest = (as_re2(sequence.flags + part, lines=lines) for part in parts)
    if head is None or skipped is None or rest is None:
        return spelled
    return _SKIPPING % (head.replace(_PLAIN_MARK, _MARK), skipped, rest)


def ahead_of_re2(pattern: bytes, *, lines: bool, opening: bytes = b"") -> Ahead | None:
    """What may be asked before RE2 is; None: RE2 does as well, or the two may differ.  `lines`: `^` and `$` hold at
    newlines, and RE2 has begun to read (`scan/large.py`).  `opening`: only what is behind a match of this counts, and
    then a match may be told where there is none, but for bytes of the opening."""
    spelled = spelled_for_pcre2(pattern, lines=lines) if len(pattern) >= PATTERN_BYTES else None
    spelled_opening = as_re2(opening, lines=lines)
    if spelled is None or spelled_opening is None:
        return None
    expression = BEHIND % (spelled_opening, of_pattern(opening).length, spelled) if opening else ANYWHERE % spelled
    try:
        return Ahead(expression, begins=not lines)
    except (pcre2.LibraryError, MemoryError):
        return None

"""All patterns of a program side in one automaton each.

Regular expressions share one RE2 Set; phrase lists share one Aho-Corasick automaton.  One
pass over a value answers for all of them at once, and the answer of an RE2 Set is exact (the
same automaton semantics as a search with each pattern).

`re2.Set.Match` reports nothing when its automaton runs out of memory, which looks the same as
"no match" and would be a bypass.  So every Set contains the empty pattern, which matches
everything: an answer without it is a failure.  Failures are counted, and every pattern is then
taken to be a candidate, which the rules confirm one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import re2
from ahocorasick_rs import BytesAhoCorasick

from waf_core.errors import WafError
from waf_core.operators.regex import re2_options
from waf_core.scan.hyperscan_set import DatabaseCache, Databases, available

MIN_HYPERSCAN_PATTERNS = 8
"""Smaller sets stay in RE2: their automaton stays small."""

MAX_SET_MEM = 1 << 30
"""Bytes that the automaton of one Set may be given when its patterns do not fit in less."""


@dataclass(slots=True)
class ScanLimits:
    """Bounds of the scan's memory; see docs/performance.md for how they were chosen."""

    set_max_mem: int = 96 << 20
    """Bytes the automaton of one RE2 Set may use before it starts over."""
    cache_entries: int = 4096
    """Values remembered by one scanner and generation (there are two)."""
    cache_value_bytes: int = 512
    """Longer values are not remembered."""
    re2_bytes: int = 8192
    """Bytes of one phase that RE2 matches with the patterns that are too large for Hyperscan (1 us a
    byte at worst); the rest goes to their pieces in Hyperscan (0.4 us a byte, whatever it is)."""
    hyperscan_folder: Path | None = None
    """Where Hyperscan databases are kept; None: RE2 alone."""


@dataclass(slots=True)
class ScanStatistics:
    """Counters of one program, read by the metrics."""

    scans: int = 0
    """Values that were not remembered and had to be scanned."""
    set_failures: int = 0
    """RE2 Sets that ran out of memory: those values took the slow, exact path."""


class PatternSet:
    """All patterns of one side.  Collect patterns with `add_pattern` and `add_phrases`, `compile`, then `match`.

    The numbers that `match` yields are those that the add functions returned.
    """

    def __init__(self, statistics: ScanStatistics, limits: ScanLimits) -> None:
        self._statistics = statistics
        self._limits = limits
        self._patterns: dict[bytes, int] = {}
        self._phrases: dict[bytes, list[int]] = {}
        self._lists: dict[tuple[bytes, ...], int] = {}
        self._phrase_users: list[tuple[int, ...]] = []
        self._set: re2._re2.Set | None = None
        self._set_numbers: Sequence[int] = ()
        self._rest: re2._re2.Set | None = None
        self._rest_numbers: Sequence[int] = ()
        self._databases: Databases | None = None
        self._budget = limits.re2_bytes
        self.large: frozenset[int] = frozenset()
        """Patterns that only `match_large` finds."""
        self._find: BytesAhoCorasick | None = None

    def add_pattern(self, pattern: bytes) -> int:
        """A pattern that RE2 accepts; equal patterns share a number."""
        return self._patterns.setdefault(pattern, len(self._patterns))

    def add_phrases(self, phrases: tuple[bytes, ...]) -> int:
        """A list of lower-case phrases; equal lists share a number."""
        number = self._lists.get(phrases)
        if number is None:
            number = self._lists[phrases] = len(self._lists)
            for phrase in phrases:
                self._phrases.setdefault(phrase, []).append(number)
        return number

    def compile(self) -> None:
        """Raises WafError when the patterns need more memory than MAX_SET_MEM."""
        if self._patterns and not self.load_hyperscan():
            self._set = self._compile_set(list(self._patterns))
        if self._phrases:
            self._find = BytesAhoCorasick(list(self._phrases))
            self._phrase_users = [tuple(users) for users in self._phrases.values()]

    @property
    def patterns(self) -> list[bytes]:
        """The expressions, by number."""
        return list(self._patterns)

    @property
    def cache(self) -> DatabaseCache | None:
        """Where this set's Hyperscan database is kept, if it is to have one."""
        folder = self._limits.hyperscan_folder
        if folder is None or not available() or len(self._patterns) < MIN_HYPERSCAN_PATTERNS:
            return None
        return DatabaseCache(folder)

    @property
    def uses_hyperscan(self) -> bool:
        return self._databases is not None

    def load_hyperscan(self) -> bool:
        """Take over a database from the cache; False when there is none yet.

        Patterns that Hyperscan cannot take stay in an RE2 Set of their own.
        """
        loaded = self.cache.load(self.patterns) if self.cache is not None else None
        if loaded is None:
            return False
        patterns = self.patterns
        self._set_numbers = loaded.large_numbers
        self._set = self._compile_set([patterns[n] for n in loaded.large_numbers]) if loaded.large_numbers else None
        self._rest_numbers = loaded.left
        self._rest = self._compile_set([patterns[n] for n in loaded.left]) if loaded.left else None
        self._databases = loaded
        self.large = frozenset(loaded.large_numbers)
        return True

    def begin(self) -> None:
        """A phase of a transaction starts: its budget of bytes for RE2 is full again."""
        self._budget = self._limits.re2_bytes

    def _compile_set(self, patterns: Sequence[bytes]) -> re2._re2.Set:
        memory = self._limits.set_max_mem
        while memory <= MAX_SET_MEM:
            scanner = re2._re2.Set(re2._re2.RE2.Anchor.UNANCHORED, re2_options(memory))
            scanner.Add(b"")  # number 0, the sentinel
            for pattern in patterns:
                scanner.Add(pattern)
            # A Set whose compilation failed must never be asked: it crashes.
            if scanner.Compile():
                return scanner
            memory *= 2
        raise WafError(f"{len(patterns)} patterns need more than {MAX_SET_MEM} bytes for their automaton")

    def match_patterns(self, value: bytes) -> Sequence[int]:
        """Numbers of the patterns that may be found in a value: all that are, seldom one more."""
        databases = self._databases
        if databases is None:
            return self._match_set(self._set, value, len(self._patterns))
        found = databases.main.match(value)
        if self._rest is not None:
            numbers = self._rest_numbers
            found += [numbers[n] for n in self._match_set(self._rest, value, len(numbers))]
        return found

    def match_large(self, value: bytes) -> Sequence[int]:
        """The same for the patterns in `large`, which `match_patterns` leaves out: not every form of a
        value is looked at by rules that have one."""
        databases = self._databases
        if databases is None or self._set is None:
            return ()
        # RE2 is quicker with them, as long as its automaton knows such text.
        self._budget -= len(value)
        if self._budget < 0:
            return databases.large.match(value)
        numbers = self._set_numbers
        return [numbers[n] for n in self._match_set(self._set, value, len(numbers))]

    def _match_set(self, patterns: re2._re2.Set | None, value: bytes, count: int) -> Sequence[int]:
        if patterns is None:
            return ()
        found = patterns.Match(value)
        if len(found) == 1:
            return ()
        if not found:
            self._statistics.set_failures += 1
            return range(count)
        return [number - 1 for number in found if number]

    def match_phrases(self, value: bytes) -> Sequence[int]:
        """Numbers of the phrase lists that have a phrase in a value."""
        if self._find is None:
            return ()
        matches = self._find.find_matches_as_indexes(value.lower(), overlapping=True)
        if not matches:
            return ()
        found: set[int] = set()
        users = self._phrase_users
        for index in {match[0] for match in matches}:
            found.update(users[index])
        return tuple(found)

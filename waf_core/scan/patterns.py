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

from dataclasses import dataclass

import re2
from ahocorasick_rs import BytesAhoCorasick

from waf_core.errors import WafError
from waf_core.operators.regex import re2_options

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


@dataclass(slots=True)
class ScanStatistics:
    """Counters of one program, read by the metrics."""

    scans: int = 0
    """Values that were not remembered and had to be scanned."""
    set_failures: int = 0
    """RE2 Sets that ran out of memory: those values took the slow, exact path."""


class PatternSet:
    """Collect patterns with `add_pattern` and `add_phrases`, `compile`, then `match`.

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
        self._sentinel = -1
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
        if self._patterns:
            self._set = self._compile_set()
        if self._phrases:
            self._find = BytesAhoCorasick(list(self._phrases))
            self._phrase_users = [tuple(users) for users in self._phrases.values()]

    def _compile_set(self) -> re2._re2.Set:
        memory = self._limits.set_max_mem
        while memory <= MAX_SET_MEM:
            scanner = re2._re2.Set(re2._re2.RE2.Anchor.UNANCHORED, re2_options(memory))
            for pattern in self._patterns:
                scanner.Add(pattern)
            self._sentinel = scanner.Add(b"")
            # A Set whose compilation failed must never be asked: it crashes.
            if scanner.Compile():
                return scanner
            memory *= 2
        raise WafError(f"{len(self._patterns)} patterns need more than {MAX_SET_MEM} bytes for their automaton")

    def match_patterns(self, value: bytes) -> list[int]:
        """Numbers of the patterns found in a value."""
        if self._set is None:
            return []
        found = self._set.Match(value)
        if len(found) == 1 and found[0] == self._sentinel:
            return []
        if self._sentinel not in found:
            self._statistics.set_failures += 1
            return list(range(len(self._patterns)))
        return [number for number in found if number != self._sentinel]

    def match_phrases(self, value: bytes) -> set[int]:
        """Numbers of the phrase lists that have a phrase in a value."""
        if self._find is None:
            return set()
        found: set[int] = set()
        users = self._phrase_users
        for index, _, _ in self._find.find_matches_as_indexes(value.lower(), overlapping=True):
            found.update(users[index])
        return found

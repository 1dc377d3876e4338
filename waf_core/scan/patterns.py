"""All regular expressions and phrase lists of a program side in one automaton: what a batch is matched with.

They share a Hyperscan database; until there is one, expressions share an RE2 Set and phrase lists an
Aho-Corasick automaton.  One pass over a value answers for all of them at once, and the answer of an RE2
Set is exact (the same automaton semantics as a search with each pattern).

`re2.Set.Match` reports nothing when its automaton runs out of memory, which looks the same as
"no match" and would be a bypass.  So every Set contains the empty pattern, which matches
everything: an answer without it is a failure.  Failures are counted, and every pattern is then
taken to be a candidate, which the rules confirm one by one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import re2
from ahocorasick_rs import BytesAhoCorasick

from waf_core.errors import WafError
from waf_core.operators.needs import Needs
from waf_core.operators.regex import re2_options
from waf_core.scan.budget import NEW_PLANS, PlanBudget
from waf_core.scan.databases import DatabaseCache, Databases
from waf_core.scan.hyperscan_set import Pattern, available
from waf_core.scan.masks import mask_of

MIN_HYPERSCAN_PATTERNS: Final = 8
"""Smaller sets stay in RE2: their automaton stays small."""

FEW_CANDIDATES: Final = 4
"""Up to so many candidates are confirmed with each form that asks for them: cheaper than a scan of each."""

FEW_FORMS: Final = 32
"""In so few joined forms what is found is looked for in each; more are matched again in smaller parts."""

MAX_JOINED_BYTES: Final = 2048
"""Longer forms are matched by themselves: it is the bytes that cost there, not the calls."""

FEW_ALONE: Final = 4
"""For so few patterns RE2 is asked at once, if the form has so many bytes for each of them."""

ALONE_BYTES: Final = (256, 20)
"""In a small set, and in a large one.  RE2 takes 1 to 2 us for each pattern; the scan for all 12 ns a byte for CRS at
paranoia level 1, and 40 to 60 from level 2 on."""

FEW_WIDE: Final = 2
"""If so few short forms are asked for WIDE_SHARE of a large set's patterns, which is to say that they have what attacks
have, each is matched by itself: what is found in it would else be looked for in all the others."""

WIDE_SHARE: Final = 0.25

WIDE_BYTES: Final = 128
"""Longer ones are often text with brackets or quotes."""

SMALL_SET: Final = 150
"""Patterns.  (CRS has 116 at level 1, 176 at level 2, 201 at level 4.)"""

MAX_JOIN_BYTES: Final = 16384
"""Forms are joined up to so many bytes."""

MAX_RE2_BYTES: Final = 8192
"""Forms that RE2 reads in one call: its time is looked at after each."""

MAX_SET_MEM: Final = 1 << 30
"""Bytes that the automaton of one Set may be given when its patterns do not fit in less."""


@dataclass(slots=True)
class ScanLimits:
    """Bounds of the scan's memory and time."""

    set_max_mem: int = 96 << 20
    """Bytes the automaton of one RE2 Set may use before it starts over."""
    cache_entries: int = 2048
    """Values remembered by one scanner and generation (there are two)."""
    cache_value_bytes: int = 512
    """Longer values are not remembered."""
    re2_ns: int = 8_000_000
    """Nanoseconds of one phase that RE2 may spend on the patterns that are too large for Hyperscan (5 ns a
    byte for text like what it has seen, 1000 for hostile bytes); what is left then goes to their pieces in
    Hyperscan (400 ns a byte, whatever it is)."""
    hyperscan_folder: Path | None = None
    """Where Hyperscan databases are kept; None: RE2 alone."""


class ScanStatistics:
    """Counters of one program, read by the metrics.  Large bodies are judged on threads: all of them count here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.scans = 0
        """Values that were not remembered and had to be scanned."""
        self.set_failures = 0
        """RE2 Sets that ran out of memory: those values took the slow, exact path."""
        self._taken = (0, 0)

    def add(self, *, scans: int = 0, set_failures: int = 0) -> None:
        """Count."""
        with self._lock:
            self.scans += scans
            self.set_failures += set_failures

    def take(self) -> tuple[int, int]:
        """(scans, set failures) since the last time."""
        with self._lock:
            now, before = (self.scans, self.set_failures), self._taken
            self._taken = now
        return now[0] - before[0], now[1] - before[1]


class PatternSet:
    """All patterns of one side: collect them with `add`, `compile`, then `find`.

    Masks have bit n for the pattern that `add` numbered n.
    """

    def __init__(self, statistics: ScanStatistics, limits: ScanLimits) -> None:
        self._statistics = statistics
        self._limits = limits
        self._numbers: dict[Pattern, int] = {}
        self._phrase_users: list[int] = []
        """Phrase -> mask of the lists that it is in."""
        self._phrase_mask = 0
        self._set: re2._re2.Set | None = None
        self._set_numbers: Sequence[int] = ()
        self._large: re2._re2.Set | None = None
        self._large_numbers: Sequence[int] = ()
        self._main_mask = self._common_mask = self._large_mask = self._rest_mask = 0
        self._databases: Databases | None = None
        self._alone_bytes = self._wide = 0
        self._budget = limits.re2_ns
        self.plans = PlanBudget()
        self._find: Callable[..., list[tuple[int, int, int]]] | None = None

    def add(self, pattern: Pattern) -> int:
        """Equal patterns share a number."""
        return self._numbers.setdefault(pattern, len(self._numbers))

    def compile(self) -> None:
        """Raises WafError when the patterns need more memory than MAX_SET_MEM."""
        if not self._numbers or self.load_hyperscan():
            return
        expressions = {number: p for p, number in self._numbers.items() if isinstance(p, bytes)}
        if expressions:
            self._set_numbers = list(expressions)
            self._set = self._compile_set(list(expressions.values()))
        users: dict[bytes, int] = {}
        for pattern, number in self._numbers.items():
            if not isinstance(pattern, bytes):
                self._phrase_mask |= 1 << number
                for phrase in pattern:
                    users[phrase] = users.get(phrase, 0) | 1 << number
        if users:
            self._find = BytesAhoCorasick(list(users)).find_matches_as_indexes
            self._phrase_users = list(users.values())

    def needs(self, number: int) -> Needs | None:
        """What a pattern needs, if that is kept with its database."""
        return None if self._databases is None else self._databases.needs[number]

    @property
    def patterns(self) -> list[Pattern]:
        """By number."""
        return list(self._numbers)

    @property
    def cache(self) -> DatabaseCache | None:
        """Where this set's Hyperscan database is kept, if it is to have one."""
        folder = self._limits.hyperscan_folder
        if folder is None or not available() or len(self._numbers) < MIN_HYPERSCAN_PATTERNS:
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
        self._large_numbers = loaded.numbers["large"]
        self._main_mask, self._common_mask, self._large_mask = (
            mask_of(loaded.numbers[kind]) for kind in ("main", "common", "large")
        )
        count = self._main_mask.bit_count()
        self._alone_bytes = ALONE_BYTES[count > SMALL_SET]
        self._wide = int(count * WIDE_SHARE) if count > SMALL_SET else count
        # Joined forms: as in Hyperscan, `^` and `$` hold at newlines.
        large = [patterns[n] for n in self._large_numbers]
        multiline = [b"(?m:" + pattern + b")" for pattern in large if isinstance(pattern, bytes)]
        self._large = self._compile_set(multiline) if multiline else None
        self._rest_mask = mask_of(loaded.numbers["left"])
        self._databases = loaded
        self._set = self._find = None
        return True

    def begin(self) -> None:
        """A phase of a transaction starts: its time for RE2 is full again, and its number of new plans."""
        self.plans.left = NEW_PLANS
        self._budget = self._limits.re2_ns

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

    def find(self, wanted: Mapping[bytes, int]) -> dict[bytes, int]:
        """For each form and the mask of the patterns that are wanted of it: the mask of those that may be
        found, all that are, seldom one more.  Forms without any are left out."""
        if not wanted:
            return {}
        # In this order: another thread may bring the databases in just now, and take the set away after that.
        fallback, find, databases = self._set, self._find, self._databases
        if databases is None:
            found = self._one_by_one(fallback, wanted)
            if find is not None:
                self._find_phrases(find, wanted, found)
            return found
        found = {}
        short: dict[bytes, int] = {}
        large: dict[bytes, int] = {}
        wide: list[bytes] = []
        last = main = count = rest = common = 0
        others = is_large = few_common = False
        for form, mask in wanted.items():
            if mask != last:  # it is the same for many
                last = mask
                main = mask & self._main_mask
                count = main.bit_count()
                others = main != mask
                if others:
                    rest, common = mask & self._rest_mask, mask & self._common_mask
                    is_large = mask & self._large_mask != 0
                    few_common = common.bit_count() <= FEW_CANDIDATES
            if others:
                _note(found, form, rest)
                if is_large:
                    large[form] = mask
                if common:
                    _note(found, form, common if few_common else mask_of(databases.common.match(form)) & common)
                if not main:
                    continue
            if count <= FEW_ALONE and len(form) >= count * self._alone_bytes:
                _note(found, form, main)
            elif len(form) <= MAX_JOINED_BYTES:
                short[form] = main
                if count > self._wide and len(form) <= WIDE_BYTES:
                    wide.append(form)
            else:
                _note(found, form, mask_of(databases.main.match(form)) & main)
        if len(wide) <= FEW_WIDE < len(short):
            for form in wide:
                _note(found, form, mask_of(databases.main.match(form)) & short.pop(form))
        for part in _parts(short, MAX_JOIN_BYTES):
            _narrow(databases.main.match, part, found)
        for part in _parts(large, MAX_RE2_BYTES):
            _narrow(lambda text: self._match_large(databases, text), part, found)
        return found

    def _match_large(self, databases: Databases, text: bytes) -> Sequence[int]:
        """Patterns that are too large for the main database.  RE2 is quicker with them, as long as its
        automaton knows such text: its time is limited."""
        if self._budget <= 0:
            return databases.large.match(text)
        start = time.perf_counter_ns()
        numbers = self._match_set(self._large, text, self._large_numbers)
        self._budget -= time.perf_counter_ns() - start
        return numbers

    def _one_by_one(self, patterns: re2._re2.Set | None, wanted: Mapping[bytes, int]) -> dict[bytes, int]:
        """Without Hyperscan: RE2's automata grow with what they read, so forms are matched one by one."""
        found: dict[bytes, int] = {}
        for form, asked in wanted.items():
            mask = asked & ~self._phrase_mask
            if mask.bit_count() <= FEW_CANDIDATES:
                _note(found, form, mask)
            else:
                _note(found, form, mask_of(self._match_set(patterns, form, self._set_numbers)) & mask)
        return found

    def _match_set(self, patterns: re2._re2.Set | None, text: bytes, numbers: Sequence[int]) -> Sequence[int]:
        if patterns is None:
            return ()
        found = patterns.Match(text)
        if len(found) == 1:
            return ()
        if not found:
            self._statistics.add(set_failures=1)
            return numbers
        return [numbers[number - 1] for number in found if number]

    def _find_phrases(
        self, find: Callable[..., list[tuple[int, int, int]]], wanted: Mapping[bytes, int], found: dict[bytes, int]
    ) -> None:
        asking = {form: mask & self._phrase_mask for form, mask in wanted.items() if mask & self._phrase_mask}
        for part in _parts(asking, MAX_JOIN_BYTES):
            candidates = 0
            for index in {match[0] for match in find((b"\n".join(part)).lower(), overlapping=True)}:
                candidates |= self._phrase_users[index]
            for form, asked in part.items():
                _note(found, form, asked & candidates)


def _parts(wanted: Mapping[bytes, int], limit: int) -> Iterable[Mapping[bytes, int]]:
    """The forms in groups of no more than `limit` bytes (one form may be larger)."""
    if not wanted:
        return ()
    size = 0
    for form in wanted:
        size += len(form)
    if size <= limit:
        return (wanted,)
    parts: list[dict[bytes, int]] = [{}]
    size = 0
    for form, mask in wanted.items():
        if size + len(form) > limit and parts[-1]:
            parts.append({})
            size = 0
        parts[-1][form] = mask
        size += len(form)
    return parts


def _narrow(match: Callable[[bytes], Iterable[int]], part: Mapping[bytes, int], found: dict[bytes, int]) -> None:
    """Which of the forms may have what is wanted of them: they are matched joined, and if something is found, in
    smaller parts."""
    union = last = 0
    for mask in part.values():
        if mask != last:
            union |= mask
            last = mask
    candidates = mask_of(match(b"\n".join(part) + b"\n")) & union
    if not candidates:
        return
    if len(part) > FEW_FORMS:
        forms = list(part)
        step = max(len(forms) // FEW_FORMS + 1, FEW_FORMS // 4)
        for start in range(0, len(forms), step):
            _narrow(match, {form: part[form] & candidates for form in forms[start : start + step]}, found)
    else:
        again = len(part) > 1 and candidates.bit_count() > FEW_CANDIDATES
        last, common, many = 0, 0, False
        for form, asked in part.items():
            if asked != last:
                last, common = asked, asked & candidates
                many = again and common.bit_count() > FEW_CANDIDATES
            _note(found, form, common & mask_of(match(form)) if many else common)


def _note(found: dict[bytes, int], form: bytes, mask: int) -> None:
    if mask:
        found[form] = found.get(form, 0) | mask

"""All regular expressions and phrase lists of a program side in one automaton: what a batch is matched with.

They share a Hyperscan database; until there is one, waf_core/scan/without_hyperscan.py serves.  One pass
over a value answers for all of them at once.  What is found are candidates, which the rules confirm one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from waf_core.operators.needs import Needs
from waf_core.scan.budget import NEW_PLANS, PlanBudget
from waf_core.scan.databases import DatabaseCache, Databases
from waf_core.scan.forms import MAX_JOIN_BYTES, Found, Wanted, note, parts
from waf_core.scan.hyperscan_set import Pattern, available
from waf_core.scan.large import LargePatterns
from waf_core.scan.limits import ScanLimits, ScanStatistics
from waf_core.scan.masks import mask_of
from waf_core.scan.narrow import narrow
from waf_core.scan.planner import Planner
from waf_core.scan.questions import Slot, mask_of_slots
from waf_core.scan.wish import NOTHING, Wish
from waf_core.scan.without_hyperscan import WithoutHyperscan

MIN_HYPERSCAN_PATTERNS: Final = 8
"""Smaller sets stay in RE2: their automaton stays small."""

MAX_JOINED_BYTES: Final = 2048
"""Longer forms are matched by themselves: it is the bytes that cost there, not the calls."""

FEW_ALONE: Final = 8
"""For so few patterns RE2 is asked at once, if the form has so many bytes for each of them."""

ALONE_BYTES: Final = (128, 20)
"""In a small set, and in a large one.  RE2 takes 1 to 2 us for each pattern; the scan for all 12 ns a byte for CRS at
paranoia level 1, 40 to 60 from level 2 on, and 100 where a header is full of what attacks have."""

FEW_WIDE: Final = 2
"""If so few short forms are asked for WIDE_SHARE of a large set's patterns, which is to say that they have what attacks
have, each is matched by itself: what is found in it would else be looked for in all the others."""

WIDE_SHARE: Final = 0.25

WIDE_BYTES: Final = 128
"""Longer ones are often text with brackets or quotes."""

SMALL_SET: Final = 150
"""Patterns.  (CRS has 116 at level 1, 176 at level 2, 201 at level 4.)"""

MAX_WISHES: Final = 128
"""Masks of which a set remembers what they want of it; when there are more it starts over: one request pays for letting
them go (1024 were a third of what 80 new arguments cost)."""


class PatternSet:
    """All patterns of one side: collect them with `add`, `compile`, then `find`.

    Masks have bit n for the pattern that `add` numbered n.
    """

    def __init__(self, statistics: ScanStatistics, limits: ScanLimits) -> None:
        self._statistics = statistics
        self._limits = limits
        self._numbers: dict[Pattern, int] = {}
        self._without: WithoutHyperscan | None = None
        self._databases: Databases | None = None
        self._large: LargePatterns | None = None
        self._main_mask = self._common_mask = self._large_mask = 0
        self._wishes: dict[int, Wish] = {}
        self._alone_bytes = self._wide = 0
        self.plans = PlanBudget()
        self.planners: list[Planner] = []
        """Of all that these are asked about."""

    def foresee(self) -> None:
        """The first exchanges have been judged: get ready for what is like them."""
        for planner in self.planners:
            planner.foresee()

    def add(self, pattern: Pattern) -> int:
        """Equal patterns share a number."""
        return self._numbers.setdefault(pattern, len(self._numbers))

    def compile(self) -> None:
        """Raises WafError when the patterns need more memory than an automaton may have."""
        if self._numbers and not self.load_hyperscan():
            self._without = WithoutHyperscan(self._numbers, self._limits.set_max_mem, self._statistics)

    def needs(self, number: int) -> Needs | None:
        """What a pattern needs, if that is kept with its database."""
        return None if self._databases is None else self._databases.needs[number]

    def tells_indexes(self, pattern: Pattern) -> bool | None:
        """May it tell indexes apart?  None: that is not kept with a database."""
        number = self._numbers.get(pattern)
        return None if self._databases is None or number is None else self._databases.tell[number]

    @property
    def patterns(self) -> list[Pattern]:
        """By number."""
        return list(self._numbers)

    @property
    def cache(self) -> DatabaseCache | None:
        """Where this set's Hyperscan database is kept, if it is to have one."""
        folder = self._wanted_folder()
        return DatabaseCache(folder) if folder is not None and available() else None

    @property
    def wants_hyperscan(self) -> bool:
        """Is it to have a Hyperscan database, if Hyperscan can be used?"""
        return self._wanted_folder() is not None

    def _wanted_folder(self) -> Path | None:
        return self._limits.hyperscan_folder if len(self._numbers) >= MIN_HYPERSCAN_PATTERNS else None

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
        self._main_mask, self._common_mask, self._large_mask = (
            mask_of(loaded.numbers[kind]) for kind in ("main", "common", "large")
        )
        count = self._main_mask.bit_count()
        self._alone_bytes = ALONE_BYTES[count > SMALL_SET]
        self._wide = int(count * WIDE_SHARE) if count > SMALL_SET else count
        large = {n: p for n in loaded.numbers["large"] if isinstance(p := patterns[n], bytes)}
        self._large = LargePatterns(large, loaded.large.match, self._limits) if large else None
        self._databases = loaded
        self._without = None
        return True

    def begin(self) -> None:
        """A phase of a transaction starts: its time for RE2 is full again, and its number of new plans."""
        self.plans.left = NEW_PLANS
        if self._large is not None:
            self._large.begin()

    def find(self, wanted: Wanted) -> Found:
        """For each form and the mask of the patterns that are wanted of it: the mask of those that may be
        found, all that are, seldom one more.  Forms without any are left out."""
        return self._find(list(wanted), (), wanted)

    def find_all(self, forms: Sequence[bytes], slots: Sequence[Slot]) -> Found:
        """The same for forms of which the same is wanted: what any of the slots asks for."""
        return self._find(forms, slots, None)

    def _wish_of(self, slots: Sequence[Slot]) -> Wish:
        if len(slots) > 1:
            return self._wish(mask_of_slots(slots))
        slot = slots[0]
        if slot.wish is None:
            slot.wish = self._wish(slot.patterns)
        return slot.wish

    def _wish(self, mask: int) -> Wish:
        """Only when there are databases: it stays with those who wish."""
        main = mask & self._main_mask
        if main == mask:
            return Wish(mask, main, 0, 0, False)
        other = mask ^ main
        common, large = other & self._common_mask, other & self._large_mask
        # Whatever is in none of them may always be found.
        return Wish(mask, main, common, other ^ common ^ large, large != 0)

    def _find(self, forms: Sequence[bytes], slots: Sequence[Slot], wanted: Wanted | None) -> Found:
        if not forms:
            return {}
        # In this order: another thread may bring the databases in just now, and take the other away after that.
        without, databases = self._without, self._databases
        if databases is None:
            return {} if without is None else without.find(wanted or dict.fromkeys(forms, mask_of_slots(slots)))
        main_database = databases.main.match
        found: Found = {}
        short: list[bytes] = []
        large: list[bytes] = []
        wide: list[bytes] = []
        wish = NOTHING if wanted is not None else self._wish_of(slots)
        union = wish.mask
        total = 0
        for form in forms:
            if wanted is not None:
                mask = wanted[form]
                if mask != wish.mask:  # it is the same for many
                    wish = self._wishes.get(mask) or self._remembered(mask)
                    union |= mask
            main = wish.main
            if not wish.only_main:
                note(found, form, wish.rest)
                if wish.large:
                    large.append(form)
                if wish.common:
                    candidates = -1 if wish.few_common else mask_of(databases.common.match(form))
                    note(found, form, candidates & wish.common)
                if not main:
                    continue
            size = len(form)
            if wish.count <= FEW_ALONE and size >= wish.count * self._alone_bytes:
                note(found, form, main)
            elif size <= MAX_JOINED_BYTES:
                short.append(form)
                total += size
                if wanted is not None and wish.count > self._wide and size <= WIDE_BYTES:
                    wide.append(form)
            else:
                note(found, form, mask_of(main_database(form)) & main)
        if wanted is not None and len(wide) <= FEW_WIDE < len(short):
            for form in wide:
                short.remove(form)
                note(found, form, mask_of(main_database(form)) & wanted[form])
        if total > MAX_JOIN_BYTES:
            for part in parts(short, MAX_JOIN_BYTES):
                narrow(main_database, part, union, wanted, found)
        elif short:
            narrow(main_database, short, union, wanted, found)
        if large and self._large is not None:
            self._large.find(large, union, wanted, found)
        return found

    def _remembered(self, mask: int) -> Wish:
        if len(self._wishes) >= MAX_WISHES:
            self._wishes.clear()
        wish = self._wishes[mask] = self._wish(mask)
        return wish

"""The compiled program: immutable, shared by all transactions that it judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from waf_core.macros import Macro
from waf_core.persistence import Store
from waf_core.rule import Routine, Target, Unit
from waf_core.scan.limits import ScanStatistics
from waf_core.scan.patterns import PatternSet
from waf_core.settings import EngineSettings

if TYPE_CHECKING:
    from waf_core.transaction import Transaction

Hit = tuple[Any, ...]
"""What the scan found to match: (number of the target, its value, and if they are known the form in which it matched
and the captures)."""

Hits = dict[int, list[Hit]]
"""By gate of the link; a value may come twice."""

FIRST_PHASE: Final = {1: 1, 2: 1, 3: 3, 4: 3, 5: 5}
"""Phase -> the first one whose scan judges values for it."""

Scan = Callable[["Transaction"], None]
"""Judges the values that are settled with a phase, for all phases that look at them; what it finds is added
to the transaction's `hits`."""


@dataclass(slots=True)
class PhaseProgram:
    """One phase, units in file order.  Positions index `units`."""

    units: list[Unit] = field(default_factory=list)
    kept: frozenset[int] = frozenset()
    """Positions that are alive: reachable, and not decided when compiled."""
    always: tuple[int, ...] = ()
    """Positions to visit in every transaction: batches, and units the scan cannot rule out."""
    visits: tuple[int, ...] = ()
    """As `always`, but of each routine only its first position."""
    routines: dict[int, Routine] = field(default_factory=dict)
    """By their first position."""
    batches: dict[int, dict[bytes, bytes | None]] = field(default_factory=dict)
    """Position -> TX variables that units decided when compiled set there (None: delete)."""
    scan: Scan | None = None
    gates: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Links of units that only the scan can bring to evaluation: gate -> (position of the unit, bit of the link, mask
    of the links that have to have hits)."""
    clean_tx: dict[bytes, bytes] | None = None
    """What this phase does to TX in a transaction in which nothing but harmless units has fired;
    None when there is no such thing (waf_core/compiler/clean.py)."""
    clean_first: int = 0
    """Position of the first unit that is visited in every transaction; harmless ones come before."""
    clean_batch: dict[bytes, bytes] = field(default_factory=dict)
    """What batches set ahead of harmless units."""
    clean_rest: dict[bytes, bytes] = field(default_factory=dict)
    """What of `clean_tx` comes about behind harmless units."""
    harmless: frozenset[int] = frozenset()
    """Positions of units that may fire without leaving the clean path."""
    clean_guards: list[Target] = field(default_factory=list)
    """Targets that have to be empty for the clean path to hold."""


@dataclass(slots=True)
class Program:
    """What WAF.from_directives makes of rule files."""

    settings: EngineSettings
    units: list[Unit]
    phases: dict[int, PhaseProgram]
    initial_tx: dict[bytes, bytes]
    store: Store
    notes: list[str]
    """Warnings for the person who wrote the rules, with positions."""
    files: list[str]
    """Every file that was read."""
    sought: list[str]
    """Patterns and optional files of Include."""
    keep_files: bool
    keep_raw_multipart: bool
    response_phase: int
    """The last phase in which anything looks at the response: 0 (never), 3 (headers) or 4 (body)."""
    opens_response_body: bool
    """May a rule turn SecResponseBodyAccess on?"""
    statistics: ScanStatistics
    has_clean_path: bool
    """Do the phases have a `clean_tx`?"""
    pattern_sets: list[PatternSet]
    """What the scan matches with; `precompile` moves them to Hyperscan."""
    record_openers: list[tuple[str, Macro]]
    """(collection, key) of initcol, setsid, setuid and setrsc, where traffic's fixed variables make
    the key: what a store may fetch ahead."""

    @property
    def paranoia_level(self) -> int | None:
        """CRS's blocking paranoia level (in CRS 3 there is but one), if it is known when compiled."""
        level = self._constant(b"blocking_paranoia_level")
        return level if level is not None else self._constant(b"paranoia_level")

    @property
    def anomaly_threshold(self) -> int | None:
        """The inbound anomaly score that blocks, if it is known when compiled."""
        return self._constant(b"inbound_anomaly_score_threshold")

    def _constant(self, name: bytes) -> int | None:
        value = self.initial_tx.get(name)
        for phase in self.phases.values():
            for batch in phase.batches.values():
                value = batch.get(name, value)
        return int(value) if value and value.isdigit() else None

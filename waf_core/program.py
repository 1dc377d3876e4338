"""The compiled program: immutable, shared by all transactions that it judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waf_core.macros import Macro
from waf_core.persistence import Store
from waf_core.rule import Unit
from waf_core.settings import EngineSettings

if TYPE_CHECKING:
    from waf_core.scan.patterns import ScanStatistics
    from waf_core.transaction import Transaction

HitValues = dict[tuple[int, int], set[bytes]]
"""(unit position, link number) -> the values that the scan found to match."""

Scan = Callable[["Transaction", HitValues], set[int]]
"""Judges the fixed values of a phase; returns the positions of units to evaluate."""


@dataclass(slots=True)
class PhaseProgram:
    """One phase, units in file order.  Positions index `units`."""

    units: list[Unit] = field(default_factory=list)
    kept: frozenset[int] = frozenset()
    """Positions that are alive: reachable, and not decided when compiled."""
    always: tuple[int, ...] = ()
    """Positions to visit in every transaction: batches, and units the scan cannot rule out."""
    batches: dict[int, dict[bytes, bytes | None]] = field(default_factory=dict)
    """Position -> TX variables that units decided when compiled set there (None: delete)."""
    scan: Scan | None = None
    scanned: int = 0
    """Units that only the scan can bring to evaluation."""


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
    keep_files: bool
    keep_raw_multipart: bool
    statistics: ScanStatistics
    record_openers: list[tuple[str, Macro]]
    """(collection, key) of initcol, setsid, setuid and setrsc, where traffic's fixed variables make
    the key: what a store may fetch ahead."""

    def has_rules(self, phase: int) -> bool:
        """Is there a live unit in this phase?"""
        return bool(self.phases[phase].kept)

    @property
    def paranoia_level(self) -> int | None:
        """CRS's blocking paranoia level, if it is known when compiled."""
        value = self.initial_tx.get(b"blocking_paranoia_level")
        for phase in self.phases.values():
            for batch in phase.batches.values():
                value = batch.get(b"blocking_paranoia_level", value)
        return int(value) if value and value.isdigit() else None

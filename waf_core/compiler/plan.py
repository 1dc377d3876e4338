"""The scan plan: which units need to be asked at all, from the values of a transaction.

Most variables do not change while a phase runs, and most operators depend on nothing but the
value.  For such a link the answer can be found before any rule runs, for all rules at once, and
cached by value.  A unit is *gated* by those of its links that are of this kind (and have no
link with side effects before them): unless each of them has a value that matches, the unit
cannot match and is not touched.  All other units are visited in every transaction.

`&NAME` counts as a value too (the number in decimal).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from waf_core.program import HitValues, PhaseProgram, Scan
from waf_core.rule import Link, Target, Unit
from waf_core.scan.batch import Pending, judge
from waf_core.scan.patterns import PatternSet, ScanLimits, ScanStatistics
from waf_core.scan.planner import Place
from waf_core.scan.scanner import Scanner, Test
from waf_core.selection import make_reader
from waf_core.variables import Pair

if TYPE_CHECKING:
    from waf_core.transaction import Transaction

_Values = Callable[["Transaction"], Sequence[Pair]]
_Source = tuple[_Values, Scanner | None, dict[bytes, Scanner] | None]


class Planner:
    """Plans all phases of a program; request and response side have a PatternSet each."""

    def __init__(self, statistics: ScanStatistics, limits: ScanLimits) -> None:
        self._statistics = statistics
        self._limits = limits
        self._request = PatternSet(statistics, limits)
        self._response = PatternSet(statistics, limits)

    def plan(self, phase: int, program: PhaseProgram) -> None:
        """Set `always` and `scan` of a phase."""
        gated: dict[int, list[int]] = {}
        for position in sorted(program.kept):
            numbers = _gates(program.units[position])
            if numbers:
                gated[position] = numbers
        program.always = tuple(
            sorted(p for p in {*program.kept, *program.batches} if p not in gated or p in program.batches)
        )
        program.scanned = len(gated)
        if gated:
            patterns = self._request if phase <= 2 else self._response
            program.scan = self._scan(program, gated, patterns)

    @property
    def pattern_sets(self) -> list[PatternSet]:
        return [self._request, self._response]

    def finish(self) -> None:
        self._request.compile()
        self._response.compile()

    def _scan(self, program: PhaseProgram, gated: dict[int, list[int]], patterns: PatternSet) -> Scan:
        groups: dict[tuple[int, str | None], list[tuple[Target, Link, Place]]] = {}
        counts: list[tuple[Target, Link, Place]] = []
        for position, numbers in gated.items():
            for number in numbers:
                link = program.units[position].links[number]
                for target in link.targets:
                    item = (target, link, (position, number))
                    if target.count:
                        counts.append(item)
                    else:
                        groups.setdefault((id(target.variable), target.xpath), []).append(item)
        sources = [self._source(items, patterns) for items in groups.values()]
        sources += [self._count_source(item, patterns) for item in counts]
        need = {position: sum(1 << number for number in numbers) for position, numbers in gated.items()}
        return _make_scan(sources, need, patterns, self._statistics)

    def _scanner(self, items: Sequence[tuple[Target, Link, Place]], patterns: PatternSet) -> Scanner:
        scanner = Scanner(self._limits)
        for _, link, place in items:
            assert link.operator is not None
            scanner.add(Test(link.chain, link.operator, link.negated, link.multi_match, place))
        scanner.compile(patterns)
        return scanner

    def _source(self, items: list[tuple[Target, Link, Place]], patterns: PatternSet) -> _Source:
        """One variable: a scanner for any key, and one for each key that rules name."""
        first = items[0][0]
        variable = first.variable
        general = [item for item in items if item[0].key is None]
        keys = {item[0].key for item in items if item[0].key is not None}
        keys |= {key for item in general for key in item[0].excluded_keys}
        special: dict[bytes, Scanner] = {}
        for key in keys:
            chosen = [i for i in general if key not in i[0].excluded_keys]
            chosen += [i for i in items if i[0].key == key]
            special[key] = self._scanner(chosen, patterns)
        default = self._scanner(general, patterns) if general else None
        values: _Values = variable.get
        if first.xpath is not None and variable.select is not None:
            select_values, xpath = variable.select, first.xpath

            def values(tx: Transaction) -> Sequence[Pair]:
                return select_values(tx, xpath)

        return (values, default, special or None)

    def _count_source(self, item: tuple[Target, Link, Place], patterns: PatternSet) -> _Source:
        return (make_reader(item[0]), self._scanner([item], patterns), None)


def _gates(unit: Unit) -> list[int]:
    """Numbers of the links whose answer can be found ahead."""
    numbers: list[int] = []
    for number, link in enumerate(unit.links):
        if (
            link.operator is not None
            and link.operator.pure
            and not any(target.variable.dynamic for target in link.targets)
        ):
            numbers.append(number)
        if link.effects:
            break
    return numbers


def _make_scan(
    sources: Sequence[_Source], need: dict[int, int], patterns: PatternSet, statistics: ScanStatistics
) -> Scan:
    def scan(tx: Transaction, hits: HitValues) -> set[int]:
        pending: Pending = {}
        for values, default, special in sources:
            for key, value in values(tx):
                scanner = default if special is None else special.get(key.lower(), default)
                if scanner is None:
                    continue
                found = scanner.recent.get(value)
                if found is None:
                    found = scanner.recall(value)
                    if found is None:
                        waiting = pending.get(scanner)
                        if waiting is None:
                            pending[scanner] = {value: None}
                        else:
                            waiting[value] = None
                        continue
                if found:
                    _note(hits, found, value)
        if pending:
            statistics.scans += sum(map(len, pending.values()))
            patterns.begin()
            for value, found in judge(pending, patterns, tx):
                _note(hits, found, value)
        if not hits:
            return set()
        seen: dict[int, int] = {}
        for position, number in hits:
            seen[position] = seen.get(position, 0) | 1 << number
        return {position for position, mask in seen.items() if mask == need[position]}

    return scan


def _note(hits: HitValues, found: Sequence[Place], value: bytes) -> None:
    for place in found:
        known = hits.get(place)
        if known is None:
            hits[place] = {value}
        else:
            known.add(value)

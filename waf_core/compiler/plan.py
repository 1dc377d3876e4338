"""The scan plan: which units need to be asked at all, from the values of a transaction.

Most variables do not change while a phase runs, and most operators depend on nothing but the
value.  For such a link the answer can be found before any rule runs, for all rules at once, and
cached by value.  A unit is *gated* by those of its links that are of this kind (and have no
link with side effects before them): unless each of them has a value that matches, the unit
cannot match and is not touched.  All other units are visited in every transaction.

A value is judged once, as soon as it is settled, for the rules of all phases that look at it: what is
known with the request's headers is judged with phase 1, also for phase 2, and only what the body brings
is left for then.  ARGS, which grows, is judged in its parts.  Requests and responses are apart.

`&NAME` counts as a value too (the number in decimal).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from waf_core.actions import RemoveTarget, SetAttribute, SetVar
from waf_core.bodies import Pair
from waf_core.bodies.xpath import XPath
from waf_core.compiler.leftovers import CAPTURING, Leftovers
from waf_core.operators import Captures
from waf_core.program import FIRST_PHASE, Hits, PhaseProgram, Scan
from waf_core.rule import Link, Target, Unit
from waf_core.scan.batch import judge
from waf_core.scan.elements import Pending
from waf_core.scan.limits import ScanLimits, ScanStatistics
from waf_core.scan.masks import mask_of
from waf_core.scan.patterns import PatternSet
from waf_core.scan.questions import Place
from waf_core.scan.scanner import Scanner, Test
from waf_core.selection import make_reader
from waf_core.turns import give_way
from waf_core.variables import REGISTRY, Variable

if TYPE_CHECKING:
    from waf_core.transaction import Transaction

_Values = Callable[["Transaction"], Sequence[Pair]]
_Item = tuple[Target, Link, Place]


LONG_KEY: Final = 60
"""Bytes of a key; all that are longer count as of this length."""

MAX_SHAPES: Final = 256
"""Lists of header names of which a scan remembers what they mean to rules about names and counts."""

MAX_SHAPE_NAMES: Final = 64
MAX_SHAPE_BYTES: Final = 2048

FEW_PAIRS: Final = 8
"""Looking up so few is done before another thread has waited for long."""


class _Source:
    """Values, and who judges them: `default`, or the `special` scanner for a key.  Scalars have a `read`; what
    follows from the names of the request's headers alone is `by_shape`; where it is `of_body`, there are no values
    when the request has no body."""

    __slots__ = ("by_shape", "default", "of_body", "read", "sizes", "special", "values")

    def __init__(
        self,
        values: _Values,
        default: Scanner | None,
        special: dict[bytes, Scanner],
        *,
        read: Callable[[Transaction], bytes] | None = None,
        by_shape: bool = False,
        of_body: bool = False,
    ) -> None:
        self.values = values
        self.default = default
        self.special = special
        self.read = read
        self.by_shape = by_shape
        self.of_body = of_body
        self.sizes = mask_of([min(len(key), LONG_KEY) for key in special])
        """Lengths of the keys that have a special scanner, as bits: most keys need not be looked up."""


class Planner:
    """Plans all phases of a program; request and response side have a PatternSet each."""

    def __init__(self, statistics: ScanStatistics, limits: ScanLimits, leftovers: Leftovers) -> None:
        self._leftovers = leftovers
        self._statistics = statistics
        self._limits = limits
        self._request = PatternSet(statistics, limits)
        self._response = PatternSet(statistics, limits)
        self._scanners: list[tuple[Scanner, PatternSet]] = []
        self._gates = 0

    def plan(self, phases: Mapping[int, PhaseProgram]) -> None:
        """Set `always`, `gates` and `scan` of the phases."""
        counts: dict[int, list[_Item]] = {phase: [] for phase in phases}
        groups: dict[int, dict[tuple[str, XPath | None], list[_Item]]] = {phase: {} for phase in phases}
        narrowed = _narrowed(phases)
        for phase, program in phases.items():
            for position in sorted(program.kept):
                unit = program.units[position]
                numbers = _gates(unit, unit.index in narrowed, self._leftovers)
                needed = sum(1 << number for number in numbers)
                for number in numbers:
                    link = unit.links[number]
                    gate = link.gate = self._gates
                    link.together = _counts_only(link)
                    self._gates += 1
                    program.gates[gate] = (position, 1 << number, needed)
                    for target_number, target in enumerate(link.targets):
                        item: _Item = (target, link, (gate, target_number))
                        if target.count:
                            counts[_stage(target.variable, phase)].append(item)
                            continue
                        for variable in _parts(target, phase):
                            group = groups[_stage(variable, phase)]
                            group.setdefault((variable.name, target.xpath), []).append(item)
            gated = {position for position, *_ in program.gates.values()}
            program.always = tuple(
                sorted(p for p in {*program.kept, *program.batches} if p not in gated or p in program.batches)
            )
        for phase, program in phases.items():
            patterns = self._request if phase <= 2 else self._response
            processors = _processors(program)
            sources = [
                self._source(REGISTRY[name], items, patterns, processors) for (name, _), items in groups[phase].items()
            ]
            sources += [self._count_source(item, patterns) for item in counts[phase]]
            if sources:
                program.scan = _make_scan(sources, patterns, self._statistics)
        self._request.compile()
        self._response.compile()
        for scanner, patterns in self._scanners:
            scanner.compile(patterns)
            patterns.planners.append(scanner.planner)

    @property
    def pattern_sets(self) -> list[PatternSet]:
        return [self._request, self._response]

    def _scanner(self, items: Sequence[_Item], patterns: PatternSet) -> Scanner:
        scanner = Scanner(self._limits)
        for _, link, place in items:
            assert link.operator is not None
            scanner.add(Test(link.chain, link.operator, link.negated, link.multi_match, link.capture, place))
        scanner.collect(patterns)
        self._scanners.append((scanner, patterns))
        return scanner

    def _source(
        self, variable: Variable, items: list[_Item], patterns: PatternSet, processors: frozenset[bytes]
    ) -> _Source:
        """One variable: a scanner for any key, and one for each key that rules name.  `processors`: those for bodies
        that rules of the phase may choose."""
        general = [item for item in items if item[0].key is None]
        keys = {item[0].key for item in items if item[0].key is not None}
        keys |= {key for item in general for key in item[0].excluded_keys}
        special: dict[bytes, Scanner] = {}
        for key in sorted(keys):
            chosen = [i for i in general if key not in i[0].excluded_keys]
            chosen += [i for i in items if i[0].key == key]
            special[key] = self._scanner(chosen, patterns)
        default = self._scanner(general, patterns) if general else None
        values: _Values = variable.get
        if variable.name == "REQBODY_PROCESSOR" and processors:
            return _Source(_possible_processors(processors), default, {})
        xpath = items[0][0].xpath
        if xpath is not None and variable.select is not None:
            values = _at_xpath(variable.select, xpath)
        by_shape = variable.name == "REQUEST_HEADERS_NAMES"
        return _Source(values, default, special, read=variable.read, by_shape=by_shape, of_body=variable.of_body)

    def _count_source(self, item: _Item, patterns: PatternSet) -> _Source:
        target = item[0]
        by_shape = target.variable.name == "REQUEST_HEADERS" and not target.excluded_patterns
        return _Source(make_reader(target), self._scanner([item], patterns), {}, by_shape=by_shape)


def _possible_processors(processors: frozenset[bytes]) -> _Values:
    """REQBODY_PROCESSOR, and those that rules may choose meanwhile."""
    known = [(b"", name) for name in sorted(processors)]

    def values(tx: Transaction) -> Sequence[Pair]:
        current = tx.request_body.processor
        return known if current in processors else [*known, (b"", current)]

    return values


def _at_xpath(select: Callable[[Transaction, XPath], Sequence[Pair]], xpath: XPath) -> _Values:
    return lambda tx: select(tx, xpath)


def _stage(variable: Variable, phase: int) -> int:
    """The phase whose scan judges a variable for rules of `phase`: the first one at which it is settled."""
    return phase if variable.fixed_from > phase else max(variable.fixed_from, FIRST_PHASE[phase])


def _parts(target: Target, phase: int) -> list[Variable]:
    """The variables to read instead of a target's: the parts of it that there are in this phase."""
    parts = [REGISTRY[name] for name in target.variable.parts]
    return [part for part in parts if part.phase <= phase] or [target.variable]


def _narrowed(phases: Mapping[int, PhaseProgram]) -> set[int]:
    """Indexes of the units that may lose targets while a transaction runs (ctl:ruleRemoveTarget...)."""
    links = (link for program in phases.values() for unit in program.units for link in unit.links)
    removals = (effect for link in links for effect in link.effects if isinstance(effect, RemoveTarget))
    return {index for removal in removals for index in removal.units}


def _processors(program: PhaseProgram) -> frozenset[bytes]:
    """Body processors that rules of a phase may choose (ctl:requestBodyProcessor)."""
    links = (link for unit in program.units for link in unit.links)
    changes = (effect for link in links for effect in link.effects if isinstance(effect, SetAttribute))
    chosen = (c.value for c in changes if (c.owner, c.attribute) == ("request_body", "processor"))
    return frozenset(value for value in chosen if isinstance(value, bytes))


def _counts_only(link: Link) -> bool:
    """Do its effects nothing but count?  If it captures, each match has to capture, so that the last one's is left."""
    captures = not link.captured or link.operator_name.lower() in CAPTURING
    return captures and all(isinstance(e, SetVar) and e.counts for e in link.effects)


def _gates(unit: Unit, narrowed: bool, leftovers: Leftovers) -> list[int]:
    """Numbers of the links whose answer can be found ahead, up to the first one that does something when it matches.
    In a narrowed unit that is not so for counts: to lose a target makes other values fail, but a count smaller."""
    numbers: list[int] = []
    for number, link in enumerate(unit.links):
        if (
            link.operator is not None
            and link.operator.pure
            and not any(target.variable.dynamic or (narrowed and target.count) for target in link.targets)
        ):
            numbers.append(number)
        if leftovers.left_by(link):
            break
    return numbers


def _make_scan(sources: Sequence[_Source], patterns: PatternSet, statistics: ScanStatistics) -> Scan:
    scalars = [(source.read, source.default) for source in sources if source.read and source.default]
    by_shape = [source for source in sources if source.by_shape]
    others = [source for source in sources if not source.read and not source.by_shape]
    bodiless = [source for source in others if not source.of_body]
    shapes: dict[tuple[bytes, ...], list[tuple[Sequence[Place], bytes]]] = {}

    def scan(tx: Transaction) -> None:
        pending: Pending = {}
        hits = tx.hits
        if by_shape:
            shape = tuple([name for name, _ in tx.request_headers])
            known = shapes.get(shape)
            if known is None:
                known = _look_up(by_shape, tx, pending)
                if not pending and len(shape) <= MAX_SHAPE_NAMES and sum(map(len, shape)) <= MAX_SHAPE_BYTES:
                    if len(shapes) >= MAX_SHAPES:
                        shapes.clear()
                    shapes[shape] = known
            for found, value in known:
                _note(hits, found, value)
        for read, scanner in scalars:
            value = read(tx)
            answer = scanner.recent.get(value)
            if answer is None:
                answer = _recall(scanner, value, pending)
            if answer:
                _note(hits, answer, value)
        for found, value in _look_up(others if tx.request_body.present else bodiless, tx, pending):
            _note(hits, found, value)
        if pending:
            statistics.add(scans=sum(map(len, pending.values())))
            patterns.begin()
            for _, value, told in judge(pending, patterns, tx):
                for place, form, captures in told:
                    _hit(hits, place, value, form, captures)

    return scan


def _look_up(sources: Sequence[_Source], tx: Transaction, pending: Pending) -> list[tuple[Sequence[Place], bytes]]:
    """What is remembered of their values: all that was found.  The rest is pending."""
    out: list[tuple[Sequence[Place], bytes]] = []
    for source in sources:
        pairs = source.values(tx)
        turn = 0
        for key, value in pairs:
            turn += 1
            if turn % FEW_PAIRS == 0:
                give_way()
            scanner = source.default
            if source.sizes >> min(len(key), LONG_KEY) & 1:
                scanner = source.special.get(key.lower(), scanner)
            if scanner is None:
                continue
            answer = scanner.recent.get(value)
            if answer is None:
                answer = _recall(scanner, value, pending)
            if answer:
                out.append((answer, value))
    return out


def _recall(scanner: Scanner, value: bytes, pending: Pending) -> tuple[Place, ...]:
    """What was found for a value that is not among the recent ones; when that is not known, it is pending."""
    found = scanner.older.get(value)
    if found is not None:
        scanner.remember(value, found)
        return found
    waiting = pending.get(scanner)
    if waiting is None:
        pending[scanner] = {value: None}
    else:
        waiting[value] = None
    return ()


def _note(hits: Hits, found: Sequence[Place], value: bytes) -> None:
    for place in found:
        _hit(hits, place, value, None, None)


def _hit(hits: Hits, place: Place, value: bytes, form: bytes | None, captures: Captures | None) -> None:
    gate = place[0]
    hit = (place[1], value, form, captures)
    known = hits.get(gate)
    if known is None:
        hits[gate] = [hit]
    else:
        known.append(hit)

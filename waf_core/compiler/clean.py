"""The clean path: what every transaction does when no rule has anything to say.

Units that no scan can rule out are visited in every transaction; in CRS they add up scores and
compare them.  As long as nothing has changed what they look at they do the same each time.  Here
that is done once, when compiled, and its result, what each phase does to TX, is kept.

It holds only for visited units that look at nothing but TX, change nothing but TX, log nothing and
stop nothing; from the first phase on in which that is not so, there is no clean path.  Units that
fire do not leave it if they are *harmless*: they stop nothing, and neither set what visited units look
at or set nor look at what those set (CRS has a few that prepare something for later rules).  What the last
rule of a chain does counts only when the whole chain matches, which leaves the path.
"""

from __future__ import annotations

from collections.abc import Iterable

from waf_core import evaluation
from waf_core.actions import RemoveRules, SetVar
from waf_core.compiler.names import TxNames, add_written
from waf_core.compiler.reads import macros_of_effects
from waf_core.macros import Macro
from waf_core.program import PhaseProgram, Program
from waf_core.rule import Effect, Target, Unit
from waf_core.selection import read_target
from waf_core.transaction import Transaction


def find_clean_path(program: Program) -> None:
    """Set `clean_tx` and `harmless` of the phases, as far as the path goes."""
    tx = Transaction(program, "clean")
    tx.clean = False
    tx.scanned = max(program.phases)
    for phase, phase_program in program.phases.items():
        if not all(_depends_on_tx_alone(phase_program, position) for position in phase_program.always):
            break
        before = dict(tx.tx)
        tx.phase = phase
        evaluation.run_phase(tx, phase)
        guards = _guards(phase_program)
        if any(read_target(tx, guard) for guard in guards):
            break
        if tx.interruption or tx.detected or tx.matched_rules or tx.allowed or tx.limits:
            break
        if before.keys() - tx.tx.keys():
            break
        phase_program.clean_tx = {name: value for name, value in tx.tx.items() if before.get(name) != value}
        phase_program.clean_guards = guards
        program.has_clean_path = True
    read, written = TxNames(), TxNames()
    visited = _visited(program.phases.values())
    for unit in visited:
        _read(unit, read)
        add_written(unit.links, written, captures=False)
    indexes = {unit.index for unit in visited}
    for phase_program in program.phases.values():
        first = min((p for p in phase_program.always if p in phase_program.kept), default=len(phase_program.units))
        phase_program.clean_first = first
        phase_program.clean_batch = {
            name: value
            for position, batch in phase_program.batches.items()
            if position < first
            for name, value in batch.items()
            if value is not None
        }
        phase_program.clean_rest = {
            name: value
            for name, value in (phase_program.clean_tx or {}).items()
            if phase_program.clean_batch.get(name) != value
        }
        phase_program.harmless = frozenset(
            p
            for p in phase_program.kept
            if p < first
            and (phase_program.units[p].skip_to or 0) <= first
            and _is_harmless(phase_program.units[p], read, _and_later_batches(written, phase_program, p), indexes)
        )


def _and_later_batches(written: TxNames, phase: PhaseProgram, position: int) -> TxNames:
    """What is set elsewhere, and by batches that come after a unit: it must not see it yet, and what it sets itself
    must not outlast it."""
    names = TxNames()
    names.exact = written.exact.union(*(b for p, b in phase.batches.items() if p > position))
    names.prefixes, names.anything = written.prefixes, written.anything
    return names


def _visited(phases: Iterable[PhaseProgram]) -> list[Unit]:
    return [p.units[position] for p in phases for position in p.always if position in p.kept]


def _guards(phase: PhaseProgram) -> list[Target]:
    """`TX:/expression/` of visited units: they have to be empty for the clean path to hold, since the
    names that fit may come from traffic."""
    return [
        target
        for unit in _visited([phase])
        for link in unit.links
        for target in link.targets
        if target.pattern is not None
    ]


def _depends_on_tx_alone(program: PhaseProgram, position: int) -> bool:
    if position not in program.kept:
        return True
    for link in program.units[position].links:
        if any(target.variable.name != "TX" for target in link.targets):
            return False
        if link.operator is not None and not link.operator.pure:
            # What the argument's macros look at; an operator without macros is impure by nature.
            names = Macro(link.operator_argument).names
            if not names or any(name != "TX" for name, _ in names):
                return False
        for effect in link.effects:
            if not isinstance(effect, SetVar) or effect.collection != "TX":
                return False
            if any(name != "TX" for name, _ in (*effect.name.names, *effect.value.names)):
                return False
    return True


def _is_harmless(unit: Unit, read: TxNames, written: TxNames, visited: set[int]) -> bool:
    if unit.cuts:
        return False
    # A single rule is its own last one: it leaves the path when it matches, unless it is silent.
    silent = not (unit.log or unit.audit_log or unit.info.severity is not None or unit.sanitise_matched)
    links = unit.links if silent else unit.links[:-1]
    if not all(_effect_is_harmless(effect, visited) for link in links for effect in link.effects):
        return False
    mine_read, mine_written = TxNames(), TxNames()
    _read(unit, mine_read)
    add_written(links, mine_written)
    return not (mine_written.meets(read) or mine_written.meets(written) or mine_read.meets(written))


def _effect_is_harmless(effect: Effect, visited: set[int]) -> bool:
    """What changes the engine's mode would change what visited units do."""
    if isinstance(effect, RemoveRules):
        return not effect.units & visited
    return getattr(effect, "attribute", None) != "engine"


def _read(unit: Unit, names: TxNames) -> None:
    for link in unit.links:
        for target in link.targets:
            if target.variable.name == "TX":
                if target.key is not None:
                    names.exact.add(target.key)
                elif target.pattern is None:
                    names.anything = True
        for macro in (Macro(link.operator_argument), *macros_of_effects(link)):
            for name, key in macro.names:
                if name == "TX":
                    names.exact.add(key or b"")

"""Routines: runs of visited units that only reckon in TX, remembered by what they start from.

CRS adds up scores in units that every transaction visits, a dozen in each phase, and the sums are few: they
repeat from request to request.  A routine is a run of visited units that

  - look at TX variables by name alone, and set TX variables by name alone, to texts made of TX variables;
  - log nothing, stop nothing and capture nothing;
  - have no unit between them that the scan could bring up, and none that another unit skips to.

What it sets, and where it skips to, then follows from the variables that it reads (waf_core/evaluation.py
remembers it).
"""

from __future__ import annotations

from waf_core.actions import SetVar
from waf_core.compiler.memo import keys_of_argument, tx_keys
from waf_core.program import PhaseProgram, Program
from waf_core.rule import Routine, Unit

MIN_UNITS = 2


def find_routines(program: Program) -> None:
    """Set `routines` and `visits` of the phases."""
    for phase in program.phases.values():
        landings = [to for p in phase.kept if (to := phase.units[p].skip_to) is not None]
        run: list[int] = []
        visited = set(phase.always)
        for position in sorted({*phase.kept, *visited}):
            if run and any(run[-1] < landing <= position for landing in landings):
                _close(phase, run)
            if position in visited and _fits(phase, position, first=not run):
                run.append(position)
            else:
                _close(phase, run)
        _close(phase, run)
        inner = {position for routine in phase.routines.values() for position in routine.positions[1:]}
        phase.visits = tuple(position for position in phase.always if position not in inner)


def _fits(phase: PhaseProgram, position: int, *, first: bool) -> bool:
    """Batches fit if they only set; but a routine does not begin with one, which may have been applied already."""
    if not all(value is not None for value in phase.batches.get(position, {}).values()):
        return False
    if position not in phase.kept:
        return not first
    return _names_read(phase.units[position]) is not None


def _close(phase: PhaseProgram, run: list[int]) -> None:
    units = [phase.units[position] for position in run if position in phase.kept]
    if len(units) >= MIN_UNITS:
        keys = sorted({name for unit in units for name in _names_read(unit) or ()})
        phase.routines[run[0]] = Routine(tuple(run), frozenset(unit.index for unit in units), tuple(keys))
    run.clear()


def _names_read(unit: Unit) -> set[bytes] | None:
    """All that a unit looks at, and what it sets, which may be an addition; None when it does more than reckon."""
    if unit.cuts or unit.log or unit.audit_log or unit.info.severity is not None or unit.sanitise_matched:
        return None
    found: set[bytes] = set()
    for link in unit.links:
        asked = keys_of_argument(link)
        if link.capture or asked is None:
            return None
        found |= asked
        for target in link.targets:
            if target.variable.name != "TX" or target.key is None:
                return None
            found.add(target.key)
        for effect in link.effects:
            if not isinstance(effect, SetVar) or effect.collection != "TX" or effect.kind == "delete":
                return None
            read = tx_keys(effect.value.names)
            if effect.name.constant is None or read is None:
                return None
            found |= read | {effect.name.constant}
    return found

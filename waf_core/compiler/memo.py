"""Chains whose outcome is the same for the same input, remembered.

CRS has chains that note every header's name in TX and then look among those notes.  The scan cannot rule
them out, since TX changes while a phase runs; but what they do depends on little, and that little (the
header names of a browser) repeats from request to request.  A unit is remembered if

  - its first rule looks at fixed variables and captures, every later one at TX;
  - its operators depend on the value and on TX variables alone;
  - it does nothing but set TX variables, to texts made of constants and of what it captured.

Only "no match" is remembered, with what the unit did to TX on the way (waf_core/evaluation.py).  It holds if the notes
were not there before: names that only the unit itself can set are not looked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from waf_core.actions import SetVar
from waf_core.compiler.names import CAPTURES, TxNames, add_written
from waf_core.macros import Macro
from waf_core.program import Program
from waf_core.rule import Link, Memo, Unit


def find_memos(program: Program) -> None:
    """Set `memo` of the units that can have one."""
    for phase in program.phases.values():
        for position in phase.kept:
            unit = phase.units[position]
            unit.memo = _memo(unit, program)


def _set_by_others(unit: Unit, program: Program) -> TxNames:
    """What may be there at the unit's turn, which comes once in a transaction."""
    names = TxNames()
    names.exact.update(program.initial_tx)
    for phase in program.phases.values():
        names.exact.update(*phase.batches.values())
        for other in phase.units:
            if other is not unit:
                add_written(other.links, names)
    return names


def _memo(unit: Unit, program: Program) -> Memo | None:
    first, *rest = unit.links
    if not rest or not first.capture or unit.sanitise_matched:
        return None
    if any(target.variable.dynamic or target.count or target.xpath is not None for target in first.targets):
        return None
    if any(target.variable.name != "TX" or target.count for link in rest for target in link.targets):
        return None
    # What the last rule does it does only when the whole chain matches, and that is not remembered.
    if not all(_only_notes(link) for link in unit.links[:-1]):
        return None
    keys: set[bytes] = set()
    for link in unit.links:
        if link.operator is None:
            return None
        asked = keys_of_argument(link)
        if asked is None:
            return None
        keys.update(asked)
        for target in link.targets:
            if target.variable.name == "TX":
                if target.pattern is None and target.key is None:
                    return None
                if target.key is not None:
                    keys.add(target.key)
    if keys & CAPTURES:
        return None
    patterns = [target for link in rest for target in link.targets if target.pattern is not None]
    if patterns:
        names = _set_by_others(unit, program)
        patterns = [target for target in patterns if target.pattern is not None and names.may_fit(target.pattern)]
    return Memo(first.targets, tuple(sorted(keys)), patterns)


def keys_of_argument(link: Link) -> set[bytes] | None:
    """Names of the TX variables that a rule's operator looks at, beside the value; None when it looks at more (an
    operator without macros that is not pure is so by nature)."""
    if link.operator is None or link.operator.pure:
        return set()
    return tx_keys(Macro(link.operator_argument).names) or None


def tx_keys(names: Sequence[tuple[str, bytes | None]]) -> set[bytes] | None:
    """The keys of macros, if all are of TX variables by name."""
    keys = {key for name, key in names if name == "TX" and key is not None}
    return keys if all(name == "TX" and key is not None for name, key in names) else None


def _only_notes(link: Link) -> bool:
    for effect in link.effects:
        if not isinstance(effect, SetVar) or effect.collection != "TX" or effect.kind != "set":
            return False
        for name, key in (*effect.name.names, *effect.value.names):
            if name not in ("MATCHED_VAR", "MATCHED_VAR_NAME") and not (name == "TX" and key in CAPTURES):
                return False
    return True

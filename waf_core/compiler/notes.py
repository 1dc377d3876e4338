"""What the person who wrote rules should know: those that cannot do what they seem to.  `envoy-waf check` shows it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence, Set

from waf_core.actions import PERSISTENT, DeprecateVar, ExpireVar, InitCol, SetIdentity, SetVar
from waf_core.compiler.reads import LOGGING, RESPONSE
from waf_core.rule import Link, Unit
from waf_core.seclang.tree import TargetNode
from waf_core.settings import EngineSettings
from waf_core.variables import ALWAYS_EMPTY, REGISTRY


def note_rules(units: Sequence[Unit], reads: Sequence[Set[str]], settings: EngineSettings) -> list[str]:
    """Of all rules of a program, and what each reads.  (Those that are judged in two phases are there twice.)"""
    notes = [
        note
        for unit, names in zip(units, reads, strict=True)
        for note in (*_of_targets(unit), *_of_macros(unit, names), *_of_phase(unit))
    ]
    return [*dict.fromkeys(notes), *_of_bodies(units, settings), *_of_collections(units, reads)]


def note_exclusions(nodes: Sequence[TargetNode], rule_id: int) -> list[str]:
    """Exclusions in a list of targets that take nothing away."""
    names = {node.name for node in nodes if not node.negated}
    return [
        f"{node.position}: rule {rule_id} excludes something of {node.name}, at which it does not look"
        for node in nodes
        if node.negated and node.name not in names
    ]


def note_unreachable(units: Sequence[Unit]) -> list[str]:
    """Rules of one phase behind one that always ends the phase or always jumps."""
    notes: list[str] = []
    for unit in units:
        ends = unit.cuts or unit.skip_to is not None
        if not ends or any(not link.unconditional for link in unit.links):
            continue
        start = unit.position_in_phase + 1
        hidden = units[start : unit.skip_to] if not unit.cuts else units[start:]
        if hidden:
            ids = f"{hidden[0].info.id} to {hidden[-1].info.id}" if len(hidden) > 1 else str(hidden[0].info.id)
            notes.append(
                f"{unit.info.position}: rule {unit.info.id} always {'ends the phase' if unit.cuts else 'jumps'}:"
                f" {len(hidden)} rules of phase {unit.info.phase} behind it never run ({ids})"
            )
    return notes


def note_removal(unit: Unit, chosen: Sequence[Unit], what: str) -> list[str]:
    """A `ctl:ruleRemove...` of `unit` for rules that it cannot reach."""
    if not chosen:
        return [f"{what} changes nothing: no rule fits"]
    if all((other.info.phase, other.index) <= (unit.info.phase, unit.index) for other in chosen):
        return [f"{what} comes too late: rule {unit.info.id} runs behind those that it is for"]
    return []


def _of_targets(unit: Unit) -> Iterator[str]:
    for link in unit.links:
        if not link.unconditional and not link.targets:
            yield f"{link.position}: rule {unit.info.id} looks at nothing: it never matches"
        for target in link.targets:
            name, phase = target.variable.name, target.variable.phase
            if phase > unit.info.phase:
                yield (
                    f"{link.position}: rule {unit.info.id} reads {name} in phase {unit.info.phase}, but it has its"
                    f" value from phase {phase} on"
                )
            if name in ALWAYS_EMPTY:
                yield f"{link.position}: rule {unit.info.id}: {name} {ALWAYS_EMPTY[name]}"


def _of_macros(unit: Unit, names: Set[str]) -> Iterator[str]:
    for name in sorted(names):
        if name not in REGISTRY:
            yield f"{unit.info.position}: rule {unit.info.id}: %{{{name}}} is no variable: it stands for nothing"


def _of_phase(unit: Unit) -> Iterator[str]:
    if unit.info.phase == LOGGING and unit.disruption in ("deny", "drop", "redirect"):
        yield (
            f"{unit.info.position}: rule {unit.info.id} cannot {unit.disruption} in phase {LOGGING}, when all is over:"
            " it is only logged"
        )


def _of_bodies(units: Sequence[Unit], settings: EngineSettings) -> Iterator[str]:
    if not settings.response_body_access:
        reading = [unit for unit in units if any(_reads_response_body(link) for link in unit.links)]
        if reading:
            yield f"SecResponseBodyAccess is Off: {_count(reading)} looking at bodies of responses never match"
    if not settings.request_body_access:
        reading = [unit for unit in units if any(_reads_request_body(link) for link in unit.links)]
        if reading:
            yield f"SecRequestBodyAccess is Off: {_count(reading)} looking at bodies of requests never match"


def _of_collections(units: Sequence[Unit], reads: Sequence[Set[str]]) -> Iterator[str]:
    opened: set[str] = set()
    users: dict[str, list[Unit]] = {collection: [] for collection in PERSISTENT}
    for unit, names in zip(units, reads, strict=True):
        used = set(names)
        for effect in (effect for link in unit.links for effect in link.effects):
            if isinstance(effect, InitCol | SetIdentity):
                opened.add(effect.collection)
            elif isinstance(effect, SetVar | ExpireVar | DeprecateVar):
                used.add(effect.collection)
        for collection in used.intersection(users):
            users[collection].append(unit)
    for collection, using in users.items():
        if using and collection not in opened:
            yield (
                f"{using[0].info.position}: {collection} is never opened (initcol): {_count(using)} using it read and"
                " keep nothing"
            )


def _reads_request_body(link: Link) -> bool:
    return bool(link.targets) and all(target.variable.of_body and not target.count for target in link.targets)


def _reads_response_body(link: Link) -> bool:
    return bool(link.targets) and all(
        target.variable.phase > RESPONSE and target.variable.read is None and not target.count
        for target in link.targets
    )


def _count(units: Sequence[Unit]) -> str:
    return rules_named([unit.info.id for unit in units])


def rules_named(ids: Collection[int]) -> str:
    """How many rules, and the first of them."""
    first = next(iter(ids))
    return f"rule {first}" if len(ids) == 1 else f"{len(ids)} rules ({first}, ...)"

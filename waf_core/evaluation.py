"""Running a phase: which units are asked, in which order, and what a match does.

The scan (waf_core/compiler/plan.py) has already judged the values that are fixed for the
phase.  Units that it rules out are not touched at all; the rest, and those that look at
variables which rules change, are evaluated here, exactly and in the order of the rule files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from waf_core.actions import MAX_COLLECTION_KEYS, SetVar
from waf_core.bodies import Pair
from waf_core.limits import Limit
from waf_core.operators import Captures, Operator
from waf_core.operators.regex import MAX_CAPTURES
from waf_core.operators.restpath import RestPath
from waf_core.program import FIRST_PHASE
from waf_core.rule import Link, MatchedRule, Memo, Memory, Routine, Target, Unit
from waf_core.selection import read_target, read_values
from waf_core.settings import EngineMode
from waf_core.transformations import Transformation, apply_chain
from waf_core.turns import give_way

if TYPE_CHECKING:
    from waf_core.program import Hit, PhaseProgram
    from waf_core.transaction import Transaction

MAX_LOGGED_MATCHES: Final = 64
"""Values of one rule that a transaction keeps for its logs (all of them count)."""

MAX_LOGGED_BYTES: Final = 2048
"""Of a message, of logdata, and of a variable's name and value; what is longer is cut (texts say so)."""

MAX_MATCHED_RULES: Final = 4096

TURN_UNITS: Final = 8
"""Of so many units one looks whether another thread waits: no more than some hundred come one after the other."""

MAX_MEMORIES: Final = 1024
"""Outcomes that one unit remembers; then it starts over, so that none that a client makes up stays for ever."""

MAX_MEMORY_BYTES: Final = 2048
"""Input of one outcome."""

_OFF: Final = EngineMode.OFF

_DIGITS: Final = tuple(b"%d" % i for i in range(MAX_CAPTURES))
_DIGITS_FROM: Final = tuple(_DIGITS[i:] for i in range(MAX_CAPTURES + 1))


def run_phase(tx: Transaction, phase: int) -> None:
    """Evaluate one phase; the outcome is in the transaction."""
    program = tx.program.phases[phase]
    if tx.scanned < phase:
        _scan(tx, phase)
    hits = tx.hits
    found = hits.keys() & program.gates.keys() if hits and program.gates else ()
    _run(tx, program, _fired(program, found) if found else set())
    # A phase runs once: what was found for it need not be kept while the upstream answers.
    if len(found) == len(hits):
        hits.clear()
    else:
        for gate in found:
            del hits[gate]


def _run(tx: Transaction, program: PhaseProgram, fired: set[int]) -> None:
    order = program.visits or program.always
    skip_to = 0
    if tx.clean:
        if program.clean_tx is not None and fired <= program.harmless:
            if _stays_clean(tx, program, fired):
                tx.tx.update(program.clean_rest if fired else program.clean_tx)
                return
            if fired:
                # They have been evaluated, and the batches before them applied: go on behind them.
                skip_to = program.clean_first
                fired = set()
        tx.clean = False
    if fired:
        order = tuple(sorted({*fired, *order}))
    _visit(tx, program, order, skip_to)


def _visit(tx: Transaction, program: PhaseProgram, order: Sequence[int], skip_to: int) -> int:
    """Evaluate units, batches and routines in order, from position `skip_to` on; returns where to go on behind them,
    if one of them skips."""
    units, batches, routines = program.units, program.batches, program.routines
    for position in order:
        if position < skip_to:
            continue
        routine = routines.get(position)
        if routine is not None and order is not routine.positions:
            skip_to = _follow(tx, program, routine)
            continue
        batch = batches.get(position)
        if batch is not None:
            _apply_batch(tx, batch)
            if position not in program.kept:
                continue
        unit = units[position]
        if unit.index in tx.removed_units:
            continue
        if not evaluate_unit(tx, unit):
            continue
        if unit.disruption != "pass" and _disrupt(tx, unit):
            break
        if unit.skip_to is not None:
            skip_to = unit.skip_to
        if tx.engine is _OFF:
            break
    return skip_to


def _follow(tx: Transaction, program: PhaseProgram, routine: Routine) -> int:
    """Do what a routine does, by what it did the last time that it started from the same values; returns where to go
    on, as `_visit`."""
    if tx.trace is not None or (tx.removed_units and not tx.removed_units.isdisjoint(routine.units)):
        return _visit(tx, program, routine.positions, 0)
    store = tx.tx
    key = tuple(map(store.get, routine.keys))
    known = routine.known.get(key)
    if known is not None and len(store) + len(known.writes) < MAX_COLLECTION_KEYS:
        _recollect(tx, known)
        return known.skip_to
    tx.tx = watched = _Watched(store)
    skip_to = _visit(tx, program, routine.positions, 0)
    tx.tx = dict(watched)
    if sum(map(len, filter(None, key))) <= MAX_MEMORY_BYTES:
        if len(routine.known) >= MAX_MEMORIES:
            routine.known.clear()
        writes = {name: watched[name] for name in watched.written}
        routine.known[key] = Memory(writes, tx.matched_var, tx.matched_var_name, tx.matched_vars, skip_to)
    return skip_to


def _scan(tx: Transaction, phase: int) -> None:
    """Judge the values that have been settled since the last phase that ran."""
    for settled in range(max(tx.scanned + 1, FIRST_PHASE[phase]), phase + 1):
        scan = tx.program.phases[settled].scan
        if scan is not None:
            scan(tx)
    tx.scanned = phase


def _fired(program: PhaseProgram, found: Iterable[int]) -> set[int]:
    """Positions of the units all of whose gates have hits: are in `found`."""
    gates = program.gates
    seen: dict[int, int] = {}
    fired = set()
    for gate in found:
        position, bit, needed = gates[gate]
        if bit != needed:
            bit = seen[position] = seen.get(position, 0) | bit
        if bit == needed:
            fired.add(position)
    return fired


def _stays_clean(tx: Transaction, program: PhaseProgram, fired: set[int]) -> bool:
    """Evaluate harmless units; False when one that is not silent matched, or a guard has values."""
    clean = True
    if fired:
        tx.tx.update(program.clean_batch)
    skip_to = 0
    for position in sorted(fired):
        unit = program.units[position]
        if position < skip_to or unit.index in tx.removed_units or not evaluate_unit(tx, unit):
            continue
        clean &= not (unit.log or unit.audit_log or unit.info.severity is not None)
        skip_to = unit.skip_to or 0
    return clean and not any(read_target(tx, guard) for guard in program.clean_guards)


def _apply_batch(tx: Transaction, batch: dict[bytes, bytes | None]) -> None:
    for name, value in batch.items():
        if value is None:
            tx.tx.pop(name, None)
        else:
            tx.tx[name] = value


def _disrupt(tx: Transaction, unit: Unit) -> bool:
    """Apply a disruptive action; True when the phase ends."""
    from waf_core.transaction import Interruption

    action = unit.disruption
    if action.startswith("allow"):
        if tx.engine is EngineMode.DETECTION_ONLY:
            return False
        tx.allowed = action[6:] or "all"
        return True
    url = unit.redirect.expand(tx).decode("latin-1") if unit.redirect else ""
    stop = Interruption(unit.status, action, unit.info.id, url)
    if tx.engine is EngineMode.DETECTION_ONLY or tx.phase == 5:
        tx.detected = tx.detected or stop
        return False
    tx.interruption = stop
    return True


def evaluate_unit(tx: Transaction, unit: Unit) -> bool:
    """Evaluate a chain; on a match of all its links, log it and return True."""
    if tx.trace is None:
        if unit.memo is not None and not tx.removed_targets:
            return _remembered(tx, unit, unit.memo)
        return _evaluate(tx, unit)
    tx.trace.begin(tx)
    holds = _evaluate(tx, unit)
    tx.trace.end(tx, unit, holds)
    return holds


def _remembered(tx: Transaction, unit: Unit, memo: Memo) -> bool:
    """As `_evaluate`, by what the unit did the last time with the same input, if it did not match."""
    store = tx.tx
    if any(read_target(tx, target) for target in memo.patterns):
        return _evaluate(tx, unit)
    pairs = [tuple(read_target(tx, target)) for target in memo.targets]
    key = (*pairs, *map(store.get, memo.keys))
    known = memo.known.get(key)
    if known is not None and len(store) + len(known.writes) < MAX_COLLECTION_KEYS:
        _capture(store, ())
        _recollect(tx, known)
        tx.current_unit = unit
        return False
    tx.tx = watched = _Watched(store)
    matched = _evaluate(tx, unit)
    tx.tx = dict(watched)
    size = sum(len(value) for values in pairs for _, value in values)
    # It has captured if its first rule matched at all.
    if not matched and b"0" in watched.written and size <= MAX_MEMORY_BYTES:
        if len(memo.known) >= MAX_MEMORIES:
            memo.known.clear()
        writes = {name: watched[name] for name in watched.written if name in watched}
        memo.known[key] = Memory(writes, tx.matched_var, tx.matched_var_name, tx.matched_vars)
    return matched


def _recollect(tx: Transaction, known: Memory) -> None:
    tx.tx.update(known.writes)
    tx.matched_var, tx.matched_var_name = known.matched_var, known.matched_var_name
    tx.matched_vars = list(known.matched_vars)


class _Watched(dict[bytes, bytes]):
    """TX while a unit is evaluated whose writes are wanted."""

    def __init__(self, values: dict[bytes, bytes]) -> None:
        super().__init__(values)
        self.written: set[bytes] = set()

    def __setitem__(self, name: bytes, value: bytes) -> None:
        super().__setitem__(name, value)
        self.written.add(name)


def _evaluate(tx: Transaction, unit: Unit) -> bool:
    if unit.index % TURN_UNITS == 0:
        give_way()
    tx.matched_vars = []
    tx.current_unit = unit
    matches: list[Pair] = []
    for link in unit.links:
        if not _evaluate_link(tx, unit, link, matches):
            return False
    severity = unit.info.severity
    if severity is not None and severity < tx.highest_severity:
        tx.highest_severity = severity
    if unit.log or unit.audit_log:
        _record(tx, unit, matches)
    return True


def _text(value: bytes) -> str:
    if len(value) > MAX_LOGGED_BYTES:
        return f"{_text(value[:MAX_LOGGED_BYTES])}... ({len(value) - MAX_LOGGED_BYTES} bytes more)"
    return value.decode("utf-8", "backslashreplace")


def _record(tx: Transaction, unit: Unit, matches: list[Pair]) -> None:
    if len(tx.matched_rules) >= MAX_MATCHED_RULES:
        tx.note_limit(Limit.MATCHED_RULES)
        return
    if unit.sanitise_matched:
        tx.sanitised.update(("matched", name) for name, _ in matches)
    tx.matched_rules.append(
        MatchedRule(
            rule=unit.info,
            message=_text(unit.message.expand(tx)) if unit.message else "",
            data=_text(unit.data.expand(tx)) if unit.data else "",
            tags=tuple([_text(tag.expand(tx)) for tag in unit.tags]) if unit.tags else unit.info.tags,
            variable=_text(tx.matched_var_name),
            value=tx.matched_var[:MAX_LOGGED_BYTES],
            audit=unit.audit_log,
            log=unit.log,
            matches=_logged(matches[:MAX_LOGGED_MATCHES], whole=unit.sanitise_matched),
        )
    )


def _logged(matches: list[Pair], *, whole: bool) -> list[Pair]:
    """What is kept of them for the logs; `whole`: so that each can be found and hidden in all that is shown."""
    if whole:
        return matches
    return [pair if len(pair[1]) <= MAX_LOGGED_BYTES else (pair[0], pair[1][:MAX_LOGGED_BYTES]) for pair in matches]


def _evaluate_link(tx: Transaction, unit: Unit, link: Link, matches: list[Pair]) -> bool:
    """Ask one rule about all its values; run its effects once for each match."""
    operator = link.operator
    if operator is None:
        tx.matched_var, tx.matched_var_name = b"", b""
        for effect in link.effects:
            effect(tx)
        return True
    removed = [target for units, target in tx.removed_targets if unit.index in units] if tx.removed_targets else None
    hits = tx.hits.get(link.gate)
    new: list[Pair] = []
    if hits is None:
        for target in link.targets:
            for key, value in read_target(tx, target, removed):
                _ask(tx, link, operator, target, key, value, new)
    else:
        _take(tx, link, operator, hits, removed, new)
    if not new:
        return False
    matches += new
    tx.matched_vars = tx.matched_vars + new
    return True


def _ask(
    tx: Transaction, link: Link, operator: Operator, target: Target, key: bytes, value: bytes, new: list[Pair]
) -> None:
    """Ask the operator about the forms of a value."""
    give_way()
    for form in _forms(link.chain, value) if link.multi_match else (apply_chain(link.chain, value),):
        captures = operator.match(form, tx)
        if (captures is None) is link.negated:
            _hold(tx, link, target, key, value, form, captures, new)


def _take(
    tx: Transaction,
    link: Link,
    operator: Operator,
    hits: Sequence[Hit],
    removed: Sequence[Target] | None,
    new: list[Pair],
) -> None:
    """Take what the scan has told; what it has not kept is made again."""
    together = link.together and tx.trace is None
    form = b""
    captures: Captures | None = None
    for number, told in _by_target(hits):
        target = link.targets[number]
        for key, value in read_values(tx, target, removed, told):
            known = told.get(value)
            if known is None:
                continue
            kept, kept_captures = known[2], known[3]
            if link.multi_match:
                forms = _forms(link.chain, value)
                if len(forms) > 1:
                    give_way()
                    for changed in forms:  # which of them match is not told
                        found = operator.match(changed, tx)
                        if (found is None) is not link.negated:
                            continue
                        form, captures = changed, found
                        if together:
                            new.append((_name(target, key), form))
                        else:
                            _hold(tx, link, target, key, value, form, captures, new)
                    continue
                kept = value
            form, captures = apply_chain(link.chain, value) if kept is None else kept, kept_captures
            if together:
                new.append((_name(target, key), form))
                continue
            if captures is None and link.captured:
                captures = operator.match(form, tx)
                if captures is None:
                    continue
            _hold(tx, link, target, key, value, form, captures, new)
    if together and new:
        _count(tx, link, operator, form, captures, new)


def _count(
    tx: Transaction, link: Link, operator: Operator, form: bytes, captures: Captures | None, new: Sequence[Pair]
) -> None:
    """What `_hold` does, for all matches of a link whose effects only count: what each but the last one, `form` and
    `captures`, has captured would be overwritten."""
    tx.matched_var_name, tx.matched_var = new[-1]
    if link.captured:
        captures = captures or operator.match(form, tx)
        if captures:
            _capture(tx.tx, captures)
    for effect in link.effects:
        assert isinstance(effect, SetVar)
        effect.repeat(tx, len(new))


def _hold(
    tx: Transaction,
    link: Link,
    target: Target,
    key: bytes,
    value: bytes,
    form: bytes,
    captures: Captures | None,
    new: list[Pair],
) -> None:
    """The operator holds for a form of a value: set what rules see of it, and run the effects."""
    tx.matched_var = form
    tx.matched_var_name = name = _name(target, key)
    new.append((name, form))
    if tx.trace is not None:
        tx.trace.matched(link, name, value, form)
    if captures and link.captured:
        if link.capture:
            _capture(tx.tx, captures)
        if isinstance(link.operator, RestPath):
            pieces = [piece or b"" for piece in captures[1:]]
            tx.args_path = list(zip(link.operator.names, pieces, strict=False))
    for effect in link.effects:
        effect(tx)


def _name(target: Target, key: bytes) -> bytes:
    return b"%b:%b" % (target.label, key) if key else target.label


def _by_target(hits: Sequence[Hit]) -> Iterable[tuple[int, dict[bytes, Hit]]]:
    """By number of the target: which values match, and what is known of them."""
    if len(hits) == 1:
        hit = hits[0]
        return ((hit[0], {hit[1]: hit}),)
    found: dict[int, dict[bytes, Hit]] = {}
    for hit in hits:
        known = found.get(hit[0])
        if known is None:
            found[hit[0]] = {hit[1]: hit}
        else:
            known[hit[1]] = hit
    return found.items() if len(found) == 1 else sorted(found.items())


def _capture(store: dict[bytes, bytes], captures: Captures) -> None:
    """TX.0 to TX.9: the match and its groups; those that there are none for are unset."""
    count = min(len(captures), MAX_CAPTURES)
    for number in range(count):
        piece = captures[number]
        if piece is not None:
            store[_DIGITS[number]] = piece
        else:
            store.pop(_DIGITS[number], None)
    for digit in _DIGITS_FROM[count]:
        if digit in store:
            del store[digit]  # noqa: RUF051 - they are seldom there, and pop costs twice as much


def _forms(chain: tuple[Transformation, ...], value: bytes) -> list[bytes]:
    """multiMatch: every form on the way through the transformations."""
    forms = [value]
    for function in chain:
        changed = function(value)
        if changed != value:
            forms.append(changed)
        value = changed
    return forms

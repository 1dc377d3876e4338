"""Constant folding: what rules about TX constants decide is decided when compiled.

CRS starts with some fifty rules that give TX variables their defaults, and opens and closes
every file with rules that skip what the paranoia level excludes.  All of that is known before
the first request.  This pass runs the phases once, symbolically: a unit that looks only at TX
variables whose values are known, and that only sets TX variables and skips, is replaced by its
effect (a `batch` at its position); a unit that cannot match, or cannot be reached, is dropped;
macros whose values are known become constants, which makes operators pure.

What is *not* known: a variable that a surviving unit may set, everything that may have been
jumped over, units that a surviving `ctl:ruleRemove...` may remove, and in phase 5 everything
behind a unit that can end a phase.
"""

from __future__ import annotations

from waf_core.actions import RemoveRules, SetVar, amount
from waf_core.compiler.leftovers import Leftovers
from waf_core.limits import Limit
from waf_core.macros import Macro
from waf_core.operators import REGISTRY as OPERATORS
from waf_core.operators import Operator, OperatorEnv, OperatorError
from waf_core.operators.numeric import to_int
from waf_core.program import PhaseProgram
from waf_core.rule import Effect, Link, Unit
from waf_core.transformations import apply_chain

Known = bytes | None
"""A TX variable's value; None: certainly absent."""


class _UndecidedError(Exception):
    """The outcome depends on traffic."""


class _State:
    """What is known of TX at one place of the program."""

    def __init__(self) -> None:
        self.values: dict[bytes, Known] = {}
        self.unknown: set[bytes] = set()
        self.unknown_prefixes: set[bytes] = set()
        self.pending: dict[bytes, Known] = {}
        """What the unit that is being decided has set so far."""

    def get(self, name: bytes) -> Known:
        if name in self.pending:
            return self.pending[name]
        if name in self.unknown or name.isdigit() or any(name.startswith(prefix) for prefix in self.unknown_prefixes):
            raise _UndecidedError
        return self.values.get(name)

    def set(self, name: bytes, value: Known) -> None:
        self.values[name] = value

    def forget(self, name: bytes) -> None:
        self.unknown.add(name)

    def copy(self) -> _State:
        other = _State()
        other.values = dict(self.values)
        other.unknown = set(self.unknown)
        other.unknown_prefixes = set(self.unknown_prefixes)
        return other

    def meet(self, other: _State) -> None:
        """Keep only what both know, and know the same of."""
        for name in {*self.values, *other.values}:
            if self.values.get(name) != other.values.get(name):
                self.forget(name)
        self.unknown |= other.unknown
        self.unknown_prefixes |= other.unknown_prefixes


def fold(phases: dict[int, PhaseProgram], env: OperatorEnv, leftovers: Leftovers) -> dict[bytes, bytes]:
    """Fold all phases in place.  Returns TX as every transaction finds it at its start."""
    folder = _Folder(env, leftovers)
    for phase in (1, 2, 3, 4):
        folder.run(phases[phase])
    folder.enter_logging()
    folder.run(phases[5])
    return _take_prefix(phases[1])


def _take_prefix(program: PhaseProgram) -> dict[bytes, bytes]:
    """Batches ahead of every surviving unit of phase 1 become the initial TX."""
    initial: dict[bytes, bytes] = {}
    for position in program.always:
        if position in program.kept or position not in program.batches:
            break
        for name, value in program.batches.pop(position).items():
            if value is None:
                initial.pop(name, None)
            else:
                initial[name] = value
    program.always = tuple(p for p in program.always if p in program.kept or p in program.batches)
    return initial


class _Folder:
    def __init__(self, env: OperatorEnv, leftovers: Leftovers) -> None:
        self.env = env
        self.leftovers = leftovers
        self.state = _State()
        self.removals: list[frozenset[int]] = []
        """Units that surviving `ctl:ruleRemove...` actions may take away."""
        self.cut: _State | None = None
        """What is known wherever a phase may have ended early."""
        self.jump: _State | None = None
        """What is known where `allow:phase` or `allow:request` may have left."""

    def enter_logging(self) -> None:
        if self.cut is not None:
            self.state.meet(self.cut)

    def run(self, program: PhaseProgram) -> None:
        units = program.units
        landings = {unit.skip_to for unit in units if unit.skip_to is not None}
        jumps: set[int] = set()
        """Where those land that survive."""
        kept: set[int] = set()
        batches: dict[int, dict[bytes, Known]] = {}
        open_batch: int | None = None
        dead_until = 0
        branch_until = 0
        in_branch: set[bytes] = set()
        for position, unit in enumerate(units):
            if position in jumps:
                self.state.unknown |= in_branch
            if position >= branch_until:
                in_branch = set()
            if position in landings:
                open_batch = None
            if position < dead_until:
                continue
            before = set(self.state.unknown)
            effect = self._decide(unit)
            if effect is not None and effect[0]:
                # What another skip may lead to is not dead: this one has to be made.
                skips_a_landing = any(position < jump < (unit.skip_to or 0) for jump in jumps)
                if skips_a_landing or not self._survives_removal(unit, effect[1], units):
                    effect = None
            if effect is not None:
                matched, assignments = effect
                if not matched:
                    continue
                if assignments:
                    if open_batch is None:
                        open_batch = position
                        batches[position] = {}
                    batches[open_batch].update(assignments)
                    for name, value in assignments.items():
                        self.state.set(name, value)
                    if position < branch_until:
                        in_branch |= assignments.keys()
                if unit.skip_to is not None:
                    dead_until = unit.skip_to
                    open_batch = None
                continue
            open_batch = None
            kept.add(position)
            self._keep(unit)
            if position < branch_until:
                in_branch |= self.state.unknown - before
            if unit.skip_to is not None:
                jumps.add(unit.skip_to)
                branch_until = max(branch_until, unit.skip_to)
        self.state.unknown |= in_branch
        if self.jump is not None:
            self.state.meet(self.jump)
        program.kept = frozenset(kept)
        program.batches = batches
        program.always = tuple(sorted({*kept, *batches}))

    # -- deciding -----------------------------------------------------------------------------

    def _decide(self, unit: Unit) -> tuple[bool, dict[bytes, Known]] | None:
        """(False, {}): never matches; (True, assignments): always; None: depends on traffic."""
        self.state.pending = {}
        try:
            return self._decide_links(unit, self.state.pending)
        finally:
            self.state.pending = {}

    def _decide_links(self, unit: Unit, assignments: dict[bytes, Known]) -> tuple[bool, dict[bytes, Known]] | None:
        undecided = False
        effects_before = False
        for link in unit.links:
            try:
                matches = self._link_matches(link)
            except _UndecidedError:
                undecided = True
                effects_before |= self.leftovers.left_by(link)
                continue
            if not matches:
                return None if effects_before else (False, {})
            effects_before |= self.leftovers.left_by(link)
            if not undecided:
                try:
                    for _ in range(matches):
                        self._assign(link, assignments)
                except _UndecidedError:
                    undecided = True
        observable = (
            unit.log
            or unit.audit_log
            or unit.disruption != "pass"
            or unit.info.severity is not None
            or unit.sanitise_matched
            or self.leftovers.matched
            or any(link.capture for link in unit.links)
        )
        return None if undecided or observable else (True, assignments)

    def _survives_removal(self, unit: Unit, assignments: dict[bytes, Known], units: list[Unit]) -> bool:
        """Is the outcome the same when a rule takes this unit away at run time?  For a skip it is
        if everything that it jumps over goes with it (CRS tags all of a file alike)."""
        for removed in self.removals:
            if unit.index in removed:
                start = unit.position_in_phase + 1
                jumped = units[start : unit.skip_to] if unit.skip_to is not None else []
                if assignments or not all(other.index in removed for other in jumped):
                    return False
        return True

    def _link_matches(self, link: Link) -> int:
        """How many values match.  Raises _UndecidedError."""
        if link.operator is None:
            return 1
        operator = self._constant_operator(link)
        if operator is None or not operator.pure:
            raise _UndecidedError
        count = 0
        for target in link.targets:
            if target.variable.name != "TX" or target.key is None:
                raise _UndecidedError
            value = self.state.get(target.key)
            if target.key in target.excluded_keys or target.excluded_patterns:
                raise _UndecidedError
            if target.count:
                value = b"0" if value is None else b"1"
            if value is None:
                continue
            if link.multi_match:
                raise _UndecidedError
            form = apply_chain(link.chain, value)
            if (operator.match(form, _NoLookup()) is None) is link.negated:
                count += 1
        return count

    def _constant_operator(self, link: Link) -> Operator | None:
        """The operator with its macros replaced, or None when traffic decides them."""
        if link.operator is None or link.operator.pure:
            return link.operator
        macro = Macro(link.operator_argument)
        if macro.constant is not None:
            # Impure by nature (@geoLookup, @rbl), not because of its argument.
            return None
        argument = self._expand(macro)
        if argument is None:
            return None
        try:
            return OPERATORS[link.operator_name](argument, self.env)
        except OperatorError:
            return None

    def _expand(self, macro: Macro) -> bytes | None:
        if macro.constant is not None:
            return macro.constant
        out: list[bytes] = []
        for part in macro.parts:
            if isinstance(part, bytes):
                out.append(part)
                continue
            name, key = part
            if name != "TX" or key is None:
                return None
            try:
                out.append(self.state.get(key) or b"")
            except _UndecidedError:
                return None
        return b"".join(out)

    def _assign(self, link: Link, assignments: dict[bytes, Known]) -> None:
        for effect in link.effects:
            if not isinstance(effect, SetVar) or effect.collection != "TX":
                raise _UndecidedError
            name = self._expand(effect.name)
            value = self._expand(effect.value)
            if name is None or value is None:
                raise _UndecidedError
            name = name.lower()
            if effect.kind == "set":
                assignments[name] = value
            elif effect.kind == "delete":
                assignments[name] = None
            else:
                old = self.state.get(name)
                assignments[name] = b"%d" % (to_int(old or b"0") + amount(effect.kind, value))

    # -- keeping ------------------------------------------------------------------------------

    def _keep(self, unit: Unit) -> None:
        """The unit stays: what it may change is no longer known."""
        if unit.disruption in ("allow:phase", "allow:request"):
            self.jump = self._meet(self.jump)
        if unit.cuts:
            self.cut = self._meet(self.cut)
        for link in unit.links:
            for effect in link.effects:
                if isinstance(effect, RemoveRules):
                    self.removals.append(effect.units)
                elif isinstance(effect, SetVar) and effect.collection == "TX":
                    if effect.name.constant is not None:
                        self.state.forget(effect.name.constant)
                    else:
                        first = effect.name.parts[0]
                        self.state.unknown_prefixes.add(first.lower() if isinstance(first, bytes) else b"")
        # Not sooner: what the unit sets may change between two of its matches.
        for link in unit.links:
            constant = self._constant_operator(link)
            if constant is not None:
                link.operator = constant
            link.effects = [self._constant_effect(effect) for effect in link.effects]

    def _constant_effect(self, effect: Effect) -> Effect:
        """An effect with the macros of its value replaced, where they are known."""
        if not isinstance(effect, SetVar) or effect.value.constant is not None:
            return effect
        value = self._expand(effect.value)
        return effect if value is None else effect.with_value(value)

    def _meet(self, earlier: _State | None) -> _State:
        now = self.state.copy()
        if earlier is not None:
            now.meet(earlier)
        return now


class _NoLookup:
    """A constant operator never asks."""

    def __init__(self) -> None:
        self.tx: dict[bytes, bytes] = {}
        self.matched_var = self.matched_var_name = b""

    def lookup(self, name: str, key: bytes | None) -> bytes:
        return b""

    def note_limit(self, limit: Limit) -> None:
        """No request is there to count it for."""

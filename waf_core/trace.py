"""What every rule that matched looked at and did: the material of `envoy-waf explain`.

A Trace is attached to a transaction before its first phase.  It costs nothing where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from waf_core.macros import Macro
from waf_core.rule import Link, RuleInfo, Unit

if TYPE_CHECKING:
    from waf_core.transaction import Transaction

MAX_TRACED_MATCHES = 32
"""Matches of one rule that a trace keeps."""

MAX_TRACED_RULES = 1024


@dataclass(frozen=True, slots=True)
class Step:
    """One transformation that changed a value."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class TracedMatch:
    """One value that one rule of a chain matched.  `value` is before the transformations, `steps` are those
    that changed it."""

    variable: bytes
    value: bytes
    steps: tuple[Step, ...]
    operator: str


@dataclass(slots=True)
class TracedRule:
    """A rule that matched, and what that changed in TX: name -> (before, after); None: it was, or is, not set."""

    rule: RuleInfo
    phase: int
    action: str
    message: str
    tags: tuple[str, ...]
    logged: bool
    matches: list[TracedMatch]
    changes: dict[bytes, tuple[bytes | None, bytes | None]]


@dataclass(slots=True)
class Trace:
    """`rules` are in the order in which they matched."""

    rules: list[TracedRule] = field(default_factory=list)
    _before: dict[bytes, bytes] = field(default_factory=dict)
    _matches: list[TracedMatch] = field(default_factory=list)

    @classmethod
    def attach(cls, tx: Transaction) -> Trace:
        """Trace a transaction that has not begun.  Its short cuts are off, its verdict is the same."""
        trace = cls()
        tx.trace = trace
        tx.clean = False
        return trace

    def begin(self, tx: Transaction) -> None:
        """A unit is about to be evaluated."""
        self._before = dict(tx.tx)
        self._matches = []

    def matched(self, link: Link, variable: bytes, value: bytes, form: bytes) -> None:
        """One link found a value."""
        if len(self._matches) >= MAX_TRACED_MATCHES:
            return
        steps = []
        current = value
        for name, function in zip(link.chain_names, link.chain, strict=True):
            changed = function(current)
            if changed != current:
                steps.append(Step(name, changed))
            current = changed
            if link.multi_match and changed == form:
                break
        operator = f"{'!' if link.negated else ''}@{link.operator_name} {link.operator_argument.decode('latin-1')}"
        self._matches.append(TracedMatch(variable, value, tuple(steps), operator))

    def end(self, tx: Transaction, unit: Unit, holds: bool) -> None:
        """The unit has been evaluated."""
        if not holds or len(self.rules) >= MAX_TRACED_RULES:
            return
        before, after = self._before, tx.tx
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        changes = {name: (before.get(name), after.get(name)) for name in names}
        message = _text(unit.message, tx) if unit.message else ""
        tags = tuple([_text(tag, tx) for tag in unit.tags]) or unit.info.tags
        self.rules.append(
            TracedRule(unit.info, tx.phase, unit.disruption, message, tags, unit.log, self._matches, changes)
        )


def _text(macro: Macro, tx: Transaction) -> str:
    return macro.expand(tx).decode("utf-8", "backslashreplace")

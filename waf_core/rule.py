"""A compiled rule.  Immutable once the program is made; shared by all transactions.

`Link` is one SecRule line, `Unit` a whole chain (or a single rule): what is evaluated, skipped
and removed as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import re2

from waf_core.bodies import Pair
from waf_core.bodies.xpath import XPath
from waf_core.errors import Position
from waf_core.macros import Macro
from waf_core.operators import Operator
from waf_core.operators.restpath import RestPath
from waf_core.transformations import Transformation
from waf_core.variables import Variable

if TYPE_CHECKING:
    from waf_core.transaction import Transaction

SEVERITY_NAMES: Final = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")

NO_GATE: Final = -1

Effect = Callable[["Transaction"], None]
"""A non-disruptive action, ready to run."""


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """What is told of a rule: its identity and metadata, never changed by traffic."""

    id: int
    phase: int
    message: str
    tags: tuple[str, ...]
    severity: int | None
    """0 (emergency) to 7 (debug), None when the rule has none."""
    version: str
    revision: str
    maturity: str
    accuracy: str
    position: Position
    text: str
    """The rule as written, first line of the chain."""

    @property
    def severity_name(self) -> str:
        """The severity in words; "" when the rule has none."""
        return SEVERITY_NAMES[self.severity] if self.severity is not None else ""


@dataclass(slots=True)
class Target:
    """One variable of a rule.  `key` is lower case; `pattern` selects keys by expression."""

    variable: Variable
    key: bytes | None = None
    pattern: re2._Regexp | None = None
    xpath: XPath | None = None
    count: bool = False
    excluded_keys: frozenset[bytes] = frozenset()
    excluded_patterns: tuple[re2._Regexp, ...] = ()
    label: bytes = b""
    """How matches name it, without the key."""
    read: Callable[[Transaction], Sequence[Pair]] | None = None
    """What reads the values it means, made when they are first asked for (waf_core/selection.py)."""
    whole: bool = False
    """Is it a variable with all its keys but for those that `admits`, if there is one, refuses?  Told with `read`."""
    admits: Callable[[bytes], bool] | None = None

    def __post_init__(self) -> None:
        self.label = (b"&" if self.count else b"") + self.variable.name.encode()


@dataclass(slots=True)
class Link:
    """One SecRule: targets, transformations, operator, and what a match does."""

    targets: list[Target]
    operator: Operator | None
    operator_name: str
    operator_argument: bytes
    negated: bool
    chain: tuple[Transformation, ...]
    chain_names: tuple[str, ...]
    multi_match: bool
    capture: bool
    effects: list[Effect]
    position: Position
    namespaces: dict[str, str] = field(default_factory=dict)
    """What prefixes in its XPath expressions stand for (`xmlns`)."""
    gate: int = NO_GATE
    """Number under which the scan notes what matches (`Hits`); NO_GATE if it does not judge this link."""
    captured: bool = False
    """Are the captures of its matches used?"""
    together: bool = False
    """Do its matches leave the same, whether their effects run once for each or all at the end?"""

    def __post_init__(self) -> None:
        self.captured = not self.negated and (self.capture or isinstance(self.operator, RestPath))

    @property
    def unconditional(self) -> bool:
        return self.operator is None


@dataclass(slots=True)
class Memory:
    """What a unit that did not match, or a routine, has done to TX, and what it left in the MATCHED_ variables."""

    writes: dict[bytes, bytes]
    matched_var: bytes
    matched_var_name: bytes
    matched_vars: list[Pair]
    skip_to: int = 0
    """Where it led, if it skipped."""


@dataclass(slots=True)
class Memo:
    """Outcomes of a unit by its input (waf_core/compiler/memo.py): the values of `targets`, and of the TX
    variables `keys`.  It holds as long as no TX variable fits `patterns` beforehand."""

    targets: list[Target]
    keys: tuple[bytes, ...]
    patterns: list[Target]
    known: dict[tuple[object, ...], Memory] = field(default_factory=dict)


@dataclass(slots=True)
class Routine:
    """Positions that are visited one after the other, and do nothing but set TX variables as follows from the TX
    variables `keys` (waf_core/compiler/routine.py)."""

    positions: tuple[int, ...]
    units: frozenset[int]
    """Their indexes."""
    keys: tuple[bytes, ...]
    known: dict[tuple[bytes | None, ...], Memory] = field(default_factory=dict)


@dataclass(slots=True)
class Unit:
    """A rule with all links of its chain.

    `disruption` is deny, drop, redirect, allow, allow:phase, allow:request or pass.
    """

    index: int
    info: RuleInfo
    links: list[Link]
    disruption: str = "pass"
    status: int = 403
    redirect: Macro | None = None
    log: bool = True
    audit_log: bool = True
    message: Macro | None = None
    data: Macro | None = None
    tags: tuple[Macro, ...] = ()
    """Its tags, if there are macros in them."""
    skip: int = 0
    skip_after: str | None = None
    sanitise_matched: bool = False
    memo: Memo | None = None
    position_in_phase: int = 0
    skip_to: int | None = None
    """Position in the phase at which evaluation goes on after a match, if it skips."""

    @property
    def cuts(self) -> bool:
        """Can a match end the phase?"""
        return self.disruption != "pass"


class MatchedRule:
    """A rule that matched in a transaction, as logged.  (A dataclass's `__init__` is not compiled, and fifteen of these
    are made for an attack.)"""

    __slots__ = ("audit", "data", "log", "matches", "message", "rule", "tags", "value", "variable")

    def __init__(
        self,
        rule: RuleInfo,
        message: str,
        data: str,
        tags: tuple[str, ...],
        variable: str,
        value: bytes,
        audit: bool,
        log: bool,
        matches: list[Pair],
    ) -> None:
        self.rule = rule
        self.message = message
        self.data = data
        self.tags = tags
        """Those of the rule, with what their macros stand for."""
        self.variable = variable
        self.value = value
        self.audit = audit
        self.log = log
        self.matches = matches
        """Names (for example b"ARGS:id") and values, after the transformations, as the operator saw them."""

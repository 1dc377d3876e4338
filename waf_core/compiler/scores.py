"""TX variables that nothing comes of: counted and never read, or used and never set; and rules that neither block nor
count.  `envoy-waf check` shows them.

A name that is mistyped looks like that, and a rule file that is left out (CRS's set-up, or what evaluates its scores).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set

from waf_core.actions import SetVar
from waf_core.compiler.names import CAPTURES, TxNames, add_written
from waf_core.compiler.notes import rules_named
from waf_core.compiler.reads import macros_read
from waf_core.macros import Macro
from waf_core.rule import Link, Target, Unit


def note_scores(units: Sequence[Unit]) -> list[str]:
    """Of all rules of a program, before constants are folded."""
    return [*_never_read(units), *_never_set(units)]


def note_blocks(units: Sequence[Unit], saying_block: Set[int]) -> Iterator[str]:
    """Rules with `block`, by id, that it makes do nothing, and that count nothing either."""
    idle: dict[int, dict[int, None]] = {}
    for unit in units:
        if unit.info.id in saying_block and unit.disruption == "pass" and not any(_sets(unit.links)):
            idle.setdefault(unit.info.phase, {})[unit.info.id] = None
    for phase, ids in idle.items():
        yield (
            f"`block` means pass in phase {phase} (SecDefaultAction says what it means), and {rules_named(ids)} using"
            " it set nothing either: what matches is only logged"
        )


def _never_read(units: Sequence[Unit]) -> Iterator[str]:
    counted: dict[bytes, dict[int, None]] = {}
    for unit in units:
        for effect in _sets_tx(unit.links):
            if effect.kind in ("add", "subtract") and effect.name.constant is not None:
                counted.setdefault(effect.name.constant, {})[unit.info.id] = None
    targets = list(_tx_targets(units))
    patterns = [target.pattern for target in targets if target.pattern is not None]
    keys = {key for unit in units for macro in macros_read(unit) for name, key in macro.names if name == "TX"}
    keys.update(target.key for target in targets if target.pattern is None)
    if None in keys:
        return  # a rule reads all of them
    for name, ids in counted.items():
        if name not in keys and not any(pattern.search(name) for pattern in patterns):
            shown = name.decode("latin-1")
            yield f"tx.{shown} is counted by {rules_named(ids)} and no rule reads it: nothing comes of it"


def _never_set(units: Sequence[Unit]) -> Iterator[str]:
    names = TxNames()
    for unit in units:
        add_written(unit.links, names)
    # A rule that asks whether there is one knows that there may be none.
    names.exact.update(target.key for target in _tx_targets(units) if target.count and target.key is not None)
    missed: dict[bytes, dict[int, None]] = {}
    for unit in units:
        for macro in (macro for link in unit.links for macro in _decides(link)):
            for variable, key in macro.names:
                if variable == "TX" and key is not None and key not in CAPTURES and not names.may_be(key):
                    missed.setdefault(key, {})[unit.info.id] = None
    for name, ids in missed.items():
        shown = f"%{{tx.{name.decode('latin-1')}}}"
        yield f"{shown} is used by {rules_named(ids)} and no rule sets it: it stands for nothing (0 as a number)"


def _tx_targets(units: Sequence[Unit]) -> Iterator[Target]:
    for unit in units:
        for link in unit.links:
            yield from (target for target in link.targets if target.variable.name == "TX")


def _sets(links: Sequence[Link]) -> Iterator[SetVar]:
    for link in links:
        for effect in link.effects:
            if isinstance(effect, SetVar):
                yield effect


def _sets_tx(links: Sequence[Link]) -> Iterator[SetVar]:
    return (effect for effect in _sets(links) if effect.collection == "TX")


def _decides(link: Link) -> Iterator[Macro]:
    """What is compared with, and counted."""
    yield Macro(link.operator_argument)
    for effect in _sets_tx([link]):
        yield effect.value

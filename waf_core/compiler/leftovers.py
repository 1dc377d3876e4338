"""What a chain leaves behind that matched in part only: captures (TX:0 to TX:9) and the MATCHED_ variables.

Hardly any rule looks at what another one left there, so as a rule a chain that cannot match as a whole is not
evaluated at all.  Where a rule does, that would change what it sees.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from waf_core.compiler.names import CAPTURES
from waf_core.compiler.reads import macros_of_effects
from waf_core.macros import Macro
from waf_core.rule import Link, Unit

CAPTURING = frozenset({"rx", "pm", "pmf", "pmfromfile", "detectsqli", "detectxss"})
"""Operators that set TX:0 whenever they match."""


class Leftovers(NamedTuple):
    """Which of them any rule reads that has not set them itself."""

    captures: bool = False
    matched: bool = False

    def left_by(self, link: Link) -> bool:
        """Does a match of this link change anything that others see?"""
        return bool(link.effects) or self.matched or (self.captures and link.capture)


def leftovers_read(units: Iterable[Unit]) -> Leftovers:
    captures = matched = False
    for unit in units:
        captured = evaluated = False
        for link in unit.links:
            macros = [Macro(link.operator_argument)]
            captures |= not captured and (_targets_captures(link) or _any_capture(macros))
            matched |= not evaluated and (_targets_matched(link) or _any_matched(macros))
            captured |= link.captured and link.operator_name.lower() in CAPTURING
            evaluated = True
            captures |= not captured and _any_capture(macros_of_effects(link))
    return Leftovers(captures, matched)


def _targets_captures(link: Link) -> bool:
    for target in link.targets:
        if target.variable.name != "TX":
            continue
        if target.key is None and target.pattern is None:
            return True
        if target.key in CAPTURES or (target.pattern is not None and any(map(target.pattern.search, CAPTURES))):
            return True
    return False


def _any_capture(macros: Iterable[Macro]) -> bool:
    return any(name == "TX" and key in CAPTURES for macro in macros for name, key in macro.names)


def _targets_matched(link: Link) -> bool:
    return any(target.variable.name.startswith("MATCHED_") for target in link.targets)


def _any_matched(macros: Iterable[Macro]) -> bool:
    return any(name.startswith("MATCHED_") for macro in macros for name, _ in macro.names)

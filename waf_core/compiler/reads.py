"""What rules read: the variables of their targets, and of the macros in operators, effects and messages; and whether
they let themselves read more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from waf_core.actions import SetAttribute
from waf_core.macros import Macro
from waf_core.program import PhaseProgram
from waf_core.rule import Link, Unit
from waf_core.variables import REGISTRY as VARIABLES

LOGGING = 5
"""The phase that comes when the response is known, as far as anybody has asked for it."""

RESPONSE = 3
"""The first phase of a response: variables that are there from it on come from the response."""


def macros_of_effects(link: Link) -> list[Macro]:
    """All that the effects of a link expand."""
    return [
        macro
        for effect in link.effects
        for part in ("name", "value", "key", "seconds")
        if isinstance(macro := getattr(effect, part, None), Macro)
    ]


def variables_read(unit: Unit) -> set[str]:
    """Their names, in capitals; of macros also such as are no variables."""
    found = {target.variable.name for link in unit.links for target in link.targets}
    found.update(name for macro in macros_read(unit) for name, _ in macro.names)
    return found


def macros_read(unit: Unit) -> Iterator[Macro]:
    """Those of operators, effects, tags and messages."""
    for link in unit.links:
        yield Macro(link.operator_argument)
        yield from macros_of_effects(link)
    yield from unit.tags
    for text in (unit.message, unit.data, unit.redirect):
        if text is not None:
            yield text


def response_phase(phases: Mapping[int, PhaseProgram]) -> int:
    """The last phase in which anything looks at the response: 0 (never), 3 (headers) or 4 (body).

    Rules of phase 5 come after it: with them it is what they read that counts.
    """
    last = max([phase for phase in (3, 4) if phases[phase].kept], default=0)
    logging = phases[LOGGING]
    for name in set().union(*(variables_read(logging.units[position]) for position in logging.kept)):
        if name in VARIABLES and VARIABLES[name].phase >= RESPONSE:
            last = max(last, VARIABLES[name].phase)
    return last


def opens_response_body(phases: Mapping[int, PhaseProgram]) -> bool:
    """May a rule turn SecResponseBodyAccess on for a transaction?"""
    return any(
        isinstance(effect, SetAttribute)
        and (effect.owner, effect.attribute, effect.value) == ("response_body", "access", True)
        for phase in phases.values()
        for position in phase.kept
        for link in phase.units[position].links
        for effect in link.effects
    )

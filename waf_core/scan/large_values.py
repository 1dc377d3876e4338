"""Large values: their forms are judged one after the other.

There may be thirty forms of a value, and a body may be one value of megabytes.  So a form is let go as soon as no other
is made of it, and what is asked of it has been answered.
"""

from __future__ import annotations

from typing import Final

from waf_core.scan.asking import Entry, ask_slot
from waf_core.scan.patterns import PatternSet
from waf_core.scan.planner import NOTHING, Plan
from waf_core.scan.questions import Alone, Slot, Told
from waf_core.scan.settle import settle
from waf_core.scan.telling import Keeper
from waf_core.turns import give_way

LARGE_BYTES: Final = 1 << 16

NOTED_BYTES: Final = 1 << 20
"""Forms of so many bytes together are asked about at once: some are the same, made in different ways."""


def ask_large(
    plan: Plan, value: bytes, told: list[Told], entries: list[Entry], patterns: PatternSet, tx: Keeper
) -> None:
    """As `asking.ask_one`; some of what has been noted may be answered."""
    slots: dict[int, list[tuple[Slot | None, Alone]]] = {}
    for number, slot, others in plan.slots:
        slots.setdefault(number, []).append((slot, others))
    until = _last_uses(plan)
    forms: dict[int, bytes] = {0: value}
    same: dict[int, list[int]] = {}
    noted = 0
    for turn in range(len(plan.steps) + 1):
        if turn:
            earlier, function = plan.steps[turn - 1]
            forms[turn] = function(forms[earlier])
            give_way()
        for number in [number for number in forms if until[number] <= turn]:
            form = forms.pop(number)
            numbers = same.setdefault(id(form), [])
            numbers.append(number)
            if any(other is form for other in forms.values()):
                # A step has changed nothing: what is asked of it is asked together, when it is let go.
                continue
            del same[id(form)]
            noted += len(form)
            for each in numbers:
                for slot, others in slots.get(each, ()):
                    ask_slot(form, slot, others, told, entries, tx)
                for branching, planner in plan.branches:
                    if branching == each:
                        deeper = planner.plan(form, crowd=False)
                        if deeper is not NOTHING:
                            ask_large(deeper, form, told, entries, patterns, tx)
            if noted > NOTED_BYTES:
                settle(entries, patterns, tx)
                noted = 0


def _last_uses(plan: Plan) -> list[int]:
    """By number of a form: the last step that makes another of it, or the one that makes it."""
    until = list(range(len(plan.steps) + 1))
    for turn, (earlier, _) in enumerate(plan.steps, 1):
        until[earlier] = turn
    return until

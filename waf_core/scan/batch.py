"""Values of one phase that no scanner remembers, judged together.

Each call of a matching engine costs some microseconds, whatever it finds, and most requests match
nothing.  So all forms of all values are joined, with a newline between them, and matched once; only
when something is found that anybody wants to know, the forms are looked at by themselves.

An expression finds in the joined text what it finds in a form, since it is compiled so that `^` and `$`
hold at newlines; it may find more, across forms.  RE2 confirms every candidate on the form alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from waf_core.macros import Expander
from waf_core.scan.patterns import PatternSet
from waf_core.scan.planner import NOTHING, Place, Plan, Slot
from waf_core.scan.scanner import Scanner

_Entry = tuple[bytes, Slot, list[Place]]
"""A form, what is asked of it, and where the answer goes."""

Pending = dict[Scanner, dict[bytes, None]]
"""For each scanner the values that it has to judge."""


def judge(pending: Pending, patterns: PatternSet, tx: Expander) -> Iterator[tuple[bytes, tuple[Place, ...]]]:
    """The places whose test holds, for each value that has any; all answers are remembered."""
    entries: list[_Entry] = []
    waiting: list[tuple[Scanner, bytes, list[Place]]] = []
    for scanner, values in pending.items():
        plan_of = scanner.planner.plan
        for value in values:
            plan = plan_of(value)
            if plan is NOTHING:
                scanner.remember(value, ())
                continue
            places: list[Place] = []
            waiting.append((scanner, value, places))
            _ask(plan, value, places, entries, tx)
    wanted: dict[bytes, int] = {}
    for form, slot, _ in entries:
        wanted[form] = wanted.get(form, 0) | slot.patterns
    found_patterns = patterns.find(wanted)
    if found_patterns:
        _confirm(entries, found_patterns, tx)
    for form, slot, places in entries:
        for number, operator, unwanted in slot.negated:
            if not found_patterns.get(form, 0) >> number & 1 or not operator.holds(form, tx):
                places += unwanted
    for scanner, value, places in waiting:
        found = tuple(dict.fromkeys(places)) if places else ()
        scanner.remember(value, found)
        if found:
            yield value, found


def _ask(plan: Plan, value: bytes, places: list[Place], entries: list[_Entry], tx: Expander) -> None:
    """Make the forms of a value, and note what is asked of each; single questions are answered at once.  A
    plan's branches are no deeper than its longest chain."""
    steps, slots, branches = plan
    forms = [value]
    for earlier, function in steps:
        forms.append(function(forms[earlier]))
    for number, slot, others in slots:
        form = forms[number]
        if slot is not None:
            entries.append((form, slot, places))
        for holds, negated, wanted in others:
            if holds(form, tx) is not negated:
                places += wanted
    for number, planner in branches:
        form = forms[number]
        deeper = planner.plan(form)
        if deeper is not NOTHING:
            _ask(deeper, form, places, entries, tx)


def _confirm(entries: Iterable[_Entry], patterns: Mapping[bytes, int], tx: Expander) -> None:
    """Candidates may be false: the operator itself has the last word."""
    answers: dict[tuple[int, bytes], bool] = {}
    for form, slot, places in entries:
        for number in _numbers(slot.patterns & patterns.get(form, 0)):
            for tests in slot.tests:
                candidate = tests.patterns.get(number)
                if candidate is None:
                    continue
                holds = answers.get((number, form))
                if holds is None:
                    holds = answers[number, form] = candidate[0].holds(form, tx)
                if holds:
                    places += candidate[1]


def _numbers(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low

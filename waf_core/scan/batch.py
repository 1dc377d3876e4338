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
from waf_core.scan.planner import Place, Plan, Slot
from waf_core.scan.scanner import Scanner

Pending = dict[Scanner, dict[bytes, None]]
"""For each scanner the values that it has to judge."""


def judge(pending: Pending, patterns: PatternSet, tx: Expander) -> Iterator[tuple[bytes, tuple[Place, ...]]]:
    """The places whose test holds, for each value that has any; all answers are remembered."""
    batch = _Batch(tx)
    waiting: list[tuple[Scanner, bytes, list[Place]]] = []
    for scanner, values in pending.items():
        planner = scanner.planner
        for value in values:
            plan = planner.plan(value)
            if plan.empty:
                scanner.remember(value, ())
                continue
            places: list[Place] = []
            waiting.append((scanner, value, places))
            batch.add(plan, value, places)
    found_patterns = patterns.find_patterns(batch.pattern_forms)
    found_phrases = patterns.find_phrases(batch.phrase_forms)
    if found_patterns or found_phrases:
        _confirm(batch.entries, found_patterns, found_phrases, tx)
    for scanner, value, places in waiting:
        found = tuple(dict.fromkeys(places)) if places else ()
        scanner.remember(value, found)
        if found:
            yield value, found


class _Batch:
    """Collects what is asked of each form; single questions are answered at once."""

    __slots__ = ("_tx", "entries", "pattern_forms", "phrase_forms")

    def __init__(self, tx: Expander) -> None:
        self._tx = tx
        self.entries: list[tuple[bytes, Slot, list[Place]]] = []
        self.pattern_forms: dict[bytes, int] = {}
        """Form -> mask of the patterns that are wanted of it."""
        self.phrase_forms: dict[bytes, int] = {}

    def add(self, plan: Plan, value: bytes, places: list[Place]) -> None:
        """Make the forms of a value; a plan's branches are no deeper than its longest chain."""
        tx = self._tx
        forms = [value]
        for earlier, function in plan.steps:
            forms.append(function(forms[earlier]))
        for slot in plan.slots:
            form = forms[slot.form]
            if slot.tests:
                self.entries.append((form, slot, places))
                if slot.patterns:
                    self.pattern_forms[form] = self.pattern_forms.get(form, 0) | slot.patterns
                if slot.phrases:
                    self.phrase_forms[form] = self.phrase_forms.get(form, 0) | slot.phrases
            for operator, negated, wanted in slot.others:
                if operator.holds(form, tx) is not negated:
                    places += wanted
        for number, planner in plan.branches:
            form = forms[number]
            deeper = planner.plan(form)
            if not deeper.empty:
                self.add(deeper, form, places)


def _confirm(
    entries: Iterable[tuple[bytes, Slot, list[Place]]],
    patterns: Mapping[bytes, int],
    phrases: Mapping[bytes, int],
    tx: Expander,
) -> None:
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
        for number in _numbers(slot.phrases & phrases.get(form, 0)):
            for tests in slot.tests:
                phrase = tests.phrases.get(number)
                if phrase is not None and phrase[0].holds(form, tx):
                    places += phrase[1]


def _numbers(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low

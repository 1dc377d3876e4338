"""Forms that are noted, with what is asked of each: the patterns are looked for in all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from waf_core.scan.asking import Entry
from waf_core.scan.patterns import PatternSet
from waf_core.scan.questions import Answer
from waf_core.scan.telling import Asked, Keeper, ask_candidates


def settle(entries: list[Entry], patterns: PatternSet, tx: Keeper) -> None:
    """Tell those who want to know; nothing is noted any more then."""
    wanted: dict[bytes, int] = {}
    unwelcome: list[Entry] = []
    for entry in entries:
        form, slot, _ = entry
        wanted[form] = wanted.get(form, 0) | slot.patterns
        if slot.negated:
            unwelcome.append(entry)
    found = patterns.find(wanted)
    if found:
        _confirm(entries, found, tx, {} if len(wanted) < len(entries) else None)
    for form, slot, told in unwelcome:
        for number, operator, unwanted in slot.negated:
            if not found.get(form, 0) >> number & 1 or not operator.holds(form, tx):
                told += [(place, None, None) for place in unwanted]
    entries.clear()


def _confirm(
    entries: Iterable[Entry], patterns: Mapping[bytes, int], tx: Keeper, answers: dict[Asked, Answer] | None
) -> None:
    """Candidates may be false: the operator itself has the last word.  `answers` are kept if forms repeat."""
    for form, slot, told in entries:
        mask = patterns.get(form)
        if mask is not None:
            ask_candidates(slot, mask & slot.positive, form, told, tx, answers)

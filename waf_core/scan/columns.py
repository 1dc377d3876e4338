"""Forms of many values with the same plan, matched together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from waf_core.scan.forms import FEW_FORMS, MANY, MIN_BEGINNING, Found, shared_beginning
from waf_core.scan.masks import numbers_of
from waf_core.scan.patterns import PatternSet
from waf_core.scan.questions import Slot, Told, mask_of_slots
from waf_core.scan.telling import Keeper, ask_candidates, tell

FEW_DIFFERENT: Final = 8
"""So few forms may be looked at twice: to see that they are different costs more."""

Column = tuple[Sequence[bytes], list[tuple[Slot, Sequence[list[Told]]]]]
"""A form of each of many values; what is asked of all of them, and where the answers for each go."""


def match(batch: Sequence[Column], patterns: PatternSet, tx: Keeper) -> None:
    """Ask about the patterns of the columns that a plan has made.  If these are short all are looked at together: what
    is found in one form of a value would mostly be found in its other forms, too."""
    if len(batch) == 1 or sum([len(forms) for forms, _ in batch]) > FEW_FORMS:
        for forms, asked in batch:
            _tell_all(forms, asked, patterns.find_all(_different(forms), [slot for slot, _ in asked]), tx)
        return
    wanted: dict[bytes, int] = {}
    for forms, asked in batch:
        mask = mask_of_slots([slot for slot, _ in asked])
        for form in forms:
            known = wanted.get(form)
            wanted[form] = mask if known is None else known | mask
    found = patterns.find(wanted)
    for forms, asked in batch:
        _tell_all(forms, asked, {form: found[form] for form in forms if form in found} if found else found, tx)


def _tell_all(
    forms: Sequence[bytes], asked: Sequence[tuple[Slot, Sequence[list[Told]]]], found: Found, tx: Keeper
) -> None:
    """Tell all who want to know of the forms of a column in which patterns may be found."""
    for slot, into in asked:
        positive = _confirm_column(slot, found, tx) if found else {}
        for number, operator, unwanted in slot.negated:
            for form in dict.fromkeys(forms):
                if not found.get(form, 0) >> number & 1 or not operator.holds(form, tx):
                    positive.setdefault(form, []).extend([(place, None, None) for place in unwanted])
        if positive:
            for place, form in enumerate(forms):
                answers = positive.get(form)
                if answers:
                    into[place].extend(answers)


def _different(forms: Sequence[bytes]) -> Sequence[bytes]:
    """Each of them once; of a few more than once, if they are alike."""
    return forms if len(forms) <= FEW_DIFFERENT else list(dict.fromkeys(forms))


def _confirm_column(slot: Slot, found: Mapping[bytes, int], tx: Keeper) -> dict[bytes, list[Told]]:
    """Who wants to know of which form."""
    masks: dict[bytes, int] = {}
    answers: dict[bytes, list[Told]] = {}
    for form, mask in found.items():
        mask &= slot.positive
        if mask:
            masks[form] = mask
            answers[form] = []
    if len(masks) >= FEW_FORMS:
        forms = list(masks)
        for start in range(0, len(forms), FEW_FORMS):
            _tell_alike(slot, forms[start : start + FEW_FORMS], masks, answers, tx)
    for form, mask in masks.items():
        ask_candidates(slot, mask, form, answers[form], tx)
    return answers


def _tell_alike(
    slot: Slot, forms: Sequence[bytes], masks: dict[bytes, int], answers: Mapping[bytes, list[Told]], tx: Keeper
) -> None:
    """The names of an array's elements begin alike: what has matched there is told of all, and taken from the masks of
    what is to be asked of each."""
    beginning = shared_beginning(forms) if len(forms) >= MANY else b""
    if len(beginning) < MIN_BEGINNING:
        return
    union = last = settled = 0
    for form in forms:
        mask = masks[form]
        if mask != last:
            union |= mask
            last = mask
    for number in numbers_of(union):
        _, wanted, operator = slot.asker(number)
        if operator.settled_by(beginning):
            settled |= 1 << number
            for form in forms:
                tell(answers[form], wanted, form, True, tx)
    if settled:
        for form in forms:
            masks[form] &= ~settled

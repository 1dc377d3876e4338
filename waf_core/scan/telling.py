"""Those who want to know of a form are told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from waf_core.macros import Expander
from waf_core.scan.masks import numbers_of
from waf_core.scan.questions import Answer, Place, Slot, Told

MAX_TOLD_BYTES: Final = 32768
"""A form that matched is kept for the rules that ask, unless it is longer: then they make it again."""

Asked = tuple[int, bytes]
"""A pattern's number, and a form."""


def ask_candidates(
    slot: Slot,
    mask: int,
    form: bytes,
    told: list[Told],
    tx: Expander,
    answers: dict[Asked, Answer] | None = None,
) -> None:
    """Tell who wants to know of those patterns of `mask` that do match.  What is among `answers` is not asked again."""
    if not mask:
        return
    for number in numbers_of(mask):
        ask, wanted, _ = slot.asker(number)
        if answers is None:
            answer = ask(form, tx)
        else:
            asked = (number, form)
            if asked not in answers:
                answers[asked] = ask(form, tx)
            answer = answers[asked]
        if answer is not None and answer is not False:
            tell(told, wanted, form, answer)


def tell(told: list[Told], wanted: Iterable[Place], form: bytes, answer: Answer) -> None:
    """Add those who want to know, and what there is to know; a long form is not kept."""
    captures = None if isinstance(answer, bool) else answer
    if len(form) > MAX_TOLD_BYTES:
        told += [(place, None, None) for place in wanted]
    else:
        told += [(place, form, captures) for place in wanted]

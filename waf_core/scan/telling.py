"""Those who want to know of a form are told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from waf_core.macros import Expander
from waf_core.scan.masks import numbers_of
from waf_core.scan.questions import Answer, Place, Slot, Told

MAX_TOLD_BYTES: Final = 32768
"""A form that matched is kept for the rules that ask.  Longer ones are if there is room: else they make it again, and
ask what matches once more."""


class Keeper(Expander, Protocol):
    """A transaction, which has room for some of what is found."""

    def keeps(self, size: int) -> bool:
        """Is there room for so many bytes more?  They are counted then."""
        ...


Asked = tuple[int, bytes]
"""A pattern's number, and a form."""


def ask_candidates(
    slot: Slot,
    mask: int,
    form: bytes,
    told: list[Told],
    tx: Keeper,
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
            tell(told, wanted, form, answer, tx)


def tell(told: list[Told], wanted: Iterable[Place], form: bytes, answer: Answer, tx: Keeper) -> None:
    """Add those who want to know, and what there is to know; of long forms not more than the transaction has room
    for."""
    captures = None if isinstance(answer, bool) else answer
    if len(form) > MAX_TOLD_BYTES and not tx.keeps(len(form) + sum([len(piece or b"") for piece in captures or ()])):
        told += [(place, None, None) for place in wanted]
    else:
        told += [(place, form, captures) for place in wanted]

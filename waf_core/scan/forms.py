"""Forms of values, and for each a mask of patterns: of those that are wanted of it, or may be found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

FEW_CANDIDATES: Final = 4
"""Up to so many candidates are confirmed with each form that asks for them: cheaper than a scan of each."""

MANY: Final = 4
"""So many values with the same plan, or forms that begin alike, are taken together."""

FEW_FORMS: Final = 32
"""In so few joined forms what is found is looked for in each; more are looked at in such parts."""

MAX_JOIN_BYTES: Final = 16384
"""Forms are joined up to so many bytes."""

MIN_BEGINNING: Final = 8
"""Bytes that forms have to share for it to be worth asking about them."""

TURN_VALUES: Final = 8
"""Of so many values one looks whether another thread waits (long ones look by themselves): the look costs 50 ns."""

TURN_FORMS: Final = 16
"""As many forms: to make one, or to ask about it, takes less."""

Wanted = Mapping[bytes, int]
Found = dict[bytes, int]


def note(found: Found, form: bytes, mask: int) -> None:
    """Add to what may be found in a form."""
    if mask:
        found[form] = found.get(form, 0) | mask


def shared_beginning(forms: Sequence[bytes]) -> bytes:
    """What all of them begin with."""
    first, last = min(forms), max(forms)
    size = min(len(first), len(last))
    place = 0
    while place < size and first[place] == last[place]:
        place += 1
    return first[:place]


def parts(forms: Sequence[bytes], limit: int) -> Iterable[Sequence[bytes]]:
    """The forms in groups of no more than `limit` bytes (one form may be larger)."""
    start = size = 0
    groups: list[Sequence[bytes]] = []
    for place, form in enumerate(forms):
        size += len(form)
        if size > limit and place > start:
            groups.append(forms[start:place])
            start, size = place, len(form)
    if start < len(forms):
        groups.append(forms[start:] if start else forms)
    return groups

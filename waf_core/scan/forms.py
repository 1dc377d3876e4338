"""Forms of values, and for each a mask of patterns: of those that are wanted of it, or may be found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

FEW_CANDIDATES: Final = 4
"""Up to so many candidates are confirmed with each form that asks for them: cheaper than a scan of each."""

MAX_JOIN_BYTES: Final = 16384
"""Forms are joined up to so many bytes."""

Wanted = Mapping[bytes, int]
Found = dict[bytes, int]


def note(found: Found, form: bytes, mask: int) -> None:
    """Add to what may be found in a form."""
    if mask:
        found[form] = found.get(form, 0) | mask


def parts(wanted: Wanted, limit: int) -> Iterable[Wanted]:
    """The forms in groups of no more than `limit` bytes (one form may be larger)."""
    if not wanted:
        return ()
    size = 0
    for form in wanted:
        size += len(form)
    if size <= limit:
        return (wanted,)
    groups: list[dict[bytes, int]] = [{}]
    size = 0
    for form, mask in wanted.items():
        if size + len(form) > limit and groups[-1]:
            groups.append({})
            size = 0
        groups[-1][form] = mask
        size += len(form)
    return groups

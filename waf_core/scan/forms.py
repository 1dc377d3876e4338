"""Forms of values, and for each a mask of patterns: of those that are wanted of it, or may be found in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

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

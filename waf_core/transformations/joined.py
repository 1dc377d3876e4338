"""Many short values, transformed at once.

A call for each of a thousand values costs more than the bytes do.  A function that looks at no byte together
with one that comes later than a separator does the same to joined values as to each: Traits say which do.
Whether it was so is seen by counting: if a value has the separator, or one came out of it, the pieces are too
many, and fewer values are tried together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from waf_core.transformations import TRAITS, UNKNOWN, Transformation

SEPARATOR: Final = b"\x01"

FEW: Final = 4
"""So few are transformed one by one."""


def transform_all(function: Transformation, values: Sequence[bytes]) -> Sequence[bytes]:
    """[function(value) for value in values]; the very sequence if nothing changes."""
    ends = TRAITS.get(function, UNKNOWN).joined if len(values) > FEW else None
    if ends is None:
        changes = False
        each: list[bytes] = []
        for value in values:
            form = function(value)
            each.append(form)
            changes |= form is not value
        return each if changes else values
    joined = SEPARATOR.join(values)
    if all(joined.find(bytes((end,)) + SEPARATOR) < 0 for end in ends):
        changed = function(joined)
        if changed is joined:
            return values
        out = changed.split(SEPARATOR)
        if len(out) == len(values) == joined.count(SEPARATOR) + 1:
            return out
    half = len(values) // 2
    return [*transform_all(function, values[:half]), *transform_all(function, values[half:])]

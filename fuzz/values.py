"""Transformations of any value."""

from __future__ import annotations

import math

from fuzz.pieces import Pieces, cut
from waf_core.transformations import ANYTHING, REGISTRY, TRAITS, UNKNOWN
from waf_core.transformations.joined import transform_all

_FUNCTIONS = sorted(REGISTRY.items())


def transformations(data: bytes) -> None:
    """They never raise, keep what their Traits say, and do the same to many values at once as to each."""
    pieces = Pieces(data)
    _, function = _FUNCTIONS[pieces.byte() % len(_FUNCTIONS)]
    sizes, rest = pieces.text(), pieces.rest()
    values = cut(rest, sizes) or [b""]
    results = [function(value) for value in values]
    assert list(transform_all(function, values)) == results
    traits = TRAITS.get(function, UNKNOWN)
    for value, result in zip(values, results, strict=True):
        if traits.growth != math.inf:
            assert len(result) <= len(value) * traits.growth
        touched = [out for touches, out in traits.effects if set(touches) & set(value) or touches == ANYTHING]
        if not touched:
            assert result == value
        assert set(result) <= set(value).union(*map(set, touched))

"""Transformation functions (`t:NAME`): bytes in, bytes out, never an exception.

A transformation is a pure function.  When it changes nothing it returns the
very object it was given: the scan plan (waf_core/compiler/plan.py) leans on
that to see that a whole chain left a value as it was, and then scans it once.

Semantics follow the ModSecurity reference manual, section "Transformation
functions"; where version 2 and version 3 differ the docstring says which one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Transformation = Callable[[bytes], bytes]

REGISTRY: Final[dict[str, Transformation]] = {}
"""Lower-cased SecLang name -> function."""

ANYTHING: Final = bytes(range(256))

MIXES: Final = 0
MOVES: Final = 1
KEEPS: Final = 2
ENDS: Final = 3
"""What a transformation makes of indexes (digits behind a dot and ahead of a dot or the end, as in `json.a.0.b`).  From
values that differ in nothing but the digits of indexes, ENDS makes the same, MOVES and KEEPS what differs in nothing
but these digits.  An index at the end of a value, or with no more than letters, digits, `_` and dots behind it, KEEPS
leaves where it is, and what is behind it but for its case."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a transformation can do, for the scan.

    `effects` are pairs of bytes (touched, emitted).  A value without any touched byte comes back
    unchanged; otherwise the result has only bytes of the value, and those that are emitted for the
    touched bytes that it has.  What touches all bytes may change the empty value, too.  The result is never longer
    than `growth` times the value.
    """

    effects: tuple[tuple[bytes, bytes], ...] = ((ANYTHING, ANYTHING),)
    growth: float = math.inf
    joined: bytes | None = None
    """Values may be transformed all at once, joined (waf_core/transformations/joined.py), if none of them ends with one
    of these bytes; None: never."""
    indexes: int = MIXES
    """MIXES, MOVES, KEEPS or ENDS."""


UNKNOWN: Final = Traits()
"""Of functions that are not listed: they may do anything to any value."""

TRAITS: Final[dict[Transformation, Traits]] = {}


def transformation(
    *names: str,
    effects: tuple[tuple[bytes, bytes], ...] = UNKNOWN.effects,
    growth: float = math.inf,
    joined: bytes | None = None,
    indexes: int = MIXES,
) -> Callable[[Transformation], Transformation]:
    """Register a function under one or more SecLang names (case-insensitive), with its Traits."""

    def register(function: Transformation) -> Transformation:
        for name in names:
            REGISTRY[name.lower()] = function
        TRAITS[function] = Traits(effects, growth, joined, indexes)
        return function

    return register


def apply_chain(chain: tuple[Transformation, ...], value: bytes) -> bytes:
    """Run a value through a chain of transformations, left to right."""
    for function in chain:
        value = function(value)
    return value


from waf_core.transformations import (  # noqa: E402  (each module registers what it defines)
    case,
    commandline,
    comments,
    css,
    digest,
    encodings,
    html,
    javascript,
    parity,
    path,
    sqlhex,
    unicode,
    url,
    whitespace,
)

__all__ = [
    "ANYTHING",
    "ENDS",
    "KEEPS",
    "MIXES",
    "MOVES",
    "REGISTRY",
    "TRAITS",
    "UNKNOWN",
    "Traits",
    "Transformation",
    "apply_chain",
    "case",
    "commandline",
    "comments",
    "css",
    "digest",
    "encodings",
    "html",
    "javascript",
    "parity",
    "path",
    "sqlhex",
    "transformation",
    "unicode",
    "url",
    "whitespace",
]

"""Transformation functions (`t:NAME`): bytes in, bytes out, never an exception.

A transformation is a pure function.  When it changes nothing it returns the
very object it was given: the scan plan (waf_core/compiler/plan.py) leans on
that to see that a whole chain left a value as it was, and then scans it once.

Semantics follow the ModSecurity reference manual, section "Transformation
functions"; where version 2 and version 3 differ the docstring says which one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Transformation = Callable[[bytes], bytes]

REGISTRY: dict[str, Transformation] = {}
"""Lower-cased SecLang name -> function."""

ANYTHING = bytes(range(256))


@dataclass(frozen=True, slots=True)
class Traits:
    """What a transformation can do, for the scan.

    A value without any byte of `touches` comes back unchanged.  When it does change, the result has
    only bytes of the value and of `emits`.
    """

    touches: bytes = ANYTHING
    emits: bytes = ANYTHING


TRAITS: dict[Transformation, Traits] = {}
"""Functions that are not listed may do anything to any value."""


def transformation(
    *names: str, touches: bytes = ANYTHING, emits: bytes = ANYTHING
) -> Callable[[Transformation], Transformation]:
    """Register a function under one or more SecLang names (case-insensitive), with its Traits."""

    def register(function: Transformation) -> Transformation:
        for name in names:
            REGISTRY[name.lower()] = function
        TRAITS[function] = Traits(touches, emits)
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
    unicode,
    url,
    whitespace,
)

__all__ = [
    "ANYTHING",
    "REGISTRY",
    "TRAITS",
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
    "transformation",
    "unicode",
    "url",
    "whitespace",
]

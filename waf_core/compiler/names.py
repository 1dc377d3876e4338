"""Which TX variables rules may set, as far as that is known when they are compiled."""

from __future__ import annotations

import re
from collections.abc import Sequence

import re2

from waf_core.actions import SetVar
from waf_core.rule import Link

CAPTURES = frozenset(b"%d" % i for i in range(10))
"""TX:0 to TX:9."""

_BEGINNING = re.compile(rb"\^([A-Za-z0-9_]+)")
"""An expression that only says how a name begins."""


class TxNames:
    """Names of TX variables; those made by macros are known by their beginning."""

    def __init__(self) -> None:
        self.exact: set[bytes] = set()
        self.prefixes: set[bytes] = set()
        self.anything = False

    def meets(self, other: TxNames) -> bool:
        if self.anything or other.anything:
            return bool(self or other)
        return bool(self.exact & other.exact) or self._begins(other) or other._begins(self)

    def may_be(self, name: bytes) -> bool:
        """May one of them be called that?"""
        return self.anything or name in self.exact or any(name.startswith(prefix) for prefix in self.prefixes)

    def may_fit(self, pattern: re2._Regexp) -> bool:
        """May the expression be found in one of them?"""
        if self.anything or any(pattern.search(name) for name in self.exact):
            return True
        found = _BEGINNING.fullmatch(pattern.pattern)
        beginning = found[1].lower() if found else b""
        return any(p.startswith(beginning) or beginning.startswith(p) for p in self.prefixes)

    def _begins(self, other: TxNames) -> bool:
        names = (*other.exact, *other.prefixes)
        return any(n.startswith(p) or p.startswith(n) for p in self.prefixes for n in names)

    def __bool__(self) -> bool:
        return self.anything or bool(self.exact) or bool(self.prefixes)


def add_written(links: Sequence[Link], names: TxNames, *, captures: bool = True) -> None:
    """Add what the links set; what they capture, unless it is asked not to."""
    for link in links:
        if link.capture and captures:
            names.exact |= CAPTURES
        for effect in link.effects:
            if isinstance(effect, SetVar) and effect.collection == "TX":
                if effect.name.constant is not None:
                    names.exact.add(effect.name.constant)
                elif isinstance(effect.name.parts[0], bytes):
                    names.prefixes.add(effect.name.parts[0].lower())
                else:
                    names.anything = True

"""Several expressions in one automaton of RE2's: one pass over a text tells which of them match.

`re2.Set.Match` reports nothing when its automaton runs out of memory, which looks the same as
"no match" and would be a bypass.  So every Set contains the empty pattern, which matches
everything: an answer without it is a failure.  Failures are counted, and every expression is then
taken to be a candidate, which the rules confirm one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import re2

from waf_core.errors import WafError
from waf_core.operators.regex import re2_options
from waf_core.scan.limits import ScanStatistics

MAX_SET_MEM: Final = 1 << 30
"""Bytes that the automaton of one Set may be given when its expressions do not fit in less."""


class Re2Set:
    """`expressions` by their numbers.  `memory`: bytes that the automaton may use before it starts over."""

    def __init__(self, expressions: Mapping[int, bytes], memory: int, statistics: ScanStatistics) -> None:
        """Raises WafError when they need more memory than MAX_SET_MEM, or RE2 cannot read one of them."""
        self._numbers: list[int] = list(expressions)
        self._statistics: ScanStatistics = statistics
        self._set: re2._re2.Set = _compile(list(expressions.values()), memory)

    def match(self, text: bytes) -> Sequence[int]:
        """Numbers of those that match; of all, if the automaton failed."""
        found = self._set.Match(text)
        if len(found) == 1:
            return ()
        numbers = self._numbers
        if not found:
            self._statistics.add(set_failures=1)
            return numbers
        return [numbers[index - 1] for index in found if index]


def _compile(expressions: Sequence[bytes], memory: int) -> re2._re2.Set:
    while memory <= MAX_SET_MEM:
        scanner = re2._re2.Set(re2._re2.RE2.Anchor.UNANCHORED, re2_options(memory))
        scanner.Add(b"")  # number 0, the sentinel
        for expression in expressions:
            # It would be left out, and the numbers of the others be wrong.
            if scanner.Add(expression) < 0:
                raise WafError(f"RE2 cannot read {expression[:200]!r}")
        # A Set whose compilation failed must never be asked: it crashes.
        if scanner.Compile():
            return scanner
        memory *= 2
    raise WafError(f"{len(expressions)} patterns need more than {MAX_SET_MEM} bytes for their automaton")

"""Whether an expression matches anywhere in a text, and nothing else: RE2 reads up to where its first match ends.

A Set reads on to the end, and behind a match of a large expression that is where most of its automaton's states are
made.  A search for the match itself reads back from there to find its beginning.  So what is asked for is a match of
`.*`, the expression and `.*`: from the text's first byte on, as long as possible.  That needs no reading back, and
RE2 knows it to be the whole text as soon as the expression has matched.

Where RE2 turns out to be slow PCRE2 can tell, mostly.
"""

from __future__ import annotations

from typing import Final

import re2

from waf_core.errors import WafError
from waf_core.operators.ahead import Ahead, ahead_of_re2
from waf_core.operators.regex import error_of, re2_options
from waf_core.operators.split import halves
from waf_core.scan.re2_set import MAX_SET_MEM

MEMORY_SHARE: Final = 3
"""RE2 gives a third of an expression's memory to the automaton of one direction and one kind of match."""

SPLIT_BYTES: Final = 10_000
"""PCRE2 takes smaller expressions of CRS's, and mostly those of 25 kB."""

_FROM_START: Final = re2._re2.RE2.Anchor.ANCHOR_START


class FirstMatch:
    """Of `expression`, in which `^` and `$` hold at newlines (for joined forms, as in Hyperscan), somewhere behind an
    `opening`, if there is one.  `memory`: bytes that the automaton may use before it starts over.

    Where it would start over again and again, RE2 simulates it for the rest of a text: exact, and 200 ns a byte.
    """

    def __init__(self, expression: bytes, memory: int, *, opening: bytes = b"") -> None:
        """It gets more memory if its program does not fit.  Raises WafError when RE2 cannot read the expression, or it
        needs more than MAX_SET_MEM."""
        options = re2_options(memory * MEMORY_SHARE)
        options.never_capture = True
        options.longest_match = True
        self._aheads = _aheads(expression, opening)
        anywhere = b".*(?m:" + expression + b").*"
        if opening:
            anywhere = b".*(?m:" + opening + b")" + anywhere
        self._automaton: re2._re2.RE2 = re2._re2.RE2(anywhere, options)
        while not self._automaton.ok():
            options.max_mem *= 2
            if options.max_mem > MAX_SET_MEM:
                raise WafError(f"RE2 cannot look for {expression[:200]!r}: {error_of(self._automaton)}")
            self._automaton = re2._re2.RE2(anywhere, options)

    def is_in(self, text: bytes) -> bool:
        """Does it match anywhere in there?"""
        return bool(self._automaton.Match(_FROM_START, text, 0, len(text))[0][0] != -1)

    def backtracks(self, text: bytes) -> bool | None:
        """The same, with PCRE2, which may take bytes of the opening for what is behind it; None: it cannot tell."""
        for ahead in self._aheads:
            place = ahead.place(text, 0)
            if place is None:
                return None
            if place[0] != -1:
                return True
        return False if self._aheads else None


def _aheads(expression: bytes, opening: bytes) -> list[Ahead]:
    """What finds it together: there are expressions that are too large for PCRE2.  None, if one part cannot be made."""
    ahead = ahead_of_re2(expression, lines=True, opening=opening)
    if ahead is not None:
        return [ahead]
    out: list[Ahead] = []
    for half in (halves(expression) or ()) if len(expression) >= SPLIT_BYTES else ():
        parts = _aheads(half, opening)
        if not parts:
            return []
        out += parts
    return out

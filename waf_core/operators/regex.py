"""`@rx` and `@rxGlobal`: RE2, in linear time, on bytes.

Flags are those that CRS is written for (ModSecurity v2): the dot matches newlines, `^` and
`$` only the ends of the value.  A pattern that RE2 cannot express (look-around, back
references) runs on the `regex` package, where each search has a time bound; when that is
exceeded the value counts as a match, because an attacker can cause it, and the limit is noted.
"""

from __future__ import annotations

import re
from typing import Final
from weakref import WeakValueDictionary

import re2

from waf_core.limits import Limit
from waf_core.macros import Expander
from waf_core.operators import Argument, Captures, Operator, OperatorEnv, OperatorError, operator
from waf_core.operators.ahead import Ahead, ahead_of_re2
from waf_core.operators.indexes import relaxed
from waf_core.operators.needs import Needs, of_pattern
from waf_core.operators.spelling import for_re2, for_regex

RE2_MAX_MEM: Final = 16 << 20
"""Bytes one pattern's automata may use before RE2 falls back to its slower, exact NFA."""

BACKTRACK_SECONDS: Final = 0.05
"""Time that one search of a pattern outside RE2 may take."""

MAX_DYNAMIC_PATTERNS: Final = 256
"""Patterns with macros, compiled while serving, that are kept."""

MAX_CAPTURES: Final = 10

CAPTURE_WHOLE_BYTES: Final = 128
"""In longer values groups are extracted from the surroundings of the match."""


def re2_options(max_mem: int = RE2_MAX_MEM) -> re2.Options:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = max_mem
    return options


_UNANCHORED: Final = re2._re2.RE2.Anchor.UNANCHORED

_ALL: Final = frozenset((b".*", b"^.*", b".*$", b"^.*$"))
"""Expressions that match every value, and all of it."""

_LOOKS_AHEAD: Final = re.compile(rb"\$|\\[bBzZ]")
"""May an expression look at what comes behind its match?"""

_automata: WeakValueDictionary[tuple[bytes, bool], re2._re2.RE2] = WeakValueDictionary()
"""(pattern, with groups) -> what rules and policies with that pattern share."""


def _automaton(pattern: bytes, *, groups: bool) -> re2._re2.RE2:
    """RE2's object for a pattern; it may have failed (`ok`)."""
    known = _automata.get((pattern, groups))
    if known is None:
        options = re2_options()
        options.never_capture = not groups
        known = _automata[pattern, groups] = re2._re2.RE2(pattern, options)
    return known


def _prepare(automaton: re2._re2.RE2) -> None:
    """Let RE2 do now what it puts off: the program that reads backwards takes it up to 2 ms when a pattern matches for
    the first time."""
    automaton.ReverseProgramSize()
    automaton.Match(_UNANCHORED, b"", 0, 0)


def error_of(automaton: re2._re2.RE2) -> str:
    """Why RE2 cannot read a pattern, in its own words."""
    return str(automaton.error(), "latin-1")


class Rx(Operator):
    """A pattern that RE2 runs.  `pattern` lets the scan put it into an RE2 Set.

    RE2 finds *whether and where* with its automaton, but extracts groups by simulation, which costs
    a hundred times more for each byte.  So the place is found first, without groups, and groups are
    extracted from its surroundings only.  PCRE2 finds the place of large patterns: a text that may match
    has been seen to be hostile, so it is news to RE2.
    """

    def __init__(self, pattern: bytes) -> None:
        """Raises OperatorError."""
        self.pattern = pattern = for_re2(pattern)
        self._capture = _automaton(pattern, groups=True)
        if not self._capture.ok():
            raise OperatorError(f"RE2 cannot compile the pattern: {error_of(self._capture)}")
        self._looks_ahead = _LOOKS_AHEAD.search(pattern) is not None
        self._ahead: Ahead | None = None
        self._groups = self._capture.NumberOfCapturingGroups()
        self._find = None if self._groups else self._capture
        """What finds the place; None: it has not been asked for."""
        self._one_group = self._groups == 1 and _is_one_group(pattern)
        if self._one_group:
            self._groups = 0
        self._takes_all = pattern in _ALL

    def get_ready(self) -> None:
        self._ahead = ahead_of_re2(self.pattern, lines=False)
        _prepare(self._capture)
        _prepare(self._finder())

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        text = value
        if len(value) > CAPTURE_WHOLE_BYTES or not self._groups:
            start, end = self.place(value, 0)
            if start == -1:
                return None
            if not self._groups:
                found = value[start:end]
                return (found, found) if self._one_group else (found,)
            # One byte more on each side, for \b; if an anchor makes a difference, the whole decides.
            offset = max(start - 1, 0)
            text = value[offset : end + 1]
            spans = self._capture.Match(_UNANCHORED, text, 0, len(text))
            if spans[0] != (start - offset, end - offset):
                text = value
                spans = self._capture.Match(_UNANCHORED, text, 0, len(text))
        else:
            spans = self._capture.Match(_UNANCHORED, text, 0, len(text))
        if spans[0][0] == -1:
            return None
        return tuple([None if s == -1 else text[s:e] for s, e in spans[:MAX_CAPTURES]])

    def holds(self, value: bytes, tx: Expander) -> bool:
        return self.place(value, 0)[0] != -1

    def settled_by(self, beginning: bytes) -> bool:
        end = self.place(beginning, 0)[1]
        # A match that ends earlier knows the byte behind it, too, which is all that `\b` and `$` look at.
        return -1 < end < len(beginning) or (end == len(beginning) and not self._looks_ahead)

    def place(self, value: bytes, start: int) -> tuple[int, int]:
        """Where the first match from `start` on begins and ends; (-1, -1) if there is none."""
        if self._takes_all and start == 0:
            return 0, len(value)
        known = None if self._ahead is None else self._ahead.place(value, start)
        if known is not None:
            return known
        first, end = self._finder().Match(_UNANCHORED, value, start, len(value))[0]
        return first, end

    def _finder(self) -> re2._re2.RE2:
        find = self._find
        if find is None:
            find = self._find = _automaton(self.pattern, groups=False)
        return find

    def minds_indexes(self) -> bool | Operator:
        pattern = relaxed(self.pattern)
        if pattern is None or pattern == self.pattern:
            return pattern is None
        return only_where(pattern)

    def needs(self) -> Needs:
        return of_pattern(self.pattern)


def only_where(pattern: bytes) -> bool | Operator:
    """For `Operator.minds_indexes`: only where this expression matches, which RE2 may not take."""
    try:
        expression = Rx(pattern)
    except OperatorError:
        return True
    expression.get_ready()
    return expression


def _is_one_group(pattern: bytes) -> bool:
    """Is the whole of a pattern with one group in it?  Then the group is the match.  What is between the parentheses
    is no expression if they do not belong together."""
    if pattern[:1] != b"(" or pattern[:2] == b"(?" or pattern[-1:] != b")":
        return False
    inner = re2._re2.RE2(pattern[1:-1], re2_options())
    return bool(inner.ok()) and inner.NumberOfCapturingGroups() == 0


class BacktrackingRx(Operator):
    """A pattern beyond RE2, with a time bound: what takes longer is a match."""

    def __init__(self, pattern: bytes) -> None:
        import regex  # 1.4 MB that CRS's rules do not need

        self.pattern_text = pattern
        try:
            self._regex = regex.compile(for_regex(pattern), regex.DOTALL | regex.VERSION1)
        except (regex.error, ValueError, OverflowError, RecursionError) as error:
            # The others are for flags of texts, numbers and depths that the library does not take.
            raise OperatorError(f"the pattern is no regular expression: {error}") from error

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        try:
            found = self._regex.search(value, timeout=BACKTRACK_SECONDS)
        except TimeoutError:
            tx.note_limit(Limit.RX_TIME)
            return (b"",)
        if found is None:
            return None
        return (found.group(), *found.groups()[: MAX_CAPTURES - 1])

    def place(self, value: bytes, start: int) -> tuple[int, int]:
        """As `Rx.place`.  Raises TimeoutError."""
        found = self._regex.search(value, start, timeout=BACKTRACK_SECONDS)
        return (-1, -1) if found is None else (found.start(), found.end())


class DynamicRx(Operator):
    """A pattern that contains macros: compiled when its text is known, and kept.  One that is no expression then
    matches nothing (as in ModSecurity v3), and is noted."""

    pure = False

    def __init__(self, argument: Argument) -> None:
        self._argument = argument
        self._compiled: dict[bytes, Operator | None] = {}

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        pattern = self._argument.get(tx)
        if pattern not in self._compiled:
            if len(self._compiled) >= MAX_DYNAMIC_PATTERNS:
                self._compiled.clear()
            try:
                self._compiled[pattern] = compile_pattern(pattern, OperatorEnv())
            except OperatorError:
                self._compiled[pattern] = None
        compiled = self._compiled[pattern]
        if compiled is None:
            tx.note_limit(Limit.RX_INVALID)
            return None
        return compiled.match(value, tx)


_HINTS: Final = {
    b"(?!": "put what must not follow into a chained rule with !@rx",
    b"(?=": "put what must follow into a chained rule",
    b"(?<": "put what comes before into a chained rule on MATCHED_VAR",
    b"(?>": "an atomic group is (?:...) in RE2, which never backtracks",
    b"++": "a possessive quantifier is the plain one in RE2, which never backtracks",
    b"*+": "a possessive quantifier is the plain one in RE2, which never backtracks",
    b"?+": "a possessive quantifier is the plain one in RE2, which never backtracks",
}


def compile_pattern(pattern: bytes, env: OperatorEnv) -> Rx | BacktrackingRx:
    """RE2 where it can, else the bounded fallback, with a note for `envoy-waf check`."""
    try:
        return Rx(pattern)
    except OperatorError as error:
        reason = str(error)
    fallback = BacktrackingRx(pattern)
    place, hint = _beyond_re2(pattern)
    shown = pattern[place : place + 40].decode("latin-1")
    env.notes.append(
        f"the pattern runs on the slower backtracking engine, bounded to {BACKTRACK_SECONDS * 1000:.0f} ms a value:"
        f" {reason}, at offset {place}: {shown!r} ({hint})"
    )
    return fallback


def _beyond_re2(pattern: bytes) -> tuple[int, str]:
    """Where the part is that RE2 does not know, and what to write instead."""
    found = [(pattern.find(mark), hint) for mark, hint in _HINTS.items() if mark in pattern]
    backreference = re.search(rb"\\[1-9]", pattern)
    if backreference:
        found.append((backreference.start(), "back references have no equivalent: write the repeated text out"))
    return min(found, default=(0, "no equivalent is known"))


@operator("rx", "rxGlobal")
def _make(argument: bytes, env: OperatorEnv) -> Operator:
    dynamic = Argument(argument)
    if dynamic.constant is None:
        return DynamicRx(dynamic)
    return compile_pattern(argument, env)

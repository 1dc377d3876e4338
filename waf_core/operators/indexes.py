"""Which expressions tell the elements of an array apart: `json.a.10` from `json.a.11`.

An *index* is a run of digits between dots, or between a dot and the end of a value.  The names of an array's
elements differ in nothing else, and hardly an expression minds: one that has `[0-9]` or nothing wherever
there may be a digit of an index gives the same answer for all indexes of one length (each digit may be exchanged for
another without any byte of a match leaving the set that it has to be in).  So the scan asks about one of them.

What may stand where an index is follows from an expression's syntax tree: bytes that a digit of an index can be read
as have a dot, another such byte or the beginning of the match ahead of them, and a dot, another such byte or its end
behind them.  `md5` or `7z` cannot be there, `[0-7]+` can, and tells `1` from `9`.

An expression that tells indexes apart is *relaxed* by letting those bytes be any digit.  What the relaxed one does not
match, the other one does not match with any index.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from waf_core.operators.needs import (
    ALL,
    NotUnderstoodError,
    group_ignores_case,
    ignores_case,
    of_bytes,
    one_byte,
    parse,
)
from waf_core.operators.spelling import MULTILINE

_DOT = of_bytes(b".")
_DIGITS = of_bytes(b"0123456789")
_ASSERTIONS = {
    "AT_BEGINNING": rb"\A",
    "AT_BEGINNING_STRING": rb"\A",
    "AT_END": rb"\z",
    "AT_END_STRING": rb"\z",
    "AT_BOUNDARY": rb"\b",
    "AT_NON_BOUNDARY": rb"\B",
}
_RUN = re.compile(rb"[0-9]+")


@dataclass(slots=True)
class _Byte:
    """One byte of `members`.  May what is `before` and `behind` it in a match be what an index has there?"""

    members: int
    before: bool = False
    behind: bool = False

    @property
    def tells(self) -> bool:
        """Does it take some digits of an index, and not others?"""
        return self.before and self.behind and self.members & _DIGITS not in (0, _DIGITS)


@dataclass(slots=True)
class _Repeat:
    least: int
    most: int
    items: list[_Item]


@dataclass(slots=True)
class _Either:
    branches: list[list[_Item]]


@dataclass(slots=True)
class _Assertion:
    """Of no width.  It sees no difference between digits."""

    text: bytes


_Item = _Byte | _Repeat | _Either | _Assertion


@lru_cache(maxsize=4096)
def relaxed(pattern: bytes) -> bytes | None:
    """An expression that matches whatever this one matches, and does not tell indexes apart: this one, if it does
    not.  None: it cannot be told."""
    tree = parse(pattern)
    if tree is None:
        return None
    try:
        items = _items(tree, ignores_case(tree))
    except (NotUnderstoodError, RecursionError):
        return None
    _walk(items, True, backwards=False)
    _walk(items, True, backwards=True)
    if not _any_tells(items):
        return pattern
    return _text(items, assertions=not MULTILINE.search(pattern))


def tells_apart(pattern: bytes | tuple[bytes, ...]) -> bool:
    """May an expression, or a list of phrases, tell indexes apart?"""
    return relaxed(pattern) != pattern if isinstance(pattern, bytes) else relaxed_phrases(pattern) is not None


def relaxed_phrases(phrases: Iterable[bytes]) -> bytes | None:
    """An expression for those phrases that tell indexes apart, relaxed; None: there are none."""
    found: list[bytes] = []
    for phrase in phrases:
        ends = [run.span() for run in _RUN.finditer(phrase) if _may_be_index(phrase, *run.span())]
        if ends:
            text, place = b"", 0
            for start, end in ends:
                text += re.escape(phrase[place:start]) + b"[0-9]{%d}" % (end - start)
                place = end
            found.append(text + re.escape(phrase[place:]))
    return b"(?i)(?:" + b"|".join(found) + b")" if found else None


def _may_be_index(phrase: bytes, start: int, end: int) -> bool:
    return phrase[start - 1 : start] in (b"", b".") and phrase[end : end + 1] in (b"", b".")


def _items(tree: Iterable[tuple[Any, Any]], ignore_case: bool) -> list[_Item]:
    out: list[_Item] = []
    for node, argument in tree:
        kind = str(node)
        if kind == "AT":
            out.append(_Assertion(_ASSERTIONS[str(argument)]))
        elif kind in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, child = argument
            out.append(_Repeat(int(least), int(most), _items(child, ignore_case)))
        elif kind == "SUBPATTERN":
            _, add, remove, child = argument
            out.append(_Either([_items(child, group_ignores_case(add, remove, ignore_case))]))
        elif kind == "BRANCH":
            out.append(_Either([_items(branch, ignore_case) for branch in argument[1]]))
        else:
            out.append(_Byte(one_byte(kind, argument, ignore_case)))
    return out


def _walk(items: Sequence[_Item], near: bool, *, backwards: bool) -> bool:
    """Note which bytes may be those of an index, as far as what comes ahead of them (or behind) is concerned.  `near`:
    may an index go on here?  Returns whether it may go on after the items."""
    for item in reversed(items) if backwards else items:
        if isinstance(item, _Byte):
            a_digit = near and item.members & _DIGITS != 0
            if a_digit and backwards:
                item.behind = True
            elif a_digit:
                item.before = True
            near = a_digit or item.members & _DOT != 0
        elif isinstance(item, _Either):
            ends = [_walk(branch, near, backwards=backwards) for branch in item.branches]
            near = True in ends
        elif isinstance(item, _Repeat):
            once = _walk(item.items, near, backwards=backwards)
            more = _walk(item.items, near or once, backwards=backwards)
            near = once or more or (near and not item.least)
    return near


def _any_tells(items: Iterable[_Item]) -> bool:
    for item in items:
        if isinstance(item, _Byte):
            if item.tells:
                return True
        elif isinstance(item, _Repeat):
            if _any_tells(item.items):
                return True
        elif isinstance(item, _Either) and any(map(_any_tells, item.branches)):
            return True
    return False


def _text(items: Iterable[_Item], *, assertions: bool) -> bytes:
    """Written out again, relaxed.  Where `^` and `$` hold at newlines, assertions are left out."""
    out = b""
    for item in items:
        if isinstance(item, _Byte):
            out += _class(item.members | _DIGITS if item.tells else item.members)
        elif isinstance(item, _Assertion):
            out += item.text if assertions else b""
        elif isinstance(item, _Either):
            out += b"(?:" + b"|".join([_text(branch, assertions=assertions) for branch in item.branches]) + b")"
        else:
            out += b"(?:" + _text(item.items, assertions=assertions) + b")" + _times(item)
    return out


def _times(repeat: _Repeat) -> bytes:
    most = b"" if repeat.most >= _MANY else b"%d" % repeat.most
    return b"{%d,%b}" % (repeat.least, most)


_MANY = 1001
"""RE2 counts no further than 1000; what has no upper limit has a large one in Python's tree."""


def _class(members: int) -> bytes:
    if members == 0:
        return rb"[^\x00-\xff]"
    if members == ALL:
        return rb"[\x00-\xff]"
    return b"[" + b"".join([rb"\x%02x" % byte for byte in range(256) if members >> byte & 1]) + b"]"

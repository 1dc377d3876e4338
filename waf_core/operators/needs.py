"""What a value must have for an expression to match: at least so many bytes, and some of these.

Most values are words and numbers, and most expressions want a bracket, a quote or a slash somewhere.
From the syntax tree of an expression follow *clauses*: sets of bytes of which a value that matches has
to contain at least one.  A value that fails a clause need not be searched at all.

The tree is Python's (`re._parser`), which reads RE2's syntax but for a few spellings; expressions that
contain one of those, or anything else that is not understood, need nothing.  Wherever the two engines
might differ, the set here is the larger one.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_parser: Any = importlib.import_module("re._parser")
_constants: Any = importlib.import_module("re._constants")

MAX_CLAUSES = 8
"""Clauses kept for one expression: the rarest."""

ALL = (1 << 256) - 1
"""The set of all bytes: bit n stands for byte n."""

_UNLIKE = re.compile(rb"\[:\^?[a-z]+:\]|\\[QpP]|\(\?[a-zA-Z]*U")
"""Spellings that Python reads otherwise, or not at all: POSIX classes, \\Q...\\E, (?U)."""

_ESCAPE = re.compile(rb"\\(?:(z)|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Needs:
    """`clauses`: sets of bytes, each as a number with bit n for byte n."""

    length: int = 0
    clauses: tuple[int, ...] = ()


NOTHING = Needs()


def of_bytes(members: Iterable[int]) -> int:
    """The set of these bytes."""
    out = 0
    for byte in members:
        out |= 1 << byte
    return out


_COMMON = of_bytes(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ")
_HIGH = of_bytes(range(128, 256))
_CATEGORIES = {
    "CATEGORY_DIGIT": of_bytes(b"0123456789"),
    "CATEGORY_SPACE": of_bytes(b" \t\n\r\f\v"),
    "CATEGORY_WORD": of_bytes(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"),
}


@lru_cache(maxsize=4096)
def of_pattern(pattern: bytes) -> Needs:
    """What a match of this expression needs; NOTHING when that cannot be told."""
    tree = parse(pattern)
    if tree is None:
        return NOTHING
    try:
        clauses = _sequence(tree, ignores_case(tree))
        length = int(tree.getwidth()[0])
    except (NotUnderstoodError, RecursionError):
        return NOTHING
    return Needs(length, _rarest(clauses))


def parse(pattern: bytes) -> Any:
    """The syntax tree of an expression, as Python's parser makes it: pairs (kind, argument).  None when Python reads
    it otherwise than RE2, or not at all."""
    if _UNLIKE.search(pattern):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return _parser.parse(_ESCAPE.sub(_python_escape, pattern))
    except (re.error, Warning, OverflowError, RecursionError):
        return None


def ignores_case(tree: Any) -> bool:
    return bool(tree.state.flags & re.IGNORECASE)


def group_ignores_case(add: int, remove: int, ignore_case: bool) -> bool:
    """Within a group that adds and removes these flags."""
    return (ignore_case or bool(add & re.IGNORECASE)) and not remove & re.IGNORECASE


def _python_escape(found: re.Match[bytes]) -> bytes:
    """An escape of RE2 as Python writes it."""
    return b"\\Z" if found[1] else found[0]


@lru_cache(maxsize=256)
def of_phrases(phrases: tuple[bytes, ...]) -> Needs:
    """What a value needs to contain one of these (lower-case) phrases, in any case."""
    clauses = _branches([_ranked(_either_case(1 << byte) for byte in set(phrase)) for phrase in phrases])
    return Needs(min(map(len, phrases)), _rarest(clauses))


def of_text(text: bytes) -> Needs:
    """What a value needs to contain this text."""
    return Needs(len(text), _rarest(1 << byte for byte in text))


class NotUnderstoodError(Exception):
    """A node of a kind that is not known here."""


@lru_cache(maxsize=4096)
def _commonness(members: int) -> int:
    """How likely ordinary text has one of these bytes: common ones count first."""
    return (members & _COMMON).bit_count() << 9 | members.bit_count()


def _ranked(clauses: Iterable[int]) -> list[int]:
    """The rarest first."""
    return sorted(clauses, key=_commonness)


def _rarest(clauses: Iterable[int]) -> tuple[int, ...]:
    """The most telling clauses, without those that follow from others."""
    kept: list[int] = []
    for clause in _ranked(set(clauses)):
        if clause != ALL and len(kept) < MAX_CLAUSES and not any(k & clause == k for k in kept):
            kept.append(clause)
    return tuple(kept)


@lru_cache(maxsize=4096)
def _either_case(members: int) -> int:
    # RE2 folds Latin-1 letters too.
    return _ascii_case(members) | (_HIGH if members & _HIGH else 0)


@lru_cache(maxsize=4096)
def _ascii_case(members: int) -> int:
    out = members
    for byte in range(65, 91):
        upper, lower = 1 << byte, 1 << (byte + 32)
        if members & (upper | lower):
            out |= upper | lower
    return out


def _sequence(items: Iterable[tuple[Any, Any]], ignore_case: bool) -> list[int]:
    out: list[int] = []
    for kind, argument in items:
        out += _node(str(kind), argument, ignore_case)
    return list(_rarest(out))


def _node(kind: str, argument: Any, ignore_case: bool) -> list[int]:
    if kind == "AT":
        return []
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        least, _, child = argument
        return _sequence(child, ignore_case) if least else []
    if kind == "SUBPATTERN":
        _, add, remove, child = argument
        return _sequence(child, group_ignores_case(add, remove, ignore_case))
    if kind == "BRANCH":
        return _branches([_sequence(branch, ignore_case) for branch in argument[1]])
    return [one_byte(kind, argument, ignore_case)]


def one_byte(kind: str, argument: Any, ignore_case: bool) -> int:
    """What a node matches that stands for one byte.  Raises NotUnderstoodError for others."""
    if kind == "LITERAL":
        return _cased(1 << argument, ignore_case)
    if kind == "NOT_LITERAL":
        return ALL ^ (1 << int(argument))
    if kind == "ANY":
        return ALL
    if kind == "IN":
        return _class(argument, ignore_case)
    raise NotUnderstoodError(kind)


def _branches(branches: Sequence[Sequence[int]]) -> list[int]:
    """A value that matches fulfils all clauses of one branch: join the rarest of each, then the next.  Each branch
    has its rarest clause first."""
    if not all(branches):
        return []
    out: list[int] = []
    for rank in range(max(map(len, branches))):
        union = 0
        for clauses in branches:
            union |= clauses[min(rank, len(clauses) - 1)]
        out.append(union)
    return out


def _cased(members: int, ignore_case: bool) -> int:
    return _either_case(members) if ignore_case else members


def _class(items: Sequence[tuple[Any, Any]], ignore_case: bool) -> int:
    members = 0
    negated = False
    for kind, argument in items:
        name = str(kind)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            members |= 1 << argument
        elif name == "RANGE":
            members |= of_bytes(range(argument[0], argument[1] + 1))
        elif name == "CATEGORY":
            category = str(argument)
            if category in _CATEGORIES:
                members |= _CATEGORIES[category]
            else:
                members |= ALL ^ (_CATEGORIES[category.replace("_NOT_", "_")] & ~(1 << 11))
        else:
            raise NotUnderstoodError(name)
    if negated:
        # Folded first, then left out.  What is left out by one engine's white space may be in by the other's.
        return ALL ^ ((_ascii_case(members) if ignore_case else members) & ~(1 << 11))
    return _cased(members, ignore_case)

"""Large expressions that are alike, united in one that matches whatever any of them does, and more.

CRS's rules for Unix commands have expressions of 5 to 15 kB that differ in the commands, and in how these may be
called: `(?:;|=|busybox)\\s*[a-z/]*(?:cat|wget)`, `(?:^|;|=|busybox)\\s*[a-z/]*(?:ls|id)`.  What they begin with is most
of what RE2's automaton has to keep in mind while it reads text that is new to it.  United they are
`(?:;|=|busybox|^)\\s*[a-z/]*(?:cat|wget|ls|id)`; where that matches, each whose own end (`ls|id`) is there
is a candidate.

What may stand before a command may end with `.*` (`time .*`), and behind that a command may begin at any byte: an
automaton that has to know both this and where it is in the rest has the product of both numbers of states.  Such
beginnings are looked for by themselves, with what they end with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from waf_core.operators.spelling import tokens
from waf_core.scan.split import groups

MIN_SHARED: Final = 3
"""Elements in a row that expressions must have in common, behind their first ones."""

_ANY_CASE: Final = b"(?i)"
_GROUP: Final = b"(?:"
_QUANTIFIERS: Final = frozenset((b"*", b"+", b"?", b"{"))
_ENDS: Final = frozenset((b"|", b")"))
"""They end a sequence of elements."""
_ANYTHING: Final = b".*"
_IN_BRACES: Final = frozenset(b"%c" % byte for byte in b"0123456789,}")


@dataclass(slots=True)
class _Sequence:
    """An expression taken apart: its flags, the alternatives that it begins with, and the elements that follow."""

    flags: bytes
    heads: list[bytes]
    rest: list[bytes]


class Whole(NamedTuple):
    """An expression; if there is an `opening`, this, anything, and what is behind."""

    expression: bytes
    opening: bytes = b""


@dataclass(slots=True)
class Family:
    """Whatever its members match, one of `wholes` matches, too.  Where a member matches, so does what `ends` has for
    its number (nothing, if there is one member)."""

    numbers: list[int]
    wholes: list[Whole]
    ends: dict[int, bytes]


def united(expressions: Mapping[int, bytes]) -> list[Family]:
    """Each of the expressions is in one family."""
    families: dict[tuple[bytes, ...], list[tuple[int, _Sequence]]] = {}
    """By flags (in any case `[^a]` matches less), and what they have in common."""
    out: list[Family] = []
    for number, expression in expressions.items():
        sequence = _sequence(expression)
        if sequence is None or len(sequence.rest) < MIN_SHARED:
            out.append(Family([number], [Whole(expression)], {}))
        else:
            families.setdefault((sequence.flags, *sequence.rest[:MIN_SHARED]), []).append((number, sequence))
    for members in families.values():
        if len(members) == 1:
            number = members[0][0]
            out.append(Family([number], [Whole(expressions[number])], {}))
        else:
            out.append(_unite(dict(members)))
    return out


def _unite(members: dict[int, _Sequence]) -> Family:
    shared = MIN_SHARED
    rests = [sequence.rest for sequence in members.values()]
    while all(len(rest) > shared and rest[shared] == rests[0][shared] for rest in rests):
        shared += 1
    flags = next(iter(members.values())).flags
    heads: dict[bytes, None] = {}
    openings: dict[bytes, None] = {}
    for head in dict.fromkeys(head for sequence in members.values() for head in sequence.heads):
        closed, opened = _ways(head)
        heads |= dict.fromkeys(closed)
        openings |= dict.fromkeys(opened)
    ends = {number: b"".join(sequence.rest[shared:]) for number, sequence in members.items()}
    end = _either(dict.fromkeys(ends.values()))
    wholes: list[Whole] = []
    if heads:
        wholes.append(Whole(flags + _either(heads) + b"".join(rests[0][:shared]) + end))
    if openings:
        # What they share matches nothing that anything does not.
        wholes.append(Whole(flags + end, flags + _either(openings)))
    return Family([*members], wholes, {number: flags + end for number, end in ends.items()})


def _ways(head: bytes) -> tuple[list[bytes], list[bytes]]:
    """Alternatives that match what the head does; apart from the others those that end with anything, without it."""
    elements = _elements(head) or [head]
    before, last = b"".join(elements[:-1]), elements[-1]
    if last == _ANYTHING:
        return [], [before]
    closed: list[bytes] = []
    opened: list[bytes] = []
    for alternative in _alternatives(last):
        if alternative == last:
            break
        more_closed, more_opened = _ways(alternative)
        closed += [before + way for way in more_closed]
        opened += [before + way for way in more_opened]
    return (closed, opened) if opened else ([head], [])


def _either(alternatives: Iterable[bytes]) -> bytes:
    return _GROUP + b"|".join(alternatives) + b")"


def _sequence(expression: bytes) -> _Sequence | None:
    """None if `_elements` cannot tell."""
    body = expression.removeprefix(_ANY_CASE)
    elements = _elements(body)
    if elements is None:
        return None
    first, *rest = elements
    return _Sequence(expression[: len(expression) - len(body)], _alternatives(first), rest)


def _elements(body: bytes) -> list[bytes] | None:
    """None if it has alternatives outside groups, flags, or cannot be read."""
    elements: list[bytearray] = []
    depth = place = 0
    in_class = in_braces = False
    for token, inside in tokens(body):
        place += len(token)
        in_braces = in_braces and token in _IN_BRACES  # else the brace stands for itself
        alone = depth == 0 and not inside and not in_class and not in_braces
        if alone and token in _ENDS:
            return None
        if alone and token not in _QUANTIFIERS:
            elements.append(bytearray())
        elif not elements:
            return None
        elements[-1] += token
        if inside:
            continue
        if in_class or in_braces:
            in_class, in_braces = in_class and token != b"]", in_braces and token != b"}"
        elif token[:1] == b"[":
            in_class = True
        elif token == b"{":
            in_braces = depth == 0
        elif token == b"(":
            if body[place : place + 1] == b"?" and body[place : place + 2] != b"?:":
                return None
            depth += 1
        elif token == b")":
            depth -= 1
    if depth or not elements:
        return None
    return [bytes(element) for element in elements]


def _alternatives(element: bytes) -> list[bytes]:
    """Of a group that is not repeated; an element of another kind is its own only one."""
    if not (element.startswith(_GROUP) and element.endswith(b")")):
        return [element]
    whole = groups(element)[-1]
    starts = [whole.start, *(bar + 1 for bar in whole.bars)]
    return [element[start:end] for start, end in zip(starts, [*whole.bars, whole.end], strict=True)]

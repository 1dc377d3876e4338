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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from waf_core.operators.sequence import Sequence, either, sequence_of, ways

MIN_SHARED: Final = 3
"""Elements in a row that expressions must have in common, behind their first ones."""


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
    families: dict[tuple[bytes, ...], list[tuple[int, Sequence]]] = {}
    """By flags (in any case `[^a]` matches less), and what they have in common."""
    out: list[Family] = []
    for number, expression in expressions.items():
        sequence = sequence_of(expression)
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


def _unite(members: dict[int, Sequence]) -> Family:
    shared = MIN_SHARED
    rests = [sequence.rest for sequence in members.values()]
    while all(len(rest) > shared and rest[shared] == rests[0][shared] for rest in rests):
        shared += 1
    flags = next(iter(members.values())).flags
    heads: dict[bytes, None] = {}
    openings: dict[bytes, None] = {}
    for head in dict.fromkeys(head for sequence in members.values() for head in sequence.heads):
        closed, opened = ways(head)
        heads |= dict.fromkeys(closed)
        openings |= dict.fromkeys(opened)
    ends = {number: b"".join(sequence.rest[shared:]) for number, sequence in members.items()}
    end = either(dict.fromkeys(ends.values()))
    wholes: list[Whole] = []
    if heads:
        wholes.append(Whole(flags + either(heads) + b"".join(rests[0][:shared]) + end))
    if openings:
        # What they share matches nothing that anything does not.
        wholes.append(Whole(flags + end, flags + either(openings)))
    return Family([*members], wholes, {number: flags + end for number, end in ends.items()})

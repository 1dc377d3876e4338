"""Large expressions taken apart: what they may begin with, and the elements behind that.

CRS's rules for Unix commands have expressions of 5 to 15 kB: `(?:;|=|time .*)\\s*[a-z/]*(?:cat|wget)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from waf_core.operators.spelling import CLASS, ESCAPE, tokens
from waf_core.operators.split import PARTS, groups

MAX_DEPTH: Final = 8
"""Groups in groups that are looked into (CRS has up to three); each is read once more for each around it."""

_ANY_CASE: Final = b"(?i)"
_GROUP: Final = b"(?:"
_QUANTIFIERS: Final = frozenset((b"*", b"+", b"?", b"{"))
_OPTIONAL: Final = frozenset((b"*", b"?"))
_ENDS: Final = frozenset((b"|", b")"))
"""They end a sequence of elements."""
_ANYTHING: Final = b".*"
_ATOM: Final = re.compile(ESCAPE + b"|" + CLASS + rb"|\{[0-9,]*\}?|.", re.DOTALL)
"""With no group in it, or what opens one, or how often the one before may come."""


@dataclass(slots=True)
class Sequence:
    """The flags of an expression, the alternatives that it begins with, and the elements that follow."""

    flags: bytes
    heads: list[bytes]
    rest: list[bytes]

    def optional(self) -> int:
        """So many of the elements that follow, from the first one on, may be empty."""
        count = 0
        while count < len(self.rest) and _may_be_empty(self.rest[count]):
            count += 1
        return count


def sequence_of(expression: bytes) -> Sequence | None:
    """None if it has alternatives outside groups, flags but for the first, or cannot be read."""
    body = expression.removeprefix(_ANY_CASE)
    elements = _elements(body)
    if elements is None:
        return None
    first, *rest = elements
    return Sequence(expression[: len(expression) - len(body)], _alternatives(first), rest)


def may_skip(expression: bytes) -> bool:
    """May it begin with something that ends with anything, and go on with what may be empty?  Soon told, of most."""
    elements = _read(expression.removeprefix(_ANY_CASE))
    try:
        return _ANYTHING in next(elements, b"") and _may_be_empty(next(elements, b""))
    except _UnreadableError:
        return False


def either(alternatives: Iterable[bytes]) -> bytes:
    """A group of them."""
    return _GROUP + b"|".join(alternatives) + b")"


def ways(head: bytes, depth: int = MAX_DEPTH) -> tuple[list[bytes], list[bytes]]:
    """Alternatives that match what the head does; apart from the others those that end with anything, without it."""
    if _ANYTHING not in head or depth == 0:
        return [head], []
    before, last = _last_of(head)
    if last == _ANYTHING:
        return [], [before]
    closed: list[bytes] = []
    opened: list[bytes] = []
    for alternative in _inner(last):
        more_closed, more_opened = ways(alternative, depth - 1)
        closed += [before + way for way in more_closed]
        opened += [before + way for way in more_opened]
    return (closed, opened) if opened else ([head], [])


def marked(head: bytes, mark: bytes, depth: int = MAX_DEPTH) -> bytes:
    """With a mark wherever it ends with anything."""
    if _ANYTHING not in head or depth == 0:
        return head
    before, last = _last_of(head)
    if last == _ANYTHING:
        return head + mark
    inner = _inner(last)
    return before + either([marked(alternative, mark, depth - 1) for alternative in inner]) if inner else head


def _last_of(head: bytes) -> tuple[bytes, bytes]:
    """What is before its last element, and that."""
    elements = _elements(head) or [head]
    return b"".join(elements[:-1]), elements[-1]


def _inner(element: bytes) -> list[bytes]:
    """The alternatives of a group that is not repeated."""
    alternatives = _alternatives(element)
    return [] if alternatives == [element] else alternatives


def _alternatives(element: bytes) -> list[bytes]:
    """Of a group that is not repeated; an element of another kind is its own only one."""
    if not (element.startswith(_GROUP) and element.endswith(b")")):
        return [element]
    whole = groups(element)[-1]
    starts = [whole.start, *(bar + 1 for bar in whole.bars)]
    return [element[start:end] for start, end in zip(starts, [*whole.bars, whole.end], strict=True)]


def _may_be_empty(element: bytes) -> bool:
    r"""For certain: of `\Qab\E*` only the last byte is repeated."""
    if element[-1:] not in _OPTIONAL:
        return False
    pieces = [token for token, _ in tokens(element)]
    if any(piece[:2] == rb"\Q" for piece in pieces):
        return False
    return pieces[-1] == b"*" or (pieces[-1] == b"?" and pieces[-2] not in (b"+", b"}"))


class _UnreadableError(Exception):
    """It has alternatives outside groups, flags, or cannot be read."""


def _elements(body: bytes) -> list[bytes] | None:
    """None if they cannot be told."""
    try:
        return list(_read(body)) or None
    except _UnreadableError:
        return None


def _read(body: bytes) -> Iterator[bytes]:
    """Elements; raises _UnreadableError, if need be after some of them."""
    start = place = 0
    size = len(body)
    while place < size:
        found = _ATOM.match(body, place)
        assert found is not None
        token = found[0]
        if token in _ENDS:
            raise _UnreadableError
        if token[:1] in _QUANTIFIERS:
            if place == start:
                raise _UnreadableError
        elif place > start:
            yield body[start:place]
            start = place
        place = _end_of_group(body, place) if token == b"(" else found.end()
    if place > start:
        yield body[start:place]


def _end_of_group(body: bytes, start: int) -> int:
    """Of the one that starts there.  Raises _UnreadableError."""
    depth = 0
    for part in PARTS.finditer(body, start):
        token, end = part[0], part.end()
        if token == b"(":
            if body[end : end + 1] == b"?" and body[end : end + 2] != b"?:":
                raise _UnreadableError
            depth += 1
        elif token == b")":
            depth -= 1
            if depth == 0:
                return end
    raise _UnreadableError

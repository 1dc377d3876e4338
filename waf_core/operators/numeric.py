"""`@eq @ne @gt @ge @lt @le`: both sides as C's atoi() reads them; no number is 0."""

from __future__ import annotations

import operator as op
import re
from collections.abc import Callable
from typing import Final

from waf_core.macros import Expander
from waf_core.operators import HIT, Argument, Captures, Operator, OperatorEnv, operator

_INTEGER: Final = re.compile(rb"[ \t\n\r\f\v]*([+-]?)0*([0-9]{1,18})")

_TEXTS: Final = tuple(b"%d" % number for number in range(1024))
_SMALL: Final = {text: number for number, text in enumerate(_TEXTS)}
"""Scores are seldom higher."""


def to_int(value: bytes) -> int:
    """The leading integer of a value; 0 if there is none (of digits that are not leading zeros 18 are read)."""
    small = _SMALL.get(value)
    if small is not None:
        return small
    if value.isdigit() and len(value) <= 18:
        return int(value)
    match = _INTEGER.match(value)
    return int(match.group(1) + match.group(2)) if match else 0


def plus(value: bytes, number: int) -> bytes:
    """What a value is when so much is counted."""
    return text_of(to_int(value) + number)


def text_of(number: int) -> bytes:
    """A number in decimal."""
    return _TEXTS[number] if 0 <= number < len(_TEXTS) else b"%d" % number


class Compare(Operator):
    def __init__(self, argument: bytes, compare: Callable[[int, int], bool]) -> None:
        self.argument = Argument(argument)
        self.pure = self.argument.constant is not None
        self._compare = compare
        self._number = to_int(argument)

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        number = self._number if self.pure else to_int(self.argument.get(tx))
        return HIT if self._compare(to_int(value), number) else None


def _register(name: str, compare: Callable[[int, int], bool]) -> None:
    @operator(name)
    def make(argument: bytes, env: OperatorEnv) -> Operator:
        made = Compare(argument, compare)
        if made.pure and _INTEGER.fullmatch(argument.strip()) is None:
            env.notes.append(f"{argument.decode('utf-8', 'replace')!r} is no number: it counts as {to_int(argument)}")
        return made


for _name, _function in (
    ("eq", op.eq),
    ("ne", op.ne),
    ("gt", op.gt),
    ("ge", op.ge),
    ("lt", op.lt),
    ("le", op.le),
):
    _register(_name, _function)

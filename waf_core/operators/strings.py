"""Plain text operators; all compare bytes and mind the case."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from waf_core.macros import Expander
from waf_core.octets import ALPHANUMERIC
from waf_core.operators import HIT, Argument, Captures, Operator, OperatorEnv, operator
from waf_core.operators.needs import NOTHING, Needs, of_text

_WORD: Final = frozenset(ALPHANUMERIC + b"_")
_DIGIT: Final = re.compile(rb"[0-9]")


class Text(Operator):
    """An operator that is one comparison of value and (macro-expanded) argument.  `contained`: the
    argument is in every value for which it holds."""

    def __init__(self, argument: bytes, test: Callable[[bytes, bytes], bool], contained: bool) -> None:
        self.argument = Argument(argument)
        self.pure = self.argument.constant is not None
        self._test = test
        self._contained = contained

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        argument = self.argument.get(tx)
        return (argument,) if self._test(value, argument) else None

    def holds(self, value: bytes, tx: Expander) -> bool:
        return self._test(value, self.argument.get(tx))

    def minds_indexes(self) -> bool | Operator:
        """A text without digits is found, or is not, whichever digits there are."""
        constant = self.argument.constant
        return constant is None or _DIGIT.search(constant) is not None

    def needs(self) -> Needs:
        constant = self.argument.constant
        return of_text(constant) if constant is not None and self._contained else NOTHING


class Always(Operator):
    def match(self, value: bytes, tx: Expander) -> Captures | None:
        return HIT

    def minds_indexes(self) -> bool | Operator:
        return False


class Never(Operator):
    def match(self, value: bytes, tx: Expander) -> Captures | None:
        return None

    def minds_indexes(self) -> bool | Operator:
        return False


def _contains_word(value: bytes, word: bytes) -> bool:
    if not word:
        return True
    start = value.find(word)
    while start != -1:
        end = start + len(word)
        if (start == 0 or value[start - 1] not in _WORD) and (end == len(value) or value[end] not in _WORD):
            return True
        start = value.find(word, start + 1)
    return False


def _register(names: tuple[str, ...], test: Callable[[bytes, bytes], bool], *, contained: bool = True) -> None:
    @operator(*names)
    def make(argument: bytes, env: OperatorEnv) -> Operator:
        return Text(argument, test, contained)


_register(("streq",), lambda value, text: value == text)
_register(("contains", "strmatch"), lambda value, text: value.find(text) >= 0)
_register(("containsWord",), _contains_word)
_register(("beginsWith",), lambda value, text: value.startswith(text))
_register(("endsWith",), lambda value, text: value.endswith(text))
_register(("within",), lambda value, text: text.find(value) >= 0, contained=False)


@operator("unconditionalMatch")
def _unconditional(argument: bytes, env: OperatorEnv) -> Operator:
    return Always()


@operator("noMatch")
def _no_match(argument: bytes, env: OperatorEnv) -> Operator:
    return Never()

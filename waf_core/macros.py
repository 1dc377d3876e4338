"""Macros: `%{NAME}` and `%{NAME.key}` in operator arguments and in actions."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import attrgetter
from typing import Final, Protocol

from waf_core.limits import Limit

MAX_EXPANSION: Final = 64 << 10
"""Bytes that one expansion may yield; the rest is cut (values come from traffic)."""

_MACRO: Final = re.compile(rb"%\{([^}]+)\}")


class Expander(Protocol):
    """What a macro needs of a transaction."""

    tx: dict[bytes, bytes]
    """The collection TX."""
    matched_var: bytes
    matched_var_name: bytes

    def lookup(self, name: str, key: bytes | None) -> bytes:
        """The first value of variable `name` (upper case), or b"" when there is none."""
        ...

    def note_limit(self, limit: Limit) -> None:
        """An operator could not do what was asked of it; each limit is noted once, and counted."""
        ...


class Macro:
    """A text with its macros found.  `constant` is the text when there are none."""

    __slots__ = ("_texts", "_values", "constant", "names", "parts", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.parts: list[bytes | tuple[str, bytes | None]] = []
        last = 0
        for found in _MACRO.finditer(text):
            if found.start() > last:
                self.parts.append(text[last : found.start()])
            name, dot, key = found.group(1).strip().partition(b".")
            if not dot:
                name, dot, key = found.group(1).strip().partition(b":")
            self.parts.append((name.decode("latin-1").upper(), key.lower() if dot else None))
            last = found.end()
        if last < len(text):
            self.parts.append(text[last:])
        self.names = [part for part in self.parts if isinstance(part, tuple)]
        self.constant: bytes | None = None if self.names else text
        self._texts = [part if isinstance(part, bytes) else b"" for part in self.parts]
        """With nothing where `_values` come in: (index, what reads the value)."""
        self._values = [(i, _value_of(*part)) for i, part in enumerate(self.parts) if isinstance(part, tuple)]

    @classmethod
    def of_text(cls, text: bytes) -> Macro:
        """A text without macros, whatever it looks like."""
        macro = cls(b"")
        macro.text = macro.constant = text
        macro.parts = [text] if text else []
        return macro

    def expand(self, tx: Expander) -> bytes:
        """Replace every macro by its value in this transaction."""
        if self.constant is not None:
            return self.constant
        pieces = self._texts[:]
        for index, value in self._values:
            pieces[index] = value(tx)
        out = b"".join(pieces)
        return out if len(out) <= MAX_EXPANSION else out[:MAX_EXPANSION]


def _value_of(name: str, key: bytes | None) -> Callable[[Expander], bytes]:
    """What reads a macro's value: those that CRS has in most rules need no look-up by name."""
    if name == "TX" and key is not None:
        return lambda tx: tx.tx.get(key, b"")
    if name in ("MATCHED_VAR", "MATCHED_VAR_NAME") and key is None:
        return attrgetter(name.lower())
    return lambda tx: tx.lookup(name, key)

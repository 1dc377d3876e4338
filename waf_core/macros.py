"""Macros: `%{NAME}` and `%{NAME.key}` in operator arguments and in actions."""

from __future__ import annotations

import re
from typing import Protocol

MAX_EXPANSION = 64 << 10
"""Bytes that one expansion may yield; the rest is cut (values come from traffic)."""

_MACRO = re.compile(rb"%\{([^}]+)\}")


class Expander(Protocol):
    """What a macro needs of a transaction."""

    tx: dict[bytes, bytes]
    """The collection TX."""

    def lookup(self, name: str, key: bytes | None) -> bytes:
        """The first value of variable `name` (upper case), or b"" when there is none."""
        ...


class Macro:
    """A text with its macros found.  `constant` is the text when there are none."""

    __slots__ = ("_format", "_key", "_keys", "constant", "names", "parts", "text")

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
        self._format = b"".join(p.replace(b"%", b"%%") if isinstance(p, bytes) else b"%b" for p in self.parts)
        # Macros of TX alone are most of CRS's: formatted without a look-up by name.
        self._keys: tuple[bytes, ...] | None = None
        self._key: bytes | None = None
        """The key, if the text is one macro of TX and nothing else."""
        if self.names and all(name == "TX" and key is not None for name, key in self.names):
            self._keys = tuple(key for _, key in self.names if key is not None)
            self._key = self._keys[0] if len(self.parts) == 1 else None

    def expand(self, tx: Expander) -> bytes:
        """Replace every macro by its value in this transaction."""
        if self.constant is not None:
            return self.constant
        if self._key is not None:
            out = tx.tx.get(self._key, b"")
            return out if len(out) <= MAX_EXPANSION else out[:MAX_EXPANSION]
        if self._keys is not None:
            get = tx.tx.get
            out = self._format % tuple([get(key, b"") for key in self._keys])
            return out if len(out) <= MAX_EXPANSION else out[:MAX_EXPANSION]
        lookup = tx.lookup
        out = self._format % tuple([lookup(name, key) for name, key in self.names])
        return out if len(out) <= MAX_EXPANSION else out[:MAX_EXPANSION]

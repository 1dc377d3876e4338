"""The errors that waf_core raises.  All derive from WafError.

Rule text that cannot be used raises a SecLangError with the place and a hint;
nothing that a *request* contains ever raises: it sets REQBODY_ERROR and friends.
"""

from __future__ import annotations

from dataclasses import dataclass


class WafError(Exception):
    """Base of everything waf_core raises on purpose."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where in the rule files something stands; lines and columns count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class SecLangError(WafError):
    """A directive that cannot be parsed or compiled.

    `message` says what is wrong, `text` is the offending piece, `hint` what to do.
    """

    def __init__(self, message: str, position: Position, text: str = "", hint: str = "") -> None:
        self.message = message
        self.position = position
        self.text = text
        self.hint = hint
        shown = f": {text[:120]!r}" if text else ""
        advice = f" ({hint})" if hint else ""
        super().__init__(f"{position}: {message}{shown}{advice}")


class UsageError(WafError):
    """The Transaction API was called in an order or with a value that makes no sense."""

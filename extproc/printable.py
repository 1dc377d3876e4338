"""Text for people: what clients send must not speak to a terminal, nor begin lines of its own."""

from __future__ import annotations


def printable(text: str) -> str:
    """Control characters, line ends included, as escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

r"""Text to directives: logical lines, and words with Apache's quoting.

A line that ends in a backslash goes on in the next one.  A line that starts with `#`
is a comment.  Words are separated by white space; a word may stand in double or single
quotes, inside which `\"` (or `\'`) is the quote itself and every other backslash is kept,
because regular expressions need it (Apache's ap_getword_conf).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from waf_core.errors import Position, SecLangError

_BARE = re.compile(r"[^ \t]*")
_QUOTED = {quote: re.compile(rf"[^{quote}\\]*(?:\\.?[^{quote}\\]*)*", re.DOTALL) for quote in "\"'"}
"""What stands in quotes, up to the closing one or the end of the text."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a directive.  `offset` is where its content starts in the line."""

    text: str
    offset: int


class LogicalLine:
    """Physical lines joined at their continuations, with a way back to each column."""

    __slots__ = ("_columns", "_lines", "_starts", "file", "text")

    def __init__(self, file: str, pieces: list[tuple[int, int, str]]) -> None:
        self.file = file
        self._starts: list[int] = []
        self._lines: list[int] = []
        self._columns: list[int] = []
        offset = 0
        for line, column, piece in pieces:
            self._starts.append(offset)
            self._lines.append(line)
            self._columns.append(column)
            offset += len(piece)
        self.text = "".join(piece for _, _, piece in pieces)

    def position(self, offset: int) -> Position:
        i = max(bisect_right(self._starts, offset) - 1, 0)
        return Position(self.file, self._lines[i], self._columns[i] + offset - self._starts[i])


def logical_lines(text: str, file: str) -> Iterator[LogicalLine]:
    """Yield each non-empty logical line; comments are dropped."""
    pieces: list[tuple[int, int, str]] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip("\r")
        stripped = line.lstrip(" \t")
        column = len(line) - len(stripped) + 1
        if stripped.startswith("#") or (not stripped and not pieces):
            continue
        if stripped.rstrip(" \t").endswith("\\"):
            pieces.append((number, column, stripped.rstrip(" \t")[:-1]))
            continue
        pieces.append((number, column, stripped.rstrip(" \t")))
        yield LogicalLine(file, pieces)
        pieces = []
    if pieces:
        last = pieces[-1]
        raise SecLangError(
            "the file ends in the middle of a directive",
            Position(file, last[0], last[1]),
            last[2],
            "remove the backslash at the end of the last line",
        )


def end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    """Where what the pattern takes from `start` on ends; the pattern takes nothing, too."""
    found = pattern.match(text, start)
    return found.end() if found else start


def words(line: LogicalLine) -> list[Word]:
    """Split a logical line into words.  Raises SecLangError for an open quote."""
    text = line.text
    out: list[Word] = []
    i, end = 0, len(text)
    while i < end:
        if text[i] in " \t":
            i += 1
            continue
        quote = text[i]
        if quote not in _QUOTED:
            start, i = i, end_of(_BARE, text, i)
            out.append(Word(text[start:i], start))
            continue
        start = i + 1
        i = end_of(_QUOTED[quote], text, start)
        content = text[start:i].replace("\\" + quote, quote)
        if i >= end:
            raise SecLangError(
                f"a {quote} is opened and never closed",
                line.position(start - 1),
                text[start - 1 :],
                "close the quote, or end each continued line with a backslash",
            )
        if i + 1 < end and text[i + 1] not in " \t":
            raise SecLangError(
                f"text follows the closing {quote}",
                line.position(i + 1),
                text[i + 1 :],
                f"escape a {quote} inside quotes as \\{quote}",
            )
        out.append(Word(content, start))
        i += 1
    return out

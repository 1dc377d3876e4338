"""Structured logs: JSON lines, or readable ones on a terminal (structlog).

They go to standard output, through a queue: where nobody reads it, or its disk is full, lines are lost and counted, and
requests are judged all the same.
"""

from __future__ import annotations

import atexit
import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import structlog

from extproc.line_queue import LineQueue
from extproc.printable import printable
from waf_core.json_line import json_line

MAX_LINES = 10_000

MAX_CHARACTERS = 16 << 20
"""Of lines that wait to be written."""

CLOSE_SECONDS = 2.0
"""How long the end of the process waits for them."""


class _Output:
    """What structlog writes lines with."""

    on_loss: ClassVar[Callable[[int], object]] = staticmethod(lambda count: None)

    def __init__(self) -> None:
        self._untold = 0
        """Lines that were lost since the log said so."""
        self._queue = LineQueue("log", MAX_LINES, MAX_CHARACTERS, self._write, lambda why: self._lose(1))

    def msg(self, line: str) -> None:
        self._queue.put(line)

    debug = info = warning = error = critical = msg

    def close(self) -> None:
        self._queue.close(CLOSE_SECONDS)

    def _lose(self, count: int) -> None:
        self._untold += count
        type(self).on_loss(count)

    def _write(self, lines: list[str]) -> None:
        try:
            sys.stdout.write("".join(line + "\n" for line in lines))
            sys.stdout.flush()
        except (OSError, ValueError):
            self._lose(len(lines))
            return
        untold, self._untold = self._untold, 0
        if untold:
            structlog.get_logger("envoy_waf").error("log lines were lost", lines=untold)


def _for_people(
    logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Values without control characters.  (Lists are shown as Python writes them, which is without.)"""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _in_order(
    logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """First what says when it was, and what: lines of JSON are read by people, too."""
    return {"timestamp": event.pop("timestamp"), "level": event.pop("level"), "event": event.pop("event"), **event}


def configure(level: str, style: str) -> Callable[[], None]:
    """Set up structlog for the process.  Returns what writes the lines that still wait; it is called when the process
    ends, too."""
    readable = style == "console" or (style == "auto" and sys.stdout.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
        if readable
        else structlog.processors.JSONRenderer(serializer=json_line)
    )
    output = _Output()
    atexit.register(output.close)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_for_people] if readable else []),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            *([] if readable else [_in_order]),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=False,
    )
    return output.close


class Line(NamedTuple):
    """Its level, its event, and what belongs to it (as JSON may hold it)."""

    level: str
    event: str
    fields: dict[str, Any]


def write(lines: Iterable[Line]) -> None:
    """Log them."""
    logger = structlog.get_logger("envoy_waf")
    for level, event, fields in lines:
        getattr(logger, level)(event, **fields)


def on_loss(tell: Callable[[int], object]) -> None:
    """Call `tell` with how many lines were lost, each time."""
    _Output.on_loss = staticmethod(tell)

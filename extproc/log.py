"""Structured logs: JSON lines, or readable ones on a terminal (structlog)."""

from __future__ import annotations

import logging
import sys

import structlog

from extproc.printable import printable


def _for_people(
    logger: structlog.typing.WrappedLogger, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Values without control characters.  (Lists are shown as Python writes them, which is without.)"""
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def configure(level: str, style: str) -> None:
    """Set up structlog for the process; logs go to standard output."""
    readable = style == "console" or (style == "auto" and sys.stdout.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
        if readable
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([_for_people] if readable else []),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )

"""What all commands share: loading settings, errors, exit statuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from extproc.commands.options import given_flags
from extproc.config import ConfigError, Settings
from extproc.loading import load_settings

EXIT_WRONG = 1
"""The rules, settings or input are wrong."""
EXIT_FOUND = 3
"""The command ran, and found what it was asked to look for."""


def fail(message: str) -> NoReturn:
    """Print an error and end with status 1."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {message}", err=True)
    sys.exit(EXIT_WRONG)


def progress_bar(
    label: str, items: Sequence[Any] | None = None, length: int | None = None, *, show: bool = True
) -> Any:
    """click's, on standard error, and only if that is a terminal."""
    return click.progressbar(items, length, label, file=sys.stderr, hidden=not (show and sys.stderr.isatty()))


def load(config: Path | None, flags: dict[str, Any]) -> Settings:
    """Settings, or the error and the end."""
    try:
        return load_settings(config, **given_flags(flags))
    except ConfigError as error:
        fail(str(error))


def print_json(data: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(data, ensure_ascii=False))

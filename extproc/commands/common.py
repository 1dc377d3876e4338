"""What all commands share: loading and compiling, errors, exit statuses."""

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
from extproc.policies import Policy, PolicySet, compile_policies
from waf_core.errors import WafError
from waf_core.exchange import Exchange

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


def compile_all(settings: Settings) -> PolicySet:
    """All policies, or the error and the end."""
    try:
        return compile_policies(settings)
    except WafError as error:
        fail(str(error))


def choose(policies: PolicySet, name: str) -> Policy:
    """A policy by name, or the error and the end."""
    found = policies.by_name.get(name)
    if found is None:
        fail(f"there is no policy {name!r}; there are: {', '.join(policies.by_name)}")
    return found


def policy_for(policies: PolicySet, named: str | None, exchange: Exchange) -> Policy:
    """The policy that is named, or the one that judges such a request (whose route nobody knows)."""
    if named is not None:
        return choose(policies, named)
    host = next((value for name, value in exchange.headers if name.lower() == b"host"), b"")
    return policies.select("", host, exchange.uri, "")


def print_json(data: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(data, ensure_ascii=False))

"""Settings as flags of the command line, made of their declarations (extproc/config.py)."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import click

from extproc.config import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

NOT_FLAGS = frozenset({"policies", "admin_token"})
"""One is a list of many things, the other a secret that a list of processes would show."""

ALL_FLAGS = tuple(name for name in Settings.model_fields if name not in NOT_FLAGS)

RULE_FLAGS = (
    "rules", "directives", "mode", "paranoia_level", "anomaly_threshold", "data_dir", "crs_root", "multiphase",
    "untyped_files_as_fields", "decompress_responses",
)  # fmt: skip
"""What makes a program of rules."""

_SHORT = {"rules": "-r", "directives": "-d", "paranoia_level": "-p", "workers": "-w"}


def settings_options(*names: str) -> Callable[[Command], Command]:
    """--config, and flags for these settings."""

    def decorate(command: Command) -> Command:
        for name in reversed(names):
            command = _option(name)(command)
        return click.option(
            "--config", "-c", type=click.Path(path_type=Path), envvar="ENVOY_WAF_CONFIG", help="YAML file of settings."
        )(command)

    return decorate


def given_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Flags as load_settings takes them: None for what was not given."""
    return {name: list(value) or None if isinstance(value, tuple) else value for name, value in flags.items()}


def _option(name: str) -> Callable[[Command], Command]:
    field = Settings.model_fields[name]
    kinds = _kinds(field.annotation)
    default = field.default
    told = field.description or ""
    flag = f"--{name.replace('_', '-')}"
    if bool in kinds:
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=f"{told} [{'yes' if default else 'no'}]")
    if isinstance(default, int | float | str) and default != "":
        told += f" [{str(default).strip()}]"
    if list in kinds:
        told += " (may be repeated)"
    short = [_SHORT[name]] if name in _SHORT else []
    return click.option(flag, *short, type=_type(kinds), multiple=list in kinds, help=told)


def _kinds(annotation: Any) -> list[Any]:
    """The types that an annotation allows, and the words of a Literal."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (types.UnionType, Union):
        return [kind for part in get_args(annotation) for kind in _kinds(part)]
    if origin is Literal:
        return list(get_args(annotation))
    return [origin or annotation]


def _type(kinds: list[Any]) -> Any:
    words = [kind for kind in kinds if isinstance(kind, str)]
    if words:
        return click.Choice(words)
    if Path in kinds:
        return click.Path(path_type=Path)
    return next((kind for kind in (int, float) if kind in kinds), str)

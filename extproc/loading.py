"""Where settings come from.

Precedence, low to high: defaults, a YAML file (`--config`), environment variables
(`ENVOY_WAF_...`), command line flags.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from extproc.config import PREFIX, ConfigError, PolicySettings, Settings
from extproc.generation import Generation
from extproc.match import MatchSettings
from waf_core.reading import DISK

_SERVICE_HOST = "_SERVICE_HOST"


def load_settings(path: Path | None = None, **flags: Any) -> Settings:
    """Merge file, environment and flags (None means "not given").  Raises ConfigError."""
    from_file = _read(path) if path is not None else {}
    given = {name: value for name, value in flags.items() if value is not None}
    # The environment beats the file: values of the file are defaults for what it does not set.
    environment = _own_variables(os.environ)
    unknown = environment - set(Settings.model_fields) - {"config"}
    if unknown:
        name = min(unknown)
        hint = _close(name, Settings.model_fields)
        raise ConfigError(
            f"unknown environment variable {PREFIX}{name.upper()}"
            + (f"; did you mean {PREFIX}{hint.upper()}?" if hint else "; docs/settings.md has those that there are")
        )
    merged = {**{k: v for k, v in from_file.items() if k not in environment}, **given}
    try:
        return Settings(**merged)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            top = str(item["loc"][0]) if item["loc"] else ""
            where = "flag" if top in given else "environment" if top in environment else str(path or "settings")
            lines.append(_told(item["loc"], item["type"], item["msg"], where))
        raise ConfigError("\n".join(lines)) from error


class Reread:
    """Gives what serves anew, from where it came the first time.  Raises ConfigError."""

    def __init__(self, path: Path | None, flags: dict[str, Any]) -> None:
        self.path = path
        self.flags = flags
        self.since = time.time()
        """What serves first was read at or after that time."""

    def __call__(self) -> Generation:
        return Generation(load_settings(self.path, **self.flags), DISK)


class _Loader(yaml.SafeLoader):
    """A name that stands there twice is an error: YAML itself takes the last one, and says nothing."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"{key.value!r} stands there twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.load(path.read_text("utf-8"), _Loader)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text in UTF-8: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected `name: value` lines, found {type(loaded).__name__}")
    return {str(name): value for name, value in (loaded or {}).items()}


def _own_variables(environment: Mapping[str, str]) -> set[str]:
    """Settings in the environment, by name.

    Kubernetes tells each pod of all services in its namespace by variables (SERVICE_HOST, SERVICE_PORT, PORT, ...) with
    the service's name before them: of one that is called `envoy-waf`, or `envoy-waf-...`, they are not settings.
    """
    services = [name.removesuffix(_SERVICE_HOST) for name in environment if name.endswith(_SERVICE_HOST)]
    of_services = tuple(f"{service}_{kind}" for service in services for kind in ("SERVICE", "PORT"))
    return {
        name[len(PREFIX) :].lower()
        for name in environment
        if name.startswith(PREFIX) and not name.startswith(of_services)
    }


_PLAIN = {
    "list_type": "a list is expected: [a, b], or lines that begin with `- `",
    "missing": "it has to be set",
    "bool_parsing": "true or false is expected",
    "bool_type": "true or false is expected",
    "int_parsing": "a whole number is expected",
    "int_type": "a whole number is expected",
    "int_from_float": "a whole number is expected",
    "float_parsing": "a number is expected",
    "float_type": "a number is expected",
    "string_type": "text is expected",
}
"""Kind of mistake (pydantic's name) -> what it is, for people who write no Python."""


def _told(place: tuple[int | str, ...], kind: str, message: str, where: str) -> str:
    """A mistake in a line: what, where, and what may stand there."""
    name = ".".join(map(str, place))
    message = _PLAIN.get(kind, message.removeprefix("Value error, "))
    if kind == "extra_forbidden":
        known = _known(place)
        close = _close(str(place[-1]), known)
        message = "there is no such setting; " + (
            f"did you mean {close}?" if close else f"known settings: {', '.join(sorted(known))}"
        )
    elif kind == "model_type":
        message = f"`name: value` lines are expected, of {', '.join(sorted(_known((*place, ''))))}"
    return f"{name} ({where}): {message}" if name else f"{where}: {message}"


def _known(place: tuple[int | str, ...]) -> Collection[str]:
    """What may stand beside the setting at this place."""
    if place[0] != "policies" or len(place) < 2:
        return Settings.model_fields
    return MatchSettings.model_fields if "match" in place else PolicySettings.model_fields


def _close(name: str, known: Collection[str]) -> str:
    return next(iter(get_close_matches(name, known, 1)), "")

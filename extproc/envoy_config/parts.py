"""An Envoy configuration as a tree whose objects know where they are.

It may be a bootstrap (YAML or JSON), what Envoy's admin interface answers to /config_dump, or documents of Kubernetes
(EnvoyFilter, EnvoyExtensionPolicy): names of fields are brought into protobuf's form (`typedConfig` is
`typed_config`), and what is looked for is found by its type, wherever it stands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from extproc.config import ConfigError

MAX_FILE_BYTES: Final = 64 << 20

MAX_PARTS: Final = 1_000_000
"""Objects and lists; aliases of YAML can make much of little."""

MAX_DEPTH: Final = 100

_CAMEL: Final = re.compile(r"[a-z][a-z0-9]*(?:[A-Z][a-z0-9]*)+")
_UPPER: Final = re.compile(r"[A-Z]")
_STRUCT: Final = ".TypedStruct"
"""An object whose type Envoy's control plane did not know: `type_url`, and `value`."""


class Part(dict[str, Any]):
    """An object of the configuration: its fields, the name that it has in what it is in (`key`), its whole path
    (`where`), and what it is in (`parent`; None: it is a document)."""

    __slots__ = ("key", "parent", "where")

    def __init__(self, key: str, where: str, parent: Part | None) -> None:
        super().__init__()
        self.key = key
        self.where = where
        self.parent = parent

    @property
    def kind(self) -> str:
        """The full name of its protobuf message; empty: it does not say."""
        return str(self.get("type_url" if self._is_struct else "@type", "")).rpartition("/")[2]

    @property
    def fields(self) -> Part:
        """Those of the message."""
        return self.part("value") if self._is_struct else self

    @property
    def _is_struct(self) -> bool:
        return str(self.get("@type", "")).endswith(_STRUCT)

    @property
    def around(self) -> Iterator[Part]:
        """What it is in, the nearest first."""
        part = self.parent
        while part is not None:
            yield part
            part = part.parent

    def part(self, *names: str) -> Part:
        """What is behind these names; an empty one if it is not there."""
        found: Any = self
        for name in names:
            found = found.get(name) if isinstance(found, Part) else None
        return found if isinstance(found, Part) else Part("", "", None)

    def number(self, name: str, default: int) -> int:
        """Raises ConfigError for what is none."""
        value = self.get(name, default)
        if not str(value).isdecimal():
            raise ConfigError(f"{self.where}.{name}: {value!r} is no number")
        return int(value)

    def another(self, fields: dict[str, Any]) -> Part:
        """One with these fields, in the same place."""
        made: Part = Configuration([]).read_part(fields, self.key, self.where, self.parent)
        return made

    def parts(self, name: str) -> list[Part]:
        """The objects of a list."""
        found = self.get(name)
        return [each for each in found if isinstance(each, Part)] if isinstance(found, list) else []


class Configuration:
    """All documents of a file."""

    def __init__(self, documents: list[Any]) -> None:
        """Raises ConfigError for what is too large or too deep."""
        self.all: list[Part] = []
        """Every object, each after what it is in."""
        self._count = 0
        for number, document in enumerate(documents):
            self.read_part(document, "", f"document {number + 1}: " if len(documents) > 1 else "", None, 0)

    @classmethod
    def read(cls, path: Path) -> Configuration:
        """Raises ConfigError with the file, and the line where there is one."""
        try:
            with path.open("rb") as file:
                text = file.read(MAX_FILE_BYTES + 1)
            if len(text) > MAX_FILE_BYTES:
                raise ConfigError(f"more than {MAX_FILE_BYTES >> 20} MiB")
            is_json = text.lstrip().startswith(b"{")
            return cls([json.loads(text)] if is_json else list(yaml.load_all(text, yaml.CSafeLoader)))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from error
        except yaml.MarkedYAMLError as error:
            line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            raise ConfigError(f"{path}: {line}{error.problem}; it is no YAML") from error
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def of_kind(self, name: str) -> list[Part]:
        """Messages whose full name ends so."""
        return [part for part in self.all if part.kind.endswith(name)]

    def read_part(self, value: Any, key: str, where: str, parent: Part | None, depth: int = 0) -> Any:
        """`value` as it is kept: an object as a Part.  Raises ConfigError for what is too large or too deep."""
        if not isinstance(value, dict | list):
            return value
        self._count += 1
        if self._count > MAX_PARTS:
            raise ConfigError(f"more than {MAX_PARTS} objects")
        if depth > MAX_DEPTH:
            raise ConfigError(f"{where}: more than {MAX_DEPTH} levels")
        if isinstance(value, list):
            return [self.read_part(each, key, f"{where}[{n}]", parent, depth + 1) for n, each in enumerate(value)]
        part = Part(key, where, parent)
        self.all.append(part)
        for name, each in value.items():
            name = str(name)
            path = f"{where}.{name}" if where and not where.endswith(": ") else where + name
            part[_snake(name)] = self.read_part(each, name, path, part, depth + 1)
        return part


def _snake(name: str) -> str:
    return _UPPER.sub(lambda found: f"_{found[0].lower()}", name) if _CAMEL.fullmatch(name) else name

"""Operators (`@NAME argument`).

An operator is built once, when rules are compiled, and then asked about values.  `match`
answers None for "no", or the captured pieces for "yes": piece 0 is what matched, pieces 1
to 9 are groups; an empty tuple is a yes without captures.  Negation (`!@`) belongs to the
rule, not to the operator.

`pure` says that the answer depends on nothing but the value, so that it may be cached by
value and asked ahead of the rule (waf_core/compiler/plan.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from waf_core.macros import Expander, Macro
from waf_core.operators.needs import NOTHING, Needs
from waf_core.reading import DISK, Reader

Captures = tuple[bytes | None, ...]
HIT: Final[Captures] = ()


class Operator:
    """Base class.  Subclasses set `pure` and implement `match`."""

    pure = True

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        """Does the operator hold for this value?  Never raises for any value."""
        raise NotImplementedError

    def holds(self, value: bytes, tx: Expander) -> bool:
        """The same without captures."""
        return self.match(value, tx) is not None

    def get_ready(self) -> None:
        """A rule that may run asks: make now, and not of a request's time, all that makes it quick."""

    def settled_by(self, beginning: bytes) -> bool:
        """Does it hold for every value that begins so?  False: that is not known."""
        return False

    def minds_indexes(self) -> bool | Operator:
        """May it say different things of values that differ in nothing but the digits of indexes
        (waf_core/operators/indexes.py)?  An operator: only if that one holds for them, which says the same of all."""
        return True

    def needs(self) -> Needs:
        """What every value has for which the operator holds: the scan does not ask about others."""
        return NOTHING


class OperatorError(ValueError):
    """The argument cannot be used; the compiler adds the position.  `hint` says what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


Resolver = Callable[[str], bool | None]
"""Does this DNS name exist?  None: not known yet, ask again later.  Never blocks."""


@dataclass(slots=True)
class OperatorEnv:
    """What building an operator may look at."""

    folders: Sequence[str] = (".",)
    """Where data files are searched, in order."""
    datasets: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    """SecDataset name -> its lines."""
    geo_database: str | None = None
    """SecGeoLookupDb."""
    resolver: Resolver | None = None
    """For @rbl."""
    http_bl_key: str = ""
    """SecHttpBlKey."""
    notes: list[str] = field(default_factory=list)
    """What the user should know about (patterns on the slow engine, say)."""
    files: list[str] = field(default_factory=list)
    """Data files read, for the reloader."""
    reader: Reader = DISK
    """Reads them."""


class Factory(Protocol):
    def __call__(self, argument: bytes, env: OperatorEnv) -> Operator: ...


def _find_file(kind: str, name: bytes, env: OperatorEnv) -> str:
    """The path of a file that an operator's argument names, noted for the reloader.  `kind` is the
    word for errors ("data file").  Raises OperatorError."""
    text = name.decode("utf-8", "surrogateescape")
    for folder in env.folders:
        path = os.path.join(folder, text)
        if env.reader.is_file(path):
            break
    else:
        raise OperatorError(f"the {kind} {text!r} does not exist", f"searched in: {', '.join(env.folders)}")
    env.files.append(path)
    return path


def read_file(kind: str, name: bytes, env: OperatorEnv, limit: int) -> tuple[str, bytes]:
    """The path of such a file, and its content, of `limit` bytes at most.  Raises OperatorError."""
    path = _find_file(kind, name, env)
    try:
        return path, env.reader.read(path, limit)
    except OSError as error:
        raise OperatorError(f"cannot read the {kind} {path!r}: {error.strerror}") from error


REGISTRY: Final[dict[str, Factory]] = {}
"""Lower-cased operator name -> its factory."""

REFUSED: Final[dict[str, str]] = {}
"""Lower-cased operator name -> why it is refused and what to use instead."""


def operator(*names: str) -> Callable[[Factory], Factory]:
    """Register a factory under one or more names."""

    def register(factory: Factory) -> Factory:
        for name in names:
            REGISTRY[name.lower()] = factory
        return factory

    return register


class Argument:
    """An operator argument that may contain macros."""

    __slots__ = ("constant", "macro")

    def __init__(self, text: bytes) -> None:
        self.macro = Macro(text)
        self.constant = self.macro.constant

    def get(self, tx: Expander) -> bytes:
        constant = self.constant
        return constant if constant is not None else self.macro.expand(tx)


from waf_core.operators import (  # noqa: E402  (each module registers what it defines)
    geo,
    injection,
    ip,
    numeric,
    phrases,
    rbl,
    refused,
    regex,
    restpath,
    schema,
    strings,
    validation,
)

__all__ = [
    "HIT",
    "REFUSED",
    "REGISTRY",
    "Argument",
    "Captures",
    "Operator",
    "OperatorEnv",
    "OperatorError",
    "geo",
    "injection",
    "ip",
    "numeric",
    "operator",
    "phrases",
    "rbl",
    "read_file",
    "refused",
    "regex",
    "restpath",
    "schema",
    "strings",
    "validation",
]

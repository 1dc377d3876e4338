"""The targets, by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable

Target = Callable[[bytes], None]

TARGETS = {
    "connection": "fuzz.connection:any_bytes",
    "frames": "fuzz.connection:any_frames",
    "streams": "fuzz.streams:any_messages",
    "multipart": "fuzz.bodies:multipart",
    "json": "fuzz.bodies:json",
    "xml": "fuzz.bodies:xml",
    "urlencoded": "fuzz.bodies:urlencoded",
    "coding": "fuzz.bodies:coding",
    "seclang": "fuzz.rules:seclang",
    "expressions": "fuzz.rules:expressions",
    "transformations": "fuzz.values:transformations",
    "engine": "fuzz.engine:planned_and_plain",
}


def load(name: str) -> Target:
    """Raises KeyError for a name that is not in TARGETS."""
    module, _, function = TARGETS[name].partition(":")
    target: Target = getattr(importlib.import_module(module), function)
    return target

"""Texts that almost match the expressions of a rule set, and the expressions that are slowest with them."""

from __future__ import annotations

import importlib
import re
import time
import warnings
from collections.abc import Iterable
from typing import Any

from bench.engines import Ours
from waf_core.operators.regex import Rx

_parser: Any = importlib.import_module("re._parser")

COUNT = 20
BYTES = 16_000
REPEATS = 3
UNIT_BYTES = 64


def slowest(engine: Ours) -> list[tuple[int, str]]:
    """(rule id, text that almost matches its expression) of those expressions of the request phases that RE2 is
    slowest with on such text, repeated."""
    tx = engine.waf.new_transaction()
    found: dict[bytes, tuple[float, int, str]] = {}
    for unit in engine.waf.program.units:
        for link in unit.links:
            operator = link.operator
            if unit.info.phase > 2 or not isinstance(operator, Rx) or operator.pattern in found:
                continue
            text = example(operator.pattern)[:-1][:UNIT_BYTES]
            if text:
                value = (text * (BYTES // len(text) + 1)).encode("latin-1", "replace")
                start = time.process_time()
                operator.holds(value, tx)
                found[operator.pattern] = (time.process_time() - start, unit.info.id, text)
    ranked = sorted(found.values(), key=lambda item: -item[0])[:COUNT]
    return [(rule_id, text) for _, rule_id, text in ranked]


def example(pattern: bytes) -> str:
    """A text that matches: of each repetition some, of each choice the first.  "" for what Python cannot read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _sequence(_parser.parse(pattern.decode("latin-1")))
    except (re.error, ValueError, OverflowError, RecursionError):
        return ""


def _sequence(nodes: Iterable[tuple[Any, Any]]) -> str:
    return "".join([_node(str(kind), argument) for kind, argument in nodes])


def _node(kind: str, argument: Any) -> str:
    if kind == "LITERAL":
        return chr(argument)
    if kind == "NOT_LITERAL":
        return "a" if argument != ord("a") else "b"
    if kind == "ANY":
        return "a"
    if kind == "IN":
        return _member(argument)
    if kind in ("MAX_REPEAT", "MIN_REPEAT"):
        least, most, child = argument
        return _sequence(child) * max(int(least), min(int(most), REPEATS))
    if kind == "SUBPATTERN":
        return _sequence(argument[3])
    if kind == "BRANCH":
        return _sequence(argument[1][0])
    return ""


def _member(items: list[tuple[Any, Any]]) -> str:
    """A character of a class."""
    kind, argument = items[0]
    if str(kind) == "LITERAL":
        return chr(argument)
    if str(kind) == "RANGE":
        return chr(argument[0])
    return {"CATEGORY_DIGIT": "0", "CATEGORY_SPACE": " ", "CATEGORY_NOT_WORD": "-"}.get(str(argument), "a")

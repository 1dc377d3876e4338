"""Every transformation against its table, and what holds for all of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from waf_core.transformations import REGISTRY

CASES: dict[str, list[list[Any]]] = yaml.safe_load(Path(__file__).with_name("transformations.yaml").read_text("utf-8"))
MAX_GROWTH = 4
"""No transformation makes a value more than so many times longer (plus a digest's length)."""


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [pytest.param(n, v, e, id=f"{n}-{i}") for n, cases in CASES.items() for i, (v, e) in enumerate(cases)],
)
def test_table(name: str, value: Any, expected: Any) -> None:
    assert REGISTRY[name](str(value).encode("latin-1")) == str(expected).encode("latin-1")


def test_every_transformation_has_cases() -> None:
    aliases = {"normalisepath", "normalisepathwin"}
    assert set(CASES) == set(REGISTRY) - aliases


@pytest.mark.parametrize("name", sorted(REGISTRY))
@given(value=st.binary(max_size=300) | st.text(alphabet="%u+\\x&#;0fF<>/*-. \0aA1", max_size=300).map(str.encode))
def test_never_raises_and_output_is_bounded(name: str, value: bytes) -> None:
    out = REGISTRY[name](value)
    assert isinstance(out, bytes)
    assert len(out) <= MAX_GROWTH * len(value) + 20


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"length", "md5", "sha1", "hexencode", "base64encode"}))
def test_plain_value_comes_back_as_the_same_object(name: str) -> None:
    """The scan plan leans on it to see that a chain changed nothing."""
    value = b"abcd"
    out = REGISTRY[name](value)
    assert out is value or out != value or name.startswith(("parity", "url", "trim"))


@pytest.mark.parametrize(
    ("name", "expression", "replacement"),
    [
        ("compresswhitespace", rb"[ \t\n\r\f\v\xa0]+", b" "),
        ("replacecomments", rb"/\*.*?(?:\*/|\Z)", b" "),
        ("removecomments", rb"/\*.*?\*/|<!--.*?-->|(?:--|#).*\Z", b""),
        ("removecommentschar", rb"/\*|\*/|<!--|-->|--|#", b""),
    ],
)
@given(value=st.lists(st.sampled_from(["/", "*", "/*", "*/", "<!--", "-->", "-", "#", "a", " ", "\t", "\xa0"])))
def test_it_is_what_an_expression_replaces(name: str, expression: bytes, replacement: bytes, value: list[str]) -> None:
    text = "".join(value).encode("latin-1")
    # Of a comment that never ends removeComments leaves a space.
    assume(name != "removecomments" or not re.search(rb"/\*(?!.*\*/)|<!--(?!.*-->)", text))
    assert REGISTRY[name](text) == re.sub(expression, replacement, text, flags=re.DOTALL)

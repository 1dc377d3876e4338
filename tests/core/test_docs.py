"""The tables in docs/ name everything that the engine knows, and say what happens to it."""

from __future__ import annotations

import re

import pytest

from demo.stack import PROJECT
from waf_core import actions, operators, transformations, variables
from waf_core.compiler import directives, rules
from waf_core.limits import Limit

TABLES = {
    "directives.md": [*directives.SUPPORTED, *directives.WITH_FILE, *directives.WITHOUT_EFFECT, *directives.REFUSED],
    "operators.md": [f"@{name}" for name in (*operators.REGISTRY, *operators.REFUSED)],
    "transformations.md": [*transformations.REGISTRY],
    "variables.md": [*variables.REGISTRY, *variables.REFUSED],
    "actions.md": [*rules.REFUSED_ACTIONS, *actions.CTL, *actions.CTL_WITHOUT_EFFECT],
    "operations.md": [*Limit],
}


@pytest.mark.parametrize("file", TABLES)
def test_table_is_complete(file: str) -> None:
    text = (PROJECT / "docs" / file).read_text("utf-8")
    known = {name.lower() for name in re.findall(r"`([^`\n]+)`", text)}
    missing = [name for name in TABLES[file] if name.lower() not in known]
    assert missing == []

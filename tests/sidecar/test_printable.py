"""What clients send does not speak to a terminal, nor write lines of its own into logs and proposals."""

from __future__ import annotations

import pytest
import structlog

from extproc.log import configure
from extproc.printable import printable
from extproc.tuning import Finding, propose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/caf\u00e9 ok", "/caf\u00e9 ok"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\r\nb", "a\\r\\nb"),
        ("\u2028\x7f", "\\u2028\\x7f"),
    ],
)
def test_control_characters_become_escapes(text: str, expected: str) -> None:
    assert printable(text) == expected


def test_readable_logs_have_one_line_for_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    close = configure("info", "console")
    try:
        structlog.get_logger().warning("request blocked", path="/\x1b[2J", rules=[{"value": "a\nforged"}], host="a\nb")
    finally:
        structlog.reset_defaults()
        close()
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b" not in out
    assert "\\x1b[2J" in out


@pytest.mark.parametrize("key", ["a\n", 'a"', "a;b", "a b", "a\nSecRuleEngine Off", "a" * 101])
def test_proposals_have_no_names_that_are_more_than_names(key: str) -> None:
    assert propose([Finding(942100, f"ARGS:{key}", "/x")]) == []


@pytest.mark.parametrize("path", ["/shop/x\n", '/shop/x"y', "/shop/a b"])
def test_proposals_have_no_paths_that_are_more_than_paths(path: str) -> None:
    (proposal,) = propose([Finding(942100, "ARGS:a", path)])
    assert '"@beginsWith /shop/"' in proposal.text

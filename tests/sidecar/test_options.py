"""Every setting is a flag, of the type that it is declared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from extproc.cli import main
from extproc.commands.options import ALL_FLAGS, NOT_FLAGS, given_flags, settings_options
from extproc.config import Settings
from extproc.loading import load_settings


def parsed(*arguments: str) -> dict[str, Any]:
    """What the command gets for a command line."""
    seen: dict[str, Any] = {}

    @click.command()
    @settings_options(*ALL_FLAGS)
    def command(config: Path | None, **flags: Any) -> None:
        seen.update(config=config, **given_flags(flags))

    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return seen


def test_serve_has_them_all() -> None:
    text = CliRunner().invoke(main, ["serve", "--help"]).output
    assert set(ALL_FLAGS) | NOT_FLAGS == Settings.model_fields.keys()
    for name in ALL_FLAGS:
        assert f"--{name.replace('_', '-')} " in text, name
    assert "--policies" not in text
    assert "--admin-token" not in text


def test_what_is_not_given_is_none() -> None:
    assert set(parsed().values()) == {None}
    assert load_settings(**{k: v for k, v in parsed().items() if k != "config"}) == load_settings()


def test_values_have_their_types() -> None:
    found = parsed(
        "-r", "a", "-r", "b", "-p", "2", "--no-watch", "--dns", "--blocking-percent", "2.5", "--crs-root", "/crs",
        "--redact-headers", "x", "--audit-log", "", "--mode", "Off",
    )  # fmt: skip
    given = {name: value for name, value in found.items() if value is not None}
    assert given == {
        "rules": ["a", "b"], "paranoia_level": 2, "watch": False, "dns": True, "blocking_percent": 2.5,
        "crs_root": Path("/crs"), "redact_headers": ["x"], "audit_log": "", "mode": "Off",
    }  # fmt: skip
    settings = load_settings(**given)
    assert (settings.rules, settings.watch, settings.mode) == (["a", "b"], False, "Off")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "two"], "'two' is not a valid integer"),
        (["--mode", "Perhaps"], "'Perhaps' is not one of 'On', 'DetectionOnly', 'Off'"),
        (["--paranoia-level", "9"], "paranoia_level (flag): Input should be less than or equal to 4"),
    ],
)
def test_mistakes_are_told(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert result.exit_code in (1, 2)
    assert message in result.output

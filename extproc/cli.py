"""The command line.  Each command is a module of extproc/commands, and only the one that was called is loaded: a
sidecar does not hold what the others need.

Exit status: 0 fine, 1 the rules, settings or input are wrong, 2 the command line is wrong, 3 what was looked
for was found (a block, a difference, a failed test).
"""

from __future__ import annotations

import importlib
from typing import Final

import click
from click.shell_completion import get_completion_class

import extproc.starting  # noqa: F401  (before the rest of the package)
from extproc import __version__

MODULES: Final = {
    "check": "check",
    "crs": "crs",
    "explain": "explain",
    "replay": "replay",
    "serve": "serve",
    "test": "ftw",
    "tune": "tune",
}
"""Where in extproc/commands a command is, as `NAME_command`."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*MODULES, *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"extproc.commands.{MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """A web application firewall for Envoy: ModSecurity rules over external processing.

    \b
    Start here:
      envoy-waf crs install        bring the OWASP Core Rule Set
      envoy-waf check              see what would be served, and what is wrong
      envoy-waf serve              serve Envoy on 127.0.0.1:9002
      envoy-waf explain URL        see what a request matches, and why it is blocked

    \b
    Exit status: 0 fine; 1 rules, settings or input are wrong; 2 wrong command line;
    3 what was looked for was found (a block, a difference, a failed test).

    Every setting is a flag of `serve`, an environment variable (ENVOY_WAF_LISTEN, ...) or a line of
    the YAML file; flags win over the environment, the environment over the file.  (The admin token is
    no flag, and policies are for the file.)
    """


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    \b
    bash:  echo 'eval "$(envoy-waf completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(envoy-waf completion zsh)"' >> ~/.zshrc
    fish:  envoy-waf completion fish > ~/.config/fish/completions/envoy-waf.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    print(found(main, {}, "envoy-waf", "_ENVOY_WAF_COMPLETE").source())


@main.command()
def version() -> None:
    """Print the version."""
    print(f"envoy-waf {__version__}")


if __name__ == "__main__":
    main()

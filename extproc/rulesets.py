"""Named rule sets for Include: @recommended, @baseline, @crs-setup, @crs/*.conf."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from extproc.config import Settings
from extproc.overrides import override
from waf_core import WAF
from waf_core.baseline import resolve as resolve_packaged
from waf_core.compiler import CompileOptions, compile_nodes
from waf_core.errors import Position, SecLangError
from waf_core.operators import Resolver
from waf_core.reading import DISK, Reader, within
from waf_core.scan.limits import ScanLimits
from waf_core.seclang import Node, RuleNode, RuleSource, parse_text

PLUGINS = "@crs-plugins/"
CRS_SETUP = "crs-setup.conf"


@dataclass(frozen=True, slots=True)
class RuleSetInfo:
    """What serves: `crs` or `baseline` or `custom`, its version, and the sentence to log."""

    name: str
    version: str
    sentence: str


def crs_folder(settings: Settings, reader: Reader = DISK) -> Path | None:
    """The Core Rule Set in use: `crs_root`, or the newest installed one."""
    if settings.crs_root is not None:
        return settings.crs_root
    return newest_version(settings.data_dir, reader)


def installed_versions(data_dir: Path, reader: Reader = DISK) -> list[Path]:
    """Folders of the Core Rule Sets that `envoy-waf crs install` has brought, the newest last."""
    return sorted(map(Path, reader.fitting(within(data_dir / "crs", "coreruleset-*"))), key=_version_key)


def newest_version(data_dir: Path, reader: Reader = DISK) -> Path | None:
    """The last of them, if there are any."""
    return next(reversed(installed_versions(data_dir, reader)), None)


def _version_key(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", path.name))


def _asks_dns(node: Node) -> bool:
    return isinstance(node, RuleNode) and node.operator is not None and node.operator.name == "rbl"


def _resolver() -> Resolver:
    """It asks nothing until a transaction does, inside the loop."""
    from extproc.dns import CachingResolver  # dnspython takes a twentieth of the time that starting takes

    return CachingResolver()


class RuleSets:
    """Resolves names for the parser, from the settings."""

    def __init__(self, settings: Settings, policy: str = "default", reader: Reader = DISK) -> None:
        """`policy`: named in the positions of errors."""
        self.settings = settings
        self._of = "" if policy == "default" else f" of policy {policy}"
        self._reader = reader
        self.crs = crs_folder(settings, reader)

    def resolve(self, argument: str) -> Sequence[str] | None:
        """Paths and patterns of a named set; None when the argument is an ordinary path."""
        if argument == "@crs-setup":
            root = self._need_crs(argument)
            own = self._reader.is_file(str(root / CRS_SETUP))
            return [within(root, CRS_SETUP if own else f"{CRS_SETUP}.example")]
        if argument.startswith("@crs/"):
            root = self._need_crs(argument)
            return [within(root / "rules", argument.removeprefix("@crs/"))]
        if argument.startswith(PLUGINS):
            root = self._need_crs(argument)
            return [within(root / "plugins", argument.removeprefix(PLUGINS))]
        return resolve_packaged(argument)

    def _need_crs(self, argument: str) -> Path:
        if self.crs is None or not self._reader.fitting(within(self.crs / "rules", "*.conf")):
            raise SecLangError(
                "the Core Rule Set is not installed",
                Position(f"<settings{self._of}>", 1),
                argument,
                "run `envoy-waf crs install`, set crs_root, or use @baseline"
                + (f"; {self.crs / 'rules'} has no rules" if self.crs is not None else ""),
            )
        return self.crs

    def default_rules(self) -> list[str]:
        """What serves when the settings name no rules."""
        if self.crs is not None:
            return [
                "@recommended",
                "@crs-setup",
                "@crs-plugins/*-config.conf",
                "@crs-plugins/*-before.conf",
                "@crs/*.conf",
                "@crs-plugins/*-after.conf",
            ]
        return ["@recommended", "@baseline"]

    def info(self) -> RuleSetInfo:
        """What serves, in plain words."""
        rules = self.settings.rules or self.default_rules()
        if any(rule.startswith("@crs/") for rule in rules) and self.crs is not None:
            version = self.crs.name.removeprefix("coreruleset-")
            return RuleSetInfo("crs", version, f"OWASP Core Rule Set {version}")
        if "@baseline" in rules:
            return RuleSetInfo(
                "baseline",
                "1",
                "built-in baseline rules; install the Core Rule Set with `envoy-waf crs install`",
            )
        return RuleSetInfo("custom", "", f"rules from {', '.join(rules)}")

    def _parse(self, source: RuleSource) -> tuple[list[Node], list[str]]:
        """The rules with what the settings override, the user's own directives last; and notes."""
        settings = self.settings
        nodes: list[Node] = []
        for rule in settings.rules or self.default_rules():
            # Most have no plugins.
            name = "IncludeOptional" if rule.startswith(PLUGINS) and glob.has_magic(rule) else "Include"
            nodes += parse_text(f'{name} "{rule}"', source, file=f"<rules{self._of}>")
        nodes += parse_text(settings.directives, source, file=f"<directives{self._of}>")
        nodes, notes = override(nodes, settings, source, f"<settings{self._of}>")
        if settings.mode:
            nodes += parse_text(f"SecRuleEngine {settings.mode}", source, file=f"<mode{self._of}>")
        return nodes, notes

    def compile(self, options: CompileOptions | None = None) -> WAF:
        """Compile what the settings say.  Raises SecLangError."""
        source = RuleSource(".", self.resolve, self._reader)
        if self.crs is not None:
            source.sought.append(str(self.crs / CRS_SETUP))
        nodes, notes = self._parse(source)
        if options is None:
            resolver = _resolver() if self.settings.dns and any(map(_asks_dns, nodes)) else None
            folder = self.settings.cache_dir or self.settings.data_dir / "cache"
            limits = ScanLimits(hyperscan_folder=folder if self.settings.hyperscan else None)
            options = CompileOptions(
                multiphase=self.settings.multiphase,
                untyped_files_as_fields=self.settings.untyped_files_as_fields,
                decompress_responses=self.settings.decompress_responses,
                resolver=resolver,
                limits=limits,
            )
        program = compile_nodes(nodes, source, options)
        program.notes += notes
        return WAF(program)

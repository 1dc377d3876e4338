"""Policies: which rules judge this request.

A policy is chosen, in this order, by

  1. gRPC initial metadata `x-envoy-waf-policy` (Envoy's route: ExtProcPerRoute, grpc_initial_metadata);
  2. the matches of the policies: route name, authority, path; the most telling one wins (a route over an
     exact authority over a wildcard, a longer wildcard over a shorter one, then the longer path);
  3. `default`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from extproc.config import PolicySettings, Settings
from extproc.match import ANY_SUBDOMAIN, MatchSettings, normal_host, normal_path
from extproc.rulesets import RuleSetInfo, RuleSets
from waf_core import WAF
from waf_core.reading import DISK, Reader

METADATA_KEY = "x-envoy-waf-policy"

ADDRESS_ATTRIBUTE = "source.address"
ROUTE_ATTRIBUTE = "xds.route_name"

_SHARES = 10_000

_COMPILED = set(PolicySettings.model_fields) - {"name", "match", "blocking_percent", "shadow"}
"""What makes a policy's program: those who have the same share it."""


class UnknownPolicyError(ValueError):
    """Envoy's route names a policy that the settings do not have."""


@dataclass(slots=True)
class Policy:
    """One compiled policy.  `shadow` judges the same requests aside."""

    name: str
    waf: WAF
    info: RuleSetInfo
    blocking_percent: float = 100.0
    shadow: Policy | None = None

    def blocks(self, client: bytes) -> bool:
        """Is this client among those for whom the policy blocks?  The same client always gets the same answer."""
        if self.blocking_percent >= 100:
            return True
        return zlib.crc32(client) % _SHARES < self.blocking_percent * (_SHARES / 100)


@dataclass(frozen=True, slots=True)
class _Rule:
    """A policy's request: `hosts` are exact, or there is a `suffix`, or any host will do."""

    hosts: frozenset[str]
    suffix: str
    path: str
    routes: frozenset[str]
    policy: Policy

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """How telling it is."""
        return bool(self.routes), bool(self.hosts), len(self.suffix), len(self.path)

    def fits(self, host: str, path: str, route: str) -> bool:
        if self.routes and route not in self.routes:
            return False
        if (self.hosts and host not in self.hosts) or not host.endswith(self.suffix):
            return False
        return not self.path or path == self.path or path.startswith(self.path.rstrip("/") + "/")


class PolicySet:
    """All policies of one generation of the settings."""

    def __init__(self, policies: Sequence[Policy], matches: Mapping[str, Sequence[MatchSettings]]) -> None:
        """`policies[0]` is the default."""
        self.default = policies[0]
        self.by_name = {policy.name: policy for policy in policies}
        rules = [
            rule for policy in policies for match in matches.get(policy.name, ()) for rule in _rules(match, policy)
        ]
        self._rules = sorted(rules, key=lambda rule: rule.rank, reverse=True)
        by_route = any(rule.routes for rule in rules)
        self.attributes = (ADDRESS_ATTRIBUTE, ROUTE_ATTRIBUTE) if by_route else (ADDRESS_ATTRIBUTE,)
        """Attributes of Envoy's without which requests are not judged as the settings say."""

    @classmethod
    def single(cls, waf: WAF, info: RuleSetInfo | None = None) -> PolicySet:
        """One policy for everything."""
        return cls([Policy("default", waf, info or RuleSetInfo("custom", "", "custom rules"))], {})

    @property
    def policies(self) -> list[Policy]:
        return list(self.by_name.values())

    def select(self, named: str, authority: bytes, uri: bytes, route: str) -> Policy:
        """The policy of a request.  Raises UnknownPolicyError."""
        if named:
            policy = self.by_name.get(named)
            if policy is None:
                raise UnknownPolicyError(f"Envoy's route asks for the policy {named!r}; the settings have no such one")
            return policy
        if not self._rules:
            return self.default
        host = normal_host(authority)
        path = normal_path(uri)
        for rule in self._rules:
            if rule.fits(host, path, route):
                return rule.policy
        return self.default


def _rules(match: MatchSettings, policy: Policy) -> Iterator[_Rule]:
    exact = frozenset(host for host in match.hosts if not host.startswith(ANY_SUBDOMAIN))
    suffixes = [host.removeprefix(ANY_SUBDOMAIN) for host in match.hosts if host.startswith(ANY_SUBDOMAIN)]
    hosts = [(exact, "")] if exact or not suffixes else []
    hosts += [(frozenset(), suffix) for suffix in suffixes]
    for path in match.paths or [""]:
        for names, suffix in hosts:
            yield _Rule(names, suffix, path, frozenset(match.routes), policy)


def compile_policies(settings: Settings, reader: Reader = DISK) -> PolicySet:
    """Compile every policy; equal ones share their program.  Raises SecLangError, with the policy's name."""
    parts = settings.by_policy()
    compiled: dict[str, WAF] = {}
    policies = []
    for name, own in parts.items():
        rulesets = RuleSets(own, name, reader)
        key = repr(own.model_dump(include=_COMPILED))  # no JSON: paths may be in any encoding
        waf = compiled.get(key)
        if waf is None:
            waf = compiled[key] = rulesets.compile()
        policies.append(Policy(name, waf, rulesets.info(), own.blocking_percent))
    found = PolicySet(policies, {p.name: p.match for p in settings.policies})
    for name, own in parts.items():
        if own.shadow is not None:
            found.by_name[name].shadow = found.by_name[own.shadow]
    return found

"""Policies: which rules judge this request.

A policy is chosen, in this order, by

  1. gRPC initial metadata `x-envoy-waf-policy` (Envoy's route: ExtProcPerRoute, grpc_initial_metadata);
  2. the matches of the policies: route name, authority, path; the most telling one wins (a route over an
     exact authority over a wildcard, then the longer path);
  3. `default`.

The path that is compared is decoded and normalized, so that `//admin`, `/x/../admin` and `/%61dmin` are
`/admin`, and `SHOP.example.com.` is `shop.example.com`: a client cannot choose a weaker policy by spelling.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from extproc.config import MatchSettings, PolicySettings, Settings
from extproc.rulesets import RuleSetInfo, RuleSets
from waf_core import WAF
from waf_core.request_target import host_of, origin_form
from waf_core.transformations.path import normalize_path
from waf_core.transformations.url import url_decode

METADATA_KEY = "x-envoy-waf-policy"

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
    rank: tuple[int, int]
    hosts: frozenset[str]
    suffixes: tuple[str, ...]
    path: str
    routes: frozenset[str]
    policy: Policy

    def fits(self, host: str, path: str, route: str) -> bool:
        if self.routes and route not in self.routes:
            return False
        if (self.hosts or self.suffixes) and host not in self.hosts and not host.endswith(self.suffixes or ("\0",)):
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
        host = host_of(authority).decode("latin-1").lower().removesuffix(".")
        path = normal_path(uri)
        for rule in self._rules:
            if rule.fits(host, path, route):
                return rule.policy
        return self.default


def normal_path(uri: bytes) -> str:
    """The path of a URI as servers understand it: decoded, without `//`, `/./` and `/../`."""
    path = origin_form(uri).partition(b"?")[0].partition(b"#")[0]
    if not path.startswith(b"/"):
        return "/"
    path = url_decode(path.replace(b"+", b"%2B")).partition(b";")[0]
    if path.endswith((b"/.", b"/..")):
        path += b"/"  # RFC 3986, section 5.2.4: the folder, which ModSecurity writes without its slash
    return normalize_path(path).decode("latin-1")


def _rules(match: MatchSettings, policy: Policy) -> list[_Rule]:
    exact = frozenset(host.lower() for host in match.hosts if not host.startswith("*."))
    suffixes = tuple(host[1:].lower() for host in match.hosts if host.startswith("*."))
    kind = 4 * bool(match.routes) + 2 * bool(exact) + bool(suffixes)
    return [
        _Rule((kind, len(path)), exact, suffixes, path, frozenset(match.routes), policy) for path in match.paths or [""]
    ]


def compile_policies(settings: Settings) -> PolicySet:
    """Compile every policy; equal ones share their program.  Raises SecLangError, with the policy's name."""
    parts = [("default", settings), *((p.name, settings.for_policy(p)) for p in settings.policies)]
    compiled: dict[str, WAF] = {}
    policies = []
    for name, own in parts:
        rulesets = RuleSets(own, name)
        key = own.model_dump_json(include=_COMPILED)
        waf = compiled.get(key)
        if waf is None:
            waf = compiled[key] = rulesets.compile()
        policies.append(Policy(name, waf, rulesets.info(), own.blocking_percent))
    found = PolicySet(policies, {p.name: p.match for p in settings.policies})
    for name, own in parts:
        if own.shadow is not None:
            found.by_name[name].shadow = found.by_name[own.shadow]
    return found

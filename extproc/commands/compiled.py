"""What commands share that compile rules."""

from __future__ import annotations

from extproc.commands.common import fail
from extproc.config import Settings
from extproc.policies import Policy, PolicySet, compile_policies
from waf_core.errors import WafError
from waf_core.exchange import Exchange


def compile_all(settings: Settings) -> PolicySet:
    """All policies, or the error and the end."""
    try:
        return compile_policies(settings)
    except WafError as error:
        fail(str(error))


def choose(policies: PolicySet, name: str) -> Policy:
    """A policy by name, or the error and the end."""
    found = policies.by_name.get(name)
    if found is None:
        fail(f"there is no policy {name!r}; there are: {', '.join(policies.by_name)}")
    return found


def policy_for(policies: PolicySet, named: str | None, exchange: Exchange) -> Policy:
    """The policy that is named, or the one that judges such a request (whose route nobody knows)."""
    if named is not None:
        return choose(policies, named)
    host = next((value for name, value in exchange.headers if name.lower() == b"host"), b"")
    return policies.select("", host, exchange.uri, "")

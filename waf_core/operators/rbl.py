"""`@rbl ZONE`: is the address listed in a DNS block list?

The engine never waits for the DNS.  The resolver that the sidecar passes in answers from its
cache at once, and asks the DNS aside: the first request of an address passes, later ones know.
SecHttpBlKey is put in front of the name, as Project Honey Pot's http:BL wants it.
"""

from __future__ import annotations

import ipaddress

from waf_core.macros import Expander
from waf_core.operators import HIT, Captures, Operator, OperatorEnv, OperatorError, Resolver, operator
from waf_core.operators.strings import Never


class Rbl(Operator):
    pure = False

    def __init__(self, zone: str, key: str, resolver: Resolver) -> None:
        self._suffix = zone.strip(".")
        self._prefix = f"{key}." if key else ""
        self._resolver = resolver

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        try:
            address = ipaddress.ip_address(value.decode("latin-1").strip())
        except ValueError:
            return None
        reverse = address.reverse_pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")
        return HIT if self._resolver(f"{self._prefix}{reverse}.{self._suffix}") else None


@operator("rbl")
def _rbl(argument: bytes, env: OperatorEnv) -> Operator:
    zone = argument.strip().decode("latin-1")
    if not zone:
        raise OperatorError("@rbl needs a zone", "for example @rbl zen.example.org")
    if env.resolver is None:
        env.notes.append("@rbl never matches: no DNS is asked unless the settings say `dns: true`")
        return Never()
    return Rbl(zone, env.http_bl_key if "httpbl" in zone else "", env.resolver)

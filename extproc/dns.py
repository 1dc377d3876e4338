"""DNS block lists for @rbl: asked aside, answered from a bounded cache, never waited for."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict

import dns.asyncresolver
import dns.exception
import dns.resolver
import structlog

from extproc.tasks import Tasks
from waf_core.errors import WafError

MAX_CACHED = 65_536
MAX_PENDING = 1_000
"""Names that may wait for an answer; further ones are asked when they come again."""

TTL_LISTED = 3600.0
TTL_CLEAN = 900.0
TTL_FAILED = 30.0
QUERY_SECONDS = 2.0


class NoDnsError(WafError):
    """There is nobody to ask."""


class CachingResolver:
    """Call it with a name: True, False, or None while the answer is on its way.

    `resolver` is what asks the DNS: dnspython's, with the system's configuration unless one is passed in.
    """

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        try:
            self._resolver = resolver or dns.asyncresolver.Resolver()
        except dns.resolver.NoResolverConfiguration as error:
            raise NoDnsError("dns: true, but the system names no DNS server (/etc/resolv.conf)") from error
        self._answers: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._pending: set[str] = set()
        self._tasks = Tasks()
        self._loop: asyncio.AbstractEventLoop | None = None
        """The one that asks, once a call has come from it."""
        self.queries = 0
        self.failures = 0
        self._failing = False
        self._log = structlog.get_logger("envoy_waf")

    def __call__(self, name: str) -> bool | None:
        known = self._answers.get(name)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        if name not in self._pending and len(self._pending) < MAX_PENDING:
            self._begin(name)
        # While a new answer is on its way the old one serves.
        return known[0] if known is not None else None

    def _begin(self, name: str) -> None:
        """Have the loop ask.  Large bodies are judged on threads, and first exchanges before there is traffic."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            if self._loop is not None:
                self._pending.add(name)
                self._loop.call_soon_threadsafe(lambda: self._tasks.start(self._ask(name)))
            return
        self._pending.add(name)
        self._tasks.start(self._ask(name))

    async def _ask(self, name: str) -> None:
        self.queries += 1
        try:
            await self._resolver.resolve(name, "A", lifetime=QUERY_SECONDS)
            answer, seconds = True, TTL_LISTED
            self._failing = False
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            answer, seconds = False, TTL_CLEAN
            self._failing = False
        except (dns.exception.DNSException, OSError) as error:
            answer, seconds = False, TTL_FAILED
            self._failed(name, error)
        finally:
            self._pending.discard(name)
        self._answers[name] = (answer, time.monotonic() + seconds)
        self._answers.move_to_end(name)
        while len(self._answers) > MAX_CACHED:
            self._answers.popitem(last=False)

    def _failed(self, name: str, error: Exception) -> None:
        """Count it; the log says it once, until there is an answer again."""
        self.failures += 1
        if not self._failing:
            self._failing = True
            self._log.warning("the DNS does not answer: @rbl matches nothing that is new", name=name, error=str(error))

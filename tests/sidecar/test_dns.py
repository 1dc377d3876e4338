"""@rbl: a real DNS server on this machine; the engine never waits for it."""

from __future__ import annotations

import asyncio

import dns.asyncresolver
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from extproc.config import Settings
from extproc.dns import MAX_PENDING, CachingResolver
from extproc.rulesets import RuleSets
from tests.core.transactions import ids, make, run
from waf_core.compiler import CompileOptions

LISTED = "1.2.0.192.bl.example."


class DnsServer(asyncio.DatagramProtocol):
    """Knows one name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text()
        self.asked.append(name)
        answer = dns.message.make_response(query)
        if name == LISTED:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "127.0.0.2"))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), address)


def test_first_request_passes_later_ones_know() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
        asks = dns.asyncresolver.Resolver(configure=False)
        asks.nameservers = ["127.0.0.1"]
        asks.port = transport.get_extra_info("sockname")[1]
        resolver = CachingResolver(asks)
        waf = make('SecRule REMOTE_ADDR "@rbl bl.example" "id:1,phase:1,pass,log"', CompileOptions(resolver=resolver))
        assert ids(run(waf)) == []
        for _ in range(100):
            await asyncio.sleep(0.02)
            if resolver("1.2.0.192.bl.example") is not None:
                break
        assert ids(run(waf)) == [1]
        assert server.asked == [LISTED]
        assert resolver("9.2.0.192.bl.example") is None
        for _ in range(100):
            await asyncio.sleep(0.02)
            if resolver("9.2.0.192.bl.example") is not None:
                break
        assert resolver("9.2.0.192.bl.example") is False
        transport.close()

    asyncio.run(scenario())


def test_what_waits_is_bounded() -> None:
    async def scenario() -> None:
        asks = dns.asyncresolver.Resolver(configure=False)
        asks.nameservers = ["127.0.0.1"]
        asks.port = 9
        resolver = CachingResolver(asks)
        for number in range(MAX_PENDING + 50):
            assert resolver(f"{number}.example") is None
        await asyncio.sleep(0)
        assert resolver.queries == MAX_PENDING

    asyncio.run(scenario())


def test_a_dns_that_does_not_answer_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario() -> None:
        asks = dns.asyncresolver.Resolver(configure=False)  # it has nobody to ask
        resolver = CachingResolver(asks)
        for number in range(3):
            assert resolver(f"{number}.example") is None
        await asyncio.sleep(0.2)
        assert resolver.failures == 3
        assert resolver("0.example") is False

    asyncio.run(scenario())
    assert capsys.readouterr().out.count("the DNS does not answer") == 1


def test_threads_may_ask_too() -> None:
    asked: list[str] = []

    class Recording(dns.asyncresolver.Resolver):
        async def resolve(self, name: str, *rest: object, **options: object) -> object:  # type: ignore[override]
            asked.append(name)
            raise dns.resolver.NXDOMAIN

    async def scenario() -> None:
        resolver = CachingResolver(Recording(configure=False))
        # Before the loop is known there is nobody who could ask: unknown, and not taken for pending.
        assert await asyncio.to_thread(resolver, "early.example") is None
        assert resolver("a.example") is None
        assert await asyncio.to_thread(resolver, "b.example") is None
        assert await asyncio.to_thread(resolver, "early.example") is None
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(asked) == 3:
                break
        assert sorted(asked) == ["a.example", "b.example", "early.example"]
        assert await asyncio.to_thread(resolver, "b.example") is False

    asyncio.run(scenario())


def test_rules_with_rbl_get_a_resolver_unless_the_settings_say_no() -> None:
    rule = 'SecRule REMOTE_ADDR "!@rbl bl.example" "id:1,phase:1,pass,nolog"'
    for dns_is_asked in (True, False):
        settings = Settings.model_validate({"rules": ["@recommended"], "directives": rule, "dns": dns_is_asked})
        notes = RuleSets(settings).compile().program.notes
        assert any("@rbl never matches" in note for note in notes) is not dns_is_asked

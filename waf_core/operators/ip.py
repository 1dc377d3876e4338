"""`@ipMatch`, `@ipMatchFromFile`, `@ipMatchFromDataset`: addresses and CIDR blocks."""

from __future__ import annotations

import ipaddress
from typing import Final

from waf_core.macros import Expander
from waf_core.operators import HIT, Captures, Operator, OperatorEnv, OperatorError, operator
from waf_core.operators.phrases import dataset, read_data_file

MAX_ADDRESS_TEXT: Final = 64


class IpMatch(Operator):
    """Blocks grouped by version and prefix length: one dictionary look-up for each length."""

    def __init__(self, blocks: list[bytes]) -> None:
        self._blocks: dict[tuple[int, int], set[int]] = {}
        for block in blocks:
            text = block.decode("latin-1").strip()
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError as error:
                raise OperatorError(f"{text!r} is no address or CIDR block", str(error)) from error
            shift = network.max_prefixlen - network.prefixlen
            self._blocks.setdefault((network.version, shift), set()).add(int(network.network_address) >> shift)

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        if len(value) > MAX_ADDRESS_TEXT:
            return None
        try:
            address = ipaddress.ip_address(value.decode("latin-1").strip())
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        number = int(address)
        for (version, shift), numbers in self._blocks.items():
            if version == address.version and number >> shift in numbers:
                return HIT
        return None


@operator("ipMatch")
def _ip_match(argument: bytes, env: OperatorEnv) -> Operator:
    return IpMatch([part for part in argument.replace(b" ", b",").split(b",") if part])


@operator("ipMatchFromFile", "ipMatchF")
def _ip_match_from_file(argument: bytes, env: OperatorEnv) -> Operator:
    return IpMatch(read_data_file(argument.strip(), env))


@operator("ipMatchFromDataset")
def _ip_match_from_dataset(argument: bytes, env: OperatorEnv) -> Operator:
    return IpMatch(dataset(argument.strip(), env))

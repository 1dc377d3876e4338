"""Who the client is: Envoy's peer, or what trusted proxies say of it (X-Forwarded-For)."""

from __future__ import annotations

import ipaddress

MAX_FORWARDED_BYTES = 4096


def split_address(text: str) -> tuple[str, int]:
    """`1.2.3.4:80`, `[::1]:80` or a bare address to (address, port or 0)."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, int(rest[1:]) if rest[1:].isdigit() else 0
    host, colon, port = text.rpartition(":")
    if colon and ":" not in host and port.isdigit():
        return host, int(port)
    return text, 0


def client_address(peer: str, forwarded_for: list[bytes], trusted_hops: int) -> str:
    """The address that rules see as REMOTE_ADDR.

    Envoy appends its own peer to X-Forwarded-For, so with N trusted proxies in front of it the
    client is entry N+1 from the right.  What is no address, or missing, counts as the peer.
    """
    if trusted_hops <= 0:
        return peer
    chain = [part.strip() for part in b",".join(forwarded_for)[-MAX_FORWARDED_BYTES:].split(b",") if part.strip()]
    if not chain:
        return peer
    if chain[-1].decode("latin-1") != peer:
        # Envoy does not append when use_remote_address is off: the peer is still one hop.
        chain.append(peer.encode())
    index = len(chain) - 1 - trusted_hops
    candidate = split_address(chain[max(index, 0)].decode("latin-1"))[0]
    try:
        return str(ipaddress.ip_address(candidate))
    except ValueError:
        return peer

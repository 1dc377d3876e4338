"""Who may ask the admin servers what.

On a loopback address or a Unix socket everybody may who can reach it.  Elsewhere only health and metrics are
open; everything else needs the token (`admin_token`), and is closed when there is none.
"""

from __future__ import annotations

import hmac
import ipaddress

from extproc.config import Settings, parse_address

LOCAL_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))


def is_local(address: str) -> bool:
    """Is this a loopback address, or a Unix socket?"""
    parsed = parse_address(address)
    if isinstance(parsed, str):
        return True
    host = parsed[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_fits(settings: Settings, authorization: str) -> bool:
    """Is this `Bearer TOKEN` with the right token?"""
    if settings.admin_token is None:
        return False
    kind, _, token = authorization.partition(" ")
    sent, secret = token.strip(), settings.admin_token.get_secret_value()
    return kind.lower() == "bearer" and secret != "" and hmac.compare_digest(_bytes(sent), _bytes(secret))


def _bytes(text: str) -> bytes:
    """A header may have bytes that are no text."""
    return text.encode("utf-8", "surrogateescape")

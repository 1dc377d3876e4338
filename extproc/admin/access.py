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
    secret = settings.admin_token.get_secret_value() if settings.admin_token is not None else ""
    kind, _, token = authorization.partition(" ")
    return (
        bool(secret)
        and kind.lower() == "bearer"
        and hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), secret.encode())
    )

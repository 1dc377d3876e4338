"""What a request line's target and a Host field mean, for all who have to agree on it."""

from __future__ import annotations


def origin_form(target: bytes) -> bytes:
    """Path and query.  In the absolute form (RFC 9112, section 3.2.2) scheme and authority are not the path."""
    if target.startswith(b"/"):
        return target
    scheme, separator, rest = target.partition(b"://")
    if not (separator and scheme.isalpha()):
        return target
    slash = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i != -1), default=len(rest))
    return rest[slash:] or b"/"


def host_of(authority: bytes) -> bytes:
    """The host without its port; an IPv6 address keeps its brackets (RFC 3986, section 3.2.2)."""
    return authority[: authority.find(b"]") + 1] if authority.startswith(b"[") else authority.partition(b":")[0]

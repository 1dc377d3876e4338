"""application/json to arguments: `{"a":[{"b":1}]}` is `json.a.0.b` = `1` (as in Coraza).

An array also yields its length under its own name (`json.a` = `1`), an empty object an empty
value, so that every key of a document is the beginning of some argument's name.

Every key of an object counts, also one that appears twice; numbers keep the spelling of
the document; invalid UTF-8 inside strings is kept and judged, not refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from waf_core.bodies import Pair
from waf_core.bodies.paths import TOO_MUCH, allowance, share
from waf_core.turns import give_way

ROOT: Final = "json"
"""What names of arguments begin with."""

MAX_DEPTH: Final = 800
"""Upper bound of SecRequestBodyJsonDepthLimit: the parser recurses once for each level."""

TURN_CONTAINERS: Final = 8
"""After so many objects and arrays one looks whether another thread waits."""


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=tuple, parse_float=str, parse_int=str, parse_constant=_reject_constant, strict=False
)
"""An object is the tuple of its members (key, value) in order, an array a list, a number the text that spells it."""


def _encode(text: str) -> bytes:
    """Of text with surrogates, which stand for bytes that are no UTF-8 or come from `\\ud800`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def parse_json(body: bytes, depth_limit: int, limit: int) -> tuple[list[Pair], bool, str | None]:
    """Arguments, whether `limit` left some out, and the error text or None."""
    if not body.strip():
        return [], False, None
    if body.startswith((b"\xff\xfe", b"\xfe\xff")):
        return [], False, "JSON in UTF-16 is not accepted (RFC 8259, section 8.1)"
    if body.startswith(b"\xef\xbb\xbf"):
        body = body[3:]
    depth_limit = min(depth_limit, MAX_DEPTH)
    try:
        text = body.decode("utf-8", "surrogateescape")
        start = len(text) - len(text.lstrip(" \t\r\n"))
        value, end = _DECODER.raw_decode(text, start)
        if text[end:].strip(" \t\r\n"):
            return [], False, f"extra data after the JSON value at offset {end}"
    except RecursionError:
        return [], False, f"nested deeper than {depth_limit} levels"
    except ValueError as error:
        return [], False, str(error)
    try:
        return _arguments(value, depth_limit, limit, len(body), str.encode)
    except UnicodeEncodeError:
        return _arguments(value, depth_limit, limit, len(body), _encode)


def _arguments(
    value: Any, depth_limit: int, limit: int, size: int, encode: Callable[[str], bytes]
) -> tuple[list[Pair], bool, str | None]:
    """Walk a document in its order, without recursion: `stack` has the containers that are open."""
    out: list[Pair] = []
    members: Iterator[tuple[str, Any]] = iter(((ROOT, value),))
    prefix = ""
    left = allowance(size)
    each = 0
    stack: list[tuple[str, int, Iterator[tuple[str, Any]]]] = []
    turn = 0
    while True:
        for key, item in members:
            a_container = isinstance(item, (list, tuple))
            if len(out) >= limit and not a_container:
                return out, True, None
            left -= each
            if left < 0:
                return out, False, TOO_MUCH
            if isinstance(item, str):
                out.append((encode(prefix + key), encode(item)))
            elif a_container:
                depth = len(stack)
                if depth >= depth_limit:
                    return out, False, f"nested deeper than {depth_limit} levels"
                an_object = isinstance(item, tuple)
                if depth and (not item or not an_object):
                    if len(out) >= limit:
                        return out, True, None
                    out.append((encode(prefix + key), b"" if an_object else b"%d" % len(item)))
                stack.append((prefix, each, members))
                prefix = f"{prefix}{key}."
                each = share(prefix)
                # Each member makes an argument at least: more than `limit` are not reached.
                members = iter(item if an_object else [(str(i), member) for i, member in enumerate(item[: limit + 1])])
                turn += 1
                if turn % TURN_CONTAINERS == 0:
                    give_way()
                break
            else:
                out.append((encode(prefix + key), b"" if item is None else b"true" if item else b"false"))
        else:
            if not stack:
                return out, False, None
            prefix, each, members = stack.pop()

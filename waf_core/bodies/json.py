"""application/json to arguments: `{"a":[{"b":1}]}` is `json.a.0.b` = `1` (as in Coraza).

An array also yields its length under its own name (`json.a` = `1`), an empty object an empty
value, so that every key of a document is the beginning of some argument's name.

Every key of an object counts, also one that appears twice; numbers keep the spelling of
the document; invalid UTF-8 inside strings is kept and judged, not refused.
"""

from __future__ import annotations

import json
from typing import Any

Pair = tuple[bytes, bytes]

MAX_DEPTH = 800
"""Upper bound of SecRequestBodyJsonDepthLimit: the parser recurses once for each level."""


class _Number(str):
    """A number as the document spells it."""


class _Object(list[tuple[str, Any]]):
    """An object's members in order, duplicates included."""


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object,
    parse_float=_Number,
    parse_int=_Number,
    parse_constant=_reject_constant,
    strict=False,
)


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        pass
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
    out: list[Pair] = []
    stack: list[tuple[str, Any, int]] = [("json", value, 0)]
    while stack:
        name, item, depth = stack.pop()
        if isinstance(item, _Object | list):
            if depth >= depth_limit:
                return out, False, f"nested deeper than {depth_limit} levels"
            if depth and (not item or not isinstance(item, _Object)):
                if len(out) >= limit:
                    return out, True, None
                out.append((_encode(name), b"" if isinstance(item, _Object) else b"%d" % len(item)))
            members = item if isinstance(item, _Object) else [(str(i), v) for i, v in enumerate(item)]
            stack.extend((f"{name}.{key}", member, depth + 1) for key, member in reversed(members))
            continue
        if len(out) >= limit:
            return out, True, None
        if item is None:
            encoded = b""
        elif isinstance(item, str):
            encoded = _encode(item)
        else:
            encoded = b"true" if item else b"false"
        out.append((_encode(name), encoded))
    return out, False, None

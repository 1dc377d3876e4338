"""JSON on one line, for records and logs."""

from __future__ import annotations

import json
from typing import Any

import orjson


def json_line(data: Any, default: Any = str) -> str:
    """UTF-8 as it is.  What orjson does not take (integers beyond 64 bits, surrogates), the slower library does."""
    try:
        return orjson.dumps(data, default=default).decode()
    except orjson.JSONEncodeError:
        return json.dumps(data, default=default, separators=(",", ":"))

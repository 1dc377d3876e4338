"""Exchanges as JSON, as they travel between our own processes; and the error of this package."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from extproc.control import ControlError
from waf_core.exchange import Exchange

MAX_HEADERS = 1000


class RequestError(ValueError):
    """What was given is no request; the message says what is wrong and where."""


def exchange_to_json(exchange: Exchange) -> dict[str, Any]:
    """Bytes in base64."""

    def encode(value: bytes) -> str:
        return base64.b64encode(value).decode()

    return {
        "method": encode(exchange.method),
        "uri": encode(exchange.uri),
        "version": encode(exchange.version),
        "headers": [[encode(name), encode(value)] for name, value in exchange.headers],
        "body": encode(exchange.body),
        "client_ip": exchange.client_ip,
    }


def exchange_from_json(data: Any) -> Exchange:
    """The request of `exchange_to_json`, or an Exchange as it is.  Raises ControlError."""
    if isinstance(data, Exchange):
        return data
    if not isinstance(data, dict):
        raise ControlError("the question needs an `id` or an `exchange`")

    def decode(value: Any) -> bytes:
        if not isinstance(value, str):
            raise ControlError("the parts of an exchange are base64 texts")
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ControlError(f"the exchange is not valid base64: {error}") from error

    headers = data.get("headers", [])
    if not isinstance(headers, list) or len(headers) > MAX_HEADERS:
        raise ControlError(f"`headers` has to be a list of at most {MAX_HEADERS} pairs")
    try:
        pairs = [(decode(name), decode(value)) for name, value in headers]
    except (TypeError, ValueError) as error:
        raise ControlError("`headers` has to be a list of pairs") from error
    return Exchange(
        method=decode(data.get("method", "R0VU")),
        uri=decode(data.get("uri", "Lw==")),
        version=decode(data.get("version", "SFRUUC8xLjE=")),
        headers=pairs,
        body=decode(data.get("body", "")),
        client_ip=str(data.get("client_ip", "127.0.0.1")),
    )

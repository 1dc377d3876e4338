"""A request and its response as plain data, and running them through all phases.

What is recorded of live traffic, read from a HAR file or typed on a command line has this form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from waf_core.persistence import Store
    from waf_core.transaction import Transaction
    from waf_core.waf import WAF

Headers = list[tuple[bytes, bytes]]


@dataclass(slots=True)
class Exchange:
    """One HTTP exchange.  `status` 0: there is no response to judge."""

    method: bytes = b"GET"
    uri: bytes = b"/"
    version: bytes = b"HTTP/1.1"
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    status: int = 0
    response_headers: Headers = field(default_factory=list)
    response_body: bytes = b""
    client_ip: str = "127.0.0.1"
    client_port: int = 0
    server_ip: str = ""
    server_port: int = 0
    label: str = ""
    """Where it comes from, for reports: a line, an entry, an id."""


def run(waf: WAF, exchange: Exchange, trace: bool = False, store: Store | None = None) -> Transaction:
    """All phases; they end with the first interruption, phase 5 always runs.  `store`: as for a transaction."""
    tx = waf.new_transaction(store=store)
    if trace:
        from waf_core.trace import Trace  # it loads the engine, which who only holds exchanges need not do

        Trace.attach(tx)
    tx.process_connection(exchange.client_ip, exchange.client_port, exchange.server_ip, exchange.server_port)
    tx.process_uri(exchange.uri, exchange.method, exchange.version)
    for name, value in exchange.headers:
        tx.add_request_header(name, value)
    stop = tx.process_request_headers()
    if stop is None and exchange.body:
        stop = tx.write_request_body(exchange.body)
    if stop is None:
        stop = tx.process_request_body()
    if stop is None and exchange.status:
        for name, value in exchange.response_headers:
            tx.add_response_header(name, value)
        stop = tx.process_response_headers(exchange.status, exchange.version)
        if stop is None and exchange.response_body:
            stop = tx.write_response_body(exchange.response_body)
        if stop is None:
            tx.process_response_body()
    tx.process_logging()
    return tx

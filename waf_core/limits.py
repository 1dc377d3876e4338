"""Limits that a transaction may run into: what metrics, logs and explanations name (docs/operations.md)."""

from __future__ import annotations

from enum import StrEnum


class Limit(StrEnum):
    """Each is noted once in a transaction."""

    ARGUMENTS = "arguments"
    """Arguments, or cookies, beyond SecArgumentsLimit."""
    REQUEST_HEADERS = "request_headers"
    REQUEST_BODY = "request_body"
    """SecRequestBodyLimit."""
    REQUEST_BODY_NO_FILES = "request_body_no_files"
    """SecRequestBodyNoFilesLimit."""
    RESPONSE_HEADERS = "response_headers"
    RESPONSE_BODY = "response_body"
    """SecResponseBodyLimit."""
    TX_VARIABLES = "tx_variables"
    MATCHED_RULES = "matched_rules"
    RX_TIME = "rx_time"
    """A value took longer than an expression has that RE2 cannot run: that counts as a match."""
    XPATH = "xpath"
    """An expression finds more than is looked at, or cannot be told: the request is refused."""
    RX_INVALID = "rx_invalid"
    """An expression with macros that is none with what they stand for: that matches nothing."""

"""What the audit log must not show: named headers and arguments, and what rules say is to be hidden.

Names come from the settings (`authorization`, `cookie`, `password`, ...) and from the actions sanitiseArg,
sanitiseRequestHeader, sanitiseResponseHeader and sanitiseMatched.  A hidden value is replaced by as many
asterisks wherever it shows up: in its header or argument, in the URI, in the body, and in what rules
say of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from waf_core.transaction import Transaction

DEFAULT_HEADERS = ("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key")
DEFAULT_ARGUMENTS = ("password", "passwd", "pwd", "pass", "secret", "token", "access_token", "api_key")

MIN_VALUE = 4
"""Shorter values are hidden where they are named only: elsewhere they would be everywhere."""

CUT_CHARACTERS = 400
"""Longer texts may be cut, and end in the midst of a hidden value."""

MAX_VALUES = 256
"""Hidden values that are looked for in texts."""

MAX_KNOWN = 1000

MAX_KNOWN_CHARACTERS = 4096
"""Of a text that is remembered, for one transaction."""

_QUOTED = [quote(bytes([byte])) for byte in range(256)]
_SPELT = re.compile(rb"[^A-Za-z0-9_.~-]")
"""What is written otherwise in URIs or in JSON."""

_CUT = re.compile(r"(?:\\x[89a-f][0-9a-f]){0,3}(?:\.\.\. \(\d+ bytes more\))?\Z")
"""The end of a cut text: there may be part of a character, and it may say so (waf_core/evaluation.py)."""

_HEADER_VARIABLES = (b"REQUEST_HEADERS", b"RESPONSE_HEADERS")
_COOKIE_VARIABLES = (b"REQUEST_COOKIES",)
_ARGUMENT_VARIABLES = (b"ARGS", b"ARGS_GET", b"ARGS_POST", b"ARGS_COMBINED", b"RESPONSE_ARGS")


def mask(length: int) -> str:
    """Asterisks."""
    return "*" * max(length, 1)


class Redaction:
    """What one transaction's record hides."""

    def __init__(
        self,
        tx: Transaction,
        headers: Iterable[str] = DEFAULT_HEADERS,
        arguments: Iterable[str] = DEFAULT_ARGUMENTS,
    ) -> None:
        """`headers` and `arguments` are names whose values are hidden."""
        self._headers = {name.lower().encode() for name in headers}
        self._arguments = {name.lower().encode() for name in arguments}
        matched: set[bytes] = set()
        for kind, name in tx.sanitised:
            if kind == "arg":
                self._arguments.add(name.lower())
            elif kind in ("request_header", "response_header"):
                self._headers.add(name.lower())
            else:
                matched.add(name)
        self._matched = matched
        values = [v for n, v in (*tx.request_headers, *tx.response_headers) if n.lower() in self._headers]
        if b"cookie" in self._headers:
            values += [value for _, value in tx.request_cookies]
        values += [v for n, v in (*tx.args, *tx.response_body.arguments) if self._is_argument(n)]
        for rule in tx.matched_rules:
            values += [value for name, value in rule.matches if name in matched]
        texts: dict[str, None] = {}
        for value in values[:MAX_VALUES]:
            if len(value) >= MIN_VALUE:
                texts.update(dict.fromkeys(_spellings(value)))
        # Longer ones first: one may contain another.
        self._values = sorted(texts, key=len, reverse=True)
        self._named = _named(frozenset(self._arguments))
        names = [name.decode("latin-1") for name in self._arguments]
        self._pair_names = [f"{name}=" for name in names]
        self._member_names = [f'"{name}"' for name in names]
        self._known: dict[str, str] = {}
        """Texts that have been asked about: what rules find is the same for many of them."""

    def _is_argument(self, name: bytes) -> bool:
        """`password`, and the member of that name in a document: `json.user.password`."""
        name = name.lower()
        return name in self._arguments or name.rpartition(b".")[2] in self._arguments

    def header(self, name: bytes, value: bytes) -> str:
        """A header's value, or asterisks."""
        if name.lower() in self._headers:
            return mask(len(value))
        return self.text(value.decode("utf-8", "backslashreplace"))

    def variable(self, name: bytes) -> bool:
        """Is what a rule says of this variable hidden altogether?"""
        collection, _, key = name.partition(b":")
        if name in self._matched:
            return True
        if collection in _COOKIE_VARIABLES:
            return b"cookie" in self._headers
        if collection in _HEADER_VARIABLES:
            return key.lower() in self._headers
        return collection in _ARGUMENT_VARIABLES and self._is_argument(key)

    def text(self, text: str) -> str:
        """A text without hidden values."""
        known = self._known.get(text)
        if known is None:
            known = self._hide(text)
            if len(self._known) < MAX_KNOWN and len(text) <= MAX_KNOWN_CHARACTERS:
                self._known[text] = known
        return known

    def _hide(self, text: str) -> str:
        if self._named is not None:
            # To look for a name alone is ten times as quick, and hardly a text has one.  (Beyond ASCII the expressions
            # know more ways to write a letter: `\u017f` is an s.)
            lower = text.lower()
            other = not text.isascii()
            pairs, members = self._named
            if other or any(name in lower for name in self._pair_names):
                text = pairs.sub(lambda found: found[1] + mask(len(found[2])), text)
            if other or any(name in lower for name in self._member_names):
                text = members.sub(lambda found: f'{found[1]}"{mask(len(found[2]) - 2)}"', text)
        for value in self._values:
            if value in text:
                text = text.replace(value, mask(len(value)))
        if len(text) >= CUT_CHARACTERS and self._values:
            cut = _CUT.search(text, len(text) - CUT_CHARACTERS)
            end = len(text) if cut is None else cut.start()
            for value in self._values:
                text = _without_beginning(text, end, value)
        return text


def _without_beginning(text: str, end: int, value: str) -> str:
    """Where a text is cut in the midst of a hidden value: without what there is of it."""
    place = text.find(value[:MIN_VALUE], max(end - len(value), 0), end)
    while place != -1 and not value.startswith(text[place:end]):
        place = text.find(value[:MIN_VALUE], place + 1, end)
    return text if place == -1 else text[:place] + mask(end - place) + text[end:]


def _spellings(value: bytes) -> tuple[str, ...]:
    """As it may stand in texts: plain, in URIs and forms, in JSON."""
    text = value.decode("utf-8", "backslashreplace")
    if not _SPELT.search(value):
        return (text,)
    quoted = "".join([_QUOTED[byte] for byte in value])
    return text, quoted, quoted.replace("/", "%2F").replace("%20", "+"), encode_basestring_ascii(text)[1:-1]


@lru_cache(maxsize=256)
def _named(arguments: frozenset[bytes]) -> tuple[re.Pattern[str], re.Pattern[str]] | None:
    """`name=value` in URIs and forms, `"name": value` in JSON."""
    if not arguments:
        return None
    names = "|".join(re.escape(name.decode("latin-1")) for name in sorted(arguments))
    pairs = re.compile(rf"(?i)((?:^|[?&;])(?:{names})=)([^&;\s]+)")
    return pairs, re.compile(rf'(?i)("(?:{names})"\s*:\s*)("(?:[^"\\]|\\.)*"|[^\s,}}\]]+)')

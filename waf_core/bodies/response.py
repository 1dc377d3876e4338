"""A response's body: its pieces as they come, and what they are for rules."""

from __future__ import annotations

from typing import Final

from waf_core.bodies import Pair
from waf_core.bodies.body import Body
from waf_core.bodies.coding import decode
from waf_core.bodies.json import parse_json
from waf_core.bodies.xml import XmlDocument
from waf_core.settings import EngineSettings

EXPANSION: Final = 8
"""Bytes of a page that one of its compressed bytes stands for, by and large."""


class ResponseBody(Body):
    """`write` its pieces, then `parse`."""

    __slots__ = ("_settings", "arguments", "coding", "undecoded")

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings.response_body_access, settings.response_body_limit)
        self._settings = settings
        self.arguments: list[Pair] = []
        """RESPONSE_ARGS."""
        self.coding: bytes = b""
        """One of CODINGS: what comes is decoded before rules see it."""
        self.undecoded: str = ""
        """Why it could not be decoded to its end, or ""."""

    def write(self, chunk: bytes) -> None:
        """The next piece; what is beyond the limit is left out."""
        self._pieces.append(self._take(chunk))

    def weight(self, size: int) -> int:
        """Bytes that a piece of so many makes `write` look at: it is only kept until the limit is reached."""
        size += self.length
        return size if size > self.limit else 0

    def judged_bytes(self, size: int) -> int:
        """Bytes that rules will look at when a piece of so many is the last one, by and large."""
        size += self.length
        return min(size * EXPANSION, self.limit) if self.coding else size

    def decode(self) -> bool:
        """Put what was coded in its place.  Returns whether that is more than the limit: then the body is `cut`."""
        coded = self.kept if self.coding else b""
        if not coded:
            return False
        data, more, error = decode(self.coding, coded, self.limit)
        if error and not self.cut:
            self.undecoded = error
        self._pieces = [data]
        self.length = len(data)
        self.cut = self.cut or more
        return more

    def parse(self) -> bool:
        """Let rules see it, as ctl:responseBodyProcessor says.  Returns whether it has more arguments than
        SecArgumentsLimit lets it have: RESPONSE_BODY has them all."""
        body = self.text = self.kept
        overflow = False
        if self.cut and self.processor in (b"JSON", b"XML"):
            self.error = "the body was cut at the limit"
        elif self.processor == b"JSON":
            settings = self._settings
            self.arguments, overflow, error = parse_json(body, settings.json_depth_limit, settings.arguments_limit)
            self.error = f"JSON parsing error: {error}" if error else ""
        elif self.processor == b"XML":
            self._xml = XmlDocument(body)
            self.error = self._xml.error or ""
        return overflow

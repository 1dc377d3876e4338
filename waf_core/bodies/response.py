"""A response's body: its pieces as they come, and what they are for rules."""

from __future__ import annotations

from waf_core.bodies import Pair
from waf_core.bodies.body import Body
from waf_core.bodies.json import parse_json
from waf_core.bodies.xml import XmlDocument
from waf_core.settings import EngineSettings


class ResponseBody(Body):
    """`write` its pieces, then `parse`."""

    __slots__ = ("_settings", "arguments")

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings.response_body_access, settings.response_body_limit)
        self._settings = settings
        self.arguments: list[Pair] = []
        """RESPONSE_ARGS."""

    def write(self, chunk: bytes) -> None:
        """The next piece; what is beyond the limit is left out."""
        self._pieces.append(self._take(chunk))

    def weight(self, size: int) -> int:
        """Bytes that a piece of so many makes `write` look at: it is only kept until the limit is reached."""
        size += self.length
        return size if size > self.limit else 0

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

"""What a request's body and a response's have in common."""

from __future__ import annotations

from waf_core.bodies.xml import XmlDocument
from waf_core.bodies.xpath import ALL_ATTRIBUTES, ALL_TEXTS, XPath


class Body:
    """What came of a body, up to its limit, and what is known of it.  Behind `parse` rules can see it."""

    __slots__ = ("_pieces", "_xml", "access", "cut", "error", "forced", "length", "limit", "processor", "text")

    def __init__(self, access: bool, limit: int) -> None:
        self.access = access
        """SecRequestBodyAccess, SecResponseBodyAccess."""
        self.limit = limit
        """Bytes; what comes beyond them is not kept."""
        self.forced: bool = False
        """ctl:forceRequestBodyVariable, ctl:forceResponseBodyVariable."""
        self.processor: bytes = b""
        """URLENCODED, MULTIPART, JSON, XML or RAW; b"" when none was chosen."""
        self.cut: bool = False
        """INBOUND_DATA_ERROR, OUTBOUND_DATA_ERROR: there is more of it than was seen."""
        self.length: int = 0
        """Bytes that came, up to the limit."""
        self.error: str = ""
        """Why it could not be parsed: REQBODY_ERROR_MSG, RES_BODY_ERROR_MSG."""
        self.text: bytes | None = None
        """REQUEST_BODY, RESPONSE_BODY; None: absent."""
        self._pieces: list[bytes] = []
        self._xml: XmlDocument | None = None

    @property
    def kept_bytes(self) -> int:
        """Of `kept`, by and large."""
        return self.length if self._pieces else 0

    @property
    def kept(self) -> bytes:
        """What was kept of the body's bytes (of multipart bodies nothing, unless somebody needs them)."""
        return b"".join(self._pieces)

    def overruns(self, chunk: bytes) -> bool:
        """Does this piece run into the limit?  Then the body is `cut`."""
        if self.length + len(chunk) <= self.limit:
            return False
        self.cut = True
        return True

    def _take(self, chunk: bytes) -> bytes:
        """Count a piece.  Returns the part of it that is within the limit."""
        chunk = chunk[: max(self.limit - self.length, 0)]
        self.length += len(chunk)
        return chunk

    def xml_values(self, xpath: XPath) -> tuple[list[bytes], bool]:
        """What an XPath expression finds, if the body is XML, and whether that is all; `/*` and `//@*` are
        ModSecurity's (all text, all attributes)."""
        document = self._xml
        if document is None:
            return [], True
        if xpath.text == ALL_TEXTS.text:
            return document.texts, True
        if xpath.text == ALL_ATTRIBUTES.text:
            return document.attributes, True
        return document.find(xpath)

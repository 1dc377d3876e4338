"""A request's body: its pieces as they come, and what they are for rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from waf_core.bodies import Pair
from waf_core.bodies.body import Body
from waf_core.bodies.flags import Flags
from waf_core.bodies.json import parse_json
from waf_core.bodies.multipart import MultipartParser
from waf_core.bodies.urlencoded import parse_pairs
from waf_core.bodies.xml import XmlDocument
from waf_core.settings import EngineSettings
from waf_core.transformations.url import has_bad_escape

_NO_MULTIPART: Final = Flags()
"""Of all bodies that are not multipart: nobody changes it."""


class RequestBody(Body):
    """`write` its pieces, then `parse`.  `arguments_left`: how many arguments SecArgumentsLimit leaves it."""

    __slots__ = (
        "_keep_files", "_keep_raw_multipart", "_multipart", "_settings", "bad_escape", "content_type",
        "file_contents", "file_names", "file_sizes", "files", "flags", "part_headers", "xml_into_args",
    )  # fmt: skip

    def __init__(self, settings: EngineSettings, *, keep_files: bool, keep_raw_multipart: bool) -> None:
        super().__init__(settings.request_body_access, settings.request_body_limit)
        self._settings = settings
        self._keep_files = keep_files
        self._keep_raw_multipart = keep_raw_multipart
        self._multipart: MultipartParser | None = None
        self.content_type: bytes | None = None
        """The first such header."""
        self.bad_escape: bool = False
        """A form with a `%` that is not followed by two hexadecimal digits."""
        self.xml_into_args = settings.parse_xml_into_args
        """SecParseXmlIntoArgs, ctl:parseXmlIntoArgs."""
        self.flags = _NO_MULTIPART
        self.files: list[Pair] = []
        self.file_names: list[Pair] = []
        self.file_sizes: list[Pair] = []
        self.file_contents: list[Pair] = []
        self.part_headers: list[Pair] = []

    @property
    def present(self) -> bool:
        """Is there anything to parse?"""
        return self.length > 0 or self._multipart is not None

    def note_content_type(self, value: bytes) -> None:
        """Forms choose their processor themselves; JSON and XML are chosen by rules.  What the type begins with
        decides, as in ModSecurity: PHP reads a form with `application/x-www-form-urlencoded, x`, too."""
        if self.content_type is None:
            self.content_type = value
        if self.processor:
            return
        mime = value.lstrip(b" \t").lower()
        if mime.startswith(b"application/x-www-form-urlencoded"):
            self.processor = b"URLENCODED"
        elif mime.startswith(b"multipart/form-data"):
            self.processor = b"MULTIPART"

    def write(self, chunk: bytes, arguments_left: int) -> bool:
        """The next piece; what is beyond the limit is left out.  Returns whether all but files is more than
        SecRequestBodyNoFilesLimit; then the body is `cut`."""
        chunk = self._take(chunk)
        without_files = self.length
        if self.processor == b"MULTIPART":
            if self._multipart is None:
                self._multipart = MultipartParser(
                    self.content_type or b"",
                    fields_limit=arguments_left,
                    files_limit=self._settings.upload_file_limit,
                    keep_files=self._keep_files,
                    untyped_files_as_fields=self._settings.untyped_files_as_fields,
                )
            self._multipart.feed(chunk)
            without_files -= self._multipart.file_bytes
        if self._multipart is None or self.forced or self._keep_raw_multipart:
            self._pieces.append(chunk)
        if without_files <= self._settings.request_body_no_files_limit:
            return False
        self.cut = True
        return True

    def weight(self, chunks: Sequence[bytes]) -> int:
        """Bytes of these that `write` would take apart.  Most are only kept; what runs into a limit counts with all
        that came before, since that may be judged then."""
        length = sum(map(len, chunks))
        size = self.length + length
        no_files_limit = self._settings.request_body_no_files_limit
        if size > self.limit:
            return size
        if self.processor != b"MULTIPART":
            return size if size > no_files_limit else 0
        parser = self._multipart
        if parser is None:
            return size
        if all(map(parser.goes_on_with_file, chunks)):
            return 0
        return size if size - parser.file_bytes > no_files_limit else length

    def parse(self, arguments_left: int) -> tuple[list[Pair], bool]:
        """Its arguments by REQBODY_PROCESSOR, and whether there are more than it may have."""
        settings = self._settings
        processor = self.processor
        body = self.kept
        arguments: list[Pair] = []
        overflow = False
        if self.cut and processor in (b"JSON", b"XML"):
            # A cut document never parses; what there is of it is judged as text.
            self.error = "the body was cut at the limit"
        elif processor == b"URLENCODED":
            arguments, overflow = parse_pairs(body, settings.argument_separator, arguments_left)
            self.bad_escape = has_bad_escape(body)
            self.text = body
        elif processor == b"RAW":
            self.text = body
        elif processor == b"JSON":
            arguments, overflow, error = parse_json(body, settings.json_depth_limit, arguments_left)
            self.error = f"JSON parsing error: {error}" if error else ""
        elif processor == b"XML":
            self._xml = XmlDocument(body)
            if self.xml_into_args != "Off":
                pairs = self._xml.arguments()
                overflow = len(pairs) > arguments_left
                arguments = pairs[:arguments_left]
            self.error = self._xml.error or ""
        elif processor == b"MULTIPART" and self._multipart is not None:
            arguments, overflow = self._close_multipart(self._multipart)
        if self.forced or self.error:
            # ModSecurity leaves a body it cannot parse unseen by rules; here they see the text.
            self.text = body
        return arguments, overflow

    def _close_multipart(self, parser: MultipartParser) -> tuple[list[Pair], bool]:
        parser.close()
        self.flags = parser.flags
        self.files = parser.files
        self.file_names = parser.file_names
        self.file_sizes = parser.file_sizes
        self.file_contents = parser.file_contents
        self.part_headers = parser.part_headers
        self.error = parser.error or ""
        return parser.fields, parser.fields_overflow

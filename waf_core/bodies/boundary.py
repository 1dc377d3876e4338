"""The boundary of multipart/form-data, as Content-Type gives it (RFC 2046, section 5.1.1).

Servers read it in different ways.  One that finds another boundary than the rules do gets other arguments out of the
same body; so what two of them could take for different boundaries is an error.
"""

from __future__ import annotations

import re
from typing import Final

from waf_core.bodies.flags import Flags

MAX_BOUNDARY: Final = 256

_WORD: Final = b"boundary"
_BAD_BYTE: Final = re.compile(rb"[^A-Za-z0-9!#$%&'*+./:=?^_`{|}~-]")
"""Here one ends a boundary and another goes on: blanks, commas (PHP, Commons FileUpload), brackets (comments of RFC
822), backslashes."""
_NAME_END: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`{|}~-]\Z")


def read_boundary(content_type: bytes, flags: Flags) -> tuple[bytes, str]:
    """The boundary, and "" or what is wrong with it; what is only odd is in the flags then."""
    # PHP takes the word where it stands first, in whatever, and what is behind the next `=`.
    start = content_type.lower().find(_WORD)
    before, name, rest = content_type[:start], content_type[start:][: len(_WORD)], content_type[start + len(_WORD) :]
    value = rest.lstrip(b" \t")
    if start == -1 or not value.startswith(b"="):
        return b"", "boundary missing in Content-Type"
    if _NAME_END.search(before):
        return b"", "boundary is the end of another word in Content-Type"
    flags.missing_semicolon = not before.rstrip(b" \t").endswith((b";", b","))
    flags.boundary_whitespace = not rest.startswith(b"=") or value[1:2] in (b" ", b"\t")
    value = value[1:].strip(b" \t")
    if value.startswith(b'"'):
        flags.boundary_quoted = True
        text, closed, trailer = value[1:].partition(b'"')
        trailer = trailer.lstrip(b" \t")
        if not closed:
            flags.invalid_quoting = True
            return text, "boundary quoted and never closed"
        if trailer and not trailer.startswith(b";"):
            return text, "text after the quoted boundary"
    else:
        text, _, trailer = value.partition(b";")
        flags.invalid_quoting = b'"' in text
        flags.boundary_whitespace |= text != text.rstrip(b" \t")
        text = text.rstrip(b" \t")
    if not text or len(text) > MAX_BOUNDARY:
        return text, "boundary empty or too long"
    if _BAD_BYTE.search(text):
        return text, "invalid byte in the boundary"
    if _WORD in trailer.lower() or (name != _WORD and _WORD in text):
        return text, "several boundaries in Content-Type"
    return text, ""

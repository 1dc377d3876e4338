"""Body processors: bytes to arguments, files and error flags.  They know nothing of rules.

Each takes the pieces of a body and a set of limits and returns plain data; a body that
cannot be parsed gives an `error` text (REQBODY_ERROR_MSG), never an exception.
"""

from __future__ import annotations

Pair = tuple[bytes, bytes]
"""Name and value: of an argument, a header, a file."""

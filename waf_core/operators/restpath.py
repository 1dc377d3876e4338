"""`@restpath /a/{name}/b`: match a path template; the pieces become ARGS_PATH (Coraza)."""

from __future__ import annotations

import re
from typing import Final

from waf_core.macros import Expander
from waf_core.operators import Captures, Operator, OperatorEnv, OperatorError, operator

_PIECE: Final = re.compile(rb"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class RestPath(Operator):
    """`names` are the template's pieces, in the order of the captures 1, 2, ..."""

    def __init__(self, template: bytes) -> None:
        self.names = tuple(_PIECE.findall(template))
        if len(set(self.names)) != len(self.names):
            raise OperatorError("a name appears twice in the path template")
        parts = _PIECE.split(template)
        pattern = b"".join(b"([^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
        self._regex = re.compile(pattern)

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        found = self._regex.fullmatch(value.split(b"?", 1)[0])
        return (found.group(), *found.groups()) if found else None


@operator("restpath")
def _restpath(argument: bytes, env: OperatorEnv) -> Operator:
    return RestPath(argument)

"""`@pm`, `@pmFromFile`, `@pmFromDataset`: sets of phrases, in any case (Aho-Corasick)."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from typing import Final

from waf_core.macros import Expander
from waf_core.operators import Captures, Operator, OperatorEnv, OperatorError, operator, read_file
from waf_core.operators.automaton import Automaton
from waf_core.operators.indexes import relaxed_phrases
from waf_core.operators.needs import Needs, of_phrases
from waf_core.operators.regex import only_where

MAX_DATA_FILE_BYTES: Final = 64 << 20
_HEX_PART: Final = re.compile(rb"\|((?:[0-9a-fA-F]{2}[ \t]*)+)\|")


class Phrases(Operator):
    """`phrases` (lower case, no duplicates) lets the scan join all sets into one automaton."""

    def __init__(self, phrases: list[bytes]) -> None:
        self.phrases = tuple(dict.fromkeys(p.lower() for p in phrases if p))
        if not self.phrases:
            raise OperatorError("the list of phrases is empty")
        self._first = Automaton(self.phrases).first

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        found = self._first(value.lower())
        return None if found is None else (value[found[0] : found[1]],)

    def settled_by(self, beginning: bytes) -> bool:
        return self._first(beginning.lower()) is not None

    def minds_indexes(self) -> bool | Operator:
        pattern = relaxed_phrases(self.phrases)
        return pattern is not None and only_where(pattern)

    def needs(self) -> Needs:
        return of_phrases(self.phrases)


def read_data_file(name: bytes, env: OperatorEnv) -> list[bytes]:
    """Lines of a data file, without blank lines and comments.  Raises OperatorError."""
    _, content = read_file("data file", name, env, MAX_DATA_FILE_BYTES)
    lines = [line.strip() for line in content.removeprefix(BOM_UTF8).split(b"\n")]
    return [line for line in lines if line and not line.startswith(b"#")]


def dataset(name: bytes, env: OperatorEnv) -> list[bytes]:
    """Lines of a SecDataset.  Raises OperatorError."""
    text = name.decode("latin-1")
    if text not in env.datasets:
        raise OperatorError(f"there is no SecDataset {text!r}", "define it before the rule")
    return list(env.datasets[text])


@operator("pm")
def _pm(argument: bytes, env: OperatorEnv) -> Operator:
    # Snort's notation: bytes in hexadecimal between bars.
    text = _HEX_PART.sub(lambda m: bytes.fromhex(m.group(1).decode()), argument)
    return Phrases(text.split())


@operator("pmFromFile", "pmf")
def _pm_from_file(argument: bytes, env: OperatorEnv) -> Operator:
    phrases: list[bytes] = []
    for name in argument.split():
        phrases += read_data_file(name, env)
    return Phrases(phrases)


@operator("pmFromDataset")
def _pm_from_dataset(argument: bytes, env: OperatorEnv) -> Operator:
    return Phrases(dataset(argument.strip(), env))

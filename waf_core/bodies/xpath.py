"""XPath expressions of rules, with the namespaces that their prefixes stand for (`xmlns`)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from lxml import etree

_LITERAL: Final = re.compile(r"'[^']*'|\"[^\"]*\"")
_PREFIX: Final = re.compile(r"(?<![\w.:-])([A-Za-z_][\w.-]*)\s*:(?!:)")

_EVERYWHERE: Final = frozenset({"xml"})
"""Prefixes that need no `xmlns`."""


MAX_COMPILED: Final = 1024
"""Expressions that are kept ready: many rules have the same."""


class XPathError(ValueError):
    """The expression is none, or has a prefix that stands for nothing."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@lru_cache(MAX_COMPILED)
def _compile(text: str, namespaces: tuple[tuple[str, str], ...]) -> etree.XPath:
    return etree.XPath(text, namespaces=dict(namespaces), smart_strings=False)


class XPath:
    """Equal when they mean the same.  `check` tells mistakes early: until then nothing is compiled."""

    __slots__ = ("_namespaces", "text")

    def __init__(self, text: str, namespaces: dict[str, str] | None = None) -> None:
        self.text = text
        self._namespaces = tuple(sorted((namespaces or {}).items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, XPath) and (self.text, self._namespaces) == (other.text, other._namespaces)

    def __hash__(self) -> int:
        return hash((self.text, self._namespaces))

    def check(self) -> None:
        """Raises XPathError.  An unknown function in a predicate is first met in a document that has what it is asked
        about (`evaluate`)."""
        known = _EVERYWHERE.union(prefix for prefix, _ in self._namespaces)
        for prefix in _PREFIX.findall(_LITERAL.sub("''", self.text)):
            if prefix not in known:
                raise XPathError(
                    f"the prefix {prefix} stands for no namespace", "add xmlns:PREFIX=NAMESPACE to the rule's actions"
                )
        try:
            self.evaluate(etree.Element("none"))
        except (etree.LxmlError, ValueError) as error:  # a ValueError for what no document can have
            raise XPathError(f"it is no XPath expression: {error}") from error

    def evaluate(self, root: etree._Element) -> object:
        """What it finds below a document's root.  Raises lxml.etree.XPathError."""
        return _compile(self.text, self._namespaces)(root)


ALL_TEXTS: Final = XPath("/*")
"""ModSecurity's: the texts of all elements."""

ALL_ATTRIBUTES: Final = XPath("//@*")

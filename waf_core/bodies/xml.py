"""text/xml and application/xml by lxml: no DTD, no entities, no network, no huge trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lxml import etree

from waf_core.bodies.paths import TOO_MUCH, allowance, share
from waf_core.bodies.xpath import ALL_ATTRIBUTES, XPath

MAX_NODES: Final = 100_000
"""Texts, and attributes, that a document may have, and arguments that are made of it."""

MAX_MIXED: Final = 3
"""Elements that mix text and elements also count with their whole text: all of them together with no more than so many
times the document's size."""

MAX_FOUND: Final = 4
MIN_FOUND_BYTES: Final = 1 << 20
"""What an XPath expression may find: so many times the document's size, and so much in any document (elements have the
text of those in them, too)."""


class XmlDocument:
    """A parsed document.  `error` is None or what made it unusable.

    `texts` are what `XML:/*` means: the text of every node, one value each.  An element that mixes text and children
    also yields its whole text, since applications read that.  `attributes` are what `XML://@*` means: every attribute's
    value.
    """

    def __init__(self, body: bytes) -> None:
        self.error: str | None = None
        self.texts: list[bytes] = []
        self.attributes: list[bytes] = []
        self._size = len(body)
        self._root: etree._Element | None = None
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
        )
        try:
            self._root = etree.fromstring(body, parser)
        except (etree.XMLSyntaxError, ValueError) as error:
            self.error = f"XML parsing failed: {str(error)[:200]}"
            return
        if self._root.getroottree().docinfo.internalDTD is not None:
            # Entities stay unexpanded, so their text would pass unseen: refuse the document.
            self.error = "XML with a document type declaration is not accepted"
        self._read_texts(self._root)
        found = ALL_ATTRIBUTES.evaluate(self._root)
        if isinstance(found, list):
            self.attributes = [str(value).encode("utf-8", "surrogatepass") for value in found[:MAX_NODES]]
            if len(found) > MAX_NODES:
                self.error = f"XML has more than {MAX_NODES} attributes"

    def _read_texts(self, root: etree._Element) -> None:
        out = self.texts
        mixed_left = MAX_MIXED * self._size
        for element in root.iter():
            for text in (element.text, element.tail):
                if text and text.strip():
                    out.append(text.encode("utf-8", "surrogatepass"))
            if len(out) >= MAX_NODES:
                self.error = f"XML has more than {MAX_NODES} text nodes"
                break
            if mixed_left > 0 and _is_mixed(element):
                out.append(_text(element))
                mixed_left -= len(out[-1])
                if mixed_left <= 0:
                    self.error = "XML mixes text and elements on too many levels"

    def arguments(self) -> list[tuple[bytes, bytes]]:
        """Leaves as arguments, named `xml.root.child` (SecParseXmlIntoArgs)."""
        if self._root is None:
            return []
        out: list[tuple[bytes, bytes]] = []
        left = allowance(self._size)
        prefix, each, elements = "xml.", 0, iter((self._root,))
        stack: list[tuple[str, int, Iterator[etree._Element]]] = []
        while True:
            for element in elements:
                if not isinstance(element.tag, str):
                    continue
                left -= each
                if left < 0:
                    self.error = f"XML {TOO_MUCH}"
                    return out
                name = prefix + str(element.tag).rpartition("}")[2]
                if any(isinstance(child.tag, str) for child in element):
                    stack.append((prefix, each, elements))
                    prefix = f"{name}."
                    each, elements = share(prefix), iter(element)
                    break
                out.append((name.encode(), (element.text or "").encode("utf-8", "surrogatepass")))
                if len(out) >= MAX_NODES:
                    return out
            else:
                if not stack:
                    return out
                prefix, each, elements = stack.pop()

    def find(self, xpath: XPath) -> tuple[list[bytes], bool]:
        """What an expression finds, and whether that is all: it may be more than is read, or more than can be found."""
        if self._root is None:
            return [], True
        try:
            found = xpath.evaluate(self._root)
        except etree.XPathError:
            return [], False
        items = found if isinstance(found, list) else [found]
        out: list[bytes] = []
        left = max(MAX_FOUND * self._size, MIN_FOUND_BYTES)
        for item in items[:MAX_NODES]:
            out.append(_text(item) if isinstance(item, etree._Element) else str(item).encode("utf-8", "surrogatepass"))
            left -= len(out[-1])
            if left < 0:
                return out, False
        return out, len(items) <= MAX_NODES


def _is_mixed(element: etree._Element) -> bool:
    """Does it have children, and text beside them?"""
    if not isinstance(element.tag, str) or not len(element):
        return False
    return bool(element.text and element.text.strip()) or any(child.tail and child.tail.strip() for child in element)


def _text(element: etree._Element) -> bytes:
    """The string value of an element: all text below it."""
    return "".join(map(str, element.itertext())).encode("utf-8", "surrogatepass")

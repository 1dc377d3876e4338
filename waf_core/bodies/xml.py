"""text/xml and application/xml by lxml: no DTD, no entities, no network, no huge trees."""

from __future__ import annotations

from lxml import etree

MAX_TEXT_NODES = 100_000
"""Text nodes and attributes that `XML:/*` and `XML://@*` yield; more is an error."""

MAX_XPATH_RESULTS = 10_000


class XmlDocument:
    """A parsed document.  `error` is None or what made it unusable."""

    def __init__(self, body: bytes) -> None:
        self.error: str | None = None
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

    def texts(self) -> list[bytes]:
        """What `XML:/*` means: the text of every node, one value each.  An element that mixes
        text and children also yields its whole text, since applications read that."""
        if self._root is None:
            return []
        out: list[bytes] = []
        for element in self._root.iter():
            mixed = False
            for text in (element.text, element.tail):
                if text and text.strip():
                    out.append(text.encode("utf-8", "surrogatepass"))
            if isinstance(element.tag, str) and len(element):
                mixed = any(child.tail and child.tail.strip() for child in element) or bool(
                    element.text and element.text.strip()
                )
            if mixed and len(out) < MAX_TEXT_NODES:
                out.append(_text(element))
            if len(out) >= MAX_TEXT_NODES:
                self.error = f"XML has more than {MAX_TEXT_NODES} text nodes"
                break
        return out

    def attributes(self) -> list[bytes]:
        """What `XML://@*` means: every attribute's value."""
        if self._root is None:
            return []
        out: list[bytes] = []
        for element in self._root.iter(etree.Element):
            out.extend(str(value).encode("utf-8", "surrogatepass") for value in element.attrib.values())
            if len(out) >= MAX_TEXT_NODES:
                self.error = f"XML has more than {MAX_TEXT_NODES} attributes"
                break
        return out

    def arguments(self) -> list[tuple[bytes, bytes]]:
        """Leaves as arguments, named `xml.root.child` (SecParseXmlIntoArgs)."""
        if self._root is None:
            return []
        out: list[tuple[bytes, bytes]] = []
        stack = [(self._root, f"xml.{_local(self._root)}")]
        while stack and len(out) < MAX_TEXT_NODES:
            element, path = stack.pop()
            children = [child for child in element if isinstance(child.tag, str)]
            if not children:
                out.append((path.encode(), (element.text or "").encode("utf-8", "surrogatepass")))
            stack.extend((child, f"{path}.{_local(child)}") for child in reversed(children))
        return out

    def xpath(self, expression: str) -> list[bytes]:
        """Any other XPath; an expression that fails yields nothing."""
        if self._root is None:
            return []
        try:
            found = self._root.xpath(expression)
        except etree.XPathError:
            return []
        items = found if isinstance(found, list) else [found]
        out: list[bytes] = []
        for item in items[:MAX_XPATH_RESULTS]:
            out.append(_text(item) if isinstance(item, etree._Element) else str(item).encode("utf-8", "surrogatepass"))
        return out


def _text(element: etree._Element) -> bytes:
    """The string value of an element: all text below it."""
    return "".join(map(str, element.itertext())).encode("utf-8", "surrogatepass")


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]

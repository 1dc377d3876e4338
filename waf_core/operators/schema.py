"""`@validateSchema FILE` (XML Schema .xsd, JSON Schema .json) and `@validateDTD FILE`: they hold when
the value is invalid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from lxml import etree

from waf_core.macros import Expander
from waf_core.operators import HIT, Captures, Operator, OperatorEnv, OperatorError, operator, read_file

MAX_SCHEMA_BYTES: Final = 4 << 20


class JsonSchema(Operator):
    """The value is the request body as text."""

    def __init__(self, text: bytes) -> None:
        import jsonschema_rs  # 4 MB that few rules need

        try:
            self._validator = jsonschema_rs.validator_for(json.loads(text))
        except (ValueError, TypeError) as error:
            raise OperatorError(f"the JSON Schema cannot be used: {error}") from error

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        try:
            valid = self._validator.is_valid(json.loads(value))
        except (ValueError, RecursionError):
            return HIT
        return None if valid else HIT


def _parse(value: bytes) -> etree._Element | None:
    """A document without entities and network; None when it is no XML."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(value, parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


class XmlSchema(Operator):
    """Parses the value itself, without entities and network."""

    def __init__(self, text: bytes, path: str) -> None:
        """What it includes is found from `path`."""
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        try:
            self._schema = etree.XMLSchema(etree.fromstring(text, parser, base_url=Path(path).absolute().as_uri()))
        except (etree.XMLSyntaxError, etree.XMLSchemaParseError) as error:
            raise OperatorError(f"the XML Schema cannot be used: {error}") from error

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        root = _parse(value)
        return None if root is not None and self._schema.validate(root) else HIT


class Dtd(Operator):
    """Validates against a DTD file of the administrator's; one inside a document stays refused."""

    def __init__(self, path: str) -> None:
        try:
            self._dtd = etree.DTD(path)
        except etree.DTDParseError as error:
            raise OperatorError(f"the DTD cannot be used: {error}") from error

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        root = _parse(value)
        return None if root is not None and self._dtd.validate(root) else HIT


@operator("validateDTD")
def _validate_dtd(argument: bytes, env: OperatorEnv) -> Operator:
    path, _ = read_file("schema", argument.strip(), env, MAX_SCHEMA_BYTES)
    return Dtd(path)  # what it refers to is found from there


@operator("validateSchema")
def _validate_schema(argument: bytes, env: OperatorEnv) -> Operator:
    path, text = read_file("schema", argument.strip(), env, MAX_SCHEMA_BYTES)
    return JsonSchema(text) if path.endswith(".json") else XmlSchema(text, path)

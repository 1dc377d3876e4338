"""`@validateSchema FILE`: XML Schema (.xsd) or JSON Schema (.json); holds when invalid."""

from __future__ import annotations

import json
import os

import jsonschema_rs
from lxml import etree

from waf_core.macros import Expander
from waf_core.operators import HIT, Captures, Operator, OperatorEnv, OperatorError, operator

MAX_SCHEMA_BYTES = 4 << 20


class JsonSchema(Operator):
    """The value is the request body as text."""

    def __init__(self, text: str) -> None:
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


class XmlSchema(Operator):
    """Parses the value itself, without entities and network."""

    def __init__(self, path: str) -> None:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
        try:
            self._schema = etree.XMLSchema(etree.parse(path, parser))
        except (etree.XMLSyntaxError, etree.XMLSchemaParseError) as error:
            raise OperatorError(f"the XML Schema cannot be used: {error}") from error

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        try:
            root = etree.fromstring(value, parser)
        except (etree.XMLSyntaxError, ValueError):
            return HIT
        return None if self._schema.validate(root) else HIT


@operator("validateSchema")
def _validate_schema(argument: bytes, env: OperatorEnv) -> Operator:
    name = argument.strip().decode("utf-8", "surrogateescape")
    for folder in env.folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            break
    else:
        raise OperatorError(f"the schema {name!r} does not exist", f"searched in: {', '.join(env.folders)}")
    if os.path.getsize(path) > MAX_SCHEMA_BYTES:
        raise OperatorError(f"the schema {name!r} is larger than {MAX_SCHEMA_BYTES} bytes")
    env.files.append(path)
    if name.endswith(".json"):
        with open(path, encoding="utf-8") as handle:
            return JsonSchema(handle.read())
    return XmlSchema(path)

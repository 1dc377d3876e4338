"""`@geoLookup`: a MaxMind DB (SecGeoLookupDb) fills the GEO collection."""

from __future__ import annotations

import ipaddress
from typing import Any

import maxminddb

from waf_core.macros import Expander
from waf_core.operators import Captures, Operator, OperatorEnv, OperatorError, operator
from waf_core.operators.strings import Never


class GeoLookup(Operator):
    """Holds when the address is known; the record becomes GEO (see `record`)."""

    pure = False

    def __init__(self, database: str) -> None:
        try:
            self._reader = maxminddb.open_database(database)
        except (OSError, maxminddb.InvalidDatabaseError) as error:
            raise OperatorError(f"SecGeoLookupDb {database!r} cannot be used: {error}") from error

    def record(self, value: bytes) -> dict[bytes, bytes] | None:
        """GEO's keys and values (reference manual, GEO) for an address, or None."""
        try:
            address = ipaddress.ip_address(value.decode("latin-1").strip())
            found = self._reader.get(address)
        except ValueError:
            return None
        if not isinstance(found, dict):
            return None
        fields: dict[bytes, Any] = {
            b"country_code": _path(found, "country", "iso_code"),
            b"country_name": _path(found, "country", "names", "en"),
            b"country_continent": _path(found, "continent", "code"),
            b"city": _path(found, "city", "names", "en"),
            b"postal_code": _path(found, "postal", "code"),
            b"latitude": _path(found, "location", "latitude"),
            b"longitude": _path(found, "location", "longitude"),
        }
        return {name: str(item).encode() for name, item in fields.items() if item is not None}

    def match(self, value: bytes, tx: Expander) -> Captures | None:
        found = self.record(value)
        if found is None:
            return None
        set_geo = getattr(tx, "set_geo", None)
        if set_geo is not None:
            set_geo(found)
        return ()


def _path(record: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record


@operator("geoLookup")
def _geo_lookup(argument: bytes, env: OperatorEnv) -> Operator:
    if not env.geo_database:
        env.notes.append("@geoLookup never matches: set SecGeoLookupDb to a .mmdb file before the rule")
        return Never()
    return GeoLookup(env.geo_database)

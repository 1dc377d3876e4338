"""@geoLookup with a real MaxMind DB, written here."""

from __future__ import annotations

from pathlib import Path

from mmdb_writer import MMDBWriter
from netaddr import IPSet

from tests.core.transactions import ids, make, run


def test_geo_lookup_fills_the_collection(tmp_path: Path) -> None:
    writer = MMDBWriter(4, "Test-City", languages=["en"])
    record = {"country": {"iso_code": "AT", "names": {"en": "Austria"}}, "city": {"names": {"en": "Graz"}}}
    writer.insert_network(IPSet(["192.0.2.0/24"]), record)
    writer.to_db_file(str(tmp_path / "geo.mmdb"))
    rules = (
        f"SecGeoLookupDb {tmp_path}/geo.mmdb\n"
        'SecRule REMOTE_ADDR "@geoLookup" "id:1,phase:1,pass,log,chain"\n'
        '  SecRule GEO:COUNTRY_CODE "@streq AT" "chain"\n'
        '  SecRule GEO:CITY "@streq Graz" "t:none"\n'
        'SecRule REMOTE_ADDR "!@geoLookup" "id:2,phase:1,pass,log"'
    )
    assert ids(run(make(rules))) == [1]
    other = make(rules).new_transaction()
    other.process_connection("198.51.100.1")
    other.process_uri("/", "GET", "1.1")
    other.process_request_headers()
    assert ids(other) == [2]

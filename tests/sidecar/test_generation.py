"""What workers serve is what was tried, byte by byte, whatever has become of the files."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from extproc.generation import load, store
from extproc.loading import load_settings
from extproc.policies import compile_policies
from tests.core.transactions import ids, run
from tests.crs import crs_or_skip
from waf_core.errors import SecLangError
from waf_core.reading import Recorder


def test_the_core_rule_set_is_what_it_was_when_its_folder_is_gone(tmp_path: Path) -> None:
    root = tmp_path / "coreruleset-4.28.0"
    shutil.copytree(crs_or_skip(), root, ignore=shutil.ignore_patterns("tests", "docs"))
    (root / "plugins").mkdir(exist_ok=True)
    (root / "plugins" / "my-after.conf").write_bytes(b'SecRule ARGS "@streq \xff" "id:9,phase:1,pass,log"\r\n')
    given: dict[str, Any] = {"crs_root": root, "paranoia_level": 2, "policies": [{"name": "b", "rules": ["@baseline"]}]}
    settings, recorder = load_settings(**given), Recorder()
    before = compile_policies(settings, recorder)
    store(tmp_path / "tried", settings, recorder)
    shutil.rmtree(root)
    with pytest.raises(SecLangError, match="has no rules"):
        compile_policies(settings)
    again = compile_policies(*load(tmp_path / "tried", {}))
    for old, new in zip(before.policies, again.policies, strict=True):
        assert (old.name, old.info) == (new.name, new.info)
        was, now = old.waf.program, new.waf.program
        assert (was.files, was.sought, was.notes) == (now.files, now.sought, now.notes)
        assert [unit.info for unit in was.units] == [unit.info for unit in now.units]
        assert [patterns.patterns for patterns in was.pattern_sets] == [
            patterns.patterns for patterns in now.pattern_sets
        ]
    assert 9 in ids(run(again.default.waf, "/?a=%FF"))
    assert 932160 in ids(run(again.default.waf, "/?a=/bin/bash"))


def test_data_is_kept_as_it_is_under_odd_names(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"rules \xff [1]")
    folder.mkdir()
    (folder / "words").write_bytes(b"caf\xe9\r\n\x00bin\r\n")
    (folder / "map").write_text("1252\n00e9:65\n")
    xsd = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">{}</xs:schema>'
    (folder / "a.xsd").write_text(xsd.format('<xs:include schemaLocation="b.xsd"/><xs:element name="a" type="n"/>'))
    number = '<xs:simpleType name="n"><xs:restriction base="xs:integer"/></xs:simpleType>'
    (folder / "b.xsd").write_text(xsd.format(number))
    rules = folder / "own.conf"
    rules.write_text(
        "SecRuleEngine On\nSecRequestBodyAccess On\nSecUnicodeMapFile map 1252\nIncludeOptional none*.conf\n"
        'SecRule ARGS "@pmFromFile words" "id:1,phase:2,pass"\n'
        'SecRule ARGS "@streq e" "id:2,phase:2,pass,t:urlDecodeUni"\n'
        'SecRule ARGS:xml "@validateSchema a.xsd" "id:3,phase:2,pass"\n'
    )
    settings = load_settings(rules=["@recommended", glob.escape(str(rules))])
    recorder = Recorder()
    compile_policies(settings, recorder)
    store(tmp_path / "tried", settings, recorder)
    (folder / "none1.conf").write_text("SecBogus")
    for name in ("words", "map", "a.xsd", "own.conf"):
        (folder / name).unlink()
    waf = compile_policies(*load(tmp_path / "tried", {})).default.waf
    for query, matching in {"a=caf%E9": 1, "a=%00bin": 1, "a=%25u00e9": 2, "xml=<a>x</a>": 3}.items():
        assert matching in ids(run(waf, f"/?{query}")), query
    assert not {1, 2, 3} & set(ids(run(waf, "/?a=bin&xml=<a>1</a>")))


def test_what_is_stored_holds_no_secrets_and_is_for_nobody_else(tmp_path: Path) -> None:
    secrets: dict[str, Any] = {
        "admin_token": "hush",
        "redis_url": "redis://:hush@redis:6379",
        "audit_log": "https://a:hush@log/",
    }
    settings = load_settings(**secrets, mode="DetectionOnly", paranoia_level=3)
    path = tmp_path / "tried"
    store(path, settings, Recorder())
    assert path.stat().st_mode & 0o777 == 0o600
    assert "hush" not in path.read_text()
    path.chmod(0o622)
    with pytest.raises(PermissionError, match="others may have written"):
        load(path, {})
    path.chmod(0o600)
    found = load(path, {**load_settings(**secrets).model_dump(mode="json"), "admin_token": None}).settings
    assert (found.mode, found.paranoia_level, found.redis_url) == ("DetectionOnly", 3, settings.redis_url)

"""CRS plugins load in the documented order: config, before, the rules, after."""

from __future__ import annotations

import shutil
from pathlib import Path

from extproc.loading import load_settings
from extproc.rulesets import RuleSets
from tests.crs import crs_or_skip


def test_plugin_files_load_around_the_rules(tmp_path: Path) -> None:
    root = crs_or_skip()
    copy = tmp_path / "coreruleset-4.28.0"
    shutil.copytree(root / "rules", copy / "rules")
    shutil.copy(root / "crs-setup.conf.example", copy)
    (copy / "plugins").mkdir()
    for name in ("my-config", "my-before", "my-after"):
        (copy / "plugins" / f"{name}.conf").write_text(f"SecMarker {name}\n")
    program = RuleSets(load_settings(crs_root=copy, data_dir=tmp_path)).compile().program
    names = [Path(file).name for file in program.files if file.endswith((".conf", ".example"))]
    order = [
        "crs-setup.conf.example",
        "my-config.conf",
        "my-before.conf",
        "REQUEST-901-INITIALIZATION.conf",
        "my-after.conf",
    ]
    assert [names.index(name) for name in order] == sorted(names.index(name) for name in order)
    assert names[-1] == "my-after.conf"

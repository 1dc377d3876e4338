"""mypyc's modules are what users run: they have to be there, and to judge as their sources do."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from tests import compiled
from tests.core import answers
from tests.crs import find_crs

PARTS = 4


def test_all_of_them_are_compiled() -> None:
    assert not compiled.interpreted(), "run `make setup`"
    for source in compiled.sources():
        parts = source.relative_to(compiled.ROOT).with_suffix("").parts
        module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
        assert module.__file__ is not None
        assert Path(module.__file__).suffix != ".py", module


def test_sources_that_changed_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.envoy-waf]\ncompiled = ["a.py", "b.py"]\n')
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").touch()
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    assert compiled.complaint() == ""
    assert [source.name for source in compiled.interpreted()] == ["a.py", "b.py"]
    for name in ("a", "b", "waf__mypyc"):
        (tmp_path / f"{name}{EXTENSION_SUFFIXES[0]}").touch()
    assert compiled.complaint() == ""
    assert compiled.interpreted() == []
    later = time.time() + 60
    os.utime(tmp_path / "b.py", (later, later))
    assert compiled.complaint() == "compiled before they changed: b.py; run `make setup`, or `make pure`"


@pytest.mark.parametrize("part", range(PARTS))
def test_they_answer_as_their_sources(part: int) -> None:
    root = find_crs()
    if root is None:
        pytest.skip("no Core Rule Set: run `envoy-waf crs install`, or set CRS_ROOT")
    command = [sys.executable, "-m", "tests.core.answers", str(part), str(PARTS)]
    child = subprocess.Popen(command, cwd=compiled.ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    ours = list(answers.lines(root, part, PARTS))
    theirs = child.communicate()[0].splitlines()
    assert child.returncode == 0
    assert len(ours) == len(theirs) > 1000
    for our, their in zip(ours, theirs, strict=True):
        assert our == their

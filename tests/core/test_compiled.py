"""mypyc's modules are what users run: they have to be there, and to judge as their sources do."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest

from tests import compiled
from tests.core import answers
from tests.core.transactions import make, run
from tests.crs import crs_or_skip
from waf_core import evaluation, turns
from waf_core.scan import asking, batch, forms

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
    dropped = tmp_path / f"c{EXTENSION_SUFFIXES[0]}"
    for path in (tmp_path / "c.py", dropped):
        path.touch()
    os.utime(tmp_path / "c.py", (0, 0))
    assert compiled.complaint() == "compiled before they changed: c.py; run `make setup`, or `make pure`"
    dropped.unlink()
    later = time.time() + 60
    os.utime(tmp_path / "b.py", (later, later))
    assert compiled.complaint() == "compiled before they changed: b.py; run `make setup`, or `make pure`"


@pytest.mark.parametrize("part", range(PARTS))
def test_they_answer_as_their_sources(part: int) -> None:
    root = crs_or_skip()
    command = [sys.executable, "-m", "tests.core.answers", str(part), str(PARTS)]
    child = subprocess.Popen(command, cwd=compiled.ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    ours = list(answers.lines(root, part, PARTS))
    theirs = child.communicate()[0].splitlines()
    assert child.returncode == 0
    assert len(ours) == len(theirs) > 1000
    for our, their in zip(ours, theirs, strict=True):
        assert our == their


def test_threads_get_their_turns_while_much_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert turns.__file__.endswith(".py"), "compiled, it would look for nobody"
    looks = dict.fromkeys((asking, batch, evaluation), 0)

    def look(module: ModuleType) -> None:
        looks[module] += 1

    for module in looks:
        monkeypatch.setattr(module, "give_way", partial(look, module))
    waf = make(
        'SecRule ARGS "@rx (?i)select" "id:1,phase:2,pass,log,t:urlDecodeUni"\n'
        'SecRule ARGS "@streq %{REMOTE_ADDR}" "id:2,phase:2,pass,log"'
    )
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    count = 300
    run(waf, method="POST", headers=form, body=b"&".join(b"a%d=select%d" % (i, i) for i in range(count)))
    assert looks[batch] >= count // forms.TURN_VALUES
    assert looks[evaluation] >= count
    assert looks[asking] >= count // forms.TURN_FORMS
    looks[asking] = 0
    run(waf, method="POST", headers=form, body=b"a=" + b"%" * 2 * turns.LONG_BYTES)
    assert looks[asking] >= 2

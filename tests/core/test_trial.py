"""A Hyperscan that misses matches is not used."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from waf_core.scan import hyperscan_set, trial


def test_the_library_that_is_installed_finds_what_it_should() -> None:
    assert hyperscan_set.unusable() in ("", "there is none for this platform")


def found(expressions: Sequence[bytes], text: bytes) -> set[int]:
    """By Python's own engine."""
    return {n for n, expression in enumerate(expressions) if re.search(expression, text, re.DOTALL)}


def test_the_trial_asks_for_nothing_that_is_not_there() -> None:
    assert list(trial.missed(lambda expressions: partial(found, expressions))) == []


def test_the_trial_finds_a_library_that_misses_matches_by_their_place() -> None:
    """Vectorscan 5.4.12 does so from some 34 bytes on."""
    assert list(trial.missed(lambda expressions: lambda text: found(expressions, text[:64])))


def test_a_library_that_fails_its_trial_is_not_used(tmp_path: Path) -> None:
    """Asked anew in a process of its own: the answer is kept."""
    code = (
        "import waf_core.scan.trial as trial\n"
        "trial.CASES = (([b'absent'], b'text'),)\n"
        "from waf_core.scan import hyperscan_set\n"
        "from waf_core import WAF\n"
        "from waf_core.compiler import CompileOptions\n"
        "from waf_core.scan.limits import ScanLimits\n"
        "print(hyperscan_set.unusable(), hyperscan_set.available())\n"
        "rules = ''.join(f'SecRule ARGS \"@rx a{n}b\" \"id:{n},phase:2,deny\"\\n' for n in range(1, 30))\n"
        f"options = CompileOptions(limits=ScanLimits(hyperscan_folder=__import__('pathlib').Path({str(tmp_path)!r})))\n"
        "patterns = WAF.from_directives(rules, options=options).program.pattern_sets[0]\n"
        "print(patterns.wants_hyperscan, patterns.cache, patterns.find({b'xa7b': -1}) != {})\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "does not find b'absent' in b'text'" in out[0]
    assert out[0].endswith("install hyperscan<0.7.22 False")
    assert out[1] == "True None True"

"""What CRS finds in the requests of its own tests, in every detail.

`python -m tests.core.answers PART PARTS` prints it, found by the engine's sources.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tests import compiled

if TYPE_CHECKING:
    from extproc.ftw.tests import Stage
    from waf_core import WAF


def answers(waf: WAF, stage: Stage) -> list[tuple[object, ...]]:
    """What matched, as it is logged."""
    from tests.conformance.engine import run_stage

    _, tx = run_stage(waf, stage)
    return [(m.rule.id, m.variable, m.message, m.data, m.matches) for m in tx.matched_rules]


def lines(root: Path, part: int, parts: int) -> Iterator[str]:
    """For every `parts`-th test: its name and the answers."""
    from extproc.ftw.tests import load_cases
    from tests.conformance.engine import make_waf

    waf = make_waf(root)
    for case in list(load_cases(root / "tests" / "regression" / "tests"))[part::parts]:
        for stage in case.stages:
            yield f"{case.name} {answers(waf, stage)!r}"


if __name__ == "__main__":
    compiled.interpret()
    from tests.crs import find_crs
    from waf_core import evaluation

    found = find_crs()
    assert found is not None
    assert evaluation.__file__.endswith(".py")
    for line in lines(found, int(sys.argv[1]), int(sys.argv[2])):
        print(line)

"""`envoy-waf test`: go-ftw tests of your own rules, in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import yaml

from extproc.commands.common import EXIT_FOUND, fail, load, print_json
from extproc.commands.compiled import compile_all
from extproc.commands.options import RULE_FLAGS, settings_options
from extproc.ftw.run import run_case
from extproc.ftw.tests import Case, load_cases


@click.command("test")
@settings_options(*RULE_FLAGS)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def test_command(config: Path | None, as_json: bool, paths: tuple[Path, ...], **flags: Any) -> None:
    """Run go-ftw YAML tests (files or folders) against the rules.

    \b
    Example:
      envoy-waf test --mode DetectionOnly -r @recommended -r own.conf tests/

    `log.expect_ids` and `log.no_expect_ids` are compared with the rules that matched.  The upstream is the one
    of CRS's tests (/reflect answers what the body says).  Exit status: 0 all passed, 3 some failed.
    """
    waf = compile_all(load(config, flags)).default.waf
    failed: list[dict[str, Any]] = []
    passed = 0
    for path in paths:
        try:
            cases: list[Case] = list(load_cases(path))
        except (OSError, yaml.YAMLError) as error:
            fail(f"{path}: {error}")
        except (KeyError, TypeError, AttributeError) as error:
            fail(f"{path} is no go-ftw test: {error!r}")
        for case in cases:
            complaints = run_case(waf, case)
            if complaints:
                failed.append({"test": case.name, "description": case.description, "complaints": complaints})
                if not as_json:
                    print(f"FAIL {case.name}: {'; '.join(complaints)}")
            else:
                passed += 1
    if as_json:
        print_json({"passed": passed, "failed": failed})
    else:
        print(f"{passed} passed, {len(failed)} failed")
    if not passed and not failed:
        fail("there are no tests in there")
    sys.exit(EXIT_FOUND if failed else 0)

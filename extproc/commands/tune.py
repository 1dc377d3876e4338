"""`envoy-waf tune`: from audit events to the narrowest exclusions, with what they would cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from extproc.commands.common import compile_all, fail, load, print_json
from extproc.commands.options import RULE_FLAGS, settings_options
from extproc.config import Settings
from extproc.ftw.run import run_stage
from extproc.ftw.tests import load_cases
from extproc.requests.files import read_audit
from extproc.requests.plain import RequestError
from extproc.rulesets import crs_folder
from extproc.tuning import Finding, Proposal, findings_of, propose

HEADER = """# Exclusions proposed by `envoy-waf tune` from {source}.
# Read them: each says which rule no longer looks at which variable, on which path.
# Include this file before the rules (settings: rules).
"""


@click.command("tune")
@settings_options(*RULE_FLAGS)
@click.option(
    "--min-hits", default=1, show_default=True, type=click.IntRange(1), help="Propose only what was seen so often."
)
@click.option("--path", "path_prefix", default="", help="Only events on paths that begin with this.")
@click.option("--attacks/--no-attacks", default=True, help="Try the proposals on the CRS tests, if they are there.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write the exclusions to this file.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def tune_command(
    config: Path | None,
    min_hits: int,
    path_prefix: str,
    attacks: bool,
    output: Path | None,
    as_json: bool,
    files: tuple[Path, ...],
    **flags: Any,
) -> None:
    """Propose exclusions for the false positives in JSON audit logs.

    \b
    Feed it events that you know to be legitimate (one path, one client):
      envoy-waf tune audit.json --path /admin/editor -o exclusions.conf

    For each proposal it says how many events' findings it removes, and which attacks of the Core Rule Set's
    own tests (sent to that variable on that path) it would let through.
    """
    findings: list[Finding] = []
    events = 0
    try:
        for path in files:
            for _, transaction in read_audit(path):
                found = [f for f in findings_of(transaction) if f.path.startswith(path_prefix)]
                events += bool(found)
                findings += found
    except RequestError as error:
        fail(str(error))
    proposals = [proposal for proposal in propose(findings) if proposal.hits >= min_hits]
    settings = load(config, flags)
    costs = _costs(settings, proposals) if attacks and proposals else None
    if output is not None:
        text = "".join(f"\n# {p.hits} findings\n{p.text}\n" for p in proposals)
        output.write_text(HEADER.format(source=", ".join(map(str, files))) + text)
        compile_all(settings)
    if as_json:
        print_json(
            {
                "events": events,
                "findings": len(findings),
                "proposals": [
                    {
                        "rule": p.rule_id,
                        "variable": p.variable,
                        "path": p.path or None,
                        "hits": p.hits,
                        "directive": p.text,
                        "attacks_let_through": costs[i] if costs is not None else None,
                    }
                    for i, p in enumerate(proposals)
                ],
            }
        )
        return
    print(f"{events} events, {len(findings)} findings, {len(proposals)} proposals")
    for i, proposal in enumerate(proposals):
        place = proposal.path or "any path"
        print(f"\n{proposal.hits} findings of rule {proposal.rule_id} on {proposal.variable}, {place}")
        print(proposal.text)
        if costs is not None:
            through = costs[i]
            print(
                f"  attacks of the CRS tests that only this rule stops there: {len(through)}"
                + (f" ({', '.join(through[:5])}{' ...' if len(through) > 5 else ''})" if through else "")
            )
    if costs is None and proposals and attacks:
        print("\n(no CRS tests found: what the proposals would let through was not tried)")
    if output is not None:
        print(f"\nwritten to {output}; reload to use it")


def _costs(settings: Settings, proposals: list[Proposal]) -> list[list[str]] | None:
    """For each proposal the CRS tests that its rule alone takes to the threshold; None without tests.

    A test counts if the rule matches it and what is left of the score, without that rule's points, no longer
    reaches the inbound threshold.
    """
    root = crs_folder(settings)
    folder = root / "tests" / "regression" / "tests" if root is not None else None
    if folder is None or not folder.is_dir():
        return None
    wanted = {proposal.rule_id for proposal in proposals}
    waf = compile_all(settings.model_copy(update={"mode": "DetectionOnly"})).default.waf
    alone: dict[int, list[str]] = {rule_id: [] for rule_id in wanted}
    for case in load_cases(folder):
        if int(case.name.partition("-")[0]) not in wanted:
            continue
        for stage in case.stages:
            _, tx = run_stage(waf, stage)
            points = {m.rule.id: _points(m.rule.severity) for m in tx.matched_rules if m.rule.severity is not None}
            threshold = int(tx.tx.get(b"inbound_anomaly_score_threshold", b"5"))
            total = sum(points.values())
            for rule_id in wanted & points.keys():
                if total >= threshold > total - points[rule_id]:
                    alone[rule_id].append(case.name)
    return [sorted(set(alone[proposal.rule_id])) for proposal in proposals]


def _points(severity: int | None) -> int:
    """CRS's points by severity (crs-setup.conf): critical 5, error 4, warning 3, notice 2."""
    return {2: 5, 3: 4, 4: 3, 5: 2}.get(severity if severity is not None else -1, 0)

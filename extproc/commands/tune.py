"""`envoy-waf tune`: from audit events to the narrowest exclusions, with what they would cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from extproc.commands.common import fail, load, print_json
from extproc.commands.compiled import compile_all
from extproc.commands.options import RULE_FLAGS, settings_options
from extproc.config import Settings
from extproc.ftw.run import run_stage
from extproc.ftw.tests import load_cases
from extproc.requests.files import read_audit
from extproc.requests.plain import RequestError
from extproc.rulesets import RuleSets, crs_folder
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
    own tests (sent to that variable on that path) it would let through.  What the file of -o has already stays in it.
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
    settings = load(config, flags)
    before = _read(output)
    proposals = [proposal for proposal in propose(findings, before) if proposal.hits >= min_hits]
    costs = _costs(settings, proposals) if attacks and proposals else None
    if output is not None:
        told = _add(output, before, proposals, HEADER.format(source=", ".join(map(str, files))), settings)
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
        print(f"\n{_findings(proposal)} of rule {proposal.rule_id} on {proposal.variable}, {place}")
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
        print(f"\n{told}")


def _read(output: Path | None) -> str:
    """What is there already, and stays."""
    try:
        return output.read_text("utf-8") if output is not None and output.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{output}: {error}")


def _add(output: Path, before: str, proposals: list[Proposal], header: str, settings: Settings) -> str:
    """Write what is new behind what is there; what was done, and how to use it."""
    new = [proposal for proposal in proposals if proposal.text not in before]
    text = "".join(f"\n# {_findings(proposal)}\n{proposal.text}\n" for proposal in new)
    try:
        if new or not before:
            output.write_text((f"{before.rstrip()}\n\n" if before else "") + header + text, "utf-8")
    except OSError as error:
        fail(f"{output}: {error.strerror}")
    kept = f", behind what was there ({len(proposals) - len(new)} proposals were)" if before else ""
    return f"{len(new)} written to {output}{kept}; {_how_to_use(output, settings)}"


def _findings(proposal: Proposal) -> str:
    return "1 finding" if proposal.hits == 1 else f"{proposal.hits} findings"


def _how_to_use(output: Path, settings: Settings) -> str:
    """Is the file among those that the settings name?  The rules are compiled with it then, which tells of mistakes."""
    policies = compile_all(settings).policies
    if any(Path(name).resolve() == output.resolve() for policy in policies for name in policy.waf.program.files):
        return "reload to use it"
    rules = [str(output.resolve()), *(settings.rules or RuleSets(settings).default_rules())]
    return f"to use it, name it ahead of the other rules in the settings:\nrules: {json.dumps(rules)}"


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

"""`envoy-waf replay`: recorded traffic against a policy, or against two to compare them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from extproc.commands.common import EXIT_FOUND, fail, load, print_json, progress_bar
from extproc.commands.compiled import choose, compile_all, policy_for
from extproc.commands.options import RULE_FLAGS, settings_options
from extproc.policies import PolicySet
from extproc.printable import printable
from extproc.requests.files import read_exchanges
from extproc.requests.plain import RequestError
from waf_core.exchange import Exchange, run

MAX_LISTED = 100
"""Requests that the summary lists one by one."""


@click.command("replay")
@settings_options(*RULE_FLAGS)
@click.option("--policy", help="The policy that judges.  [default: what the settings choose for each request]")
@click.option("--against", help="A second policy of the same settings: differences are shown.")
@click.option("--against-config", type=click.Path(path_type=Path, exists=True), help="A second settings file.")
@click.option("--fail-on", type=click.Choice(["block", "difference", "never"]), help="What makes the exit status 3.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def replay_command(
    config: Path | None,
    policy: str | None,
    against: str | None,
    against_config: Path | None,
    fail_on: str | None,
    as_json: bool,
    files: tuple[Path, ...],
    **flags: Any,
) -> None:
    """Judge the requests of HAR files, raw messages, JSON audit logs or access logs.

    \b
    Examples:
      envoy-waf replay access.log                        what would be blocked
      envoy-waf replay -p 2 --fail-on block session.har  for CI: status 3 if anything is
      envoy-waf replay --against strict audit.json       where two policies differ

    Access logs have no bodies and few headers: what is judged is what they have.
    """
    policies = compile_all(load(config, flags))
    others: PolicySet | None = None
    if against_config is not None:
        others = compile_all(load(against_config, {"rules": ()}))
    elif against is not None:
        others = policies
    for chosen, name in ((policies, policy), (others, against)):
        if chosen is not None and name is not None:
            choose(chosen, name)
    counts: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    listed: list[dict[str, Any]] = []
    try:
        for path in files:
            for exchange in _shown(path):
                tx = run(policy_for(policies, policy, exchange).waf, exchange)
                mine = tx.verdict
                counts[mine] += 1
                for matched in tx.matched_rules:
                    if matched.log:
                        rules[f"{matched.rule.id} {matched.rule.message[:90]}"] += 1
                other = run(policy_for(others, against, exchange).waf, exchange).verdict if others is not None else None
                if other is not None and other != mine:
                    counts["difference"] += 1
                interesting = mine != "pass" if other is None else other != mine
                if interesting and len(listed) < MAX_LISTED:
                    listed.append(
                        {
                            "request": exchange.label,
                            "method": exchange.method.decode("latin-1"),
                            "uri": exchange.uri[:300].decode("utf-8", "backslashreplace"),
                            "verdict": mine,
                            **({"against": other} if other is not None else {}),
                            "score": tx.anomaly_score,
                            "rules": [m.rule.id for m in tx.matched_rules if m.log],
                        }
                    )
    except RequestError as error:
        fail(str(error))
    total = counts["pass"] + counts["blocked"] + counts["detected"]
    summary = {
        "requests": total,
        "passed": counts["pass"],
        "blocked": counts["blocked"],
        "detected": counts["detected"],
        **({"differences": counts["difference"]} if others is not None else {}),
        "rules": [{"rule": rule, "hits": hits} for rule, hits in rules.most_common(20)],
        "listed": listed,
    }
    if as_json:
        print_json(summary)
    else:
        _print(summary, others is not None)
    wrong = fail_on or ("difference" if others is not None else "never")
    stopped = counts["blocked"] + counts["detected"] if wrong == "block" else counts["difference"] * (wrong != "never")
    sys.exit(EXIT_FOUND if stopped else 0)


def _shown(path: Path) -> Iterator[Exchange]:
    """The exchanges of a file, with a progress bar."""
    with progress_bar(path.name, list(read_exchanges(path))) as bar:
        yield from bar


def _print(summary: dict[str, Any], compared: bool) -> None:
    for item in summary["listed"]:
        verdict = f"{item['verdict']} / {item['against']}" if compared else item["verdict"]
        rules = " ".join(map(str, item["rules"][:8]))
        request = printable(f"{item['method']} {item['uri']}  [{rules}]  {item['request']}")
        print(f"{verdict:20} score {item['score']:3}  {request}")
    if summary["rules"]:
        print("\nrules that matched:")
        for rule in summary["rules"]:
            print(f"{rule['hits']:8}  {printable(rule['rule'])}")
    print(
        f"\n{summary['requests']} requests: {summary['passed']} passed, {summary['blocked']} blocked,"
        f" {summary['detected']} would be blocked" + (f", {summary['differences']} differ" if compared else "")
    )

"""`envoy-waf explain`: why a request is, or was, blocked."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import click

from extproc.commands.common import EXIT_FOUND, fail, load, print_json
from extproc.commands.compiled import compile_all, policy_for
from extproc.commands.options import RULE_FLAGS, settings_options
from extproc.explain import explain, render
from extproc.requests.curl import parse_curl
from extproc.requests.files import from_raw, read_exchanges
from extproc.requests.plain import RequestError
from waf_core.exchange import Exchange

ADMIN_SECONDS = 30.0


@click.command("explain", context_settings={"ignore_unknown_options": True})
@settings_options(*RULE_FLAGS)
@click.option("--policy", help="The policy that judges.  [default: what the settings choose for the request]")
@click.option("--id", "transaction_id", help="A recent event of a running sidecar, by its transaction id.")
@click.option("--admin", default="http://127.0.0.1:9003", show_default=True, help="That sidecar's admin address.")
@click.option("--token", envvar="ENVOY_WAF_ADMIN_TOKEN", help="Its admin_token, if it has one.")
@click.option(
    "--file", "-f", "path", type=click.Path(path_type=Path), help="HAR file, raw message or log; - reads one message."
)
@click.option("--all", "everything", is_flag=True, help="Also rules that only prepare or compare scores.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.argument("request_words", nargs=-1, type=click.UNPROCESSED, metavar="[curl] [OPTIONS] URL")
def explain_command(
    config: Path | None,
    policy: str | None,
    transaction_id: str | None,
    admin: str,
    token: str | None,
    path: Path | None,
    everything: bool,
    as_json: bool,
    request_words: tuple[str, ...],
    **flags: Any,
) -> None:
    """Show, rule by rule, what a request matches and what decides.

    \b
    Examples:
      envoy-waf explain 'http://shop/?id=1%27%20or%201=1'
      envoy-waf explain -- curl -H 'Host: shop' -d 'q=<script>' http://shop/search
      envoy-waf explain -f session.har
      envoy-waf explain --id 4f1c... --admin http://127.0.0.1:9003

    Put -- before a curl command line that has options.  Exit status: 0 nothing would be blocked, 3 something would.
    """
    if transaction_id is not None:
        found = [_ask(admin, token, transaction_id)]
    else:
        try:
            exchanges = _exchanges(path, request_words)
        except RequestError as error:
            fail(str(error))
        policies = compile_all(load(config, flags))
        found = []
        for exchange in exchanges:
            chosen = policy_for(policies, policy, exchange)
            found.append(explain(chosen.waf, exchange, chosen.name))
    if as_json:
        print_json(found[0] if len(found) == 1 else found)
    else:
        print("\n\n".join(_text(explanation, everything) for explanation in found))
    if any(explanation["verdict"] != "pass" for explanation in found):
        sys.exit(EXIT_FOUND)


def _text(explanation: dict[str, Any], everything: bool) -> str:
    text = render(explanation, everything=everything)
    if explanation["proposals"] and explanation["verdict"] != "pass":
        text += "\n\nIf this request is legitimate, exclude no more than this (before the rules):\n"
        text += "\n".join(explanation["proposals"])
    return text


def _exchanges(path: Path | None, words: tuple[str, ...]) -> list[Exchange]:
    if path is not None and words:
        raise RequestError("give either --file or a request, not both")
    if path is not None:
        if str(path) == "-":
            return [from_raw(sys.stdin.buffer.read(), "standard input")]
        return list(read_exchanges(path))
    if not words:
        raise RequestError("there is no request: give a URL, a curl command line, --file or --id")
    return [parse_curl(words)]


def _ask(admin: str, token: str | None, transaction_id: str) -> dict[str, Any]:
    if not admin.startswith(("http://", "https://")):
        fail(f"--admin {admin!r} is no http(s) URL")
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    body = json.dumps({"id": transaction_id}).encode()
    request = urllib.request.Request(f"{admin.rstrip('/')}/api/explain", data=body, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=ADMIN_SECONDS) as answer:  # noqa: S310
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        try:
            message = json.load(error)["error"]
        except (ValueError, KeyError):
            message = f"status {error.code}"
        fail(f"the sidecar at {admin} says: {message}")
    except OSError as error:
        fail(f"no sidecar answers at {admin}: {error}")

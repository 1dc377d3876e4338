"""Proposals against false positives: the narrowest exclusion that removes what was seen.

An exclusion names one rule, one variable and one path: `ctl:ruleRemoveTargetById=942100;ARGS:comment` in a
rule that matches the path.  Only what is seen on many paths is proposed for all of them
(SecRuleUpdateTargetById).  Rules that do nothing but compare scores are never excluded.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

FIRST_ID = 8190000
IDS = 9000
"""Ids of proposed rules begin here, and are so many.  Which one a proposal gets follows from what it says: the same one
each time, and others for others."""

MANY_PATHS = 5
"""On so many paths an exclusion is proposed for all of them."""

_COLLECTIONS = (
    "ARGS",
    "ARGS_NAMES",
    "REQUEST_COOKIES",
    "REQUEST_COOKIES_NAMES",
    "REQUEST_HEADERS",
    "FILES",
    "FILES_NAMES",
)
_WHOLE = ("REQUEST_URI", "REQUEST_URI_RAW", "REQUEST_BODY", "REQUEST_LINE", "REQUEST_FILENAME", "REQUEST_BASENAME",
          "QUERY_STRING", "XML")  # fmt: skip
_ID = re.compile(r"\bid:(\d+)")
_SAFE_KEY = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}")
_INDEX = re.compile(r"\.\d+(?=\.|$)")
_SAFE_PATH = re.compile(r"/[A-Za-z0-9_./~-]*")
_NUMBER = re.compile(r"/(?:\d+|[0-9a-f]{8}-[0-9a-f-]{27})(?=/|$)")


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that matched one variable on one path."""

    rule_id: int
    variable: str
    path: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """`hits` is how many findings it removes; `path` "" means everywhere."""

    rule_id: int
    variable: str
    path: str
    hits: int
    text: str
    """SecLang."""


def findings_of(transaction: Mapping[str, Any]) -> Iterable[Finding]:
    """What an audit record in ModSecurity's JSON shape says."""
    uri = str((transaction.get("request") or {}).get("uri") or "/")
    for message in transaction.get("messages") or []:
        details = message.get("details") or {}
        identifier = str(details.get("ruleId") or "0")
        if not identifier.isdigit() or _is_scoring([str(tag) for tag in details.get("tags") or []], int(identifier)):
            continue
        variables = [v for v in str(details.get("reference") or "").split(",") if v]
        for variable in variables:
            yield Finding(int(identifier), variable, uri.partition("?")[0])


def _is_scoring(tags: list[str], number: int) -> bool:
    """CRS's evaluation and correlation rules, and those that set things up."""
    return number // 1000 in (901, 905, 949, 959, 980) or "anomaly-evaluation" in tags


def propose(findings: Iterable[Finding], present: str = "") -> list[Proposal]:
    """The exclusions, most useful first.  `present`: SecLang that has some of them already, as they are proposed, and
    ids that are not theirs to use."""
    counts: Counter[tuple[int, str, str]] = Counter()
    for finding in findings:
        target = _target(finding.variable)
        if target is not None:
            counts[finding.rule_id, target, _general(finding.path)] += 1
    paths: Counter[tuple[int, str]] = Counter()
    for rule_id, target, _ in counts:
        paths[rule_id, target] += 1
    merged: Counter[tuple[int, str, str]] = Counter()
    for (rule_id, target, path), hits in counts.items():
        everywhere = paths[rule_id, target] >= MANY_PATHS
        merged[rule_id, target, "" if everywhere else path] += hits
    ordered = sorted(merged.items(), key=lambda item: (-item[1], item[0]))
    ids = set(map(int, _ID.findall(present)))
    proposals: list[Proposal] = []
    for (rule_id, target, path), hits in ordered[:IDS]:
        place = zlib.crc32(f"{rule_id} {target} {path}".encode())
        for step in range(IDS):
            number = FIRST_ID + (place + step) % IDS
            text = _directive(rule_id, target, path, number)
            if number not in ids or text in present:
                ids.add(number)
                proposals.append(Proposal(rule_id, target, path, hits, text))
                break
    return proposals


def propose_for(rules: Iterable[Mapping[str, Any]], path: str) -> list[Proposal]:
    """Exclusions for the rules of one explained request (extproc/explain.py) to this path."""
    findings = [
        Finding(rule["id"], match["variable"], path)
        for rule in rules
        if rule["score"] and not _is_scoring(rule["tags"], rule["id"])
        for match in rule["matches"]
    ]
    return propose(dict.fromkeys(findings))


def _target(variable: str) -> str | None:
    """The variable as exclusions name it; None when excluding it would be no narrow thing to do."""
    name, colon, key = variable.partition(":")
    if name in ("ARGS_GET", "ARGS_POST"):
        name = "ARGS"
    elif name in ("ARGS_GET_NAMES", "ARGS_POST_NAMES"):
        name = "ARGS_NAMES"
    if name in _COLLECTIONS and colon:
        if _INDEX.search(key):
            # Elements of a list in a JSON document: whatever their number.
            pattern = re.escape(_INDEX.sub(".0", key)).replace(r"\.0", r"\.\d+")
            return f"{name}:/^{pattern}$/" if _SAFE_KEY.fullmatch(key) else None
        return f"{name}:{key}" if _SAFE_KEY.fullmatch(key) else None
    return name if name in _WHOLE else None


def _general(path: str) -> str:
    """The path with numbers cut off: /orders/17/items begins with /orders/."""
    found = _NUMBER.search(path)
    path = path[: found.start() + 1] if found else path
    # What is not safe to put between quotes is cut: the exclusion is then for its folder.
    while path and not _SAFE_PATH.fullmatch(path):
        path = path[: path.rstrip("/").rfind("/") + 1]
    return path or "/"


def _directive(rule_id: int, target: str, path: str, number: int) -> str:
    if not path:
        return f'SecRuleUpdateTargetById {rule_id} "!{target}"'
    operator = "@beginsWith" if path.endswith("/") and path != "/" else "@streq"
    return (
        f'SecRule REQUEST_FILENAME "{operator} {path}" \\\n'
        f'    "id:{number},phase:1,pass,t:none,nolog,ctl:ruleRemoveTargetById={rule_id};{target}"'
    )

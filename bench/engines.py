"""The engines that are compared: ours and libmodsecurity, with the same rules."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from bench.cases import Request
from tests.crs import find_crs
from waf_core import WAF
from waf_core.baseline import resolve
from waf_core.compiler import CompileOptions
from waf_core.memory import keep
from waf_core.scan.limits import ScanLimits
from waf_core.scan.precompile import compile_once
from waf_core.warm import warm

CACHE = Path.home() / ".cache" / "envoy-waf-bench"

SETTINGS = """
SecRuleEngine {mode}
SecRequestBodyAccess On
SecRequestBodyLimit 13107200
SecRequestBodyNoFilesLimit 13107200
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html application/json
SecResponseBodyLimit 1048576
SecRule REQUEST_HEADERS:Content-Type "^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "^text/xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
{setup}
SecAction "id:900000,phase:1,pass,nolog,setvar:tx.blocking_paranoia_level={level},setvar:tx.detection_paranoia_level={level}"
{rules}
"""


def required_crs() -> Path:
    """Where the Core Rule Set is; without one there is nothing to measure."""
    root = find_crs()
    if root is None:
        raise SystemExit("no Core Rule Set found: run `envoy-waf crs install`, or set CRS_ROOT")
    return root


def rule_text(root: Path, level: int) -> str:
    """One text for both engines: Include lines in the order of the files."""
    rules = "\n".join(f"Include {path}" for path in sorted((root / "rules").glob("*.conf")))
    mode = "On" if level == 1 else "DetectionOnly"
    return SETTINGS.format(mode=mode, setup=f"Include {root}/crs-setup.conf.example", rules=rules, level=level)


class Ours:
    name = "envoy-waf"

    def __init__(self, root: Path, level: int, options: CompileOptions | None = None) -> None:
        # As a worker starts: with databases, and first exchanges judged.
        options = options or CompileOptions(limits=ScanLimits(hyperscan_folder=CACHE))
        self.waf = WAF.from_directives(rule_text(root, level), resolver=resolve, options=options)
        for patterns in self.waf.program.pattern_sets:
            if patterns.cache is not None:
                compile_once(patterns.cache, patterns.patterns)
                patterns.load_hyperscan()
        warm(self.waf)
        keep()

    def run(self, request: Request) -> bool:
        """All phases; True when blocked."""
        tx = self.waf.new_transaction()
        tx.process_connection("192.0.2.10", 40000, "192.0.2.1", 80)
        tx.process_uri(request.uri, request.method, "1.1")
        for name, value in request.headers:
            tx.add_request_header(name, value)
        stop = tx.process_request_headers()
        if stop is None:
            if request.body:
                tx.write_request_body(request.body)
            stop = tx.process_request_body()
        if stop is None:
            tx.add_response_header("Content-Type", request.response_type)
            stop = tx.process_response_headers(200, "1.1")
            if stop is None:
                tx.write_response_body(request.response)
                stop = tx.process_response_body()
        tx.process_logging()
        return stop is not None


def peer_rules(root: Path, text: str) -> Any:
    """A RulesSet of libmodsecurity's, which looks for data files where it is started."""
    import libmodsecurity

    rules = libmodsecurity.RulesSet()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.conf"
        path.write_text(text)
        here = Path.cwd()
        os.chdir(root / "rules")
        try:
            rules.load_from_uri(str(path))
        finally:
            os.chdir(here)
    return rules


class LibModSecurity:
    name = "libmodsecurity"

    def __init__(self, root: Path, level: int) -> None:
        import libmodsecurity

        self.library: Any = libmodsecurity
        self.engine: Any = libmodsecurity.ModSecurity()
        # What a connector's error log would get: formatted as in production, then dropped.
        self.engine.set_log_callback(lambda *_: None)
        self.rules: Any = peer_rules(root, rule_text(root, level))

    def run(self, request: Request) -> bool:
        with self.engine.transaction(self.rules) as tx:
            tx.process_connection("192.0.2.10", 40000, "192.0.2.1", 80)
            tx.process_uri(request.uri, request.method, "1.1")
            for name, value in request.headers:
                tx.add_request_header(name, value)
            tx.process_request_headers()
            if tx.intervention():
                tx.process_logging()
                return True
            if request.body:
                tx.append_request_body(request.body)
            tx.process_request_body()
            if tx.intervention():
                tx.process_logging()
                return True
            tx.add_response_header("Content-Type", request.response_type)
            tx.process_response_headers(200, "HTTP/1.1")
            tx.append_response_body(request.response)
            tx.process_response_body()
            blocked = bool(tx.intervention())
            tx.process_logging()
            return blocked

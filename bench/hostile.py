"""`python -m bench hostile`: CPU per byte of the worst requests, first sight and repeated.

"First" is the worst of the first three of a kind; "new" is the mean of further ones, each of which is new, too.  Twelve
processes, each of them fresh, get the same requests, and of each request the least counts: what differs is the machine.
(Where others have a core's other half two thirds of the time, none of five tries is undisturbed for one request of eight,
and the worst of a hundred would be such a one.)

Each generator makes a request of a given size; no two are alike.  Bytes are those of the whole request, and of the
response.
libmodsecurity gets the same requests in the same run, up to a size at which it would take minutes.

The bound was set as a time, 1 us a byte, on a machine where a byte of libmodsecurity's own worst took 69 us.  Machines
differ, the same one from hour to hour; so that worst is measured too, three times meanwhile, and the least counts: the
verdict is about shares of it, and how many kinds take more than 1 us here is said as well.
"""

from __future__ import annotations

import json
import random
import string
import time
import urllib.parse
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from bench import near
from bench.cases import CASES, Request, _headers, _word
from bench.engines import LibModSecurity, Ours, required_crs
from bench.fresh import in_fresh_process
from bench.report import table, verdict
from tests.core.matching import cut_matches

SIZES = {1_000: 10, 4_000: 10, 16_000: 10, 128_000: 2}
"""Bytes -> how many of a kind come after the first ones."""

FIRST = 3
PROCESSES = 12
PEER_MAX_BYTES = 16_000
PEER_SLOW_NS = 100_000
"""A kind that costs libmodsecurity so much is not put to it again in a larger size (4 kB of "runs" take it 18 s)."""

BOUND_NS = 1000
PEER_WORST_BYTES = 60_000
PEER_WORST_NS = 69_000
"""A byte of libmodsecurity's worst, plus signs in one argument, on the machine on which the bound was set."""

BOUND_SHARE = PEER_WORST_NS / BOUND_NS

PATH = "/x"
FRAGMENTS = [
    "' or 1=1 -- ", "<script>alert(1)</script>", "../../etc/passwd", "${jndi:ldap://x}", "; cat /etc/passwd", "union select ",
    "%0d%0aSet-Cookie:", "{{7*7}}", "$(id)", "\\x41", "&lt;", "/*!50000", "javascript:", "' having 1=1", "busybox$'\\\"", "\\u003c",
]  # fmt: skip


def _form(rng: random.Random, body: bytes) -> Request:
    headers = [
        *_headers(rng),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Length", str(len(body))),
    ]
    return Request("POST", PATH, headers, body)


def random_bytes(rng: random.Random, size: int) -> Request:
    return _form(rng, b"a=" + rng.randbytes(size).replace(b"&", b"_"))


def random_ascii(rng: random.Random, size: int) -> Request:
    return _form(rng, b"a=" + bytes(rng.choices([b for b in range(32, 127) if b != 38], k=size)))


def _attacks(rng: random.Random, size: int) -> str:
    text = ""
    while len(text) < size:
        text += rng.choice(FRAGMENTS) + str(rng.randrange(10))
    return text[:size]


def fragments(rng: random.Random, size: int) -> Request:
    return _json(rng, {"a": _attacks(rng, size)})


def plus(rng: random.Random, size: int) -> Request:
    return _form(rng, b"a=" + b"+" * size + b"%d" % rng.randrange(10**6))


def deep_json(rng: random.Random, size: int) -> Request:
    depth = min(size // 6, 400)
    leaf = f'"{rng.randrange(10**6)}{"x" * (size - depth * 6)}"'
    return _json(rng, json.loads('{"a":' * depth + leaf + "}" * depth))


def many_arguments(rng: random.Random, size: int) -> Request:
    count = min(size // 12, 999)
    length = max(size // count - 7, 1)
    return _form(rng, "&".join(f"{i}={''.join(rng.choices('abcXYZ019%27;', k=length))}" for i in range(count)).encode())


def many_parts(rng: random.Random, size: int) -> Request:
    part = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    body = "".join(part.format(i, rng.randrange(10**6)) for i in range(min(size // 70, 900))) + "--b--\r\n"
    headers = [*_headers(rng), ("Content-Type", "multipart/form-data; boundary=b"), ("Content-Length", str(len(body)))]
    return Request("POST", PATH, headers, body.encode())


def long_cookies(rng: random.Random, size: int) -> Request:
    """A small body, and the bytes in cookies (Envoy takes 60 kB of headers)."""
    request = _form(rng, b"a=1")
    pieces: list[str] = []
    length = 0
    while length < min(size, 56_000):
        pieces.append(f"c{len(pieces)}={rng.choice(FRAGMENTS).replace(';', '').strip()}{rng.randrange(10**6)}")
        length += len(pieces[-1]) + 2
    request.headers = [pair for pair in request.headers if pair[0] != "Cookie"] + [("Cookie", "; ".join(pieces))]
    return request


def tiny_arguments(rng: random.Random, size: int) -> Request:
    """As many as SecArgumentsLimit lets, of two bytes each."""
    return _form(rng, b"&".join(rng.choice(b"abcxyz<'(%;").to_bytes(1, "big") for _ in range(min(size // 2, 999))))


def numbers(rng: random.Random, size: int) -> Request:
    return _json(rng, {"values": {"of": [rng.randrange(10) for _ in range(min(size // 3, 990))]}})


def json_keys(rng: random.Random, size: int) -> Request:
    """A long key, which all arguments' names repeat."""
    key = "".join(rng.choices("abcdefgh ", k=max(size - 2000, size // 2)))
    return _json(rng, {key: [rng.randrange(10) for _ in range(min(size // 6, 600))]})


def attack_keys(rng: random.Random, size: int) -> Request:
    return _json(rng, {rng.choice(FRAGMENTS): [rng.randrange(10) for _ in range(min(size // 3, 990))]})


def nested_xml(rng: random.Random, size: int) -> Request:
    """Text beside elements on all levels."""
    depth = min(size // 16, 250)
    text = "".join(rng.choices("abc ' \"=()-", k=size - depth * 8))
    return _xml(rng, "<a>x" * depth + text + "</a>" * depth)


def xml_attributes(rng: random.Random, size: int) -> Request:
    return _xml(rng, "<a " + " ".join(f'b{i}="{rng.randrange(10**5)}"' for i in range(size // 13)) + "/>")


def many_headers(rng: random.Random, size: int) -> Request:
    """Envoy takes 100 of them, and 60 kB."""
    request = _form(rng, b"a=1")
    length = min(size, 56_000) // 80
    request.headers += [
        (f"X-{_word(rng, 5)}-{i}", (rng.choice(FRAGMENTS).strip() * (length // 5))[:length].strip()) for i in range(80)
    ]
    return request


def page(rng: random.Random, size: int) -> Request:
    """The bytes are the response's."""
    request = _form(rng, b"a=1")
    request.response = _attacks(rng, size).encode()
    return request


def assignments(rng: random.Random, size: int) -> Request:
    """What CRS's rules for Unix commands let stand before one, and random words with `$`: each byte is news to RE2's
    automata, and any of them may end a match that began at the head."""
    words = "".join(rng.choices(string.ascii_lowercase + "$$$   ", k=size))
    return _json(rng, {"a": ";time a=<$ " + words})


def beginnings(rng: random.Random, size: int) -> Request:
    """Many places where a match of the same rules may begin, and nowhere one: PCRE2 tries all ways from each."""
    heads = (";time ", "&& ", "|| ", "a=", "$x ", "( ", "{ ", "`")
    pieces = [
        rng.choice(heads) + "".join(rng.choices(string.ascii_lowercase, k=rng.randrange(3))) for _ in range(size // 4)
    ]
    return _json(rng, {"a": ";" + "".join(pieces)[:size]})


def runs(rng: random.Random, size: int) -> Request:
    """What begins a tag, again and again, and one at the end: each of PCRE2's steps reads all of it."""
    run = rng.choice(("<", '<( "', '< "'))
    return _json(rng, {"a": run * (size // len(run)) + f"<a onload={_word(rng, 6)}>"})


def near_matches(prefix: str) -> Callable[[random.Random, int], Request]:
    """One argument that begins to match an expression again and again."""

    def make(rng: random.Random, size: int) -> Request:
        text = (prefix * (size // len(prefix) + 1))[:size]
        return _form(rng, b"a=" + urllib.parse.quote(text).encode() + b"%d" % rng.randrange(10**6))

    return make


def _json(rng: random.Random, value: Any) -> Request:
    body = json.dumps(value).encode()
    headers = [*_headers(rng), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Request("POST", PATH, headers, body)


def _xml(rng: random.Random, text: str) -> Request:
    headers = [*_headers(rng), ("Content-Type", "text/xml"), ("Content-Length", str(len(text)))]
    return Request("POST", PATH, headers, text.encode())


GENERATORS: dict[str, Callable[[random.Random, int], Request]] = {
    "random bytes": random_bytes, "random ASCII": random_ascii, "attack fragments": fragments, "plus signs": plus,
    "deep JSON": deep_json, "many arguments": many_arguments, "many parts": many_parts, "long cookies": long_cookies,
    "tiny arguments": tiny_arguments, "JSON numbers": numbers, "JSON keys": json_keys, "attacks as JSON keys": attack_keys,
    "nested XML": nested_xml, "XML attributes": xml_attributes, "many headers": many_headers, "response": page,
    "assignments": assignments, "beginnings": beginnings, "runs": runs,
}  # fmt: skip


def _cost(engine: Any, request: Request) -> float:
    start = time.process_time()
    engine.run(request)
    head = sum(len(name) + len(value) + 4 for name, value in request.headers)
    spent = time.process_time() - start
    return spent / (len(request.uri) + head + len(request.body) + len(request.response)) * 1e9


class Sights(NamedTuple):
    """Costs of requests of one kind and size: of the first ones, of further ones, and of one that has been seen."""

    first: list[float]
    new: list[float]
    again: float


def _sights(near_texts: dict[str, str]) -> dict[tuple[str, int], Sights]:
    """In a process that has seen none of them."""
    ours = Ours(required_crs(), 1)
    rng = random.Random(7)
    # Warm as in service: what follows is the first sight of hostile bytes, not of the rules.
    for case in CASES.values():
        for _ in range(50):
            ours.run(case(rng))
    out: dict[tuple[str, int], Sights] = {}
    for name, make in _generators(ours, near_texts).items():
        for size, further in SIZES.items():
            first = [_cost(ours, make(rng, size)) for _ in range(FIRST)]
            new = [_cost(ours, make(rng, size)) for _ in range(further)]
            request = make(rng, size)
            ours.run(request)
            out[name, size] = Sights(first, new, min(_cost(ours, request) for _ in range(3)))
    return out


def _generators(ours: Ours, near_texts: dict[str, str]) -> dict[str, Callable[[random.Random, int], Request]]:
    generators = dict(GENERATORS)
    cut = cut_matches(ours.waf.program.pattern_sets[0].patterns)
    generators["cut matches"] = lambda rng, size: _json(rng, {"a": cut(rng, size).decode("latin-1")})
    for name, text in near_texts.items():
        generators[name] = near_matches(text)
    return generators


def _cost_of_worst(peer: LibModSecurity) -> float:
    return _cost(peer, plus(random.Random(8), PEER_WORST_BYTES))


def _least(sights: Sequence[Sequence[float]]) -> list[float]:
    """Of each request, in any of the processes."""
    return [min(costs) for costs in zip(*sights, strict=True)]


def run() -> dict[str, Any]:
    root = required_crs()
    ours, peer = Ours(root, 1), LibModSecurity(root, 1)
    near_texts = {f"almost {rule_id}": text for rule_id, text in near.slowest(ours)}
    peer_worst = _cost_of_worst(peer)
    seen = [in_fresh_process(_sights, near_texts) for _ in range(PROCESSES)]
    peer_worst = min(peer_worst, _cost_of_worst(peer))
    rng = random.Random(7)
    results: list[dict[str, Any]] = []
    too_slow: set[str] = set()
    for name, make in _generators(ours, near_texts).items():
        for size in SIZES:
            sights = [each[name, size] for each in seen]
            first = max(_least([each.first for each in sights]))
            new = fmean(_least([each.new for each in sights]))
            again = min(each.again for each in sights)
            theirs = _cost(peer, make(rng, size)) if size <= PEER_MAX_BYTES and name not in too_slow else None
            if theirs is not None and theirs > PEER_SLOW_NS:
                too_slow.add(name)
            costs = {"first_ns": first, "new_ns": new, "again_ns": again, "libmodsecurity_ns": theirs}
            results.append({"case": name, "bytes": size, **costs})
    peer_worst = min(peer_worst, _cost_of_worst(peer))
    print(_table(results, peer_worst))
    worst = max(results, key=lambda result: result["first_ns"])
    share = peer_worst / worst["first_ns"]
    print(
        f"libmodsecurity's worst here: {peer_worst:.0f} ns/B (where the bound was set: {PEER_WORST_NS});"
        f" ours, {worst['case']} of {worst['bytes']} bytes: 1/{share:.0f} of it"
        f" (bound 1/{BOUND_SHARE:.0f}: {verdict(share >= BOUND_SHARE)})"
    )
    above = [result for result in results if result["first_ns"] > BOUND_NS]
    print(f"above {BOUND_NS} ns/B on this machine: {len(above)} of {len(results)}")
    return {"hostile": results, "hostile_peer_worst_ns": peer_worst}


def _table(results: Sequence[dict[str, Any]], peer_worst: float) -> str:
    rows = []
    for result in results:
        costs = [result[name] for name in ("first_ns", "new_ns", "again_ns", "libmodsecurity_ns")]
        share = peer_worst / result["first_ns"]
        said = [f"{cost:.0f}" if cost else "" for cost in costs]
        rows.append([result["case"], str(result["bytes"]), *said, f"1/{share:.0f} {verdict(share >= BOUND_SHARE)}"])
    titles = ["case", "bytes", "first ns/B", "new ns/B", "again ns/B", "libmodsecurity ns/B"]
    return table([*titles, f"first, of its worst: bound 1/{BOUND_SHARE:.0f}"], rows)

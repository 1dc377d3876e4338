"""The requests of the benches.  No two are alike: user agent, path, ids, cookies and bodies vary,
so that a cache earns only what it would earn in life."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from dataclasses import dataclass, field

AGENTS = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_{v}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_{v} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
]
WORDS = [
    "green",
    "item",
    "blue",
    "large",
    "small",
    "shirt",
    "shoes",
    "coffee",
    "kettle",
    "garden",
    "price",
    "new",
    "home",
    "light",
    "table",
    "chair",
    "lamp",
] + [
    "the",
    "a",
    "of",
    "in",
]


@dataclass(slots=True)
class Request:
    """One request and the response it gets."""

    method: str
    uri: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    response: bytes = b""
    response_type: str = "text/html; charset=utf-8"
    chunks: list[bytes] = field(default_factory=list)


def _word(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(string.ascii_letters + string.digits, k=length))


def _text(rng: random.Random, length: int) -> str:
    out = ""
    while len(out) < length:
        out += rng.choice(WORDS) + " "
    return out[:length]


def _headers(rng: random.Random) -> list[tuple[str, str]]:
    return [
        ("Host", "shop.example.com"),
        ("User-Agent", rng.choice(AGENTS).format(v=rng.randrange(1, 400))),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate, br"),
        ("Referer", f"https://shop.example.com/category/{rng.randrange(10**6)}"),
        (
            "Cookie",
            f"session={_word(rng, 32)}; theme=dark; cart={rng.randrange(10**8)}; _ga=GA1.2.{rng.randrange(10**9)}",
        ),
        ("Cache-Control", "max-age=0"),
        ("Upgrade-Insecure-Requests", "1"),
    ]


def _page(rng: random.Random, size: int = 1000) -> bytes:
    return f"<html><head><title>{_text(rng, 20)}</title></head><body><p>{_text(rng, size)}</p></body></html>".encode()


def browser_get(rng: random.Random) -> Request:
    uri = f"/shop/item/{rng.randrange(10**7)}?page={rng.randrange(50)}&q={rng.choice(WORDS)}+{rng.choice(WORDS)}&id={_word(rng, 12)}"
    return Request("GET", uri, _headers(rng), response=_page(rng))


def _post(rng: random.Random, uri: str, content_type: str, body: bytes) -> Request:
    headers = [*_headers(rng), ("Content-Type", content_type), ("Content-Length", str(len(body)))]
    return Request("POST", uri, headers, body, _page(rng))


def json_body(size: int) -> Callable[[random.Random], Request]:
    """A list of orders of about `size` bytes."""

    def make(rng: random.Random) -> Request:
        orders = []
        length = 0
        while length < size:
            order = {
                "id": rng.randrange(10**8),
                "name": _text(rng, 24),
                "email": f"{_word(rng, 8).lower()}@example.com",
                "tags": [rng.choice(WORDS), rng.choice(WORDS)],
                "price": rng.randrange(10**4) / 100,
                "note": _text(rng, 60),
                "active": rng.random() < 0.5,
            }
            orders.append(order)
            length += len(json.dumps(order)) + 2
        return _post(rng, "/api/orders", "application/json", json.dumps({"orders": orders}).encode())

    return make


def form(rng: random.Random) -> Request:
    fields = {
        "first_name": _word(rng, 8), "last_name": _word(rng, 10), "email": f"{_word(rng, 8)}%40example.com",
        "street": f"{rng.randrange(200)}+{_word(rng, 10)}+Street", "city": _word(rng, 9), "zip": str(rng.randrange(10**5)),
        "comment": _text(rng, 200).replace(" ", "+"), "newsletter": "on", "csrf": _word(rng, 40),
    }  # fmt: skip
    body = "&".join(f"{k}={v}" for k, v in fields.items()).encode()
    return _post(rng, f"/checkout/{rng.randrange(10**6)}", "application/x-www-form-urlencoded", body)


def upload(rng: random.Random) -> Request:
    boundary = f"----WebKitFormBoundary{_word(rng, 16)}"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="title"\r\n\r\n{_text(rng, 30)}\r\n'
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{_word(rng, 8)}.jpg"\r\n'
    head += "Content-Type: image/jpeg\r\n\r\n"
    body = head.encode() + rng.randbytes(50_000) + f"\r\n--{boundary}--\r\n".encode()
    return _post(rng, "/upload", f"multipart/form-data; boundary={boundary}", body)


def sqli(rng: random.Random) -> Request:
    request = browser_get(rng)
    request.uri = f"/shop?id={rng.randrange(10**6)}%27%20UNION%20SELECT%20username,password%20FROM%20users%20WHERE%20{rng.randrange(999)}=1--%20"
    return request


def large_page(rng: random.Random) -> Request:
    request = browser_get(rng)
    request.response = _page(rng, 100_000)
    return request


def many_arguments(rng: random.Random) -> Request:
    request = browser_get(rng)
    request.uri = "/search?" + "&".join(f"f{i}={_word(rng, 8)}" for i in range(100))
    return request


def graphql(rng: random.Random) -> Request:
    # No variables and no `node`: CRS takes `$first` and `{ node` for attacks.
    query = (
        f'query Order {{ order(number: "{_word(rng, 10)}") {{ number total {{ amount currency }} '
        "lines { title quantity product { slug price } } customer { name email } } }"
    )
    body = {"operationName": "Order", "query": query, "variables": {}}
    return _post(rng, "/graphql", "application/json", json.dumps(body).encode())


CASES: dict[str, Callable[[random.Random], Request]] = {
    "browser GET": browser_get,
    "JSON 2 kB": json_body(2000),
    "JSON 20 kB": json_body(20_000),
    "form": form,
    "multipart 50 kB": upload,
    "SQLi GET": sqli,
    "page 100 kB": large_page,
    "GET 100 args": many_arguments,
    "GraphQL": graphql,
}

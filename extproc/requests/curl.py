"""A command line of curl: `curl -X POST -H 'A: b' -d x=1 https://host/path`, with or without the first word.

Options follow curl's manual; those that change nothing of the request (-s, -i, -k, -v, -o FILE ...) are
taken and ignored, unknown ones are an error.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from extproc.requests.plain import RequestError
from waf_core.exchange import Exchange

_IGNORED = frozenset(
    [
        "-s",
        "--silent",
        "-S",
        "--show-error",
        "-i",
        "--include",
        "-k",
        "--insecure",
        "-v",
        "--verbose",
        "-L",
        "--location",
        "-f",
        "--fail",
        "-g",
        "--globoff",
        "--compressed",
        "--http1.1",
        "--http2",
        "-#",
        "--progress-bar",
        "-N",
        "--no-buffer",
    ]
)
_IGNORED_WITH_VALUE = frozenset(
    [
        "-o",
        "--output",
        "-w",
        "--write-out",
        "-m",
        "--max-time",
        "--connect-timeout",
        "--resolve",
        "--retry",
        "-x",
        "--proxy",
    ]
)
_ALIASES = {
    "--request": "-X", "--header": "-H", "--data": "-d", "--data-ascii": "-d", "--user-agent": "-A", "--referer": "-e",
    "--cookie": "-b", "--user": "-u", "--form": "-F", "--head": "-I", "--get": "-G", "--url": "--url",
}  # fmt: skip
_SHORT_WITH_VALUE = "XHdAebuFowmx"


def parse_curl(arguments: Sequence[str]) -> Exchange:
    """The request that curl would send.  Raises RequestError."""
    words = list(arguments)
    position = 0

    def take(option: str, value: str | None) -> str:
        nonlocal position
        if value is not None:
            return value
        if position >= len(words):
            raise RequestError(f"curl's option {option} needs a value")
        position += 1
        return words[position - 1]

    if words and Path(words[0]).name == "curl":
        words = words[1:]
    method = ""
    headers: list[tuple[str, str]] = []
    data: list[bytes] = []
    form: list[str] = []
    urls: list[str] = []
    head = get = False
    while position < len(words):
        word = words[position]
        position += 1
        option, value = word, None
        if word.startswith("--") and "=" in word:
            option, _, value = word.partition("=")
        elif len(word) > 2 and word[0] == "-" and word[1] != "-":
            if word[1] in _SHORT_WITH_VALUE:
                option, value = word[:2], word[2:]
            elif all(f"-{letter}" in _IGNORED or letter in "IG" for letter in word[1:]):
                words[position:position] = [f"-{letter}" for letter in word[1:]]
                continue
        option = _ALIASES.get(option, option)

        if option == "-X":
            method = take(option, value)
        elif option == "-H":
            name, colon, content = take(option, value).partition(":")
            if not colon:
                raise RequestError(f"the header {name!r} has no colon: write -H 'Name: value'")
            headers.append((name.strip(), content.strip()))
        elif option in ("-d", "--data-raw", "--data-binary", "--data-urlencode", "--json"):
            text = take(option, value)
            data.append(_data(option, text))
            if option == "--json":
                headers += [("Content-Type", "application/json"), ("Accept", "application/json")]
        elif option == "-F":
            form.append(take(option, value))
        elif option == "-A":
            headers.append(("User-Agent", take(option, value)))
        elif option == "-e":
            headers.append(("Referer", take(option, value)))
        elif option == "-b":
            headers.append(("Cookie", take(option, value)))
        elif option == "-u":
            headers.append(("Authorization", "Basic " + base64.b64encode(take(option, value).encode()).decode()))
        elif option == "-I":
            head = True
        elif option == "-G":
            get = True
        elif option == "--url":
            urls.append(take(option, value))
        elif option in _IGNORED_WITH_VALUE:
            take(option, value)
        elif option in _IGNORED:
            continue
        elif option.startswith("-"):
            raise RequestError(f"curl's option {option} is not known here")
        else:
            urls.append(word)
    if len(urls) != 1:
        raise RequestError(f"there has to be one URL, found {len(urls)}")
    return _build(urls[0], method, headers, data, form, head=head, get=get)


def _data(option: str, text: str) -> bytes:
    if option == "--data-urlencode":
        name, equals, value = text.partition("=")
        return (f"{name}={quote(value)}" if equals and name else quote(value if equals else text)).encode()
    if text.startswith("@") and option != "--data-raw":
        try:
            content = Path(text[1:]).read_bytes()
        except OSError as error:
            raise RequestError(f"cannot read {text[1:]}: {error.strerror}") from error
        return content if option != "-d" else content.replace(b"\r", b"").replace(b"\n", b"")
    return text.encode("utf-8", "surrogateescape")


def _build(
    url: str, method: str, headers: list[tuple[str, str]], data: list[bytes], form: list[str], *, head: bool, get: bool
) -> Exchange:
    if "://" not in url:
        url = f"http://{url}"
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise RequestError(f"{url!r} is no URL: {error}") from error
    if not parts.netloc:
        raise RequestError(f"{url!r} has no host")
    # Not put together from `parts`: the spelling is what rules are asked about.
    rest = url[url.find("://") + 3 :].partition("#")[0]
    uri = rest[len(parts.netloc) :]
    if not uri.startswith("/"):
        uri = "/" + uri
    body = b"&".join(data)
    if form:
        boundary = "------------------------envoywaf0000"
        body = b"".join(_part(boundary, item) for item in form) + f"--{boundary}--\r\n".encode()
        headers.append(("Content-Type", f"multipart/form-data; boundary={boundary}"))
    if get and body:
        uri += ("&" if "?" in uri else "?") + body.decode("utf-8", "surrogateescape")
        body = b""
    names = {name.lower() for name, _ in headers}
    complete: list[tuple[str, str]] = []
    if "host" not in names:
        complete.append(("Host", parts.netloc.rpartition("@")[2]))
    if "user-agent" not in names:
        complete.append(("User-Agent", "curl/8.5.0"))
    if "accept" not in names:
        complete.append(("Accept", "*/*"))
    complete += [(name, value) for name, value in headers if value]
    if body:
        if "content-type" not in {name.lower() for name, _ in complete}:
            complete.append(("Content-Type", "application/x-www-form-urlencoded"))
        if "content-length" not in names:
            complete.append(("Content-Length", str(len(body))))
    verb = method or ("HEAD" if head else "POST" if (body and not get) else "GET")
    return Exchange(
        method=verb.encode(),
        uri=uri.encode("utf-8", "surrogateescape"),
        headers=[(n.encode(), v.encode("utf-8", "surrogateescape")) for n, v in complete],
        body=body,
        label="curl",
    )


def _part(boundary: str, item: str) -> bytes:
    name, equals, value = item.partition("=")
    if not equals:
        raise RequestError(f"-F {item!r} has no `=`")
    extra, content = "", value.encode()
    if value[:1] in ("@", "<"):
        path = Path(value[1:].partition(";")[0])
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RequestError(f"cannot read {path}: {error.strerror}") from error
        if value[0] == "@":
            extra = f'; filename="{path.name}"\r\nContent-Type: application/octet-stream'
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"

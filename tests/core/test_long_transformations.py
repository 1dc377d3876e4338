"""Long values are transformed piece by piece: nobody can tell where they are cut, and few take tens of times their size."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from waf_core.transformations import REGISTRY

TOKENS = [
    b"%41", b"%u0041", b"%uff41", b"%", b"+", b"&lt;", b"&#65;", b"&#x41", b"&#0000000000065", b"&", b"\\x41", b"\\u0041",
    b"\\101", b"\\41 ", b"\\", b"\\\\", b"\\ff41", "ü".encode(), "€".encode(), "😀".encode(), b"\xc3", b"\xbf", b"\0", b"/*",
    b"*/", b"<!--", b"-->", b"--", b"-", b"#", b"/a", b"/../", b"/./", b"//", b"0x41", b"  ", b" ", b"a", b"bc", b"QUFB",
]  # fmt: skip
PLAIN = b"g"
"""Part of nothing that is replaced."""

LONG_BYTES = 200_000

TIMES = {
    **dict.fromkeys(("urlencode", "hexencode", "utf8tounicode"), 12),
    **dict.fromkeys(("removecomments", "replacecomments", "sqlhexdecode"), 24),
    **dict.fromkeys(("normalizepath", "normalisepath", "normalizepathwin", "normalisepathwin"), 24),
}
"""What may be held of values, in times of their size: of what gets longer, of many pieces that are left, and of names of
which a later `..` may take some away."""

SHIFTED = sorted(
    set(REGISTRY)
    - {"length", "md5", "sha1", "base64encode", "base64decode", "base64decodeext", "hexdecode", "trim", "trimleft"}
)


def values(rng: random.Random, size: int) -> list[bytes]:
    """Of a few tokens, with runs of some and, at times, of one alone."""
    out = []
    for tokens in [[token] for token in TOKENS] + [rng.sample(TOKENS, rng.randrange(2, 6)) for _ in range(20)]:
        text = b""
        while len(text) < size:
            text += rng.choice(tokens) * rng.choice((1, 1, 2, 3, 3000))
        out.append(text[: 2 * size])
    return out


@pytest.mark.parametrize("name", SHIFTED)
def test_it_is_the_same_wherever_it_is_cut(name: str) -> None:
    """What stands ahead moves the cuts."""
    function = REGISTRY[name]
    for value in values(random.Random(name), 9000):
        ahead = PLAIN + (b" " if name.startswith("trim") else b"")
        results = {function(ahead * count + value).removeprefix(function(ahead * count)) for count in (1, 2, 3, 500)}
        if name.startswith("normali"):  # it is part of the first name
            results = {result.lstrip(PLAIN) for result in results}
        assert len(results) == 1, value[:40]


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_it_takes_little_more_than_the_value(name: str) -> None:
    function = REGISTRY[name]
    for token in TOKENS:
        value = token * (LONG_BYTES // len(token))
        tracemalloc.start()
        try:
            function(value)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < TIMES.get(name, 5) * LONG_BYTES, (token, most)


def test_long_paths() -> None:
    """Names that are joined meanwhile are taken away as others are."""
    rng = random.Random(1)
    for _ in range(100):
        names: list[bytes] = []
        while len(names) < 9000:
            names += [rng.choice((b"a", b"..", b"..", b".", b"", b"a..", b"bcd"))] * rng.choice(
                (1, 1, 2, 5, 2048, 3000)
            )
        value = rng.choice((b"/", b"", b"../")) + b"/".join(names)
        left: list[bytes] = []
        for name in value.split(b"/"):
            if name == b".." and left and left[-1] != b"..":
                left.pop()
            elif name not in (b"", b".") and (name != b".." or not value.startswith(b"/")):
                left.append(name)
        path = (b"/" if value.startswith(b"/") else b"") + b"/".join(left)
        assert REGISTRY["normalizepath"](value) == path + (b"/" if left and value.endswith(b"/") else b"")

"""Where the search begins: inputs that a target can make something of."""

from __future__ import annotations

import gzip
import zlib


def _text(data: bytes) -> bytes:
    """As fuzz.pieces.Pieces reads it."""
    return bytes((len(data),)) + data


_BODY = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; name="f"; '
    b'filename="x.bin"\r\nContent-Type: a/b\r\n\r\n\0\n--\r\n--b--\r\n'
)

SEEDS: dict[str, list[bytes]] = {
    "frames": [bytes((1, 0, 1, 0)) + bytes((0, 2, 1)) + _text(b"one") + bytes((0, 1, 1, 0)), bytes((8, 0, 0)) + _text(b"\0\0\0\1")],
    "streams": [
        b"\0\0\1" + _text(b"POST") + b"\1" + _text(b"/?a=b") + b"\0\0\0\0\0" + b"\0" + b"\1\1" + _text(b"a=evil"),
        b"\0\1\0\0\0\0\0\0\0\xff" + b"\3\0\0\0\0\1" + _text(b"200") + b"\0\0\0\xff" + b"\4\1" + _text(b"page"),
    ],
    "multipart": [_text(b"\5\1") + _text(b"b") + _BODY, b"\0\0" + _BODY.replace(b"\r\n", b"\n")],
    "json": [b'{"a":[1,2.5e3,{"b":null}],"c":"\\u00e9\\ud800"}', b'\xef\xbb\xbf[[[["x"]]],true]', b"[]"],
    "xml": [
        b'<?xml version="1.0"?><a x="1"><b>t<c/>u</b><!-- c --><![CDATA[d]]><?pi e?></a>',
        b'<!DOCTYPE a [<!ENTITY e "x">]><a>&e;</a>',
        b'<n:a xmlns:n="u" n:x="&#65;">&lt;</n:a>',
    ],
    "urlencoded": [b"a=1&&b=%41%zz&c+d=+&=e&f"],
    "coding": [
        b"\0" + b"\x0b\x02\x80hello\x03",
        b"\1" + zlib.compress(bytes(1000)),
        b"\2" + gzip.compress(b"hello" * 9, mtime=0) + gzip.compress(b"", mtime=0),
        b"\4" + b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello",
    ],
    "seclang": [
        b'SecRule ARGS|!ARGS:/x/|&REQUEST_HEADERS:a "!@rx (?i)a+b" "id:1,phase:2,deny,t:none,t:urlDecodeUni,capture,chain"\n'
        b'SecRule TX:1|XML:/* "@within %{tx.a}" "setvar:tx.b=+1,ctl:ruleRemoveTargetById=1;ARGS:c,multiMatch"',
        b'SecAction "id:2,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.n=+1,expirevar:ip.n=60,skipAfter:END"\n'
        b"SecMarker END\nSecRuleUpdateTargetById 1 \"!ARGS:d\"\nSecRuleRemoveByTag x\nSecDefaultAction \"phase:1,log,pass\"",
        b'SecRule REQUEST_URI "@pm a b|0d 0a|" \\\n  "id:3,phase:1,block,msg:\'m %{MATCHED_VAR}\',logdata:\'%{TX.0}\',severity:CRITICAL"',
    ],
    "expressions": [_text(rb"(?i)\bunion\s+(all|select)\b|^[^a-z\x00]{2,5}$") + b"union select", _text(rb"(a|b(c)?)+?\Bd") + b"abcd"],
    "transformations": [bytes((n,)) + _text(b"\3\1") + b"%41%u0041&lt;\\x41 /*a*/ ../b \xc3\xa9 QUJD" for n in range(40)],
    "engine": [
        b"\0" + _text(b"curl' or 1=1--") + _text(b"s=<script>") + _text(b"${jndi:ldap://x}") + _text(b"?a=../../etc/passwd")
        + _text(b"b=union+select+1&c=%3Cscript%3E") + b"You have an error in your SQL syntax",
        b"\2" + _text(b"a") + _text(b"b=c") + _text(b";cat /etc/passwd") + _text(b"?x=1") + _text(b'{"a":"<?php eval("}') + b"ok",
    ],
}  # fmt: skip

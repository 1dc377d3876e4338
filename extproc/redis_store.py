"""Collections in Redis or Valkey, shared by every worker and replica.

A record is a hash, `envoy-waf:{collection}:{key}`: variables under `v:NAME`, their expiry under
`x:NAME` (seconds since 1970), their decay under `d:NAME`.  Each change is one atomic script, so that what
replicas add at the same time adds up.  Loading takes one round trip, and so does committing.

When Redis does not answer, a circuit breaker opens: for a while nobody asks, requests are judged
without their records, and that is counted (`redis_on_failure: open`), or they are refused
(`closed`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence

import redis.asyncio as redis
from redis.exceptions import RedisError

from waf_core.operators.numeric import to_int
from waf_core.persistence import Change, StoreUnavailableError
from waf_core.persistence.buffered import Key

BREAKER_FAILURES = 3
"""Failures in a row that open the breaker."""

BREAKER_SECONDS = 5.0
CALL_SECONDS = 0.25
MAX_FIELDS = 512
MAX_FIELD_BYTES = 4096
PREFIX = b"envoy-waf:"
_TIME = re.compile(rb"\d+(?:\.\d+)?")


class RedisStore:
    """`url` is redis://HOST:PORT/DB, rediss:// for TLS, or unix:///PATH."""

    def __init__(self, url: str, timeout: int) -> None:
        self._client = redis.Redis.from_url(
            url, socket_timeout=CALL_SECONDS, socket_connect_timeout=CALL_SECONDS, decode_responses=False
        )
        self._timeout = timeout
        self._failures = 0
        self._open_until = 0.0
        self.errors = 0
        self.skipped = 0

    async def close(self) -> None:
        await self._client.aclose()

    async def load(self, keys: Sequence[Key]) -> dict[Key, dict[bytes, bytes]]:
        """The records, empty ones included.  Raises StoreUnavailableError."""
        self._check()
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.hgetall(_name(key))
        answers = await self._run(pipe)
        now = time.time()
        return {key: _live(answer, now) for key, answer in zip(keys, answers, strict=True)}

    async def commit(self, changes: Iterable[tuple[Key, Change]]) -> None:
        """Send changes in order.  Raises StoreUnavailableError."""
        self._check()
        pipe = self._client.pipeline(transaction=False)
        touched: set[bytes] = set()
        for key, change in changes:
            name = _name(key)
            touched.add(name)
            _queue(pipe, name, change)
        for name in touched:
            pipe.expire(name, self._timeout)
        await self._run(pipe)

    def _check(self) -> None:
        if time.monotonic() < self._open_until:
            self.skipped += 1
            raise StoreUnavailableError("the circuit breaker is open")

    async def _run(self, pipe: redis.client.Pipeline) -> list[dict[bytes, bytes]]:
        try:
            answers: list[dict[bytes, bytes]] = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self.errors += 1
            self._failures += 1
            if self._failures >= BREAKER_FAILURES:
                self._open_until = time.monotonic() + BREAKER_SECONDS
            raise StoreUnavailableError(str(error)) from error
        self._failures = 0
        return answers


def _name(key: Key) -> bytes:
    return PREFIX + key[0].lower().encode() + b":" + key[1][:MAX_FIELD_BYTES]


# One change of one variable; a value whose time is over counts as absent.  Redis runs a script
# as a whole, so changes of other replicas come before or after it, never in between.
_CHANGE = """
local record, name, kind, value, now = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local deadline = redis.call('HGET', record, 'x:' .. name)
if deadline and tonumber(deadline) <= now then
  redis.call('HDEL', record, 'v:' .. name, 'x:' .. name)
end
if kind == 'add' then
  local old = tonumber(redis.call('HGET', record, 'v:' .. name) or '0') or 0
  redis.call('HSET', record, 'v:' .. name, string.format('%.0f', old + tonumber(value)))
elseif kind == 'set' then
  redis.call('HSET', record, 'v:' .. name, value)
elseif kind == 'delete' then
  redis.call('HDEL', record, 'v:' .. name, 'x:' .. name, 'd:' .. name)
elseif kind == 'expire' then
  redis.call('HSET', record, 'x:' .. name, string.format('%.3f', now + tonumber(value)))
elseif kind == 'deprecate' then
  redis.call('HSETNX', record, 'd:' .. name, value .. '/' .. string.format('%.3f', now))
end
return 1
"""


def _queue(pipe: redis.client.Pipeline, name: bytes, change: Change) -> None:
    value = b"%d" % to_int(change.value) if change.kind in ("add", "expire") else change.value[:MAX_FIELD_BYTES]
    pipe.eval(
        _CHANGE,
        1,
        name,
        change.name[:MAX_FIELD_BYTES],
        change.kind,
        value,
        b"%.3f" % time.time(),
    )


def _live(answer: object, now: float) -> dict[bytes, bytes]:
    """Variables that have not expired, decayed as far as they should be."""
    if not isinstance(answer, dict):
        return {}
    out: dict[bytes, bytes] = {}
    for field, value in list(answer.items())[:MAX_FIELDS]:
        kind, name = field[:2], field[2:]
        if kind != b"v:":
            continue
        deadline = answer.get(b"x:" + name)
        if deadline is not None and _seconds(deadline) <= now:
            continue
        decay = answer.get(b"d:" + name)
        if decay is not None:
            amount, period, since = decay.split(b"/")
            steps = int((now - _seconds(since)) // max(to_int(period), 1))
            value = b"%d" % max(to_int(value) - steps * to_int(amount), 0)
        out[name] = value
    return out


def _seconds(text: bytes) -> float:
    """A time that `_CHANGE` has written; one that is none is long past."""
    return float(text) if _TIME.fullmatch(text) else 0.0

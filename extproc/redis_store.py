"""Collections in Redis or Valkey, shared by every worker and replica.

A record is a hash, `envoy-waf:{collection}:{key}`: variables under `v:NAME`, their expiry under
`x:NAME` (seconds since 1970), their decay under `d:NAME`.  What a request changes of a record is one atomic script, so
that what replicas add at the same time adds up.  Loading takes one round trip, and so does committing.

When Redis does not answer, a circuit breaker opens: for a while nobody asks, requests are judged
without their records, and that is counted (`redis_on_failure: open`), or they are refused
(`closed`).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

import redis.asyncio as redis
from redis.exceptions import RedisError

from extproc.config import ConfigError
from waf_core.operators.numeric import to_int
from waf_core.persistence import Change, StoreUnavailableError
from waf_core.persistence.buffered import Key
from waf_core.persistence.memory import MAX_VARIABLES

BREAKER_FAILURES = 3
"""Failures in a row that open the breaker."""

BREAKER_SECONDS = 5.0
CALL_SECONDS = 0.25
MAX_FIELDS = 3 * MAX_VARIABLES
"""Of a record: a value, its end and its decay for each variable."""

MAX_FIELD_BYTES = 4096

MAX_SCRIPT_CHANGES = 256
"""Of one call of the script: Redis serves nobody else meanwhile (1 ms).  More are several calls."""

MAX_KEY_BYTES = 1024
"""Of longer keys a hash stands in the name of the record."""

PREFIX = b"envoy-waf:"
_TIME = re.compile(rb"\d+(?:\.\d+)?")
_DECAY = re.compile(rb"(\d+)/(\d+)/(" + _TIME.pattern + rb")")


class RedisStore:
    """`url` is redis://HOST:PORT/DB, rediss:// for TLS, or unix:///PATH."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError when it is none of these."""
        try:
            self._client = redis.Redis.from_url(
                url, socket_timeout=CALL_SECONDS, socket_connect_timeout=CALL_SECONDS, decode_responses=False
            )
        except ValueError as error:
            raise ConfigError(f"redis_url: {error}") from error
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

    async def commit(self, changes: Iterable[tuple[Key, Change, int]]) -> None:
        """Send changes in order; a record ends so many seconds after its last one.  Raises StoreUnavailableError."""
        self._check()
        records: dict[tuple[Key, int], list[Change]] = {}
        for key, change, timeout in changes:
            records.setdefault((key, timeout), []).append(change)
        pipe = self._client.pipeline(transaction=False)
        for (key, timeout), own in records.items():
            for start in range(0, len(own), MAX_SCRIPT_CHANGES):
                _queue(pipe, _name(key), own[start : start + MAX_SCRIPT_CHANGES], timeout)
        await self._run(pipe)

    def _check(self) -> None:
        if time.monotonic() < self._open_until:
            self.skipped += 1
            raise StoreUnavailableError("the circuit breaker is open")

    async def _run(self, pipe: redis.client.Pipeline) -> list[Any]:
        try:
            answers: list[Any] = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self.errors += 1
            self._failures += 1
            if self._failures >= BREAKER_FAILURES:
                self._open_until = time.monotonic() + BREAKER_SECONDS
            raise StoreUnavailableError(str(error)) from error
        self._failures = 0
        refused = next((answer for answer in answers if isinstance(answer, Exception)), None)
        if refused is not None:  # no memory left, a replica that is read-only, no permission
            self.errors += 1
            raise StoreUnavailableError(f"Redis refuses: {refused}") from refused
        return answers


def _name(key: Key) -> bytes:
    collection, own = key
    if len(own) > MAX_KEY_BYTES:
        own = hashlib.sha256(own).hexdigest().encode()
    return PREFIX + collection.lower().encode() + b":" + own


# Changes of one record.  A value whose time is over counts as absent; what it has lost meanwhile is taken away first.
# Redis runs a script as a whole, so changes of other replicas come before or after it, never in between.
_CHANGE = """
local record, now, most, timeout = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local fields = {add = 'v:', set = 'v:', expire = 'x:', deprecate = 'd:'}
local function integer(text)
  return tonumber(string.match(text or '', '^%s*([-+]?%d+)')) or 0
end
local function change(kind, name, value)
  local deadline = redis.call('HGET', record, 'x:' .. name)
  if deadline and (tonumber(deadline) or 0) <= now then
    redis.call('HDEL', record, 'v:' .. name, 'x:' .. name)
  end
  local amount, period, since = string.match(redis.call('HGET', record, 'd:' .. name) or '', '^(%d+)/(%d+)/([%d.]+)$')
  if amount then
    period = math.max(tonumber(period), 1)
    local steps = math.floor((now - tonumber(since)) / period)
    if steps > 0 then
      redis.call('HSET', record, 'd:' .. name,
        amount .. '/' .. period .. '/' .. string.format('%.3f', tonumber(since) + steps * period))
      local old = redis.call('HGET', record, 'v:' .. name)
      if old then
        redis.call('HSET', record, 'v:' .. name, string.format('%.0f', math.max(integer(old) - steps * amount, 0)))
      end
    end
  end
  local field = fields[kind]
  if field and redis.call('HEXISTS', record, field .. name) == 0 and redis.call('HLEN', record) >= most then
    return
  end
  if kind == 'add' then
    local old = redis.call('HGET', record, 'v:' .. name)
    redis.call('HSET', record, 'v:' .. name, string.format('%.0f', integer(old) + tonumber(value)))
  elseif kind == 'set' then
    redis.call('HSET', record, 'v:' .. name, value)
  elseif kind == 'delete' then
    redis.call('HDEL', record, 'v:' .. name, 'x:' .. name, 'd:' .. name)
  elseif kind == 'expire' then
    redis.call('HSET', record, 'x:' .. name, string.format('%.3f', now + tonumber(value)))
  elseif kind == 'deprecate' then
    redis.call('HSETNX', record, 'd:' .. name, value .. '/' .. string.format('%.3f', now))
  end
end
for i = 4, #ARGV, 3 do
  change(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
redis.call('EXPIRE', record, timeout)
"""


def _queue(pipe: redis.client.Pipeline, name: bytes, changes: Sequence[Change], timeout: int) -> None:
    words: list[str | bytes | int] = [b"%.3f" % time.time(), MAX_FIELDS, timeout]
    for change in changes:
        number = change.kind in ("add", "expire")
        words += (
            change.kind,
            change.name[:MAX_FIELD_BYTES],
            b"%d" % to_int(change.value) if number else change.value[:MAX_FIELD_BYTES],
        )
    pipe.eval(_CHANGE, 1, name, *words)


def _live(answer: object, now: float) -> dict[bytes, bytes]:
    """Variables that have not expired, decayed as far as they should be."""
    if not isinstance(answer, dict):
        return {}
    out: dict[bytes, bytes] = {}
    for field, value in answer.items():
        kind, name = field[:2], field[2:]
        if kind != b"v:":
            continue
        deadline = answer.get(b"x:" + name)
        if deadline is not None and _seconds(deadline) <= now:
            continue
        decay = answer.get(b"d:" + name)
        if decay is not None:
            value = _decayed(value, decay, now)
        out[name] = value
    return out


def _decayed(value: bytes, decay: bytes, now: float) -> bytes:
    """`decay` is what `_CHANGE` has written: amount/period/since."""
    parts = _DECAY.fullmatch(decay)
    if parts is None:
        return value
    amount, period, since = parts.groups()
    steps = int((now - float(since)) // max(to_int(period), 1))
    return b"%d" % max(to_int(value) - steps * to_int(amount), 0) if steps > 0 else value


def _seconds(text: bytes) -> float:
    """A time that `_CHANGE` has written; one that is none is long past."""
    return float(text) if _TIME.fullmatch(text) else 0.0

"""One ext_proc stream: from messages on the wire to the protocol machine (extproc/stream.py) and back.

Small messages are judged where they are received, in one go.  Large bodies are judged on a thread, and with Redis
the records that rules look at are fetched and committed around each message; then what comes meanwhile waits its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from extproc.answers import engine_failure, no_room, serialize, store_failure, too_slow
from extproc.piece import Answer, Piece
from extproc.policies import METADATA_KEY
from extproc.received import Received, unpack
from extproc.stream import Stream, StreamError
from extproc.transport import messages
from extproc.transport.connection import Call
from extproc.transport.messages import Message, RpcError
from waf_core.persistence import StoreUnavailableError
from waf_core.persistence.buffered import BufferedStore, Key

if TYPE_CHECKING:
    from extproc.service import ExtProcService

LIGHT_MICROSECONDS = 1500
"""What weighs more is judged on a thread: on the loop others would wait.  (A thread costs half a millisecond.)"""

_POLICY_HEADER = METADATA_KEY.encode()


def _size(message: Message) -> int:
    return sum(map(len, message))


class StreamSession:
    """One ext_proc stream.  An error of the engine ends in a 500: fail closed."""

    def __init__(self, service: ExtProcService, call: Call) -> None:
        self._service = service
        self._call = call
        service.streams += 1
        service.metrics.in_flight.inc()
        self._buffered = BufferedStore() if service.records is not None else None
        named = call.headers.get(_POLICY_HEADER, b"").decode("latin-1")
        self._stream = Stream(service.policies, service.options, store=self._buffered, named_policy=named)
        self._spent = 0.0
        self._unjudged_bytes = 0
        """Of messages that wait, or are judged on a thread."""
        self._charged = 0
        """Bytes that this stream takes from the room."""
        self._crowded = False
        self._waiting: deque[Message] = deque()
        self._busy = False
        self._peer_ended = False
        self._gone = False
        self._closed = False
        if service.streams > service.settings.max_streams and not service.make_way():
            service.is_full()
            call.finish(messages.RESOURCE_EXHAUSTED, "too many streams")
            self._close()

    # -- Session ----------------------------------------------------------------------------------

    def message(self, message: Message) -> None:
        """Judge it, now or in its turn."""
        if self._closed:
            return
        if self._busy:
            self._waiting.append(message)
            self._unjudged_bytes += _size(message)
            self._find_room()
            return
        try:
            received = unpack(message)
            if self._buffered is None and self._stream.weight(*received) <= LIGHT_MICROSECONDS:
                self._answer(self._judge(received))
                if not self._closed:
                    self._service.note(self, self._stream)
                    if self._stream.kept_bytes != self._charged:
                        self._find_room()
                return
        except RpcError as error:
            self._refuse(error)
            return
        self._unjudged_bytes += received.size
        if not self._find_room():
            return
        self._busy = True
        self._service.note(self, None)
        self._call.hold()
        self._service.tasks.start(self._work(received))

    def ended(self) -> None:
        """Envoy has sent everything."""
        self._peer_ended = True
        if not self._busy:
            self._end()

    def gone(self) -> None:
        """Envoy has dropped the stream."""
        self._gone = True
        if not self._busy:
            self._close()

    def crowded(self) -> None:
        """Too much is held already.  What is being judged is judged first; then the stream ends."""
        if self._closed or self._crowded:
            return
        self._crowded = True
        self._waiting.clear()
        if not self._busy:
            self._give_up()

    def make_way(self) -> None:
        """Its client is slow, and others wait: the stream ends.  What is judged cannot be refused any more; Envoy
        breaks it off."""
        self._service.is_full()
        if self._stream.passes_on:
            self._call.finish(messages.RESOURCE_EXHAUSTED, "others need the place")
            self._close()
        else:
            self._turn_away(too_slow())

    def _find_room(self) -> bool:
        """Take what is kept now from the room.  When there is none for more, the stream is refused."""
        bytes_now = self._stream.kept_bytes + self._unjudged_bytes
        more = bytes_now - self._charged
        room = self._call.room
        room.left -= more
        self._charged = bytes_now
        if more > 0 and room.crowded(bytes_now):
            self.crowded()
        return not self._crowded

    def _give_up(self) -> None:
        self._service.is_crowded()
        self._turn_away(no_room())

    def _turn_away(self, answer: Answer) -> None:
        self._stream.fail(503)
        self._answer([answer])

    def _answer(self, answers: Sequence[Answer]) -> None:
        """Send them, and end the stream if nothing comes behind them."""
        for answer in answers:
            self._send(answer)
        if self._stream.ends:
            self._end()

    def _send(self, answer: Answer) -> None:
        if isinstance(answer, Piece):
            self._call.send(*answer.parts())
        else:
            self._call.send(serialize(answer))

    # -- judging ----------------------------------------------------------------------------------

    def _judge_aside(self, received: Received) -> list[Answer]:
        """On a thread.  Nobody waits for the verdict any more if Envoy's patience has ended while others were judged:
        where there is too much to do, only what still counts is done."""
        return [] if self._gone else self._judge(received)

    def _judge(self, received: Received) -> list[Answer]:
        """The answers.  Also on a thread, but one at a time.  Raises RpcError."""
        start = time.perf_counter()
        try:
            return self._stream.handle(received.request, received.body)
        except StreamError as error:
            raise RpcError(messages.FAILED_PRECONDITION, str(error)) from error
        except Exception:
            self._service.metrics.stream_errors.labels("engine").inc()
            self._service.log.exception("the engine failed; the request is refused")
            self._stream.fail(500)
            return [engine_failure()]
        finally:
            self._spent += time.perf_counter() - start

    def _refuse(self, error: RpcError) -> None:
        self._service.metrics.stream_errors.labels("protocol").inc()
        self._service.log.error("Envoy's filter is configured wrongly", error=error.text)
        self._call.finish(error.status, error.text)
        self._close()

    async def _work(self, received: Received) -> None:
        """Handle this and what waits behind it, in order.  The transaction belongs to a thread until that is done, even
        when the stream is gone meanwhile."""
        try:
            while not (self._gone or self._closed):
                await self._handle(received)
                self._judged(received.size)
                if not self._waiting:
                    break
                received = unpack(self._waiting.popleft())
        except RpcError as error:
            self._refuse(error)
        finally:
            self._busy = False
            self._waiting.clear()
            if self._gone:
                self._close()
            elif self._crowded and not self._closed:
                self._give_up()
            elif self._peer_ended:
                self._end()
            else:
                if not self._closed:
                    self._service.note(self, self._stream)
                self._call.resume()

    def _judged(self, size: int) -> None:
        self._unjudged_bytes -= size
        if not self._closed:
            self._find_room()

    async def _handle(self, received: Received) -> None:
        loop, threads = asyncio.get_running_loop(), self._service.threads
        request = received.request
        buffered = self._buffered
        if buffered is not None and self._stream.tx is None and request.HasField("request_headers"):
            with contextlib.suppress(StreamError):  # `handle` meets it again
                await self._fetch_records(self._stream.begin(request).expected_records(), buffered)
        if self._stream.weight(*received) > LIGHT_MICROSECONDS:
            answers = await loop.run_in_executor(threads, self._judge_aside, received)
        else:
            answers = self._judge(received)
        if buffered is not None and (buffered.changes or buffered.missing):
            await self._exchange_records(buffered)
        closed = self._service.settings.redis_on_failure == "closed"
        if closed and self._stream.store_failed and not self._stream.blocked:
            answers = [store_failure()]
            self._stream.fail(503)
        self._answer(answers)

    # -- records ----------------------------------------------------------------------------------

    async def _fetch_records(self, keys: Sequence[Key], buffered: BufferedStore) -> None:
        """Bring the records that the rules will open."""
        records = self._service.records
        if not keys or records is None:
            return
        try:
            buffered.records.update(await records.load(keys))
            self._service.store_answers("load")
        except StoreUnavailableError as error:
            self._store_failed("load", error)

    async def _exchange_records(self, buffered: BufferedStore) -> None:
        """Send what rules changed, and bring what they opened unforeseen."""
        records, stream = self._service.records, self._stream
        assert records is not None
        lost, buffered.lost = buffered.lost, 0
        changes, buffered.changes = buffered.changes, []
        missing, buffered.missing = buffered.missing, []
        call = "load"
        try:
            if missing and not stream.store_failed:
                for key, record in (await records.load(missing)).items():
                    if stream.tx is not None:
                        stream.tx.records.merge(key[0], record, [one for own, one, _ in changes if own == key])
                self._service.store_answers(call)
            if changes:
                call = "commit"
                await records.commit(changes)
                self._service.store_answers(call)
        except StoreUnavailableError as error:
            self._store_failed(call, error)
        if lost:
            stream.store_failed = True
            self._service.loses_changes(lost)

    def _store_failed(self, call: str, error: StoreUnavailableError) -> None:
        self._stream.store_failed = True
        self._service.store_fails(call, error)

    # -- the end ----------------------------------------------------------------------------------

    def _end(self) -> None:
        """All is answered."""
        self._call.finish()
        self._close()

    def _close(self) -> None:
        """Phase 5 and the records, once, whatever happened."""
        if self._closed:
            return
        self._closed = True
        # The call is not asked any more, and a cycle would wait for the garbage collector (80 ms of a pause).
        self._call.session = None
        self._call.room.left += self._charged
        self._charged = 0
        service = self._service
        service.streams -= 1
        service.note(self, None)
        service.metrics.in_flight.dec()
        if (self._gone or self._peer_ended) and self._stream.unfinished:
            self._stream.cancelled = True
            service.metrics.stream_errors.labels("cancelled").inc()
        start = time.perf_counter()
        try:
            self._stream.close()
        except Exception:
            service.metrics.stream_errors.labels("logging").inc()
            service.log.exception("phase 5 failed")
        self._spent += time.perf_counter() - start
        try:
            service.recorder.finished(self._stream, self._spent)
            if service.tracer is not None:
                service.tracer.finished(self._stream, self._spent)
            service.shadows.judge(self._stream)
        except Exception:
            service.metrics.stream_errors.labels("recording").inc()
            service.log.exception("a finished stream could not be recorded")
        if self._buffered is not None and self._buffered.changes:
            service.tasks.start(self._exchange_records(self._buffered))

"""One connection to a ModelDB V1, for any number of callers at once.

Frames (4 bytes of length, then a message) go out in the order of the calls; the server works on
them strictly in that order and answers in it. So an answer belongs to the oldest call without one;
its sequence id must say the same. After anything else (no answer in time, a wrong id, bytes that
are no answer) nobody knows where the next answer begins: the connection ends, and every call on it
without an answer has failed with an unknown outcome.

A caller that is cancelled does not end the connection, for that would make the outcome of everybody
else's calls unknown, too: its frame has left as a whole, and its answer is read and dropped when it
comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.targets.addresses import host_and_port
from daemon.targets.modeldb_v1.codec import MalformedMessageError, decode_reply, encode_call
from daemon.targets.modeldb_v1.dialling import connected_socket, words_of
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed, classify

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_FRAME = 16_384_000
"""Bytes. The server closes the connection on a longer one; its own answers may be longer, and are
refused here all the same."""
CLOSE_SECONDS = 1.0
_LARGEST_ID = 2**31 - 1
FIRST_SEQUENCE_ID = int.from_bytes(b"\r\n\r\n", "big")
"""Of each connection. A web server at this address takes the first call for a request that has
ended, and answers at once."""
_HTTP = (b"HTTP", b"<")
"""Some answer the oddest requests with nothing but a page."""
_TLS_ALERT = b"\x15\x03"


@dataclass(slots=True)
class _Waiting:
    """A call without an answer."""

    method: str
    sequence_id: int
    answer: asyncio.Future[Any]


class Connection:
    """Made by `open`; ended by `aclose`, by the server, or by an answer that is none."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        address: str,
        *,
        call_seconds: float,
        may_send: Callable[[], bool],
        observe: Callable[[str, str], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._address = address
        self._call_seconds = call_seconds
        self._may_send = may_send
        self._observe = observe
        self._line: deque[_Waiting] = deque()
        self._writing = asyncio.Lock()
        self._deadline: asyncio.TimerHandle | None = None
        self._sequence_id = FIRST_SEQUENCE_ID
        self._end: CallFailed | None = None
        self._loop = asyncio.get_running_loop()
        self._reading = asyncio.create_task(self._read(), name=f"answers of {address}")

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        ssl_context: ssl.SSLContext | None = None,
        connect_seconds: float = 5.0,
        call_seconds: float = 45.0,
        may_send: Callable[[], bool] = lambda: True,
        observe: Callable[[str, str], None] = lambda _method, _result: None,
    ) -> Connection:
        """Connects.

        Args:
            host: a name, or an IPv4 or IPv6 address. Of a name with several addresses, the first
                that takes a connection.
            port: of the server.
            ssl_context: for a TLS terminator in front of the server; None: no TLS.
            connect_seconds: until the connection stands, TLS included.
            call_seconds: how long the oldest call may wait for its answer. It counts from when the
                call before it was answered.
            may_send: asked right before each call is sent.
            observe: told (method, result) when a call ends, also one whose caller has gone; the
                result is "ok" or a word of `CallErrorKind`.

        Raises:
            CallFailed: no connection, or no TLS on it; nothing was sent.
        """
        address = host_and_port(host, port)

        def failed(kind: CallErrorKind, detail: str) -> CallFailed:
            return CallFailed(kind, "connect", f"{address}: {detail}", sent=False)

        stage = "connection"
        try:
            async with asyncio.timeout(connect_seconds):
                sock = await connected_socket(host, port, connect_seconds)
                stage = "connection" if ssl_context is None else "TLS handshake"
                try:
                    name = None if ssl_context is None else host
                    reader, writer = await asyncio.open_connection(
                        sock=sock, ssl=ssl_context, server_hostname=name
                    )
                except BaseException:
                    sock.close()
                    raise
        except TimeoutError as error:
            raise failed(
                CallErrorKind.UNREACHABLE, f"no {stage} within {connect_seconds:g} s"
            ) from error
        except ssl.SSLCertVerificationError as error:
            detail = (
                f"its certificate is not trusted: {error.verify_message}; target.ca_file names the "
                f"authorities to trust"
            )
            raise failed(CallErrorKind.UNREACHABLE, detail) from error
        except ssl.SSLError as error:
            raise failed(
                CallErrorKind.NOT_THE_API, f"no TLS: {words_of(error)}; is target.tls right?"
            ) from error
        except (OSError, ValueError) as error:  # of a host name that is none
            hint = "" if stage == "connection" else " in the TLS handshake; is target.tls right?"
            raise failed(CallErrorKind.UNREACHABLE, f"{words_of(error)}{hint}") from error
        return cls(
            reader, writer, address, call_seconds=call_seconds, may_send=may_send, observe=observe
        )

    @property
    def closed(self) -> bool:
        """No call can be made any more."""
        return self._end is not None

    @property
    def unanswered(self) -> int:
        """Calls that are waiting for their answer, those of callers that have gone included."""
        return len(self._line)

    async def call(self, method: str, **arguments: object) -> Any:  # noqa: ANN401 - each method has an answer of its own
        """Sends a call and waits for its answer. Calls that are begun one after the other are
        carried out in that order.

        Args:
            method: of the interface.
            arguments: by the names of the interface.

        Returns:
            The result: a number, a bool, a text, a list, or a struct of
                `daemon.targets.modeldb_v1.codec.INTERFACE`.

        Raises:
            CallFailed: it has no result.
        """
        try:
            waiting = await self._send(method, arguments)
        except CallFailed as failed:
            self._observe(method, failed.kind)
            raise
        return await waiting.answer

    async def _send(self, method: str, arguments: dict[str, object]) -> _Waiting:
        # One after the other, and none while the transport holds more than it likes to: a lock lets
        # its holders in as they came, and one that is cancelled while it waits has sent nothing.
        # Nothing here suspends as long as the server keeps up.
        async with self._writing:
            with contextlib.suppress(OSError):  # the connection was lost: self._end says how
                await self._writer.drain()
            if self._end is not None:
                raise CallFailed(self._end.kind, method, self._end.detail, sent=False)
            try:
                frame = encode_call(method, arguments, self._sequence_id)
            except ValueError as error:
                raise CallFailed(CallErrorKind.BAD_VALUE, method, str(error), sent=False) from error
            if len(frame) > LONGEST_FRAME:
                detail = (
                    f"the call takes {len(frame)} bytes; ModelDB V1 takes at most {LONGEST_FRAME}"
                )
                raise CallFailed(CallErrorKind.TOO_LARGE, method, detail, sent=False)
            if not self._may_send():
                raise CallFailed(
                    CallErrorKind.NOT_WRITER,
                    method,
                    "this process is not, or not for long enough, the writer",
                    sent=False,
                )
            waiting = _Waiting(method, self._sequence_id, self._loop.create_future())
            self._sequence_id = 0 if self._sequence_id == _LARGEST_ID else self._sequence_id + 1
            self._line.append(waiting)
            if len(self._line) == 1:
                self._count_from_now()
            self._writer.write(len(frame).to_bytes(4, "big") + frame)
        return waiting

    def abort(self) -> None:
        """Ends the connection at once, without a word to the server. Calls without an answer have
        an unknown outcome.
        """
        self._fail(CallErrorKind.UNREACHABLE, "the connection was cut off here")

    async def aclose(self) -> None:
        """Ends the connection, within `CLOSE_SECONDS`. Calls without an answer have an unknown
        outcome.
        """
        self._fail(CallErrorKind.UNREACHABLE, "the connection was closed here")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.wait_closed()

    async def wait_closed(self) -> None:
        """Waits until the connection has ended, and its task and its socket are gone."""
        await asyncio.wait([self._reading])
        with contextlib.suppress(OSError):  # how it ended has been told to the calls
            await self._writer.wait_closed()

    def _count_from_now(self) -> None:
        """Begins the deadline of the call that has become the oldest one."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
        if self._line:
            self._deadline = self._loop.call_later(
                self._call_seconds,
                self._fail,
                CallErrorKind.UNREACHABLE,
                f"no answer within {self._call_seconds:g} s",
            )

    async def _read(self) -> None:
        """Gives each answer to its call, until the connection ends."""
        try:
            while True:
                self._give(await self._frame())
        except asyncio.IncompleteReadError as error:
            self._fail(
                CallErrorKind.UNREACHABLE,
                f"the server closed the "
                f"connection{' in the middle of an answer' if error.partial else ''}",
            )
        except OSError as error:
            self._fail(CallErrorKind.UNREACHABLE, f"the connection was lost: {words_of(error)}")
        except MalformedMessageError as error:
            self._fail(
                CallErrorKind.NOT_THE_API, f"something else than ModelDB V1 answers: {error}"
            )
        except _WrongAnswerError as error:
            self._fail(CallErrorKind.NOT_THE_API, str(error))
        finally:
            # a bug, then: no caller may wait for ever
            self._fail(CallErrorKind.UNREACHABLE, "nobody reads its answers any more")

    async def _frame(self) -> bytes:
        head = await self._reader.readexactly(4)
        if head.startswith(_HTTP):
            raise _WrongAnswerError(
                "an HTTP server answers; target.port must be that of ModelDB's Thrift server (6543)"
            )
        if head.startswith(_TLS_ALERT):
            raise _WrongAnswerError("a TLS server answers; is target.tls right?")
        length = int.from_bytes(head, "big", signed=True)
        if not 0 < length <= LONGEST_FRAME:
            raise _WrongAnswerError(
                f"an answer of {length} bytes ({head!r}); allowed are 1 to {LONGEST_FRAME}"
            )
        return await self._reader.readexactly(length)

    def _give(self, frame: bytes) -> None:
        reply = decode_reply(frame)
        if not self._line:
            raise _WrongAnswerError("the server sends what nobody asked for")
        waiting = self._line[0]
        if (reply.method, reply.sequence_id) != (waiting.method, waiting.sequence_id):
            came, due = (
                f"{reply.method[:80]} {reply.sequence_id}",
                f"{waiting.method} {waiting.sequence_id}",
            )
            raise _WrongAnswerError(f"the answer to call {came} came where that to {due} was due")
        self._line.popleft()
        self._count_from_now()
        if reply.exception is not None:
            self._end_with(waiting, classify(reply.exception, waiting.method))
            return
        self._observe(waiting.method, "ok")
        if not waiting.answer.done():  # else its caller has gone
            waiting.answer.set_result(reply.result)

    def _fail(self, kind: CallErrorKind, detail: str) -> None:
        """Ends the connection, and every call on it that has no answer."""
        if self._end is not None:
            return
        self._end = CallFailed(kind, "connection", f"{self._address}: {detail}")
        self._writer.transport.abort()
        unanswered, self._line = self._line, deque()
        self._count_from_now()
        for waiting in unanswered:
            self._end_with(waiting, CallFailed(kind, waiting.method, self._end.detail))

    def _end_with(self, waiting: _Waiting, failed: CallFailed) -> None:
        self._observe(waiting.method, failed.kind)
        if not waiting.answer.done():
            waiting.answer.set_exception(failed)


class _WrongAnswerError(Exception):
    """What came is not the answer that was due."""

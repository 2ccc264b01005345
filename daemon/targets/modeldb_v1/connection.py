"""One pipelined connection to a ModelDB V1 server, shared by any number of callers.

Frames (a 4-byte length, then a message) are sent in the order of the calls. The server executes and
answers them strictly in that order, so an answer belongs to the oldest unanswered call, and its
sequence id must match. After anything else (no answer in time, a wrong id, bytes that are not an
answer) the start of the next answer is unknown: the connection ends, and every unanswered call on
it fails with an unknown outcome.

Cancelling a caller does not end the connection, because that would make the outcome of all other
calls unknown. The frame has been sent as a whole; its answer is read and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.log_context import context_about_no_job
from daemon.reasons import Edge
from daemon.targets.addresses import host_and_port
from daemon.targets.modeldb_v1.answers import missing_member
from daemon.targets.modeldb_v1.codec import MalformedMessageError, decode_reply, encode_call
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed, classify
from daemon.unforeseen import log_once

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_FRAME = 16_384_000
"""In bytes. The server closes the connection on a longer request. Its answers can be longer, but
this client refuses those, too."""
CLOSE_SECONDS = 1.0
KEEPALIVE_SECONDS = 30
"""Idle time before TCP keep-alive probes start: firewalls drop idle connections within minutes."""
_KEEPALIVE_OPTIONS = (
    ("TCP_KEEPIDLE", KEEPALIVE_SECONDS),
    ("TCP_KEEPALIVE", KEEPALIVE_SECONDS),
    ("TCP_KEEPINTVL", 10),
    ("TCP_KEEPCNT", 3),
)
"""Not every platform has all of them."""
_LARGEST_ID = 2**31 - 1
FIRST_SEQUENCE_ID = int.from_bytes(b"\r\n\r\n", "big")
"""Of each connection. An HTTP server at this address takes the first call for a complete request
and answers at once."""
_HTTP = (b"HTTP", b"<")
"""Some HTTP servers answer malformed requests with the page only."""
_TLS_ALERT = b"\x15\x03"


@dataclass(slots=True)
class _Waiting:
    """An unanswered call."""

    method: str
    sequence_id: int
    answer: asyncio.Future[Any]


class Connection:
    """Opened by `open`; ended by `aclose` or `abort`, by the server, or by an invalid answer."""

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
        self._unanswered: deque[_Waiting] = deque()
        self._writing = asyncio.Lock()
        self._deadline: asyncio.TimerHandle | None = None
        self._sequence_id = FIRST_SEQUENCE_ID
        self._end: CallFailed | None = None
        self._loop = asyncio.get_running_loop()
        self._reading = asyncio.create_task(
            self._read(), name=f"answers of {address}", context=context_about_no_job()
        )

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
            host: a name, or an IPv4 or IPv6 address. If a name has several addresses, the first one
                that accepts the connection is used.
            port: TCP port of the server.
            ssl_context: for a TLS terminator in front of the server; None: no TLS.
            connect_seconds: deadline for the connection, including TLS.
            call_seconds: deadline of the oldest unanswered call, counted from the answer to the
                call before it.
            may_send: called right before each call is sent; False refuses the call.
            observe: called with (method, result) when a call ends, even if its caller was
                cancelled; the result is "ok" or a `CallErrorKind`.

        Raises:
            CallFailed: no connection, or no TLS on it; nothing was sent.
        """
        address = host_and_port(host, port)

        def failed(kind: CallErrorKind, detail: str) -> CallFailed:
            return CallFailed(kind, "connect", f"{address}: {detail}", sent=False)

        stage = "connection"
        try:
            async with asyncio.timeout(connect_seconds):
                sock = await _connected_socket(host, port, connect_seconds)
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
                "authorities to trust"
            )
            raise failed(CallErrorKind.UNREACHABLE, detail) from error
        except ssl.SSLError as error:
            raise failed(
                CallErrorKind.NOT_THE_API, f"no TLS: {_text_of(error)}; is target.tls right?"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: an invalid host name
            hint = "" if stage == "connection" else " in the TLS handshake; is target.tls right?"
            raise failed(CallErrorKind.UNREACHABLE, f"{_text_of(error)}{hint}") from error
        except Exception as error:
            log_once(Edge.TARGET, "connect", error)
            raise failed(
                CallErrorKind.UNREACHABLE, f"{type(error).__name__}; the log has its traceback"
            ) from error
        return cls(
            reader, writer, address, call_seconds=call_seconds, may_send=may_send, observe=observe
        )

    @property
    def closed(self) -> bool:
        """The connection has ended; every further call fails."""
        return self._end is not None

    @property
    def unanswered(self) -> int:
        """The number of unanswered calls, including those of cancelled callers."""
        return len(self._unanswered)

    async def call(self, method: str, **arguments: object) -> Any:  # noqa: ANN401 - each method has its own type of answer
        """Sends a call and waits for its answer. Calls are executed in the order in which they are
        made.

        Args:
            method: of the interface.
            arguments: by their names in the interface.

        Returns:
            The result: a number, a bool, a string, a list, or a struct of
                `daemon.targets.modeldb_v1.codec.INTERFACE`.

        Raises:
            CallFailed: there is no result.
        """
        try:
            waiting = await self._send(method, arguments)
        except CallFailed as failed:
            self._observe(method, failed.kind)
            raise
        except Exception as error:
            # whether the frame has left is not known, so its answer cannot be told from the next
            self._fail_unforeseen(method, error)
            assert self._end is not None  # noqa: S101 - just set; for the type checker
            self._observe(method, self._end.kind)
            raise self._end from error
        return await waiting.answer

    async def _send(self, method: str, arguments: dict[str, object]) -> _Waiting:
        # Backpressure: calls wait here while the transport's buffer is above its high-water mark.
        # The lock is fair, so they keep their order; a caller cancelled here has sent nothing.
        async with self._writing:
            with contextlib.suppress(OSError):  # the connection was lost: see self._end
                await self._writer.drain()
            if self._end is not None:
                raise CallFailed(
                    self._end.kind,
                    method,
                    self._end.detail,
                    sent=False,
                    unforeseen=self._end.unforeseen,
                )
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
                    "this process does not hold the writer lease for long enough",
                    sent=False,
                )
            waiting = _Waiting(method, self._sequence_id, self._loop.create_future())
            self._sequence_id = 0 if self._sequence_id == _LARGEST_ID else self._sequence_id + 1
            self._unanswered.append(waiting)
            if len(self._unanswered) == 1:
                self._restart_deadline()
            self._writer.write(len(frame).to_bytes(4, "big") + frame)
        return waiting

    def abort(self) -> None:
        """Ends the connection at once, by a TCP reset. Unanswered calls have an unknown outcome."""
        self._fail(CallErrorKind.UNREACHABLE, "the connection was aborted by this process")

    async def aclose(self) -> None:
        """Ends the connection within `CLOSE_SECONDS`. Unanswered calls have an unknown outcome."""
        self._fail(CallErrorKind.UNREACHABLE, "the connection was closed by this process")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.wait_closed()

    async def wait_closed(self) -> None:
        """Waits until the connection has ended and its task and socket are closed."""
        await asyncio.wait([self._reading])
        with contextlib.suppress(OSError):  # the calls have got the reason
            await self._writer.wait_closed()

    def _restart_deadline(self) -> None:
        """Starts the deadline of the call that is now the oldest one."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
        if self._unanswered:
            self._deadline = self._loop.call_later(
                self._call_seconds,
                self._fail,
                CallErrorKind.UNREACHABLE,
                f"no answer within {self._call_seconds:g} s",
            )

    async def _read(self) -> None:
        """Delivers each answer to its call until the connection ends."""
        try:
            while True:
                self._deliver(await self._frame())
        except asyncio.IncompleteReadError as error:
            self._fail(
                CallErrorKind.UNREACHABLE,
                "the server closed the connection"
                + (" in the middle of an answer" if error.partial else ""),
            )
        except OSError as error:
            self._fail(CallErrorKind.UNREACHABLE, f"the connection was lost: {_text_of(error)}")
        except MalformedMessageError as error:
            self._fail(CallErrorKind.NOT_THE_API, f"the server is not ModelDB V1: {error}")
        except _WrongAnswerError as error:
            self._fail(CallErrorKind.NOT_THE_API, str(error))
        except Exception as error:  # noqa: BLE001 - the callers get it
            self._fail_unforeseen("an answer", error)
        finally:
            # after a cancellation, no caller may wait forever
            self._fail(CallErrorKind.UNREACHABLE, "its answers are no longer read")

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

    def _deliver(self, frame: bytes) -> None:
        reply = decode_reply(frame)
        if (lacking := missing_member(reply.method, reply.result)) is not None:
            raise _WrongAnswerError(f"an answer of {reply.method} without {lacking}")
        if not self._unanswered:
            raise _WrongAnswerError("the server sent an answer without a call")
        waiting = self._unanswered[0]
        if (reply.method, reply.sequence_id) != (waiting.method, waiting.sequence_id):
            came, due = (
                f"{reply.method[:80]} {reply.sequence_id}",
                f"{waiting.method} {waiting.sequence_id}",
            )
            raise _WrongAnswerError(f"the answer to call {came} came instead of that to {due}")
        self._unanswered.popleft()
        self._restart_deadline()
        if reply.exception is not None:
            self._end_with(waiting, classify(reply.exception, waiting.method))
            return
        self._observe(waiting.method, "ok")
        if not waiting.answer.done():  # otherwise its caller was cancelled
            waiting.answer.set_result(reply.result)

    def _fail_unforeseen(self, what: str, error: Exception) -> None:
        log_once(Edge.TARGET, what, error)
        self._fail(
            CallErrorKind.NOT_THE_API,
            f"{what} ended in an unforeseen error ({type(error).__name__}); the log has its "
            "traceback",
            unforeseen=True,
        )

    def _fail(self, kind: CallErrorKind, detail: str, *, unforeseen: bool = False) -> None:
        """Ends the connection and fails every unanswered call."""
        if self._end is not None:
            return
        self._end = CallFailed(
            kind, "connection", f"{self._address}: {detail}", unforeseen=unforeseen
        )
        self._writer.transport.abort()
        unanswered, self._unanswered = self._unanswered, deque()
        self._restart_deadline()
        for waiting in unanswered:
            self._end_with(
                waiting,
                CallFailed(kind, waiting.method, self._end.detail, unforeseen=unforeseen),
            )

    def _end_with(self, waiting: _Waiting, failed: CallFailed) -> None:
        self._observe(waiting.method, failed.kind)
        if not waiting.answer.done():
            waiting.answer.set_exception(failed)


class _WrongAnswerError(Exception):
    """The bytes received are not the expected answer."""


async def _connected_socket(host: str, port: int, seconds: float) -> socket.socket:
    """Connects to the first of the host's addresses that accepts.

    Args:
        host: a name or an address.
        port: TCP port of the server.
        seconds: in all. Each address gets an equal share of what is left, so that one that does not
            answer cannot use up all of it.

    Raises:
        OSError: no address accepts; the error of the first one.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failures: list[OSError] = []
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            async with asyncio.timeout((end - loop.time()) / (len(addresses) - number)):
                return await _connected(socket.socket(family, kind, protocol), address)
        except OSError as error:  # includes TimeoutError
            failures.append(error)
    raise failures[0] if failures else OSError(f"{host} has no address")


async def _connected(made: socket.socket, address: tuple[object, ...]) -> socket.socket:
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE_OPTIONS:
            if hasattr(socket, option):
                made.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def _text_of(error: Exception) -> str:
    """What an error says, in the system's words if it has an errno."""
    if (
        isinstance(error, OSError)
        and not isinstance(error, ssl.SSLError)
        and error.errno is not None
        and error.errno > 0
    ):
        return os.strerror(error.errno)
    if isinstance(error, ConnectionError) and not error.args:
        return "closed by the other side"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__

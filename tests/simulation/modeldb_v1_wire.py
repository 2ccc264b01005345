"""An in-memory TCP connection: data arrives in order, each piece after a delay of its own."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random


class ServerEnd(Protocol):
    """The events of a connection on the server side."""

    def receive(self, data: bytes) -> None: ...

    def lose_client(self) -> None:
        """The client is gone: it neither sends nor reads."""


class Lane:
    """One direction.

    Args:
        delay: how long the next piece takes, in seconds.
    """

    def __init__(self, delay: Callable[[], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay = delay
        # what is under way belongs to no process, and arrives also when its sender has crashed
        self._context = contextvars.Context()
        self._last = 0.0
        self._under_way: deque[Callable[[], None]] = deque()

    def put(self, arrive: Callable[[], None], *, not_before: float = 0.0) -> None:
        """Calls `arrive` when all that was put before has arrived."""
        self._last = max(self._last, self._loop.time() + self._delay(), not_before)
        self._under_way.append(arrive)
        self._loop.call_at(self._last, self._arrive, context=self._context)

    def lose(self, random: Random) -> None:
        """Some of what is under way never arrives, nor anything behind it."""
        for _ in range(random.randint(0, len(self._under_way))):
            self._under_way.pop()

    def lose_all(self) -> None:
        self._under_way.clear()

    def _arrive(self) -> None:
        if self._under_way:  # else it was lost
            self._under_way.popleft()()


class Wire:
    """A connection from the client's `reader` and `writer`, which are real, to a `ServerEnd`.

    Args:
        random: decides what is lost when the connection ends.
        delay: how long the next piece takes, in seconds.
        server: hears what the client writes.
    """

    def __init__(self, random: Random, delay: Callable[[], float], server: ServerEnd) -> None:
        self._loop = asyncio.get_running_loop()
        self._random = random
        self._server = server
        self._to_server = Lane(delay)
        self._to_client = Lane(delay)
        self.open = True
        """The client can write."""
        self.stalled_until = 0.0
        """Until then nothing arrives at the server: the kernel of the client's machine sends it
        again and again, even when the client was killed."""
        self.reader = asyncio.StreamReader(loop=self._loop)
        self._protocol = asyncio.StreamReaderProtocol(self.reader, loop=self._loop)
        transport = _Transport(self)
        self._protocol.connection_made(transport)
        self.writer = asyncio.StreamWriter(transport, self._protocol, self.reader, self._loop)

    # --- the client's side ------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        if self.open:
            self._to_server.put(partial(self._server.receive, data), not_before=self.stalled_until)

    def leave(self) -> None:
        """The client closes its socket. What it had written may still arrive."""
        if self.open:
            if self._is_stalled:
                self._to_server.lose_all()
            self.vanish()
            self._loop.call_soon(self._protocol.connection_lost, None)

    def vanish(self) -> None:
        """As `leave`, without notifying the client, whose process is gone."""
        if self.open:
            self.open = False
            self._to_client.lose_all()
            if not self._is_stalled:
                self._to_server.lose(self._random)
            self._to_server.put(self._server.lose_client)

    @property
    def _is_stalled(self) -> bool:
        return self._loop.time() < self.stalled_until

    # --- the server's side ------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        if self.open:
            self._to_client.put(partial(self._feed, data))

    def close(self) -> None:
        """Closes the server side: the client reads what was sent before, then end of file."""
        if self.open:
            self._to_client.put(self._end)

    def reset(self) -> None:
        """Both sides lose the connection, and some of what is under way."""
        if self.open:
            self._to_client.lose(self._random)
            self._to_client.put(self._break)
            self._to_server.lose(self._random)
            self._to_server.put(self._server.lose_client)

    def die(self) -> None:
        """The server's process is gone: nothing arrives there any more."""
        self._to_server.lose_all()
        if self.open:
            self._to_client.lose(self._random)
            self._to_client.put(self._random.choice((self._end, self._break)))

    def _feed(self, data: bytes) -> None:
        if self.open:
            self._protocol.data_received(data)

    def _end(self) -> None:
        if self.open:
            self._protocol.eof_received()

    def _break(self) -> None:
        if self.open:
            self.open = False
            self._protocol.connection_lost(ConnectionResetError())


class _Transport(asyncio.Transport):
    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._wire.write(bytes(data))

    def is_closing(self) -> bool:
        return not self._wire.open

    def close(self) -> None:
        self._wire.leave()

    def abort(self) -> None:
        self._wire.leave()

    def pause_reading(self) -> None:
        """The client's reader may hold as much as it likes."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""

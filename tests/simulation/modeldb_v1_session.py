"""The server's end of a connection to the simulated ModelDB V1: the calls read, and the rules for a
client that has gone.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Protocol

from daemon.demo.modeldb_v1.frames import (
    LARGEST_FRAME,
    BrokenMessageError,
    IncompleteMessageError,
    read_call,
)
from tests.simulation.modeldb_v1_wire import Wire

if TYPE_CHECKING:
    from random import Random

    from daemon.targets.modeldb_v1.codec import Call

LENGTH = struct.Struct("!i")
"""In front of each frame."""


class Server(Protocol):
    """As `tests.simulation.modeldb_v1_server.SimulatedModelDbV1` says."""

    random: Random
    linger_seconds: float
    bounded: bool

    def network_delay(self) -> float: ...


class Session:
    """The server's end of a connection."""

    def __init__(self, number: int, server: Server, owner: object, call_seconds: float) -> None:
        self.number = number
        self.owner = owner
        self.call_seconds = call_seconds
        """The client's patience, for writes that outlast it."""
        self.last: float | None = None
        """Until when it writes on; None: its client is there."""
        self.wire = Wire(server.random, server.network_delay, self)
        self.task: asyncio.Task[None]
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._frames = b""
        self._stream = b""
        self._something = asyncio.Event()
        self._pause: tuple[asyncio.TimerHandle, asyncio.Future[None]] | None = None
        self._frozen: asyncio.Future[None] | None = None

    def receive(self, data: bytes) -> None:
        self._frames += data
        self._something.set()

    def lose_client(self) -> None:
        if self.last is None:
            last = self.linger()
            self._something.set()
            if self._frozen is not None and self._server.bounded:
                _finish(self._frozen)
            if self._pause is not None:
                timer, over = self._pause
                if timer.when() > last:
                    timer.cancel()
                    self._pause = (self._loop.call_at(last, _finish, over), over)

    def linger(self) -> float:
        """Draws a new time until which it keeps writing."""
        self.last = self._loop.time() + self._server.random.uniform(
            0.0, self._server.linger_seconds
        )
        return self.last

    async def next_call(self) -> Call | None:
        """None: nothing follows. Raises `BrokenMessageError`."""
        while True:
            if self._stream:
                try:
                    call, size = read_call(self._stream)
                except IncompleteMessageError:
                    pass
                else:
                    self._stream = self._stream[size:]
                    return call
            if not self._next_frame():
                if self.last is not None:
                    return None
                self._something.clear()
                await self._something.wait()

    def _next_frame(self) -> bool:
        if len(self._frames) < LENGTH.size:
            return False
        (length,) = LENGTH.unpack_from(self._frames)
        if not 0 < length <= LARGEST_FRAME:
            raise BrokenMessageError
        end = LENGTH.size + length
        if len(self._frames) < end:
            return False
        self._stream += self._frames[LENGTH.size : end]
        self._frames = self._frames[end:]
        return True

    async def spend(self, seconds: float) -> None:
        """Sleeps so long; less when the client goes, or has gone."""
        due = self._loop.time() + seconds
        if self.last is not None:
            due = min(due, self.last)
        if due <= self._loop.time():
            return
        over = self._loop.create_future()
        self._pause = (self._loop.call_at(due, _finish, over), over)
        try:
            await over
        finally:
            self._end_pause()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause[0].cancel()
            self._pause = None

    async def thaw(self, thawing: asyncio.Task[None]) -> None:
        """Waits for the end of the task, or until the client goes, if the server is bounded."""
        self._frozen = self._loop.create_future()
        thawing.add_done_callback(lambda _: None if self._frozen is None else _finish(self._frozen))
        try:
            await self._frozen
        finally:
            self._frozen = None
            thawing.cancel()


def _finish(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)

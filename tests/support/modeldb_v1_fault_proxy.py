"""A proxy in front of a ModelDB V1 that counts, delays and loses calls and answers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from daemon.targets.modeldb_v1.codec import decode_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Judge = Callable[[int, str], Awaitable[bool]]


async def pass_on(_number: int, _method: str) -> bool:
    return True


class FaultProxy:
    """Listens on `port` of the loopback interface.

    Attributes:
        calls: the method of each call, in the order sent to the server.
        on_call: called with the number (from 1) and method of each call after it was sent to the
            server; False drops the connection on both sides.
        on_answer: the same for each answer, before it is passed on.
        delay_seconds: added to each call and each answer; many may be in flight at once.
    """

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.calls: list[str] = []
        self.on_call: Judge = pass_on
        self.on_answer: Judge = pass_on
        self.delay_seconds = 0.0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        assert self._server is not None
        self._server.close()
        for each in self._open:
            each.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # no coroutine: Python 3.11 reports one that ends cancelled as an error
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        task.add_done_callback(lambda _task: writer.close())  # also if it never began

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        numbers: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        with contextlib.closing(writer):
            try:
                there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
            except OSError:
                return
            with contextlib.closing(back):
                ways = [
                    asyncio.create_task(self._calls(reader, back, numbers)),
                    asyncio.create_task(self._answers(there, writer, numbers)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
                    writer.transport.abort()

    async def _calls(
        self,
        reader: asyncio.StreamReader,
        back: asyncio.StreamWriter,
        numbers: asyncio.Queue[tuple[int, str]],
    ) -> None:
        async for frame in self._delayed(reader):
            self.calls.append(decode_call(frame).method)
            numbers.put_nowait((len(self.calls), self.calls[-1]))
            back.write(len(frame).to_bytes(4, "big") + frame)
            if not await self.on_call(len(self.calls), self.calls[-1]):
                return

    async def _answers(
        self,
        there: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        numbers: asyncio.Queue[tuple[int, str]],
    ) -> None:
        async for frame in self._delayed(there):
            if not await self.on_answer(*numbers.get_nowait()):
                return
            writer.write(len(frame).to_bytes(4, "big") + frame)

    async def _delayed(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        """Frames, each as late as the delay after it came."""
        loop = asyncio.get_running_loop()
        coming: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue()

        async def receive() -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    length = int.from_bytes(await reader.readexactly(4), "big")
                    coming.put_nowait(
                        (loop.time() + self.delay_seconds, await reader.readexactly(length))
                    )
            coming.put_nowait((loop.time(), None))

        receiving = asyncio.create_task(receive())
        try:
            while True:
                due, frame = await coming.get()
                if (wait := due - loop.time()) > 0:
                    await asyncio.sleep(wait)
                if frame is None:
                    return
                yield frame
        finally:
            receiving.cancel()


@contextlib.asynccontextmanager
async def fault_proxy(upstream: int) -> AsyncIterator[FaultProxy]:
    """A proxy in front of a port of this machine."""
    proxy = FaultProxy(upstream)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.aclose()

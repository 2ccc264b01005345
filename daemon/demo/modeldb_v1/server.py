"""A stand-in for ModelDB V1's Thrift server, in memory, for the demo, the tests and the benchmarks.

    async with ModelDbV1StandIn() as server:
        ...  # 127.0.0.1 and server.port are the address to configure
        server.faults.storage_busy = True

It imitates ModelDB v1.0.0 (Java, Apache Thrift, SQLite, MongoDB for metadata) for the 14 methods
that this project calls; others get "Invalid method name". It gives the recorded answers of the real
server (tests/data/modeldb_v1), errors included. `frames` reads requests, `dispatch` carries them
out with `writes`, `reads` and `metadata`, `faults` breaks things.

As on the server, one connection's calls are carried out strictly in order, up to 100 connections
are served at once, and the next one is accepted, waits and is closed after 20 s, the one after that
20 s later.

Differences, besides those named in the other modules:

* A call's rows are stored in one go: connections that write at once do each other no harm; the
  tests' `foreign_writer` does it.
* Speed: a call takes no time, and its answer leaves `latency_seconds` later, however many answers
  are under way. On the real server each row takes about 1.4 ms, a fit with 10 hyperparameters 23
  ms, and no two calls of a connection overlap.
* What a client has sent before it closes is carried out as far as it was read; on the real server
  how far is chance, and the call that is being carried out is always finished.
* A waiting connection is served as soon as another one closes; the real server takes up to 10 s to
  notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import struct
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v1.dispatch import Backend
from daemon.demo.modeldb_v1.faults import Faults
from daemon.demo.modeldb_v1.frames import (
    LARGEST_FRAME,
    BrokenMessageError,
    IncompleteMessageError,
    read_call,
)
from daemon.demo.modeldb_v1.metadata import Documents
from daemon.demo.modeldb_v1.store import Store
from daemon.demo.modeldb_v1.writes import ConnectionBrokenError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from daemon.targets.modeldb_v1.codec import Call

_LENGTH = struct.Struct("!i")


class Connection:
    """A client's connection: the answers on their way, in order, each after the latency."""

    def __init__(self, number: int, writer: asyncio.StreamWriter, latency_seconds: float) -> None:
        self.number = number
        self._writer = writer
        self._latency_seconds = latency_seconds
        self._answers: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue()

    def send(self, data: bytes | None) -> None:
        """None: nothing follows."""
        self._answers.put_nowait((asyncio.get_running_loop().time() + self._latency_seconds, data))

    async def deliver(self) -> None:
        """Returns when all is sent, or the client has gone."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await self._answers.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if data is None or self._writer.is_closing():
                return
            self._writer.write(data)
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()


class ModelDbV1StandIn:
    """The server. Starts and stops as a context manager, or by `start` and `aclose`; keeps its data
    and its port over a new start.

    Args:
        metadata_store: False: the server has no MongoDB.
        latency_seconds: how long each answer is under way; answers do not wait for each other.
        mongo_timeout_seconds: how long the server looks for a MongoDB that is gone.
        storage_busy_seconds: how long it waits for a database that another process holds.
        workers: how many connections are served at once.
        worker_seconds: how long a connection waits to be served.
    """

    def __init__(
        self,
        *,
        metadata_store: bool = True,
        latency_seconds: float = 0.0,
        mongo_timeout_seconds: float = 30.0,
        storage_busy_seconds: float = 3.0,
        workers: int = 100,
        worker_seconds: float = 20.0,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.latency_seconds = latency_seconds
        self.store = Store()
        self.stored_documents = Documents()
        self.faults = self._new_faults(
            has_mongo=metadata_store,
            mongo_timeout_seconds=mongo_timeout_seconds,
            storage_busy_seconds=storage_busy_seconds,
        )
        self._backend = Backend(self.store, self.stored_documents, self.faults)
        self._worker_seconds = worker_seconds
        self._workers = asyncio.Semaphore(workers)
        self._accepting = asyncio.Lock()
        self._served = 0
        self._listener: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Copies of MongoDB's documents, oldest first, the model's id as ``MODELDB_model_id``."""
        return copy.deepcopy(list(self.stored_documents))

    def overview(self) -> str:
        """What is stored, a line for each project, for people."""
        lines = []
        for project in self.store.projects:
            runs = self.store.runs_in_project(project["id"])
            models = [
                model["id"]
                for run in runs
                for model in self.store.models.where("experimentRun", run["id"])
            ]
            fitted = [model for model in models if self.store.fits.where("transformer", model)]
            metrics = sum(len(self.store.metrics.where("transformer", model)) for model in fitted)
            counts = f"{len(runs)} runs, {len(fitted)} models, {metrics} metrics"
            lines.append(f"{project['name']} ({project['author']}): {counts}")
        return "\n".join(lines) or "nothing is stored"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listens.

        Args:
            host: address.
            port: 0: the port of the last start, or at the first a free one.

        Raises:
            OSError: the port is taken.
        """
        self.host, self.port = host, port or self.port
        await self.accept_connections()

    async def aclose(self) -> None:
        """Closes the port and every connection. What is under way is dropped, carried out or not,
        as when a process is killed.
        """
        tasks = list(self._connections)
        self._die()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def forget_sqlite(self) -> None:
        """Somebody stops the server, deletes its SQLite file and starts it with an empty one.
        MongoDB keeps its documents.
        """
        await self.aclose()
        self.store.clear()
        await self.start(self.host)

    def forget_documents(self) -> None:
        """Somebody drops MongoDB's collection while the server runs."""
        self.stored_documents.clear()

    def refuse_connections(self) -> None:
        """Nobody listens any more; the connections that there are go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def accept_connections(self) -> None:
        """Ends `refuse_connections`; raises OSError when the port is taken."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, self.host, self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _die(self) -> None:
        self.refuse_connections()
        current = asyncio.current_task()
        for task, writer in self._connections.items():
            writer.transport.abort()
            if task is not current:
                task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:  # for the type checker: this is a coroutine of a task
            return
        self._connections[task] = writer
        try:
            if await self._gets_worker():
                try:
                    await self._serve(reader, writer)
                finally:
                    self._workers.release()
        except asyncio.CancelledError:
            # by `_die` or the end of the loop; asyncio of Python 3.11 reports a handler that ends
            # cancelled as an error
            pass
        finally:
            writer.close()
            del self._connections[task]

    async def _gets_worker(self) -> bool:
        async with self._accepting:
            try:
                async with asyncio.timeout(self._worker_seconds):
                    await self._workers.acquire()
            except TimeoutError:
                return False
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served += 1
        connection = Connection(self._served, writer, self.latency_seconds)
        async with asyncio.TaskGroup() as group:
            group.create_task(connection.deliver())
            try:
                await self._read(reader, connection)
            except (
                ConnectionError,
                asyncio.IncompleteReadError,
                ConnectionBrokenError,
                BrokenMessageError,
            ):
                pass  # in every case the connection ends and the client hears nothing
            finally:
                connection.send(None)

    async def _read(self, reader: asyncio.StreamReader, connection: Connection) -> None:
        """Returns when the connection is to be closed."""
        stream = b""
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            if not 0 < length <= LARGEST_FRAME:
                return
            stream += await reader.readexactly(length)
            while stream:
                try:
                    call, size = read_call(stream)
                except IncompleteMessageError:
                    break
                stream = stream[size:]
                if not await self._take(call, connection):
                    return

    async def _take(self, call: Call, connection: Connection) -> bool:
        """One call from its arrival to its answer; False: the connection is to be closed."""
        answer = await self._backend.answer(call)
        if self.faults.loses_answer(call.method):
            return False
        connection.send(framed(answer))
        return True

    def _new_faults(
        self, *, has_mongo: bool, mongo_timeout_seconds: float, storage_busy_seconds: float
    ) -> Faults:
        return Faults(
            has_mongo=has_mongo,
            mongo_timeout_seconds=mongo_timeout_seconds,
            storage_busy_seconds=storage_busy_seconds,
        )


def framed(message: bytes) -> bytes:
    """A message with its length before it."""
    return _LENGTH.pack(len(message)) + message

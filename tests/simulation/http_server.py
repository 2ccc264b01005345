"""A target's HTTP server for the simulation, behind a network that loses requests and answers.

What the server itself does is a subclass's. Here are the fates of a call in a faulty network or
server, each with a probability set by the history, and outages. A request that was sent is carried
out even if the caller has timed out, was cancelled or is dead, but within `settle_seconds` or
never.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from multidict import MultiDict

if TYPE_CHECKING:
    import io
    import random
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from types import TracebackType

    from yarl import URL

    from daemon.training_job.training_run import TrainingRun
    from tests.simulation.loop import VirtualLoop

_KEY = ConnectionKey(
    "target", 8080, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
)
SHORTEST_SECONDS, LONGEST_SECONDS = 0.001, 0.03


@dataclass(frozen=True, slots=True)
class HttpRequest:
    method: str
    path: str
    query: MultiDict[str]
    headers: Mapping[str, str]
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    query_string: str = ""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    status: int
    content_type: str
    body: bytes


def json_response(status: int, body: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(status, "application/json", json.dumps(body).encode())


Ending = HttpResponse | Exception | None
"""What the caller gets; None: nothing ever comes back."""

DISCONNECTED = aiohttp.ServerDisconnectedError()
GATEWAY_PAGE = HttpResponse(502, "text/html", b"<html>Bad Gateway</html>")


class SimulatedHttpServer(ABC):
    """A server with fates.

    Args:
        record: takes the lines of the history.
        timeout_seconds: of the daemon's calls.
        settle_seconds: within which the daemon believes that a request is carried out or lost.

    Attributes:
        chances: of each fate, from 0 to 1 in all; empty while all is well.
        suffered: how often each fate has come.
    """

    system: ClassVar[str]
    """What the history calls it."""
    fates: ClassVar[Mapping[str, str]]
    """All fates and what they mean."""
    not_carried_out: ClassVar[Mapping[str, Ending]]
    carried_out: ClassVar[Mapping[str, Ending]]
    """Fates of a request that the server has carried out."""
    lost_creates: ClassVar[Sequence[tuple[str, str]]]
    """Creates, repetition of which would make a run or model twice, and fates that leave unknown
    whether they were carried out."""
    unsteady: ClassVar[Sequence[str]]
    """Fates that say nothing about a job."""

    def __init__(
        self,
        loop: VirtualLoop,
        seeded: random.Random,
        record: Callable[[str], None],
        *,
        timeout_seconds: float,
        settle_seconds: float,
    ) -> None:
        self.chances: dict[str, float] = {}
        self.down = False
        self.suffered: Counter[str] = Counter()
        self._loop = loop
        self._random = seeded
        self._record = record
        self._timeout_seconds = timeout_seconds
        self._settle_seconds = settle_seconds
        self._under_way: dict[asyncio.Task[Any], asyncio.Future[HttpResponse]] = {}
        self._next_fates: list[tuple[str, str]] = []

    # --- what a subclass says ---------------------------------------------------------------------

    @abstractmethod
    def freeze(self, *, on: bool) -> None:
        """What comes in waits until it ends."""

    @abstractmethod
    def lose_database(self, *, on: bool) -> None:
        """The server says that its database is down until that ends."""

    @abstractmethod
    async def thawed(self) -> None:
        """Returns when it is not frozen."""

    @abstractmethod
    async def carry_out(
        self, request: HttpRequest, body: bytes, *, stalls: bool
    ) -> HttpResponse | None:
        """What the server does and answers; None: it closes the connection.

        Args:
            stalls: it looks at once, and stores as late as a slow request.
        """

    @abstractmethod
    def operation_of(self, path: str) -> str:
        """The name of a call."""

    @abstractmethod
    def has(self, job: TrainingRun) -> bool:
        """Whether there is a run with the job's mark."""

    @abstractmethod
    def wrong(self, jobs: Sequence[TrainingRun]) -> list[str]:
        """What is not as it should be: a job without a run or with two, an incomplete run, a run
        that nobody wanted.
        """

    @abstractmethod
    def duplicate_names(self) -> list[str]:
        """Places for runs that are there twice, where nothing has gone wrong that would excuse
        it.
        """

    # --- faults -----------------------------------------------------------------------------------

    def fate_of_next(self, operation: str, fate: str) -> None:
        """Decides what becomes of the next call of an operation that has no fate yet."""
        self._next_fates.append((operation, fate))

    def restart(self, seconds: float) -> None:
        """Goes down for a while. Some of the calls in flight are carried out, some are not; none
        gets an answer.
        """
        self._record(f"{self.system} goes down for {seconds:.1f} s")
        self.suffered["restart"] += 1
        self.down = True
        for task, answer in list(self._under_way.items()):
            if self._random.random() < 0.5:
                task.cancel()
            _fail(answer, aiohttp.ServerDisconnectedError())
        self._loop.outside(self._loop.call_later, seconds, self._come_back)

    def _come_back(self) -> None:
        self._record(f"{self.system} is back")
        self.down = False

    def calm(self) -> None:
        """Ends all faults."""
        self.chances = {}
        self._next_fates = []
        self.freeze(on=False)
        self.lose_database(on=False)

    # --- one call ---------------------------------------------------------------------------------

    def ask(self, request: HttpRequest, body: bytes) -> asyncio.Future[HttpResponse]:
        """Sends a request; the future gets its answer, or the error of the connection."""
        answer: asyncio.Future[HttpResponse] = self._loop.create_future()
        task = self._loop.spawn(self._serve(request, body, answer))
        self._under_way[task] = answer
        task.add_done_callback(lambda _task: self._under_way.pop(task, None))
        return answer

    async def _serve(
        self, request: HttpRequest, body: bytes, answer: asyncio.Future[HttpResponse]
    ) -> None:
        operation = self.operation_of(request.path)
        sent_at = self._loop.time()
        await self._pause()
        if self.down:
            _fail(answer, aiohttp.ClientConnectorError(_KEY, OSError(111, "Connection refused")))
            return
        fate = self._fate(operation)
        if fate:
            self.suffered[fate] += 1
            self._record(f"{self.system}: {operation}: {fate}")
        if fate in self.not_carried_out:
            _tell(answer, self.not_carried_out[fate])
            return
        if fate == "slow":
            await asyncio.sleep(self.late_seconds())
        await self.thawed()
        if self._loop.time() - sent_at > 0.95 * self.longest_seconds:
            self._record(
                f"{self.system}: {operation}: given up after {self._loop.time() - sent_at:.1f} s"
            )
            return
        response = await self.carry_out(request, body, stalls=fate == "stalls")
        await self._pause()
        if fate in self.carried_out:
            _tell(answer, self.carried_out[fate])
        else:
            _tell(answer, response or aiohttp.ServerDisconnectedError())

    def late_seconds(self) -> float:
        """How long a slow request takes."""
        return self._random.uniform(
            0.5 * self._timeout_seconds, max(self._timeout_seconds, 0.85 * self.longest_seconds)
        )

    @property
    def longest_seconds(self) -> float:
        """For so long a request may be carried out after it was sent."""
        return self._settle_seconds

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))

    def _fate(self, operation: str) -> str:
        for planned in self._next_fates:
            if planned[0] == operation:
                self._next_fates.remove(planned)
                return planned[1]
        if not self.chances:
            return ""
        drawn = self._random.random()
        for fate, chance in self.chances.items():
            drawn -= chance
            if drawn < 0:
                return fate
        return ""


class SimulatedHttp:
    """As much of an `aiohttp.ClientSession` as the clients use."""

    def __init__(self, server: SimulatedHttpServer) -> None:
        self._server = server

    def request(
        self,
        method: str,
        url: URL,
        *,
        params: Mapping[str, str] | None = None,
        data: io.BytesIO | None = None,
        headers: Mapping[str, str],
        allow_redirects: bool,
    ) -> _Exchange:
        del allow_redirects  # nothing is moved here
        body = b"" if data is None else data.read()
        asked = url.update_query(params) if params else url
        query = MultiDict(asked.query)
        request = HttpRequest(method, url.path, query, headers, query_string=asked.raw_query_string)
        return _Exchange(self._server, request, body)

    async def close(self) -> None:
        """There is nothing to close."""


class _Exchange:
    """The response, as a context manager."""

    def __init__(self, server: SimulatedHttpServer, request: HttpRequest, body: bytes) -> None:
        self._server = server
        self._request = request
        self._sent = body
        self.status = 0
        self.headers: dict[str, str] = {}
        self.content = self
        self.connection = None
        self._body = b""

    async def __aenter__(self) -> Self:
        response = await self._server.ask(self._request, self._sent)
        self.status, self._body = response.status, response.body
        self.headers = {"Content-Type": response.content_type}
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """There is nothing to release."""

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body


def _tell(answer: asyncio.Future[HttpResponse], what: Ending) -> None:
    if isinstance(what, Exception):
        _fail(answer, what)
    elif what is not None and not answer.done():
        answer.set_result(what)


def _fail(answer: asyncio.Future[HttpResponse], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)

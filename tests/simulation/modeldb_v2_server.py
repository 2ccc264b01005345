"""ModelDB V2 for the simulation: the demo's stand-in, which answers as recorded, behind a network
that loses requests and answers.

It adds the fates of a call in a faulty network or server (`FATES`), each with a probability set by
the history, and outages. As on the real server, a create first checks whether its name exists and
stores it a moment later, so overlapping creates make duplicates. A request that was sent is carried
out even if the caller has timed out, was cancelled or is dead, but within `settle_seconds` or
never.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp.client_reqrep import ConnectionKey
from multidict import MultiDict

from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.mapping import ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE, map_run
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

if TYPE_CHECKING:
    import io
    import random
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from types import TracebackType

    from yarl import URL

    from daemon.training_job.training_run import TrainingRun
    from tests.simulation.loop import VirtualLoop

FATES = {
    "request lost": "the connection breaks before the server has read it",
    "answer lost": "carried out; the connection breaks",
    "no answer": "carried out; nothing ever comes back",
    "never arrives": "nothing ever happens",
    "slow": "carried out after the caller's time-out, but within the settle time",
    "stalls": "looked at in time, and stored as late as a slow one: whatever was created "
    "meanwhile, it did not see",
    "503": "not carried out",
    "503 after": "carried out; the proxy has lost its back-end meanwhile",
    "502 page": "carried out; a gateway answers with a page of its own",
    "500 bare": "not carried out: a dead connection to the database",
}
_KEY = ConnectionKey(
    "modeldb", 8080, is_ssl=False, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None
)
_SHORTEST, _LONGEST = 0.001, 0.03


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: MultiDict[str]
    headers: Mapping[str, str]
    raw_headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    content_type: str
    body: bytes


def _json(status: int, body: Mapping[str, Any]) -> _Response:
    return _Response(status, "application/json", json.dumps(body).encode())


_NO_BACKEND = _json(503, {"code": 14, "message": "connection error", "error": "connection error"})
_NOT_CARRIED_OUT: Mapping[str, _Response | Exception | None] = {
    "request lost": aiohttp.ServerDisconnectedError(),
    "never arrives": None,
    "503": _NO_BACKEND,
    "500 bare": _json(500, {"code": 2, "message": "", "error": ""}),
}
_CARRIED_OUT: Mapping[str, _Response | Exception | None] = {
    "answer lost": aiohttp.ServerDisconnectedError(),
    "no answer": None,
    "503 after": _NO_BACKEND,
    "502 page": _Response(502, "text/html", b"<html>Bad Gateway</html>"),
}


class SimulatedModelDbV2:
    def __init__(
        self,
        loop: VirtualLoop,
        seeded: random.Random,
        record: Callable[[str], None],
        *,
        timeout_seconds: float,
        settle_seconds: float,
    ) -> None:
        self.stand_in = _Hurried(seeded)
        self.chances: dict[str, float] = {}
        self.down = False
        self.suffered: Counter[str] = Counter()
        self._loop = loop
        self._random = seeded
        self._record = record
        self._timeout_seconds = timeout_seconds
        self._settle_seconds = settle_seconds
        self._under_way: dict[asyncio.Task[Any], asyncio.Future[_Response]] = {}
        self._next_fates: list[tuple[str, str]] = []

    def fate_of_next(self, operation: str, fate: str) -> None:
        """Decides what becomes of the next call of an operation that has no fate yet."""
        self._next_fates.append((operation, fate))

    def restart(self, seconds: float) -> None:
        """Goes down for a while. Some of the calls in flight are carried out, some are not; none
        gets an answer.
        """
        self._record(f"ModelDB goes down for {seconds:.1f} s")
        self.suffered["restart"] += 1
        self.down = True
        for task, answer in list(self._under_way.items()):
            if self._random.random() < 0.5:
                task.cancel()
            _fail(answer, aiohttp.ServerDisconnectedError())
        self._loop.outside(self._loop.call_later, seconds, self._come_back)

    def _come_back(self) -> None:
        self._record("ModelDB is back")
        self.down = False

    def calm(self) -> None:
        """Ends all faults."""
        self.chances = {}
        self._next_fates = []
        self.stand_in.faults.clear()

    def ask(self, request: _Request, body: bytes) -> asyncio.Future[_Response]:
        """Sends a request; the future gets its answer, or the error of the connection."""
        answer: asyncio.Future[_Response] = self._loop.create_future()
        task = self._loop.spawn(self._serve(request, body, answer))
        self._under_way[task] = answer
        task.add_done_callback(lambda _task: self._under_way.pop(task, None))
        return answer

    async def _serve(
        self, request: _Request, body: bytes, answer: asyncio.Future[_Response]
    ) -> None:
        operation = request.path.rpartition("/")[2]
        sent_at = self._loop.time()
        await self._pause()
        if self.down:
            _fail(answer, aiohttp.ClientConnectorError(_KEY, OSError(111, "Connection refused")))
            return
        fate = self._fate(operation)
        if fate:
            self.suffered[fate] += 1
            self._record(f"ModelDB: {operation}: {fate}")
        if fate in _NOT_CARRIED_OUT:
            _tell(answer, _NOT_CARRIED_OUT[fate])
            return
        if fate == "slow":
            await asyncio.sleep(self._late_seconds())
        elif fate == "stalls":
            self.stand_in.stall_seconds = self._late_seconds()
        await self.stand_in.faults.thawed()
        if self._loop.time() - sent_at > 0.95 * self._settle_seconds:
            self._record(
                f"ModelDB: {operation}: given up after {self._loop.time() - sent_at:.1f} s"
            )
            return
        response = await self.stand_in.respond(request, body)
        if operation.startswith(("create", "delete")):
            self._record(
                f"ModelDB: {operation} {_named(body)}: "
                f"{response.status if response is not None else 'nothing'}"
            )
        await self._pause()
        if fate in _CARRIED_OUT:
            _tell(answer, _CARRIED_OUT[fate])
        elif response is None:
            _fail(answer, aiohttp.ServerDisconnectedError())
        else:
            content = response.body if isinstance(response.body, bytes) else b""
            _tell(answer, _Response(response.status, response.content_type, content))

    def _late_seconds(self) -> float:
        return self._random.uniform(
            0.5 * self._timeout_seconds, max(self._timeout_seconds, 0.85 * self._settle_seconds)
        )

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.uniform(_SHORTEST, _LONGEST))

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

    # --- what is there ----------------------------------------------------------------------------

    def has(self, job: TrainingRun) -> bool:
        """Whether there is a run with the job's mark."""
        return bool(self._by_mark().get((job.mark.arn, job.mark.creation_time)))

    def _by_mark(self) -> dict[tuple[object, object], list[dict[str, Any]]]:
        by_mark: dict[tuple[object, object], list[dict[str, Any]]] = {}
        for entity in self.stand_in.store.runs.all_live():
            values = {each["key"]: each["value"] for each in entity.row.get("attributes", ())}
            by_mark.setdefault(
                (values.get(ARN_ATTRIBUTE), values.get(CREATION_TIME_ATTRIBUTE)), []
            ).append(entity.row)
        return by_mark

    def duplicate_names(self) -> list[str]:
        """Projects and experiments that are there twice, where nothing has gone wrong that would
        excuse it.
        """
        store = self.stand_in.store
        projects = Counter(entity.row["name"] for entity in store.projects.all_live())
        experiments = Counter(
            (entity.row["project_id"], entity.row["name"])
            for entity in store.experiments.all_live()
        )
        return [
            f"{count} times {name}"
            for name, count in (*projects.items(), *experiments.items())
            if count > 1
        ]

    def wrong(self, jobs: Sequence[TrainingRun]) -> list[str]:
        """What is not as it should be: a job without a run or with two, an incomplete run, a run
        that nobody wanted.
        """
        found = []
        by_mark = self._by_mark()
        for job in jobs:
            own = by_mark.pop((job.mark.arn, job.mark.creation_time), [])
            if len(own) != 1:
                found.append(f"{job.name}: {len(own)} runs")
            else:
                found += _incomplete(job, own[0])
        return found + [f"a run that nobody wanted: {mark}" for mark in by_mark]


class SimulatedClient(ModelDbV2Client):
    """The real client, over the simulated network."""

    def __init__(self, server: SimulatedModelDbV2, **more: Any) -> None:
        self._server = server
        super().__init__("http://modeldb:8080/v1", headers={}, tls=None, **more)

    def _open_session(self, headers: Mapping[str, str], tls: ssl.SSLContext | None) -> Any:
        return _Session(self._server)


class _Session:
    """As much of an `aiohttp.ClientSession` as the client uses."""

    def __init__(self, server: SimulatedModelDbV2) -> None:
        self._server = server

    def request(
        self,
        method: str,
        url: URL,
        *,
        params: Mapping[str, str] | None,
        data: io.BytesIO | None,
        headers: Mapping[str, str],
        allow_redirects: bool,
    ) -> _Exchange:
        body = b"" if data is None else data.read()
        return _Exchange(
            self._server, _Request(method, url.path, MultiDict(params or {}), headers), body
        )

    async def close(self) -> None:
        """There is nothing to close."""


class _Exchange:
    """The response, as a context manager."""

    def __init__(self, server: SimulatedModelDbV2, request: _Request, body: bytes) -> None:
        self._server = server
        self._request = request
        self._sent = body
        self.status = 0
        self.headers: dict[str, str] = {}
        self.content = self
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


class _Hurried(ModelDbV2StandIn):
    """Its calls take a few milliseconds, by chance.

    Attributes:
        stall_seconds: what the next call takes instead, between its look and its write.
    """

    def __init__(self, seeded: random.Random) -> None:
        self._random = seeded
        self.stall_seconds: float | None = None
        super().__init__()
        self.faults.database_answer_seconds = 0.5

    @property
    def latency_seconds(self) -> float:
        stall, self.stall_seconds = self.stall_seconds, None
        return self._random.uniform(_SHORTEST, _LONGEST) if stall is None else stall

    @latency_seconds.setter
    def latency_seconds(self, seconds: float) -> None:
        """By chance only."""


def _incomplete(job: TrainingRun, row: Mapping[str, Any]) -> list[str]:
    mapped = map_run(job)
    lists = ("attributes", "hyperparameters", "metrics", "datasets", "artifacts", "tags")
    return [
        f"{job.name}: {len(row.get(name, ()))} {name} instead of {len(mapped.body.get(name, ()))}"
        for name in lists
        if len(row.get(name, ())) != len(mapped.body.get(name, ()))
    ]


def _named(body: bytes) -> str:
    content = json.loads(body)
    return repr(content.get("name") or content.get("ids") or content.get("id"))


def _tell(answer: asyncio.Future[_Response], what: _Response | Exception | None) -> None:
    """None: nothing ever comes back."""
    if isinstance(what, Exception):
        _fail(answer, what)
    elif what is not None and not answer.done():
        answer.set_result(what)


def _fail(answer: asyncio.Future[_Response], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)

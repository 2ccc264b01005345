"""The addresses of the status page: ``/``, ``/jobs/{arn}`` and their JSON form below ``/api``.

One answer is made at a time, piece by piece with pauses; an answer serves everyone who asks the
same within a second, so ten open tabs cost as much as one.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from daemon.checkpoint.ports import JobState
from daemon.checkpoint.reading import FoundJobs, JobHistory, JobSearch, Position
from daemon.clock import monotonic
from daemon.errors import EdgeFault
from daemon.observability.api import error_answer, job_answer, jobs_answer, status_answer
from daemon.observability.page.frame import CONTENT_SECURITY_POLICY, REFRESH_SECONDS
from daemon.observability.page.job_page import job_page
from daemon.observability.page.job_table import JobList, query_of
from daemon.observability.page.overview import overview
from daemon.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from multidict import MultiMapping

    from daemon.checkpoint.reading import CheckpointReader
    from daemon.observability.status import Status

KEPT_SECONDS = 1.0
"""How long an answer serves the next ones who ask the same."""
MOST_KEPT = 16
WORK_SECONDS = 0.001
"""How long an answer is made before the loop may do something else."""
MOST_WAITING = 50
"""Requests that wait. Any further one is answered with 503."""
LONGEST_TEXT = 200
SHOWN_JOBS = 50
MOST_JOBS = 200
UNNAMED_MESSAGES = 10

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}

_JSON = "application/json"
_POSITION = re.compile(r"(?P<at>\d{1,12}(?:\.\d{1,9})?)-(?P<row>\d{1,18})")


class StatusSource(Protocol):
    """What the pages ask of the daemon."""

    def status(self, before: Mapping[int, Mapping[str, int]]) -> Status:
        """The state now; must not block.

        Args:
            before: what the checkpoint tells of the minutes before this process, as
                `daemon.observability.activity.Activity.last_hour`.
        """

    @property
    def started_at(self) -> float:
        """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    content_type: str
    made_at: float


class _BadQuery(Exception):
    """What is wrong with a request, for who sent it."""


class StatusSite:
    """The pages of one daemon.

    Args:
        source: the daemon.
        reader: of its checkpoint; closed with the site.
    """

    def __init__(self, source: StatusSource, reader: CheckpointReader) -> None:
        self._source = source
        self._reader = reader
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._kept: OrderedDict[str, _Answer] = OrderedDict()
        self._before: Mapping[int, Mapping[str, int]] | None = None

    async def aclose(self) -> None:
        """Ends the reader."""
        await self._reader.aclose()

    def find(self, path: str) -> Callable[[web.BaseRequest], Awaitable[web.Response]] | None:
        """The page at a path; None if there is none."""
        pages: Mapping[str, Callable[[MultiMapping[str]], Awaitable[_Answer]]] = {
            "/": self._overview,
            "/api/status": self._status_json,
            "/api/jobs": self._jobs_json,
        }
        make = pages.get(path)
        for prefix, make_job in (("/jobs/", self._job), ("/api/jobs/", self._job_json)):
            if path.startswith(prefix) and len(path) > len(prefix):
                arn = path.removeprefix(prefix)
                make = _about(arn, make_job)
        if make is None:
            return None

        async def answer(request: web.BaseRequest) -> web.Response:
            return _response(await self._kept_or_made(request, make))

        return answer

    async def _kept_or_made(
        self,
        request: web.BaseRequest,
        make: Callable[[MultiMapping[str]], Awaitable[_Answer]],
    ) -> _Answer:
        if self._waiting >= MOST_WAITING:
            return _json(503, error_answer("too many requests at once; ask again"))
        self._waiting += 1
        try:
            async with self._turn:
                key = request.path_qs
                known = self._kept.get(key)
                if known is not None and monotonic() - known.made_at < KEPT_SECONDS:
                    return known
                made = await make(request.query)
                self._kept[key] = made
                self._kept.move_to_end(key)
                if len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
                return made
        finally:
            self._waiting -= 1

    # --- pages --------------------------------------------------------------------------------

    async def _overview(self, query: MultiMapping[str]) -> _Answer:
        problem, wanted, found = "", JobSearch(limit=SHOWN_JOBS), FoundJobs()
        try:
            wanted = _search(query, SHOWN_JOBS)
            found = await self._reader.search(wanted)
            unnamed = await self._reader.unnamed_rejections(UNNAMED_MESSAGES)
        except (_BadQuery, EdgeFault) as error:
            problem, unnamed = str(error), ()
        status = await self._status()
        jobs = JobList(wanted, found, unnamed, problem)
        return await _html(200, overview(status, jobs, refresh=_refresh(query)))

    async def _job(self, arn: str, query: MultiMapping[str]) -> _Answer:
        history, problem = JobHistory(()), ""
        try:
            history = await self._reader.job(_bounded("the ARN", arn))
        except (_BadQuery, EdgeFault) as error:
            problem = str(error)
        status = await self._status()
        code = 200 if history.records or history.story or problem else 404
        shown, refresh = arn[:LONGEST_TEXT], _refresh(query)
        page = job_page(shown, history, status, problem=problem, refresh=refresh)
        return await _html(code, page)

    async def _status_json(self, _query: MultiMapping[str]) -> _Answer:
        status = await self._status()
        return _json(200, status_answer(status))

    async def _jobs_json(self, query: MultiMapping[str]) -> _Answer:
        try:
            wanted = _search(query, SHOWN_JOBS)
            found = await self._reader.search(wanted)
        except _BadQuery as error:
            return _json(400, error_answer(str(error)))
        except EdgeFault as fault:
            return _json(503, error_answer(fault.detail))
        following = None
        if found.next is not None:
            following = f"/api/jobs{query_of(replace(wanted, before=found.next))}"
            following += f"&limit={wanted.limit}"
        return _Answer(200, await _paced(jobs_answer(found, following)), _JSON, monotonic())

    async def _job_json(self, arn: str, _query: MultiMapping[str]) -> _Answer:
        try:
            history = await self._reader.job(_bounded("the ARN", arn))
        except _BadQuery as error:
            return _json(400, error_answer(str(error)))
        except EdgeFault as fault:
            return _json(503, error_answer(fault.detail))
        if not (history.records or history.story):
            return _json(404, error_answer("the checkpoint has nothing of this job"))
        return _json(200, job_answer(history))

    async def _status(self) -> Status:
        if self._before is None:
            self._before = await self._earlier()
        return self._source.status(self._before or {})

    async def _earlier(self) -> Mapping[int, Mapping[str, int]] | None:
        """What the checkpoint tells of the hour before this process; None while it cannot."""
        until = self._source.started_at
        try:
            counts = await self._reader.minutes(until - 3600, until)
        except EdgeFault:
            return None
        found: dict[int, dict[str, int]] = {}
        for each in counts:
            found.setdefault(each.minute, {})[each.state] = each.jobs
        return found


def _about(
    arn: str, make: Callable[[str, MultiMapping[str]], Awaitable[_Answer]]
) -> Callable[[MultiMapping[str]], Awaitable[_Answer]]:
    async def made(query: MultiMapping[str]) -> _Answer:
        return await make(arn, query)

    return made


async def _paced(pieces: Iterable[str]) -> bytes:
    """Puts an answer together, with pauses: it uses at most half of the event loop's time, and
    little more than `WORK_SECONDS` at once.
    """
    made = []
    begun = time.perf_counter()
    for piece in pieces:
        made.append(piece)
        worked = time.perf_counter() - begun
        if worked > WORK_SECONDS:
            await asyncio.sleep(worked)
            begun = time.perf_counter()
    return "".join(made).encode()


def _search(query: MultiMapping[str], limit: int) -> JobSearch:
    """The search of a query.

    Raises:
        _BadQuery: a member is none that is allowed.
    """
    outcome, reason = query.get("outcome", ""), query.get("reason", "")
    before, wanted_limit = query.get("before", ""), query.get("limit", str(limit))
    states = [state.value for state in JobState]
    if outcome and outcome not in states:
        raise _BadQuery(f"outcome must be one of {', '.join(states)}")
    if reason and reason not in {each.value for each in Reason}:
        raise _BadQuery("reason must be a reason of this program")
    place = _POSITION.fullmatch(before)
    if before and place is None:
        raise _BadQuery("before must be taken from the address of a next page")
    if not re.fullmatch(r"\d{1,3}", wanted_limit, re.ASCII) or not (
        1 <= int(wanted_limit) <= MOST_JOBS
    ):
        raise _BadQuery(f"limit must be a number from 1 to {MOST_JOBS}")
    return JobSearch(
        state=JobState(outcome) if outcome else None,
        reason=reason,
        job=_bounded("job", query.get("job", "").strip()),
        project=_bounded("project", query.get("project", "").strip()),
        before=None if place is None else Position(float(place["at"]), int(place["row"])),
        limit=int(wanted_limit),
    )


def _bounded(name: str, text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise _BadQuery(f"{name} may have at most {LONGEST_TEXT} characters")
    # what UTF-8 cannot hold is in no row
    return text.encode("utf-8", "replace").decode()


def _refresh(query: MultiMapping[str]) -> int | None:
    """Seconds of ``?refresh=``, within bounds; None without one."""
    wanted = query.get("refresh", "")
    if not re.fullmatch(r"\d{1,6}", wanted, re.ASCII):
        return None
    least, most = REFRESH_SECONDS
    return min(max(int(wanted), least), most)


async def _html(status: int, pieces: Iterable[str]) -> _Answer:
    return _Answer(status, await _paced(pieces), "text/html", monotonic())


def _json(status: int, data: Mapping[str, Any]) -> _Answer:
    text = json.dumps(data, allow_nan=False)  # ASCII: any text can be sent
    return _Answer(status, f"{text}\n".encode(), _JSON, monotonic())


def _response(answer: _Answer) -> web.Response:
    return web.Response(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        charset="utf-8",
        headers=HEADERS,
    )

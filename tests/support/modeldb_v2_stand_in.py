"""The demo's ModelDB V2 stand-in with fault injection.

Beside `database_down` of the demo's own:

| switch | what clients see |
|---|---|
| `backend_down = True` | 503 code 14 "connection refused" at once; unknown paths are still 404 |
| `services_down = {"experiment-run"}` | the same for some services, as just after an outage |
| `frozen = True` | no answer until it is False again; then all that came in is done |
| `web_page = True` | 200 and a web page on every path and method, as from a wrong address |
| `lose_next_answers(n)` | the calls are carried out, the connection closed without an answer |
| `refuse_next(n, status, body)` | the calls are not carried out and get this answer |
| `delay_next(seconds, n)` | the calls are carried out after (or before) a pause, then answered |
| `overlap_next(n)` | the calls are carried out at the same time, as soon as all have arrived |

The last four count calls as they arrive and may be limited to one operation
(`createExperimentRun`). Several can be planned; each call takes from the first plan of each kind
that fits. `clear` ends everything.

Unlike on the real server, calls under way when the back-end or the database goes down are not cut
off (lose their answers for that), a database outage leaves no dead connections behind
(`refuse_next(1, 500, {"code": 2})` is what the first call meets then), no number of calls wedges
the server, and a frozen server does not keep to a Grpc-Timeout.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from daemon.demo.modeldb_v2 import server
from daemon.demo.modeldb_v2.faults import Faults
from daemon.demo.modeldb_v2.messages import UNAUTHENTICATED, UNAVAILABLE, ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.demo.modeldb_v2.calls import Call
    from daemon.demo.modeldb_v2.store import Table

_REFUSED = (
    'connection error: desc = "transport: Error while dialing dial tcp 127.0.0.1:8085: '
    'connect: connection refused"'
)
_WEB_PAGE = (
    "<!DOCTYPE html><html><head><title>ModelDB</title></head><body>This is a web page, not "
    "the API.</body></html>"
)


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """The call is carried out and the connection closed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    body: Mapping[str, Any] | str

    def response(self) -> web.Response:
        if isinstance(self.body, str):
            return web.Response(status=self.status, text=self.body)
        headers = {"Content-Type": "application/json"}
        body = json.dumps(self.body).encode()
        return web.Response(status=self.status, body=body, headers=headers)


@dataclass(frozen=True, slots=True)
class Delay:
    seconds: float
    carry_out_first: bool


class Overlap:
    """The calls wait for each other. Then each passes its checks before any takes effect."""

    def __init__(self, calls: int) -> None:
        self._awaited = calls
        self._complete = asyncio.Event()

    async def arrive(self) -> None:
        self._awaited -= 1
        if not self._awaited:
            # All continue in the same iteration of the loop, the last one included.
            asyncio.get_running_loop().call_soon(self._complete.set)
        await self._complete.wait()


_Fault = TypeVar("_Fault", bound=LostAnswer | Refusal | Delay | Overlap)


@dataclass(slots=True)
class _Plan:
    fault: LostAnswer | Refusal | Delay | Overlap
    left: int
    operation: str | None


class InjectedFaults(Faults):
    """See the module's table. Every switch is off at first."""

    def __init__(self) -> None:
        super().__init__()
        self.backend_down = False
        self.services_down: set[str] = set()
        self.web_page = False
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._plans: list[_Plan] = []

    @property
    def frozen(self) -> bool:
        return not self._thawed.is_set()

    @frozen.setter
    def frozen(self, frozen: bool) -> None:
        if frozen:
            self._thawed.clear()
        else:
            self._thawed.set()

    def lose_next_answers(self, n: int = 1, *, operation: str | None = None) -> None:
        """The next `n` calls, of an operation or any, are carried out but not answered."""
        self._plans.append(_Plan(LostAnswer(), n, operation))

    def refuse_next(
        self, n: int, status: int, body: Mapping[str, Any] | str, *, operation: str | None = None
    ) -> None:
        """The next calls are answered without being carried out.

        Args:
            n: how many.
            status: the HTTP status.
            body: a mapping goes out as JSON, a text as text/plain.
            operation: of which call, as the last part of its path; None: of any.
        """
        self._plans.append(_Plan(Refusal(status, body), n, operation))

    def delay_next(
        self,
        seconds: float,
        n: int = 1,
        *,
        operation: str | None = None,
        carry_out_first: bool = False,
    ) -> None:
        """The next calls take longer.

        Args:
            seconds: how much longer.
            n: how many.
            operation: of which call, as the last part of its path; None: of any.
            carry_out_first: True: the pause comes before the answer; False: before anything is
                done.
        """
        self._plans.append(_Plan(Delay(seconds, carry_out_first), n, operation))

    def overlap_next(self, n: int, *, operation: str) -> None:
        """The next `n` calls of an operation are carried out at the same time."""
        self._plans.append(_Plan(Overlap(n), n, operation))

    def clear(self) -> None:
        """Ends all faults; frozen calls continue."""
        self.backend_down = self.database_down = self.web_page = self.frozen = False
        self.services_down.clear()
        self._plans.clear()

    # What follows is for the server.

    async def thawed(self) -> None:
        """Returns as soon as nothing is frozen."""
        await self._thawed.wait()

    def loses_answer(self, operation: str) -> bool:
        return self.take(LostAnswer, operation) is not None

    def take(self, kind: type[_Fault], operation: str) -> _Fault | None:
        for plan in self._plans:
            if isinstance(plan.fault, kind) and plan.operation in {None, operation}:
                plan.left -= 1
                if plan.left <= 0:
                    self._plans.remove(plan)
                return plan.fault
        return None

    def reach_backend(self, service: str) -> None:
        """Raises `ApiError` when the proxy cannot reach the back-end for a service."""
        if self.backend_down or service in self.services_down:
            raise ApiError(UNAVAILABLE, _REFUSED)


class ModelDbV2StandIn(server.ModelDbV2StandIn):
    """The stand-in with `InjectedFaults`, a count of what arrives, and a view of what it keeps.

    Args:
        require_headers: headers that every request must bring, with these values (an Authorization,
            a developer key); others get 401.
        settings: of the stand-in.
    """

    faults: InjectedFaults

    def __init__(
        self, *, require_headers: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.require_headers = dict(require_headers or {})
        self.requests: Counter[str] = Counter()
        """Calls by operation (the last part of the path), refused ones included."""
        self.max_concurrent = 0
        """The most calls that waited for an answer at once."""
        self._under_way = 0
        self._arrival = asyncio.Event()

    def projects(self) -> list[dict[str, Any]]:
        """Copies of all that are not deleted, oldest first."""
        return _copies(self.store.projects)

    def experiments(self) -> list[dict[str, Any]]:
        return _copies(self.store.experiments)

    def runs(self) -> list[dict[str, Any]]:
        return _copies(self.store.runs)

    async def wait_for_requests(self, operation: str, count: int = 1) -> None:
        """Returns when so many calls of an operation have arrived since the object was made."""
        while self.requests[operation] < count:
            self._arrival.clear()
            await self._arrival.wait()

    def _new_faults(self) -> InjectedFaults:
        return InjectedFaults()

    async def _answer_unknown_path(self) -> web.Response:
        await self.faults.thawed()
        return _web_page() if self.faults.web_page else await super()._answer_unknown_path()

    async def _answer(
        self, request: server.Request, body: bytes, service: str, operation: str, call: Call
    ) -> web.Response | None:
        self.requests[operation] += 1
        self._arrival.set()
        self._under_way += 1
        self.max_concurrent = max(self.max_concurrent, self._under_way)
        try:
            if any(
                request.headers.get(name) != value for name, value in self.require_headers.items()
            ):
                raise ApiError(UNAUTHENTICATED, "UNAUTHENTICATED")
            return await self._answer_with_faults(request, body, service, operation, call)
        finally:
            self._under_way -= 1

    async def _answer_with_faults(
        self, request: server.Request, body: bytes, service: str, operation: str, call: Call
    ) -> web.Response | None:
        faults = self.faults
        await faults.thawed()
        if faults.web_page:
            return _web_page()
        refusal, delay = faults.take(Refusal, operation), faults.take(Delay, operation)
        if refusal is not None:
            return refusal.response()
        if delay is not None and not delay.carry_out_first:
            await asyncio.sleep(delay.seconds)
        overlap = faults.take(Overlap, operation)
        if overlap is not None:
            await overlap.arrive()
        response = await super()._answer(request, body, service, operation, call)
        if delay is not None and delay.carry_out_first:
            await asyncio.sleep(delay.seconds)
        await faults.thawed()
        return response


def _web_page() -> web.Response:
    return web.Response(text=_WEB_PAGE, content_type="text/html")


def _copies(table: Table) -> list[dict[str, Any]]:
    return [copy.deepcopy(entity.row) for entity in table.all_live()]

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
| `hold_next(operation)` | the call waits for `Hold.release`, whether or not its client still does |

The last five count calls as they arrive and may be limited to one operation
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
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiohttp import web

from daemon.demo.modeldb_v2 import server
from daemon.demo.modeldb_v2.faults import Faults
from daemon.demo.modeldb_v2.messages import UNAUTHENTICATED, UNAVAILABLE, ApiError
from tests.support.fault_plans import Delay, Hold, LostAnswer, Overlap, PlannedFaults, Refusal

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


class InjectedFaults(PlannedFaults, Faults):
    """See the module's table. Every switch is off at first."""

    def __init__(self) -> None:
        super().__init__()
        self.backend_down = False
        self.services_down: set[str] = set()

    def clear(self) -> None:
        """Ends all faults; frozen calls continue."""
        self.backend_down = self.database_down = False
        self.services_down.clear()
        self.clear_plans()

    # What follows is for the server.

    def loses_answer(self, operation: str) -> bool:
        return self.take(LostAnswer, operation) is not None

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
        self.under_way = 0
        """Calls that are being carried out or wait."""
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
        self.under_way += 1
        self.max_concurrent = max(self.max_concurrent, self.under_way)
        try:
            if any(
                request.headers.get(name) != value for name, value in self.require_headers.items()
            ):
                raise ApiError(UNAUTHENTICATED, "UNAUTHENTICATED")
            return await self._answer_with_faults(request, body, service, operation, call)
        finally:
            self.under_way -= 1

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
        hold = faults.take(Hold, operation)
        if hold is not None:
            await hold.pause()
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

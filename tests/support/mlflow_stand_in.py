"""The demo's MLflow stand-in with fault injection.

Beside `database_down` of the demo's own, the switches and plans of `fault_plans`, which count calls
by operation (``runs/create``). `clear` ends everything.

Unlike on the real server, calls under way when the database goes down are not cut off (lose their
answers for that).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from daemon.demo.mlflow import server
from daemon.demo.mlflow.faults import Faults
from daemon.demo.mlflow.replies import HTML_TYPE, JSON_TYPE, Reply
from tests.support.fault_plans import Delay, Hold, LostAnswer, Overlap, PlannedFaults, Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

_WEB_PAGE = (
    b"<!DOCTYPE html><html><head><title>MLflow</title></head><body>This is a web page, not the "
    b"API.</body></html>"
)


class InjectedFaults(PlannedFaults, Faults):
    """See the module's text. Every switch is off at first."""

    def clear(self) -> None:
        """Ends all faults; frozen calls continue."""
        self.database_down = False
        self.clear_plans()

    def loses_answer(self, operation: str) -> bool:
        return self.take(LostAnswer, operation) is not None


class MlflowStandIn(server.MlflowStandIn):
    """The stand-in with `InjectedFaults`, and a count of what arrives.

    Args:
        require_headers: headers that every request must bring, with these values (an Authorization
            of a reverse proxy, say); others get 401 as plain text.
        settings: of the stand-in, and of its model.
    """

    faults: InjectedFaults

    def __init__(
        self, *, require_headers: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        super().__init__(**settings)
        self.require_headers = dict(require_headers or {})
        self.requests: Counter[str] = Counter()
        """Calls by operation (``runs/create``), refused ones included; other paths as they are."""
        self.headers: list[Mapping[str, str]] = []
        """Those of each request, in the order of arrival."""
        self.max_concurrent = 0
        """The most calls that waited for an answer at once."""
        self.under_way = 0
        """Calls that are being carried out or wait."""
        self._arrival = asyncio.Event()

    async def wait_for_requests(self, operation: str, count: int = 1) -> None:
        """Returns when so many calls of an operation have arrived since the object was made."""
        while self.requests[operation] < count:
            self._arrival.clear()
            await self._arrival.wait()

    def _new_faults(self) -> InjectedFaults:
        return InjectedFaults()

    async def _answer(self, request: web.Request, operation: str, body: bytes) -> Reply | None:
        self.requests[operation or request.path] += 1
        self.headers.append(dict(request.headers))
        self._arrival.set()
        self.under_way += 1
        self.max_concurrent = max(self.max_concurrent, self.under_way)
        try:
            if any(
                request.headers.get(name) != value for name, value in self.require_headers.items()
            ):
                return Reply(401, "text/plain", b"Unauthorized")
            return await self._answer_with_faults(request, operation, body)
        finally:
            self.under_way -= 1

    async def _answer_with_faults(
        self, request: web.Request, operation: str, body: bytes
    ) -> Reply | None:
        faults = self.faults
        await faults.thawed()
        if faults.web_page:
            return Reply(200, HTML_TYPE, _WEB_PAGE)
        refusal, delay = faults.take(Refusal, operation), faults.take(Delay, operation)
        if refusal is not None:
            return Reply(refusal.status, _content_type(refusal.body), refusal.encoded())
        if delay is not None and not delay.carry_out_first:
            await asyncio.sleep(delay.seconds)
        hold = faults.take(Hold, operation)
        if hold is not None:
            await hold.pause()
        overlap = faults.take(Overlap, operation)
        if overlap is not None:
            await overlap.arrive()
        reply = await super()._answer(request, operation, body)
        if delay is not None and delay.carry_out_first:
            await asyncio.sleep(delay.seconds)
        await faults.thawed()
        return reply


def _content_type(body: Mapping[str, Any] | str) -> str:
    if not isinstance(body, str):
        return JSON_TYPE
    return HTML_TYPE if body.startswith("<") else "text/plain"

"""Faults that tests plan for a stand-in: the next calls, of one operation or any, go wrong.

| switch | what clients see |
|---|---|
| `frozen = True` | no answer until it is False again; then all that came in is done |
| `web_page = True` | 200 and a web page on every path and method, as from a wrong address |
| `lose_next_answers(n)` | the calls are carried out, the connection closed without an answer |
| `refuse_next(n, status, body)` | the calls are not carried out and get this answer |
| `delay_next(seconds, n)` | the calls are carried out after (or before) a pause, then answered |
| `overlap_next(n)` | the calls are carried out at the same time, as soon as all have arrived |
| `hold_next(operation)` | the call waits for `Hold.release`, whether or not its client still does |

The last five count calls as they arrive. Several can be planned; each call takes from the first
plan of each kind that fits.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        return web.Response(status=self.status, body=self.encoded(), headers=headers)

    def encoded(self) -> bytes:
        text = self.body if isinstance(self.body, str) else json.dumps(self.body)
        return text.encode()


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


class Hold:
    """A call that waits before it is carried out."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        """Set as soon as the call waits."""
        self._released = asyncio.Event()

    def release(self) -> None:
        """The call is carried out now, whether or not its client still waits."""
        self._released.set()

    async def pause(self) -> None:
        """For the server."""
        self.reached.set()
        await self._released.wait()


_Fault = TypeVar("_Fault", bound=LostAnswer | Refusal | Delay | Overlap | Hold)


@dataclass(slots=True)
class _Plan:
    fault: LostAnswer | Refusal | Delay | Overlap | Hold
    left: int
    operation: str | None


class PlannedFaults:
    """See the module's table. Every switch is off at first."""

    def __init__(self) -> None:
        super().__init__()
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
            operation: of which call, by its name; None: of any.
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
            operation: of which call, by its name; None: of any.
            carry_out_first: True: the pause comes before the answer; False: before anything is
                done.
        """
        self._plans.append(_Plan(Delay(seconds, carry_out_first), n, operation))

    def overlap_next(self, n: int, *, operation: str) -> None:
        """The next `n` calls of an operation are carried out at the same time."""
        self._plans.append(_Plan(Overlap(n), n, operation))

    def hold_next(self, *, operation: str) -> Hold:
        """The next call of an operation waits before it is carried out."""
        hold = Hold()
        self._plans.append(_Plan(hold, 1, operation))
        return hold

    def clear_plans(self) -> None:
        """Ends these faults; frozen calls continue, those that are held stay so."""
        self.web_page = self.frozen = False
        self._plans.clear()

    # What follows is for the server.

    async def thawed(self) -> None:
        """Returns as soon as nothing is frozen."""
        await self._thawed.wait()

    def take(self, kind: type[_Fault], operation: str) -> _Fault | None:
        for plan in self._plans:
            if isinstance(plan.fault, kind) and plan.operation in {None, operation}:
                plan.left -= 1
                if plan.left <= 0:
                    self._plans.remove(plan)
                return plan.fault
        return None

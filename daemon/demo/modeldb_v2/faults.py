"""The fault switchboard of the ModelDB V2 stand-in: what can be made to go wrong, while it runs,
from the same process.

| switch | what clients see |
|---|---|
| `backend_down = True` | every call at once 503 code 14 "connection refused"; unknown paths are still 404 |
| `services_down = {"experiment-run"}` | the same for some services only, as the proxy does for up to two minutes after an outage |
| `database_down = True` | every call but verifyConnection 500 code 13, after `database_answer_seconds` |
| `frozen = True` | nothing is answered any more; when it is False again, everything that came in is carried out and answered |
| `web_page = True` | 200 and a web page on every path and method, as a wrong address may give |
| `lose_next_answers(n)` | the next calls are carried out, then the connection is closed without an answer |
| `refuse_next(n, status, body)` | the next calls are not carried out and get this answer |
| `delay_next(seconds, n)` | the next calls are carried out after (or before) a pause, and then answered |

The last three count calls as they arrive, and may be limited to one operation
(`createExperimentRun`). Several can be planned; each call takes from the first plan of each kind
that fits. `clear` ends everything.

Unlike the real server: calls that are under way when the back-end or the database goes down are not
cut off (lose their answers for that), a database outage leaves no dead connections behind
(`refuse_next(1, 500, {"code": 2})` is what the first call meets then), and no number of calls
wedges the server.
"""  # noqa: E501

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.demo.modeldb_v2.messages import INTERNAL, UNAVAILABLE, ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

_REFUSED = (
    'connection error: desc = "transport: Error while dialing dial tcp 127.0.0.1:8085: '
    'connect: connection refused"'
)
_NO_DATABASE = "UNAVAILABLE: UNAVAILABLE: DB connection not found after 2560 millisecond"


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """The call is carried out and the connection closed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    body: Mapping[str, Any] | str


@dataclass(frozen=True, slots=True)
class Delay:
    seconds: float
    carry_out_first: bool


_Fault = TypeVar("_Fault", bound=LostAnswer | Refusal | Delay)


@dataclass(slots=True)
class _Plan:
    fault: LostAnswer | Refusal | Delay
    left: int
    operation: str | None


class Faults:
    """See the module's table. Every switch is off at first."""

    def __init__(self) -> None:
        self.backend_down = False
        self.services_down: set[str] = set()
        self.database_down = False
        self.database_answer_seconds = 5.1
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
        """Args: n: how many; operation: of which call, as the last part of its path; None: of
        any.
        """
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

    def clear(self) -> None:
        """Everything works again; what was frozen goes on."""
        self.backend_down = self.database_down = self.web_page = self.frozen = False
        self.services_down.clear()
        self._plans.clear()

    # What follows is for the server.

    async def thawed(self) -> None:
        """Returns as soon as nothing is frozen."""
        await self._thawed.wait()

    def take_lost_answer(self, operation: str) -> LostAnswer | None:
        return self._take(LostAnswer, operation)

    def take_refusal(self, operation: str) -> Refusal | None:
        return self._take(Refusal, operation)

    def take_delay(self, operation: str) -> Delay | None:
        return self._take(Delay, operation)

    def _take(self, kind: type[_Fault], operation: str) -> _Fault | None:
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

    async def reach_database(self) -> None:
        """Raises `ApiError`, after the time that the server takes to find out, when its database is
        down.
        """
        if self.database_down:
            await asyncio.sleep(self.database_answer_seconds)
            raise ApiError(INTERNAL, _NO_DATABASE)

"""Circuit breakers: one per edge, and for SageMaker one per account and region, open while it is
unavailable, so that messages are held instead of using up receives.

    unproven (open) ── probe passes ──> closed ── trip(fault) ──> open
                                          ^                        │
                                          └───── probe passes ─────┘

A failed probe leaves it open; the next one follows after a longer backoff. A probe can pass while
real calls still fail (a permission that the probe does not need). The breaker then opens again at
once, and its backoff goes on growing, because only a successful real call resets it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import structlog

from daemon.clock import monotonic
from daemon.errors import EdgeFault
from daemon.pipeline.step import Step
from daemon.reasons import Edge, Reason
from daemon.unforeseen import unforeseen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

    from daemon.intake.backoff import Backoff
    from daemon.observability.watchdog import Pulse

log = structlog.get_logger(__name__)

EDGE_OF_STEP: Mapping[Step, Edge] = {
    Step.CLAIM: Edge.CHECKPOINT,
    Step.DESCRIBE: Edge.SAGEMAKER,
    Step.TAGS: Edge.SAGEMAKER,
    Step.SYNC: Edge.TARGET,
    Step.RECORD: Edge.CHECKPOINT,
}
"""The edge that each step of the flow calls."""

PROBE_DEADLINE_SECONDS = 120.0
"""A longer probe has failed. Exceeds the sum of any edge's own timeouts."""
REMIND_SECONDS = 900.0
"""Between two warnings that say the same about one outage."""

_NEW_DETAIL_IS_NEWS = {
    Reason.ACCESS_DENIED,
    Reason.CREDENTIALS,
    Reason.NOT_FOUND,
    Reason.NOT_THE_API,
}
"""Reasons whose detail identifies the problem. A new detail (say, the next missing IAM action) is
logged as a new fault; details of outages contain times and addresses, so for those only the reason
is compared."""


class Breaker:
    """The circuit breaker of one edge, or of one account's and region's part of SageMaker.

    Args:
        edge: which.
        probe: raises `EdgeFault` while the edge is unavailable. Never called concurrently.
        backoff: pauses between probes.
        on_change: called with True when the breaker opens, False when it closes.
        proven: False: the breaker is open until a first probe has passed.
        where: see `daemon.errors.EdgeFault`.

    Attributes:
        fault: why it is open; None while it is closed or before the first probe.
        proven: the edge has worked at least once in the life of this process.
        changed_at: when it last opened or closed, or else was made (monotonic seconds).
    """

    def __init__(
        self,
        edge: Edge,
        probe: Callable[[], Awaitable[object]],
        backoff: Backoff,
        on_change: Callable[[bool], None],
        *,
        proven: bool = False,
        where: str = "",
    ) -> None:
        self.edge = edge
        self.where = where
        self.fault: EdgeFault | None = None
        self.proven = proven
        self._probed = proven
        self._probe = probe
        self._backoff = backoff
        self._on_change = on_change
        self._closed = asyncio.Event()
        self._opened = asyncio.Event()
        self._failures = 0
        self._successes: dict[Step, tuple[str, float]] = {}
        self._opened_at = self.changed_at = monotonic()
        self._logged: tuple[str, float] | None = None
        if proven:
            self._closed.set()
        else:
            self._opened.set()
        on_change(not proven)

    @property
    def name(self) -> str:
        """For logs and people."""
        return f"{self.edge} {self.where}" if self.where else self.edge.value

    @property
    def is_open(self) -> bool:
        return not self._closed.is_set()

    def trip(self, fault: EdgeFault) -> None:
        """Opens the breaker; if it is open already, only `fault` changes."""
        self.fault = fault
        if self.is_open:
            return
        self._failures += 1
        self._opened_at = self.changed_at = monotonic()
        self._closed.clear()
        self._opened.set()
        self._on_change(True)
        self._logged = (_gist(fault), self._opened_at)
        log.warning(
            "breaker opened",
            edge=self.name,
            reason=fault.reason,
            detail=fault.detail,
            curable=fault.curable,
        )

    def succeeded(self, step: Step, message_id: str) -> None:
        """Notes that a real call succeeded, which resets the backoff.

        Args:
            step: of the flow. One call of an edge may work while another does not.
            message_id: for which message.
        """
        self._failures = 0
        self._successes[step] = (message_id, monotonic())

    def worked(self) -> None:
        """Notes that a real call succeeded that is no step of the flow; resets the backoff."""
        self._failures = 0

    def succeeded_for_others(self, step: Step, message_id: str, since: float) -> bool:
        """True if the step succeeded for another message after a moment (monotonic seconds): then
        its failure for this message is not the edge's fault.
        """
        last = self._successes.get(step)
        return last is not None and last[0] != message_id and last[1] > since

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def run(self, pulse: Pulse, on_fault: Callable[[EdgeFault], None]) -> None:
        """Probes while the breaker is open. Ends only by cancellation.

        Args:
            pulse: of this loop.
            on_fault: called with the fault of each failed probe.
        """
        while True:
            pulse.rest()
            await self._opened.wait()
            # no failure precedes the very first probe, so it does not wait
            if self._probed:
                await asyncio.sleep(self.pause())
            pulse.work(PROBE_DEADLINE_SECONDS + 10)
            self._probed = True
            fault = await self._ask()
            if fault is None:
                self._close()
            else:
                on_fault(fault)
                self.failed(fault)

    def failed(self, fault: EdgeFault) -> None:
        """Notes a failed probe of an edge that is unavailable."""
        self.fault = fault
        self._failures += 1
        self._log_failed_probe(fault)

    def pause(self) -> float:
        """Seconds until the next probe of an edge that is unavailable."""
        return self._backoff.delay(max(self._failures, 1))

    def _log_failed_probe(self, fault: EdgeFault) -> None:
        """A warning if it is news or the last one is long ago: outages must not flood the log."""
        now = monotonic()
        logged = self._logged
        news = logged is None or logged[0] != _gist(fault) or now - logged[1] >= REMIND_SECONDS
        if news:
            self._logged = (_gist(fault), now)
        log.log(
            logging.WARNING if news else logging.DEBUG,
            "probe failed",
            edge=self.name,
            reason=fault.reason,
            detail=fault.detail,
            open_seconds=round(now - self._opened_at, 1),
        )

    async def _ask(self) -> EdgeFault | None:
        try:
            async with asyncio.timeout(PROBE_DEADLINE_SECONDS):
                await self._probe()
        except EdgeFault as fault:
            return fault
        except TimeoutError:
            found = EdgeFault(
                self.edge, Reason.UNREACHABLE, f"no answer within {PROBE_DEADLINE_SECONDS:.0f} s"
            )
        except Exception as error:  # noqa: BLE001 - it must never end the loop
            found = unforeseen(self.edge, "the probe", error)
        else:
            return None
        return found.of(self.where) if self.where else found

    def _close(self) -> None:
        open_seconds = round(monotonic() - self._opened_at, 1)
        self._opened.clear()
        self.fault = None
        self._logged = None
        self.proven = True
        self.changed_at = monotonic()
        self._closed.set()
        self._on_change(False)
        log.info("breaker closed", edge=self.name, open_seconds=open_seconds)


class Breakers:
    """The breakers of all edges.

    An edge with several, one for each account and region, is open when all of them are. While only
    some are, messages go on being received, and those that wait for one of them take up no slot.
    """

    def __init__(self, breakers: Iterable[Breaker]) -> None:
        self._breakers = {(breaker.edge, breaker.where): breaker for breaker in breakers}
        self._of_edge: dict[Edge, list[Breaker]] = {}
        for breaker in self._breakers.values():
            self._of_edge.setdefault(breaker.edge, []).append(breaker)

    def __iter__(self) -> Iterator[Breaker]:
        return iter(self._breakers.values())

    def __getitem__(self, edge: Edge) -> Breaker:
        return self._breakers[edge, ""]

    def of(self, fault: EdgeFault) -> Breaker:
        """The breaker that a fault opens."""
        return self._breakers.get((fault.edge, fault.where), self[fault.edge])

    @property
    def any_open(self) -> bool:
        """An edge is open as a whole."""
        return any(self.is_open(edge) for edge in self._of_edge)

    def is_open(self, edge: Edge) -> bool:
        """An edge is open as a whole: for all accounts and regions."""
        return all(breaker.is_open for breaker in self._of_edge[edge])

    def is_one_of_several(self, breaker: Breaker) -> bool:
        """Other accounts and regions have breakers of their own."""
        return len(self._of_edge[breaker.edge]) > 1

    def fault_of(self, where: str) -> EdgeFault | None:
        """Why jobs of an account and region are not to be asked about, where others can be; None:
        nothing is known against it.
        """
        breaker = self._breakers[Edge.SAGEMAKER, where]
        known = breaker.is_open and self.is_one_of_several(breaker)
        return breaker.fault if known else None

    def trip(self, fault: EdgeFault) -> None:
        """Opens the breaker of the fault's edge."""
        self.of(fault).trip(fault)

    def succeeded(self, step: Step, message_id: str, where: str = "") -> None:
        """A step of the flow succeeded for a message; see `Breaker.succeeded`.

        Args:
            step: of the flow.
            message_id: for which message.
            where: whose job it is about; see `daemon.errors.EdgeFault`.
        """
        edge = EDGE_OF_STEP.get(step)
        if edge is not None:
            of_account = edge is Edge.SAGEMAKER
            self._breakers[edge, where if of_account else ""].succeeded(step, message_id)

    async def wait_closed(self) -> None:
        """Returns when no edge is open as a whole."""
        while self.any_open:
            for breakers in self._of_edge.values():
                await _one_closed(breakers)


async def _one_closed(breakers: Sequence[Breaker]) -> None:
    if len(breakers) == 1:
        await breakers[0].wait_closed()
        return
    waits = [asyncio.ensure_future(breaker.wait_closed()) for breaker in breakers]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _gist(fault: EdgeFault) -> str:
    return fault.detail if fault.reason in _NEW_DETAIL_IS_NEWS else fault.reason

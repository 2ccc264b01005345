"""The loop in the daemon that makes a pass of reconcile from time to time.

Nothing that goes wrong here stops or pauses the daemon: a fault is logged once, shown, and the pass
is tried again later.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from daemon.checkpoint.ports import ClaimedElsewhere, LeaseLost
from daemon.clock import wall
from daemon.errors import EdgeFault
from daemon.operations.reconcile import (
    CLAIM,
    LEASE_SECONDS,
    NOTE,
    Paused,
    Progress,
    ReconcileEdges,
    ReconcileRules,
    reconcile_once,
)
from daemon.reasons import Edge

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.intake.backoff import Backoff

log = structlog.get_logger(__name__)

START_SECONDS = 10.0
"""From the start of the daemon to its first look whether a pass is due."""
AGAIN_SECONDS = 60.0
"""Until the next look, when a pass is due and cannot be made now."""
FAILED_SECONDS = (60.0, 3600.0)
"""Shortest and longest pause after a pass that failed."""
REQUEST_SECONDS = 300.0
"""A request that takes longer counts as hung: it includes the wait for its turn."""


class Pulse(Protocol):
    """What the loop needs of `daemon.observability.watchdog.Pulse`."""

    def rest(self) -> None: ...

    def work(self, limit_seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the daemon tells the loop, and learns from it.

    Attributes:
        backlog_seconds: how long ago the oldest message in flight was sent, while the queue shows
            more that are visible; None: there is no backlog.
        on_fault: called with each fault of the checkpoint.
        on_success: called with the end of the last complete pass (epoch seconds), of whichever
            process.
        on_failure: called with the fault of this process's last attempt; None: it has none.
    """

    backlog_seconds: Callable[[], float | None]
    on_fault: Callable[[EdgeFault], None]
    on_success: Callable[[float], None]
    on_failure: Callable[[EdgeFault | None], None]


class ReconcileLoop:
    """Makes a pass every so often, in one process at a time.

    Args:
        edges: what a pass works with.
        rules: the settings.
        every_seconds: from the beginning of one pass to that of the next.
        surroundings: the daemon.
        backoff: after a failure, between `FAILED_SECONDS`.
    """

    def __init__(
        self,
        edges: ReconcileEdges,
        rules: ReconcileRules,
        every_seconds: float,
        surroundings: Surroundings,
        backoff: Backoff,
    ) -> None:
        self._edges = edges
        self._rules = rules
        self._every_seconds = every_seconds
        self._surroundings = surroundings
        self._backoff = backoff
        self._failures = 0
        self._said = ""
        self.fault: EdgeFault | None = None

    @property
    def words(self) -> str:
        """For `/readyz`; "" while all is well."""
        return "" if self.fault is None else f"{self.fault.reason}: {self.fault.detail}"

    async def run(self, pulse: Pulse) -> None:
        """Ends only by cancellation, which may come at any time."""
        pause = START_SECONDS
        while True:
            pulse.rest()
            await asyncio.sleep(pause)
            pulse.work(REQUEST_SECONDS)
            pause = await self.turn()

    async def turn(self) -> float:
        """Makes a pass if it is due and may be made. Returns the seconds until the next look."""
        try:
            if not self._edges.may_go_on():
                return AGAIN_SECONDS
            left = self._seconds_left(await self._progress())
            if left > 0:
                return min(left, self._every_seconds)
            return await self._claimed()
        except (LeaseLost, Paused) as why:
            log.info("reconcile gave a pass up", detail=str(why))
            return AGAIN_SECONDS
        except EdgeFault as fault:
            return self._failed(fault)

    async def _claimed(self) -> float:
        checkpoint = self._edges.checkpoint
        claim = await checkpoint.claim(CLAIM, LEASE_SECONDS)
        if isinstance(claim, ClaimedElsewhere):
            return AGAIN_SECONDS
        try:
            # another process may just have made this pass
            progress = await self._progress()
            if self._seconds_left(progress) > 0 or self._backlog_is_older(progress):
                return AGAIN_SECONDS
            progress = await reconcile_once(self._edges, self._rules, claim)
        finally:
            # the checkpoint releases it, too, when it is closed
            with contextlib.suppress(EdgeFault):
                await checkpoint.release(claim)
        self._succeeded(progress)
        return self._every_seconds

    async def _progress(self) -> Progress:
        progress = Progress.of(await self._edges.checkpoint.note(NOTE))
        if progress.ended_at is not None:
            self._surroundings.on_success(progress.ended_at)
        return progress

    def _seconds_left(self, progress: Progress) -> float:
        """Until the next pass is due; 0 also after one that began in the future."""
        if progress.began_at is None or progress.began_at > wall():
            return 0.0
        return max(0.0, progress.began_at + self._every_seconds - wall())

    def _backlog_is_older(self, progress: Progress) -> bool:
        """Whether messages wait that were sent before the last pass: what seems to have no event
        may be among them.
        """
        seconds = self._surroundings.backlog_seconds()
        last = self._every_seconds if progress.began_at is None else wall() - progress.began_at
        if seconds is None or seconds <= last:
            return False
        log.info("reconcile waits for the backlog", oldest_seconds=round(seconds))
        return True

    def _succeeded(self, progress: Progress) -> None:
        if self.fault is not None:
            log.info("reconcile works again")
        self.fault, self._failures, self._said = None, 0, ""
        self._surroundings.on_failure(None)
        if progress.ended_at is not None:
            self._surroundings.on_success(progress.ended_at)

    def _failed(self, fault: EdgeFault) -> float:
        if fault.edge is Edge.CHECKPOINT:
            self._surroundings.on_fault(fault)
        self.fault = fault
        self._failures += 1
        self._surroundings.on_failure(fault)
        if self._said != fault.reason:
            self._said = fault.reason
            log.warning(
                "jobs whose event was lost are not found now; trying again later",
                edge=fault.edge,
                reason=fault.reason,
                detail=fault.detail,
            )
        return self._backoff.delay(self._failures)

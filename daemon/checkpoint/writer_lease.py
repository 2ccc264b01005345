"""The writer lease of a server that takes one writer only: takes it, renews it, and says when it
may be used.

    standing by ── taken ──> writer ── renewed every few seconds ──> writer
        ▲                      │
        └─ lost, or expired ───┘   (on_end: connections are cut at once)

The server may carry out a call until its deadline and the settle time have passed. So nothing is
sent whose deadline the lease does not outlive, and a process that takes over a lease that was not
released waits for deadline and settle time after its end (the grace). So does the only process
when it is started again after a crash.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from daemon.checkpoint.ports import WriterElsewhere
from daemon.clock import monotonic, wall
from daemon.errors import EdgeFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpoint.ports import Checkpoint, WriterLease
    from daemon.observability.watchdog import Pulse

log = structlog.get_logger(__name__)

SPARE_SECONDS = 60.0
"""How long renewals may fail before sending stops."""
RENEW_SECONDS = 10.0
LATE_RENEW_SECONDS = 1.0
"""The same while the lease is too short to send anything."""
STAND_BY_SECONDS = 5.0
"""Between two attempts to take the lease; a lease that is released is taken within this time."""
CALL_SECONDS = 60.0
"""Timeout of one call of the checkpoint."""


class WriterLeaseKeeper:
    """A `daemon.targets.ports.WritePermit`.

    Args:
        server_id: as `daemon.checkpoint.ports.Checkpoint.take_writer_lease`.
        call_seconds: the longest deadline of a call to the server.
        settle_seconds: how long after its deadline a call may still be carried out.
        on_fault: called with each fault of the checkpoint as a whole.
        on_change: called with True when this process becomes the writer, with False at the start
            and when it no longer is.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        server_id: str,
        *,
        call_seconds: float,
        settle_seconds: float,
        on_fault: Callable[[EdgeFault], None],
        on_change: Callable[[bool], None] = lambda _holds: None,
    ) -> None:
        self._checkpoint = checkpoint
        self._server_id = server_id
        self._call_seconds = call_seconds
        self._grace_seconds = call_seconds + settle_seconds
        self._lease_seconds = call_seconds + SPARE_SECONDS
        self._on_fault = on_fault
        self._on_change = on_change
        self._lease: WriterLease | None = None
        self._expires = 0.0
        self._wall_expires = 0.0
        self._held = asyncio.Event()
        self._on_end: list[Callable[[], None]] = []
        self._elsewhere: WriterElsewhere | None = None
        self._free_at = 0.0
        on_change(False)

    @property
    def holds(self) -> bool:
        return self._seconds_left() > 0

    @property
    def standing_by(self) -> str:
        """Why this process is not the writer, for people; "" while it is, or before the first
        attempt.
        """
        elsewhere = self._elsewhere
        if self.holds or elsewhere is None:
            return ""
        if not elsewhere.ended:
            return f"process {elsewhere.owner} is the writer; this one takes over when it ends"
        seconds = max(0.0, self._free_at - monotonic())
        return (
            f"the writer lease of process {elsewhere.owner} has ended; this one takes over in "
            f"{seconds:.0f} s, when the server has carried out all that was sent"
        )

    def may_send(self) -> bool:
        return self._seconds_left() > self._call_seconds

    def _seconds_left(self) -> float:
        """Seconds until others, whose wall clocks may jump, may see the lease as expired."""
        if self._lease is None:
            return 0.0
        return min(self._expires - monotonic(), self._wall_expires - wall())

    def on_end(self, end: Callable[[], None]) -> None:
        self._on_end.append(end)

    async def wait_held(self) -> None:
        """Returns when this process is the writer."""
        while not self.holds:
            self._held.clear()  # the lease may have expired before `run` has noticed
            await self._held.wait()

    async def run(self, pulse: Pulse) -> None:
        """Takes the lease and renews it. Ends only by cancellation, which keeps the lease."""
        while True:
            pulse.work(CALL_SECONDS + RENEW_SECONDS)
            try:
                async with asyncio.timeout(self._call_timeout()):
                    await self._take_or_renew()
            except EdgeFault as fault:
                self._on_fault(fault)
            except TimeoutError:
                log.warning("the checkpoint does not answer in time", server_id=self._server_id)
            if self._lease is not None and not self.holds:
                self._end("the lease expired")
            pulse.rest()
            await asyncio.sleep(self._pause())

    async def release(self) -> None:
        """Releases the lease. To be called only when everything that was sent has been answered."""
        lease, self._lease = self._lease, None
        self._held.clear()
        if lease is None:
            return
        try:
            await self._checkpoint.release_writer_lease(lease)
        except EdgeFault as fault:
            # only time is lost: the next writer waits for the grace
            log.warning(
                "could not release the writer lease",
                server_id=self._server_id,
                detail=fault.detail,
            )

    def _call_timeout(self) -> float:
        if self._lease is None:
            return CALL_SECONDS
        return min(CALL_SECONDS, max(1.0, self._seconds_left()))

    def _pause(self) -> float:
        if self._lease is not None:
            # what cannot be sent until the lease is renewed is given back, and uses up receives
            longest = RENEW_SECONDS if self.may_send() else LATE_RENEW_SECONDS
            return min(longest, max(0.1, self._seconds_left()))
        if self._elsewhere is not None and self._elsewhere.ended:
            return min(STAND_BY_SECONDS, max(0.1, self._free_at - monotonic()))
        return STAND_BY_SECONDS

    async def _take_or_renew(self) -> None:
        # Counted from before the call, so that the lease never seems longer here than it is.
        begun, wall_begun = monotonic(), wall()
        if self._lease is not None:
            if await self._checkpoint.renew_writer_lease(self._lease, self._lease_seconds):
                self._extend(begun, wall_begun)
            else:
                self._end("another process took the lease over")
            return
        taken = await self._checkpoint.take_writer_lease(
            self._server_id, self._lease_seconds, grace_seconds=self._grace_seconds
        )
        if isinstance(taken, WriterElsewhere):
            self._stand_by(taken)
            return
        self._lease, self._elsewhere = taken, None
        self._extend(begun, wall_begun)
        self._on_change(True)
        log.info("this process is the writer", server_id=self._server_id, term=taken.term)

    def _stand_by(self, elsewhere: WriterElsewhere) -> None:
        before, self._elsewhere = self._elsewhere, elsewhere
        self._free_at = monotonic() + elsewhere.seconds_left
        if before is not None and (before.owner, before.ended) == (
            elsewhere.owner,
            elsewhere.ended,
        ):
            return
        if elsewhere.ended:
            log.info(
                "standing by: the writer lease has ended, and what was sent may still be written",
                server_id=self._server_id,
                writer=elsewhere.owner,
                seconds=round(elsewhere.seconds_left, 1),
            )
        else:
            log.info(
                "standing by: another process is the writer",
                server_id=self._server_id,
                writer=elsewhere.owner,
            )

    def _extend(self, begun: float, wall_begun: float) -> None:
        self._expires = begun + self._lease_seconds
        self._wall_expires = wall_begun + self._lease_seconds
        self._held.set()

    def _end(self, why: str) -> None:
        self._lease = None
        self._expires = self._wall_expires = 0.0
        self._held.clear()
        self._on_change(False)
        log.error("no longer the writer", server_id=self._server_id, why=why)
        for end in self._on_end:
            end()

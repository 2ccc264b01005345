"""The writer of a server that takes one writer only: gets the lease in the checkpoint, keeps it,
and says when it may be used.

    standing by ── lease taken ──> writer ── renewed in time, again and again ──> writer
        ▲                            │
        └── taken over, or run out ──┘   (on_end: connections are cut at once)

What is sent last may be carried out until its deadline has passed and a while longer. So nothing is
sent whose deadline the lease does not outlive, and who takes over a lease that was not given back
waits for that deadline and the settle time beyond its end.
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
"""How long renewals may fail before nothing is sent any more."""
RENEW_SECONDS = 10.0
STAND_BY_SECONDS = 5.0
"""Between two tries to become the writer; a lease that is given back is taken within this time."""
CALL_SECONDS = 60.0
"""For one call of the checkpoint, before the loop counts as hanging."""


class WriterLeaseKeeper:
    """A `daemon.targets.ports.WritePermit`.

    Args:
        server_id: names the server in the checkpoint.
        call_seconds: the longest deadline of a call.
        settle_seconds: how long after its deadline a call may still be carried out.
        on_fault: told of each fault of the checkpoint as a whole.
        on_change: told True when this process becomes the writer, False when it no longer is.
        clock: monotonic seconds.
        wall_clock: epoch seconds, by which other processes judge the lease.
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
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = wall,
    ) -> None:
        self._checkpoint = checkpoint
        self._server_id = server_id
        self._call_seconds = call_seconds
        self._grace_seconds = call_seconds + settle_seconds
        self._lease_seconds = call_seconds + SPARE_SECONDS
        self._on_fault = on_fault
        self._on_change = on_change
        self._clock = clock
        self._lease: WriterLease | None = None
        self._wall = wall_clock
        self._until = 0.0
        self._wall_until = 0.0
        self._held = asyncio.Event()
        self._ends: list[Callable[[], None]] = []
        self._elsewhere = ""
        on_change(False)

    @property
    def holds(self) -> bool:
        return self._seconds_left() > 0

    @property
    def standing_by_for(self) -> str:
        """The process that is the writer; "" while this one is, or before the first look."""
        return "" if self.holds else self._elsewhere

    def may_send(self) -> bool:
        return self._seconds_left() > self._call_seconds

    def _seconds_left(self) -> float:
        """Until another process may think that the lease has run out; after a jump of the wall
        clock, it may think so at once.
        """
        if self._lease is None:
            return 0.0
        return min(self._until - self._clock(), self._wall_until - self._wall())

    def on_end(self, end: Callable[[], None]) -> None:
        self._ends.append(end)

    async def wait_held(self) -> None:
        """Returns when this process is the writer."""
        while not self.holds:
            self._held.clear()  # the right may have run out before `run` has noticed
            await self._held.wait()

    async def run(self, pulse: Pulse) -> None:
        """Takes the lease and keeps it. Ends only by cancellation; the lease is then still held."""
        while True:
            pulse.work(CALL_SECONDS + RENEW_SECONDS)
            try:
                async with asyncio.timeout(self._patience()):
                    await self._take_or_renew()
            except EdgeFault as fault:
                self._on_fault(fault)
            except TimeoutError:
                log.warning("the checkpoint does not answer in time", writing_to=self._server_id)
            if self._lease is not None and not self.holds:
                self._end("its lease has run out unrenewed")
            pulse.rest()
            await asyncio.sleep(self._pause())

    async def release(self) -> None:
        """Gives the lease back. Only to be called when nothing that was sent is without an
        answer.
        """
        lease, self._lease = self._lease, None
        self._held.clear()
        if lease is None:
            return
        try:
            await self._checkpoint.release_writer_lease(lease)
        except EdgeFault as fault:
            # The next writer sees that this process is gone, or waits for the lease's end: nothing
            # is lost but time.
            log.warning(
                "the right to write could not be given back",
                writing_to=self._server_id,
                detail=fault.detail,
            )

    def _patience(self) -> float:
        return (
            min(CALL_SECONDS, max(1.0, self._seconds_left()))
            if self._lease is not None
            else CALL_SECONDS
        )

    def _pause(self) -> float:
        if self._lease is None:
            return STAND_BY_SECONDS
        return min(RENEW_SECONDS, max(0.1, self._seconds_left()))

    async def _take_or_renew(self) -> None:
        begun, wall_begun = (
            self._clock(),
            self._wall(),
            # the lease is counted from before the call, so that it never seems longer here than it
            # is
        )
        if self._lease is not None:
            if await self._checkpoint.renew_writer_lease(self._lease, self._lease_seconds):
                self._last_until(begun, wall_begun)
            else:
                self._end("another process has taken over")
            return
        taken = await self._checkpoint.take_writer_lease(
            self._server_id, self._lease_seconds, grace_seconds=self._grace_seconds
        )
        if isinstance(taken, WriterElsewhere):
            if taken.owner != self._elsewhere:
                log.info(
                    "standing by: another process is the writer",
                    writing_to=self._server_id,
                    writer=taken.owner,
                )
            self._elsewhere = taken.owner
            return
        self._lease = taken
        self._last_until(begun, wall_begun)
        self._on_change(True)
        log.info("this process is the writer", writing_to=self._server_id, term=taken.term)

    def _last_until(self, begun: float, wall_begun: float) -> None:
        self._until = begun + self._lease_seconds
        self._wall_until = wall_begun + self._lease_seconds
        self._held.set()

    def _end(self, why: str) -> None:
        self._lease = None
        self._until = self._wall_until = 0.0
        self._held.clear()
        self._on_change(False)
        log.error("no longer the writer", writing_to=self._server_id, why=why)
        for end in self._ends:
            end()

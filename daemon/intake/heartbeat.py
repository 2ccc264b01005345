"""The heartbeat: extends the visibility timeout of messages in flight, and the leases of their
claims in the checkpoint.

Each has a loop of its own: a checkpoint that hangs must not let messages become visible, and a
queue that is silent must not let claims expire.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from daemon.checkpoint.lease_clock import Moment
from daemon.clock import monotonic
from daemon.errors import EdgeFault
from daemon.intake.acknowledgements import BATCH_SIZE
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.aws.ports import Failed, Queue
    from daemon.checkpoint.ports import Checkpoint
    from daemon.intake.in_flight import InFlight
    from daemon.observability.watchdog import Pulse
    from daemon.pipeline.delivery import Delivery

log = structlog.get_logger(__name__)

BEAT_DEADLINE_SECONDS = 300.0
"""A longer beat counts as hung. Exceeds every deadline within."""
_SHORTEST_CALL_SECONDS, _LONGEST_CALL_SECONDS = 2.0, 20.0
"""Bounds of the deadline of a renewal in the queue, which is a sixth of the visibility timeout: a
call that hangs leaves time for others."""


class Heartbeat:
    """Renews whatever is past half of its timeout.

    Args:
        queue: hides messages.
        checkpoint: renews claims.
        in_flight: the deliveries to renew.
        visibility_seconds: called at each beat, because the queue's own setting may change.
        lease_seconds: of a claim.
        on_beat: called with "renewed", "stale" or "failed" for each message.
        on_fault: called with each fault of the queue or the checkpoint.
    """

    def __init__(
        self,
        queue: Queue,
        checkpoint: Checkpoint,
        in_flight: InFlight,
        *,
        visibility_seconds: Callable[[], int],
        lease_seconds: float,
        on_beat: Callable[[str], None],
        on_fault: Callable[[EdgeFault], None],
    ) -> None:
        self._queue = queue
        self._checkpoint = checkpoint
        self._in_flight = in_flight
        self._visibility_seconds = visibility_seconds
        self._lease_seconds = lease_seconds
        self._on_beat = on_beat
        self._on_fault = on_fault
        self._leases_until = 0.0

    async def run_messages(self, pulse: Pulse) -> None:
        """Beats four times within each half of the shorter timeout. Ends only by cancellation."""
        while True:
            pulse.rest()
            await asyncio.sleep(self._beat_seconds())
            pulse.work(BEAT_DEADLINE_SECONDS)
            await self._renew_messages()

    async def run_claims(self, pulse: Pulse) -> None:
        """As `run_messages`."""
        while True:
            pulse.rest()
            await asyncio.sleep(self._beat_seconds())
            pulse.work(BEAT_DEADLINE_SECONDS)
            await self._renew_claims()

    def _beat_seconds(self) -> float:
        return min(self._visibility_seconds(), self._lease_seconds) / 8

    async def _renew_messages(self) -> None:
        now = monotonic()
        visibility = self._visibility_seconds()
        due: list[Delivery] = []
        for delivery in self._in_flight:
            if delivery.held_too_long:
                delivery.give_back()
            elif delivery.visible_at - now < visibility / 2:
                due.append(delivery)
        batches = [due[start : start + BATCH_SIZE] for start in range(0, len(due), BATCH_SIZE)]
        await asyncio.gather(*(self._renew_batch(batch, visibility) for batch in batches))

    async def _renew_batch(self, batch: Sequence[Delivery], visibility: int) -> None:
        begun = monotonic()
        wanted = [(each.receipt_handle, each.hidable_seconds(visibility)) for each in batch]
        try:
            answers = await self._hide(wanted, visibility)
        except EdgeFault as fault:
            self._on_fault(fault)
            for _ in batch:
                self._on_beat("failed")
            return
        for delivery, (handle, seconds), failed in zip(batch, wanted, answers, strict=True):
            if failed is None:
                delivery.renewed(begun + seconds)
                self._on_beat("renewed")
            elif failed.stale:
                # received again, here or elsewhere; the job is still protected by its claim
                if delivery.receipt_handle == handle:
                    delivery.stop_renewing()
                self._on_beat("stale")
            else:
                log.warning(
                    "heartbeat refused",
                    code=failed.code,
                    detail=failed.detail,
                    message_id=delivery.message.message_id,
                )
                self._on_beat("failed")

    async def _hide(
        self, wanted: Sequence[tuple[str, int]], visibility: int
    ) -> Sequence[Failed | None]:
        seconds = min(max(_SHORTEST_CALL_SECONDS, visibility / 6), _LONGEST_CALL_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                return await self._queue.hide(wanted)
        except TimeoutError as error:
            raise EdgeFault(
                Edge.QUEUE,
                Reason.UNREACHABLE,
                f"a renewal of visibility timeouts did not complete within {seconds:.0f} s",
            ) from error

    async def _renew_claims(self) -> None:
        now = Moment.now()
        if now.monotonic < self._leases_until - self._lease_seconds / 2:
            return
        holders = {each.job.claim: each for each in self._in_flight if each.job.claim is not None}
        if not holders:
            return
        try:
            lost = await self._checkpoint.renew(list(holders), self._lease_seconds)
        except EdgeFault as fault:
            self._on_fault(fault)
            return
        self._leases_until = now.monotonic + self._lease_seconds
        for claim, delivery in holders.items():
            if delivery.job.claim != claim:
                continue
            if claim not in lost:
                delivery.job.renew_claim(now, self._lease_seconds)
            else:
                log.warning("claim lost", job=claim.job_arn, message_id=delivery.message.message_id)
                delivery.lose_claim()

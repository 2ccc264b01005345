"""Keeps what is in flight ours: the visibility of messages in the queue, and the leases of claims
in the checkpoint.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from daemon.clock import monotonic
from daemon.errors import EdgeFault
from daemon.intake.acknowledgements import BATCH_SIZE
from daemon.intake.in_flight import RELEASE_AFTER_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.aws.ports import Queue
    from daemon.checkpoint.ports import Checkpoint
    from daemon.intake.in_flight import Entry, InFlight
    from daemon.observability.watchdog import Pulse

log = structlog.get_logger(__name__)

BEAT_DEADLINE_SECONDS = 300.0
"""Longer than the clients' own time-outs and tries, also while they fetch credentials: beyond it a
beat hangs."""


class Heartbeat:
    """Renews what is past half of its time.

    Args:
        visibility_seconds: asked at each beat, because the queue's own setting may change.
        on_beat: told "renewed", "stale" or "failed" for each message.
        on_fault: told of each fault of the queue or the checkpoint as a whole.
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

    async def run(self, pulse: Pulse) -> None:
        """Beats several times within each half of the shorter time-out. Ends only by
        cancellation.
        """
        while True:
            pulse.rest()
            await asyncio.sleep(min(self._visibility_seconds(), self._lease_seconds) / 8)
            pulse.work(BEAT_DEADLINE_SECONDS)
            await asyncio.gather(self._renew_messages(), self._renew_claims())

    async def _renew_messages(self) -> None:
        now = monotonic()
        visibility = self._visibility_seconds()
        due: list[Entry] = []
        for entry in self._in_flight:
            if now - entry.received_at > RELEASE_AFTER_SECONDS:
                entry.give_back()
            elif entry.visible_at - now < visibility / 2:
                due.append(entry)
        batches = [due[start : start + BATCH_SIZE] for start in range(0, len(due), BATCH_SIZE)]
        await asyncio.gather(*(self._renew_batch(batch, visibility) for batch in batches))

    async def _renew_batch(self, batch: Sequence[Entry], visibility: int) -> None:
        begun = monotonic()
        wanted = [(entry.receipt_handle, entry.hidable_seconds(visibility)) for entry in batch]
        try:
            answers = await self._queue.hide(wanted)
        except EdgeFault as fault:
            self._on_fault(fault)
            for _ in batch:
                self._on_beat("failed")
            return
        for entry, (handle, seconds), failed in zip(batch, wanted, answers, strict=True):
            if failed is None:
                entry.visible_at = begun + seconds
                self._on_beat("renewed")
            elif failed.stale:
                # a newer receive has the message, here or elsewhere; the claim still keeps the job
                # ours
                if entry.receipt_handle == handle:
                    entry.visible_at = float("inf")
                self._on_beat("stale")
            else:
                log.warning(
                    "heartbeat refused",
                    code=failed.code,
                    detail=failed.detail,
                    message_id=entry.message.message_id,
                )
                self._on_beat("failed")

    async def _renew_claims(self) -> None:
        now = monotonic()
        if now < self._leases_until - self._lease_seconds / 2:
            return
        holders = {entry.claim: entry for entry in self._in_flight if entry.claim is not None}
        if not holders:
            return
        try:
            lost = await self._checkpoint.renew(list(holders), self._lease_seconds)
        except EdgeFault as fault:
            self._on_fault(fault)
            return
        self._leases_until = now + self._lease_seconds
        for claim in lost:
            entry = holders[claim]
            if entry.claim == claim:
                log.warning("claim lost", job=claim.job_arn, message_id=entry.message.message_id)
                entry.lose_lease()

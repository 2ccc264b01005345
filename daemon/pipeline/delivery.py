"""One message in flight: what the intake knows about it, and the attempt that works on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from daemon.clock import monotonic
from daemon.pipeline.job_context import JobContext

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from daemon.aws.ports import Message
    from daemon.outcome import Outcome

LONGEST_IN_FLIGHT_SECONDS = 12 * 3600.0
"""SQS: the visibility timeout can be extended to 12 h in total, counted from the receive."""
RELEASE_AFTER_SECONDS = 11.5 * 3600.0


class Delivery:
    """A message from its receive to its acknowledgement. Its attributes are set by its own methods
    only.

    Attributes:
        message: as first received.
        job: what the flow has learnt about the message's job.
        receipt_handle: of the newest receive.
        receive_count: of the newest receive.
        received_at: monotonic seconds.
        visible_at: monotonic seconds at which the queue shows the message again; infinity when it
            is not to be renewed any more.
        released: set when the message is to be given back.
        force: a job that is synced already is compared with its run, which is repaired.
        claim_lost: the last attempt was cancelled because another process has the claim.
    """

    def __init__(self, message: Message, visibility_seconds: float, *, force: bool = False) -> None:
        self.message = message
        self.force = force
        self.job = JobContext()
        self.receipt_handle = message.receipt_handle
        self.receive_count = message.receive_count
        self.received_at = monotonic()
        self.visible_at = self.received_at + visibility_seconds
        self.released = asyncio.Event()
        self.claim_lost = False
        self._attempt: asyncio.Task[Outcome] | None = None

    def received_again(self, message: Message, visibility_seconds: float) -> None:
        """Takes over the newer receipt handle of another receive of the same message."""
        self.receipt_handle = message.receipt_handle
        self.receive_count = max(self.receive_count, message.receive_count)
        self.received_at = monotonic()
        self.visible_at = self.received_at + visibility_seconds

    def renewed(self, visible_at: float) -> None:
        """The queue hides the message until this moment (monotonic seconds)."""
        self.visible_at = visible_at

    def stop_renewing(self) -> None:
        """To be called before the acknowledgement, because a later heartbeat would undo its delay,
        and when the receipt handle is stale.
        """
        self.visible_at = float("inf")

    @property
    def held_too_long(self) -> bool:
        """True when the message must be given back before SQS's 12 h are over."""
        return monotonic() - self.received_at > RELEASE_AFTER_SECONDS

    def hidable_seconds(self, wanted: float) -> int:
        """How long the message can be hidden from now on: as wanted, but within SQS's 12 h."""
        left = self.received_at + LONGEST_IN_FLIGHT_SECONDS - 10 - monotonic()
        return max(0, round(min(wanted, left)))

    async def attempt(self, work: Coroutine[Any, Any, Outcome]) -> Outcome | None:
        """Runs one attempt in a task of its own, so that it can be cancelled without its caller.

        Returns:
            The outcome; None if `give_back`, `abandon` or `lose_claim` ended the attempt.
        """
        self.claim_lost = False
        self._attempt = asyncio.create_task(work)
        try:
            await asyncio.wait({self._attempt})
        finally:
            if not self._attempt.done():
                self._attempt.cancel()
                await asyncio.wait({self._attempt})
        return None if self._attempt.cancelled() else self._attempt.result()

    def give_back(self) -> None:
        """Asks the worker to end with this message: an attempt that has not begun to write is
        cancelled, a held message is no longer held.
        """
        self.released.set()
        if not self.job.must_finish:
            self._cancel()

    def abandon(self) -> None:
        """Ends the work in any case; a write under way stays unanswered."""
        self.released.set()
        self._cancel()

    def lose_claim(self) -> None:
        """Another process has the claim: nothing more may be written for the job."""
        self.claim_lost = True
        if self.job.lease is not None:
            self.job.lease.end()
        self.job.end_claim()
        self._cancel()

    def _cancel(self) -> None:
        if self._attempt is not None:
            self._attempt.cancel()

"""Takes one entry of the ledger to its end: flow, hold and try again, acknowledge."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from daemon.aws.dead_letter import dead_letter, redacted_body
from daemon.clock import monotonic
from daemon.errors import EdgeFault, JobRefused
from daemon.intake.in_flight import RELEASE_AFTER_SECONDS
from daemon.outcome import Deferred, Duplicate, Edge, Held, Reason, Rejected, Skipped, Synced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.aws.ports import Queue
    from daemon.checkpoint.ports import Checkpoint
    from daemon.intake.acknowledgements import Acknowledgements
    from daemon.intake.backoff import Backoff
    from daemon.intake.breaker import Breaker
    from daemon.intake.in_flight import Entry, InFlight, Slots
    from daemon.outcome import Outcome
    from daemon.pipeline.flow import Flow

log = structlog.get_logger(__name__)

FAILURES_BEFORE_OWN_FAULT = 3
"""A message that has failed this often, each time while the same step worked for others, is at
fault itself."""

OF_DEAD_LETTERS_ALONE = frozenset({Reason.ACCESS_DENIED, Reason.NOT_FOUND})
"""What is wrong with the dead-letter queue then does not concern the main queue."""

OWN_FAULT = {Edge.TARGET: Reason.TARGET_FAULT, Edge.SAGEMAKER: Reason.SAGEMAKER_FAULT}


class Worker:
    """Works on all entries of this process, each in a task of its own.

    Args:
        dead_letter_url: asked at each rejection; None without a dead-letter queue.
        backoff: how long a deferred message is hidden, by its receive count.
        settle_seconds: how long a message whose write has no answer stays hidden when the daemon
            stops.
        on_outcome: told of each outcome, held ones too.
        on_fault: told of each fault of an edge as a whole.
    """

    def __init__(
        self,
        flow: Flow,
        queue: Queue,
        checkpoint: Checkpoint,
        in_flight: InFlight,
        slots: Slots,
        acknowledgements: Acknowledgements,
        breakers: Mapping[Edge, Breaker],
        *,
        dead_letter_url: Callable[[], str | None],
        backoff: Backoff,
        settle_seconds: float,
        on_outcome: Callable[[Entry, Outcome], None],
        on_fault: Callable[[EdgeFault], None],
    ) -> None:
        self._flow = flow
        self._queue = queue
        self._checkpoint = checkpoint
        self._in_flight = in_flight
        self._slots = slots
        self._acknowledgements = acknowledgements
        self._breakers = breakers
        self._dead_letter_url = dead_letter_url
        self._backoff = backoff
        self._settle_seconds = settle_seconds
        self._on_outcome = on_outcome
        self._on_fault = on_fault

    async def handle(self, entry: Entry) -> None:
        """Ends when the message has been acknowledged, and gives its slot back."""
        structlog.contextvars.bind_contextvars(message_id=entry.message.message_id)
        try:
            outcome = await self._work(entry)
            if entry.event is not None:  # the flow has bound it in its own task
                structlog.contextvars.bind_contextvars(job=entry.event.name)
            if isinstance(outcome, Rejected) and not await self._send_to_dead_letters(
                entry, outcome
            ):
                outcome = Deferred(Reason.DEAD_LETTER_FAILED, outcome.detail)
            self._on_outcome(entry, outcome)
            self._in_flight.finish(entry, outcome)
            entry.stop_renewing()
            await self._acknowledge(entry, outcome)
        finally:
            self._in_flight.finish(entry, Deferred(Reason.STOPPING, delay_seconds=0))
            self._in_flight.remove(entry)
            self._slots.give_back(1)

    async def _work(self, entry: Entry) -> Outcome:
        """Attempts until the outcome is final for this receive."""
        own_failures: dict[str, int] = {}
        failed_at = monotonic()
        while True:
            outcome = await self._attempt(entry)
            if not isinstance(outcome, Held):
                return outcome
            step = entry.step
            if self._breakers[outcome.edge].succeeded_for_others(
                step, entry.message.message_id, failed_at
            ):
                own_failures[step] = own_failures.get(step, 0) + 1
                if own_failures[step] >= FAILURES_BEFORE_OWN_FAULT and outcome.edge in OWN_FAULT:
                    outcome = await self._flow.record(
                        entry, Deferred(OWN_FAULT[outcome.edge], outcome.detail)
                    )
                    if not isinstance(outcome, Held):
                        return outcome
            failed_at = monotonic()
            self._on_outcome(entry, outcome)
            self._on_fault(
                EdgeFault(outcome.edge, outcome.reason, outcome.detail, curable=outcome.curable)
            )
            if not await self._hold(entry, self._breakers[outcome.edge]):
                return await self._given_back(entry, outcome.detail)

    async def _attempt(self, entry: Entry) -> Outcome:
        """One run of the flow, in a task of its own so that it can be ended without ending its
        handler.
        """
        if entry.released.is_set():
            return await self._given_back(entry)
        entry.lease_lost = False
        entry.attempt = asyncio.create_task(self._flow.process(entry))
        try:
            await asyncio.wait({entry.attempt})
        finally:
            if not entry.attempt.done():
                entry.attempt.cancel()
                await asyncio.wait({entry.attempt})
        if not entry.attempt.cancelled():
            return entry.attempt.result()
        if entry.lease_lost:
            return Deferred(Reason.LEASE_LOST, "another process has the job now")
        return await self._given_back(entry)

    async def _hold(self, entry: Entry, breaker: Breaker) -> bool:
        """Waits for an edge. False if the entry is to be given back first."""
        waiting = {
            asyncio.ensure_future(breaker.wait_closed()),
            asyncio.ensure_future(entry.released.wait()),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return not entry.released.is_set()

    async def _given_back(self, entry: Entry, detail: str = "") -> Deferred:
        """Ends the claim of an entry that is to be received again: at once, or when a write without
        an answer must have ended.
        """
        claim, entry.claim = entry.claim, None
        if claim is not None:
            try:
                await self._checkpoint.release(claim)
            except EdgeFault as fault:  # the lease ends by itself
                self._on_fault(fault)
        too_long = monotonic() - entry.received_at > RELEASE_AFTER_SECONDS
        reason = Reason.HELD_TOO_LONG if too_long else Reason.STOPPING
        return Deferred(reason, detail, self._settle_seconds if entry.outcome_unknown else 0)

    async def _acknowledge(self, entry: Entry, outcome: Outcome) -> None:
        match outcome:
            case Synced() | Duplicate() | Skipped() | Rejected():
                await self._acknowledgements.delete(entry)
            case Deferred(delay_seconds=None):
                await self._acknowledgements.hide(entry, self._backoff.delay(entry.receive_count))
            case Deferred(delay_seconds=float() | int() as seconds):
                await self._acknowledgements.hide(entry, seconds)
            case Held():
                raise AssertionError("a held message has no acknowledgement")

    async def _send_to_dead_letters(self, entry: Entry, outcome: Rejected) -> bool:
        """Hands a rejected message over, to the dead-letter queue or, where that cannot take it, to
        the checkpoint.
        """
        body = entry.message.body
        url = self._dead_letter_url()
        letter = dead_letter(body, outcome.reason, outcome.detail) if url is not None else None
        if url is not None and letter is not None:
            try:
                await self._queue.send_dead_letter(url, letter.body, letter.attributes)
            except JobRefused as refusal:
                log.warning(
                    "dead-letter queue refuses the message; its body is kept in the checkpoint",
                    detail=refusal.detail,
                )
            except EdgeFault as fault:
                log.warning(
                    "dead-letter queue does not take the message; it is tried again later",
                    detail=fault.detail,
                )
                if fault.reason not in OF_DEAD_LETTERS_ALONE:
                    self._on_fault(fault)
                return False
            else:
                return True
        try:
            await self._checkpoint.keep_body(entry.message.message_id, redacted_body(body))
        except EdgeFault as fault:
            self._on_fault(fault)
            return False
        return True

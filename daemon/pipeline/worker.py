"""Processes a delivery: runs the flow, holds while an edge is unavailable, acknowledges."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from daemon.aws.dead_letter import dead_letter, redacted_body
from daemon.clock import monotonic
from daemon.errors import EdgeFault, JobRefused
from daemon.outcome import Deferred, Duplicate, Held, Rejected, Skipped, Synced
from daemon.reasons import Edge, Reason
from daemon.waiting import unless

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.aws.ports import Queue
    from daemon.checkpoint.ports import Checkpoint
    from daemon.intake.acknowledgements import Acknowledgements
    from daemon.intake.backoff import Backoff
    from daemon.intake.breaker import Breaker, Breakers
    from daemon.intake.foreign_messages import ForeignMessages
    from daemon.intake.in_flight import InFlight, Slots
    from daemon.outcome import Outcome
    from daemon.pipeline.delivery import Delivery
    from daemon.pipeline.flow import Flow
    from daemon.pipeline.step import Step

log = structlog.get_logger(__name__)

FAILURES_BEFORE_OWN_FAULT = 3
"""After so many failures of a step that meanwhile succeeded for other messages, the fault is taken
for the job's own, unless its reason says nothing about the job: then the message waits alone."""

DOUBT_SECONDS = (0.5, 30.0)
"""The same of a job of which this process may have made a second run, until the other process has
ended its claim on it."""

ALONE_SECONDS = (2.0, 300.0)
"""Shortest and longest pause of a message that waits alone."""

DEAD_LETTER_QUEUE_ONLY = frozenset({Reason.ACCESS_DENIED, Reason.NOT_FOUND})
"""Faults of the dead-letter queue that say nothing about the main queue."""

MOST_PARKED = 1000
"""Messages that wait for their account without a slot. Further ones are hidden for hours."""
PARKED_BACKOFF = (3600.0, 41_400.0)
"""Shortest and longest time for which those are hidden, in seconds; doubles with each receive: five
receives, a usual limit, last for more than a day."""

OWN_FAULT = {Edge.TARGET: Reason.TARGET_FAULT, Edge.SAGEMAKER: Reason.SAGEMAKER_FAULT}


class Worker:
    """Handles all deliveries of this process, each in a task of its own.

    Args:
        flow: determines and records outcomes.
        queue: takes dead letters.
        checkpoint: keeps the bodies of rejected messages that cannot become dead letters.
        in_flight: the ledger that the deliveries leave at the end.
        slots: one is given back for each delivery.
        acknowledgements: deletes and hides messages.
        breakers: awaited by held messages.
        dead_letter_url: called at each rejection; None without a dead-letter queue. Raises
            `EdgeFault` if it is not known.
        backoff: how long a deferred message is hidden, by its receive count.
        settle_seconds: how long a message with an unanswered write stays hidden when it is given
            back.
        foreign_messages: told of what is left in the queue for others; None: what is about
            something else is deleted.
        on_outcome: called with each outcome, including held ones.
        on_fault: called with each fault of an edge.
        on_dead_letter: called with the dead-letter queue's own fault of each attempt to send to it;
            None after one that worked.
    """

    def __init__(
        self,
        flow: Flow,
        queue: Queue,
        checkpoint: Checkpoint,
        in_flight: InFlight,
        slots: Slots,
        acknowledgements: Acknowledgements,
        breakers: Breakers,
        *,
        dead_letter_url: Callable[[], str | None],
        backoff: Backoff,
        settle_seconds: float,
        foreign_messages: ForeignMessages | None = None,
        on_outcome: Callable[[Delivery, Outcome], None],
        on_fault: Callable[[EdgeFault], None],
        on_dead_letter: Callable[[EdgeFault | None], None] = lambda _fault: None,
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
        self._alone = replace(
            backoff, initial_seconds=ALONE_SECONDS[0], max_seconds=ALONE_SECONDS[1]
        )
        self._in_doubt = replace(
            backoff, initial_seconds=DOUBT_SECONDS[0], max_seconds=DOUBT_SECONDS[1]
        )
        self._settle_seconds = settle_seconds
        self._foreign_messages = foreign_messages
        self._on_outcome = on_outcome
        self._on_fault = on_fault
        self._on_dead_letter = on_dead_letter
        self._with_slot: set[Delivery] = set()
        self._parked = 0

    async def handle(self, delivery: Delivery) -> None:
        """Returns when the message has been acknowledged; gives its slot back."""
        structlog.contextvars.bind_contextvars(message_id=delivery.message.message_id)
        self._with_slot.add(delivery)
        try:
            outcome = await self._work(delivery)
            if delivery.job.name:  # the flow has bound it in the attempt's task only
                structlog.contextvars.bind_contextvars(job=delivery.job.name)
            if isinstance(outcome, Rejected) and not await self._send_to_dead_letters(
                delivery, outcome
            ):
                outcome = Deferred(Reason.DEAD_LETTER_FAILED, outcome.detail)
            self._on_outcome(delivery, outcome)
            self._in_flight.finish(delivery, outcome)
            delivery.stop_renewing()
            await self._acknowledge(delivery, outcome)
        finally:
            self._in_flight.finish(delivery, Deferred(Reason.STOPPING, delay_seconds=0))
            self._in_flight.remove(delivery)
            if delivery in self._with_slot:
                self._with_slot.remove(delivery)
                self._slots.give_back(1)

    async def outcome_of(self, delivery: Delivery) -> Outcome:
        """The outcome of a delivery without a message, durable unless it is given back. The caller
        has entered it in the ledger, and removes it.
        """
        structlog.contextvars.bind_contextvars(message_id=delivery.message.message_id)
        outcome = await self._work(delivery)
        if delivery.job.name:  # as in `handle`
            structlog.contextvars.bind_contextvars(job=delivery.job.name)
        self._on_outcome(delivery, outcome)
        return outcome

    async def _work(self, delivery: Delivery) -> Outcome:
        """Attempts until the outcome is final for this receive."""
        own_failures: dict[Step, int] = {}
        failed_at = monotonic()
        doubtful = 0
        while True:
            outcome = await self._attempt(delivery)
            if _must_settle(delivery, outcome):
                doubtful += 1
                pause = asyncio.sleep(self._in_doubt.delay(doubtful))
                await unless(delivery.released, pause)
                continue
            if not isinstance(outcome, Held):
                return outcome
            step, fault = delivery.job.step, outcome.fault
            breaker = self._breakers.of(fault)
            if breaker.succeeded_for_others(step, delivery.message.message_id, failed_at):
                own_failures[step] = own_failures.get(step, 0) + 1
            own = (
                own_failures.get(step, 0) - FAILURES_BEFORE_OWN_FAULT + 1
                if fault.edge in OWN_FAULT
                else 0
            )
            decided = await self._unless_deferred(delivery, outcome, own)
            if not isinstance(decided, Held):
                return decided
            if decided is not outcome:
                outcome, fault, own = decided, decided.fault, 0
            failed_at = monotonic()
            self._on_outcome(delivery, outcome)
            if not await self._hold(delivery, fault, own, known=outcome.known):
                return await self._given_back(delivery, fault.detail)

    async def _unless_deferred(self, delivery: Delivery, held: Held, own: int) -> Outcome:
        """The recorded outcome of a message that is not to be held any longer. Otherwise `held`, or
        the fault of the checkpoint that could not record it.
        """
        fault = held.fault
        if own > 0 and fault.may_be_the_jobs:
            instead = Deferred(OWN_FAULT[fault.edge], fault.detail)
        elif own <= 0 and self._parks(fault) and self._parked >= MOST_PARKED:
            if not held.known:
                self._on_fault(fault)
            instead = self._put_off(delivery, fault)
        else:
            return held
        return await self._flow.record(delivery, instead)

    async def _attempt(self, delivery: Delivery) -> Outcome:
        if delivery.released.is_set():
            return await self._given_back(delivery)
        outcome = await delivery.attempt(self._flow.process(delivery))
        if outcome is not None:
            return outcome
        if delivery.claim_lost:
            return Deferred(Reason.LEASE_LOST, "another process has claimed the job")
        return await self._given_back(delivery)

    def _parks(self, fault: EdgeFault) -> bool:
        """Whether messages wait for the end of a fault without a slot: those of other accounts are
        received meanwhile.
        """
        return self._breakers.is_one_of_several(self._breakers.of(fault))

    def _put_off(self, delivery: Delivery, fault: EdgeFault) -> Deferred:
        first, most = PARKED_BACKOFF
        delay = replace(self._backoff, initial_seconds=first, max_seconds=most)
        return Deferred(
            Reason.ACCOUNT_UNAVAILABLE, fault.detail, delay.delay(delivery.receive_count)
        )

    async def _hold(self, delivery: Delivery, fault: EdgeFault, own: int, *, known: bool) -> bool:
        """Waits for an edge. False if the message is to be given back first.

        Args:
            own: from 1 on, the fault has kept hitting this message while the step worked for
                others: it waits alone, longer each time, and does not open the breaker.
            known: the breaker was open before, and may be closed by now.
        """
        if own > 0:
            await unless(delivery.released, asyncio.sleep(self._alone.delay(own)))
        else:
            if not known:
                self._on_fault(fault)
            await unless(delivery.released, self._tell_and_wait(delivery, fault))
        return not delivery.released.is_set()

    async def _tell_and_wait(self, delivery: Delivery, fault: EdgeFault) -> None:
        await self._flow.tell_of_hold(delivery, fault)
        breaker = self._breakers.of(fault)
        if self._parks(fault) and breaker.is_open and delivery in self._with_slot:
            await self._park(delivery, breaker)
        else:
            await breaker.wait_closed()

    async def _park(self, delivery: Delivery, breaker: Breaker) -> None:
        self._with_slot.remove(delivery)
        self._slots.give_back(1)
        self._parked += 1
        try:
            await breaker.wait_closed()
            await self._slots.take_again()
            self._with_slot.add(delivery)
        finally:
            self._parked -= 1

    async def _given_back(self, delivery: Delivery, detail: str = "") -> Deferred:
        """Ends the claim of a message that is to be received again: at once, or when a write
        without an answer must have ended.
        """
        reason = Reason.HELD_TOO_LONG if delivery.held_too_long else Reason.STOPPING
        if delivery.job.write_in_doubt:
            log.warning("given back before a write in doubt was settled: there may be a second run")
        try:
            await self._flow.release(delivery, reason)
        except EdgeFault as fault:
            self._on_fault(fault)
        return Deferred(reason, detail, self._settle_seconds if delivery.job.outcome_unknown else 0)

    async def _acknowledge(self, delivery: Delivery, outcome: Outcome) -> None:
        foreign = self._foreign_messages
        if foreign is not None and outcome.reason is Reason.OTHER_EVENT:
            foreign.left(delivery.receive_count, outcome.detail)
            await self._acknowledgements.hide(delivery, 0)
            return
        if foreign is not None:
            foreign.ours()
        match outcome:
            case Synced() | Duplicate() | Skipped() | Rejected():
                await self._acknowledgements.delete(delivery)
            case Deferred(delay_seconds=None):
                await self._acknowledgements.hide(
                    delivery, self._backoff.delay(delivery.receive_count)
                )
            case Deferred(
                reason=Reason.CLAIMED_ELSEWHERE, delay_seconds=float() | int() as seconds
            ):
                # the other process is usually done long before its lease ends
                soon = self._backoff.delay(delivery.receive_count)
                await self._acknowledgements.hide(delivery, min(seconds, soon))
            case Deferred(delay_seconds=float() | int() as seconds):
                await self._acknowledgements.hide(delivery, seconds)
            case Held():
                raise AssertionError("a held message has no acknowledgement")

    async def _send_to_dead_letters(self, delivery: Delivery, outcome: Rejected) -> bool:
        """Sends a rejected message to the dead-letter queue, or keeps its body in the checkpoint if
        that queue cannot take it. False: neither worked.
        """
        body = delivery.message.body
        try:
            url = self._dead_letter_url()
        except EdgeFault as fault:
            log.warning(
                "the dead-letter queue failed; the message will be retried", detail=fault.detail
            )
            return False
        letter = dead_letter(body, outcome.reason, outcome.detail) if url is not None else None
        if url is not None and letter is not None:
            try:
                await self._queue.send_dead_letter(url, letter.body, letter.attributes)
            except JobRefused as refusal:
                log.warning(
                    "the dead-letter queue rejects the message; its body is kept in the checkpoint",
                    detail=refusal.detail,
                )
            except EdgeFault as fault:
                log.warning(
                    "the dead-letter queue failed; the message will be retried",
                    detail=fault.detail,
                )
                if fault.reason in DEAD_LETTER_QUEUE_ONLY:
                    self._on_dead_letter(fault)
                else:
                    self._on_fault(fault)
                return False
            else:
                self._on_dead_letter(None)
                return True
        try:
            await self._checkpoint.keep_body(delivery.message.message_id, redacted_body(body))
        except EdgeFault as fault:
            self._on_fault(fault)
            return False
        return True


def _must_settle(delivery: Delivery, outcome: Outcome) -> bool:
    """Whether the job is to be looked up again at once, because this process may have made a second
    run of it. Of a server with a single writer, that is left to the writer.
    """
    return (
        isinstance(outcome, Deferred)
        and delivery.job.write_in_doubt
        and not delivery.released.is_set()
        and outcome.reason is not Reason.STANDING_BY
    )

"""Polls the queue while every edge is available, and enters what it receives in the ledger."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog

from daemon.clock import monotonic
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.waiting import unless

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from daemon.aws.ports import Message, Queue
    from daemon.intake.in_flight import InFlight, Slots
    from daemon.observability.watchdog import Pulse
    from daemon.pipeline.delivery import Delivery

log = structlog.get_logger(__name__)

RECEIVE_LIMIT = 10
"""SQS: MaxNumberOfMessages."""
RECEIVE_DEADLINE_SECONDS = 240.0
"""How long a receive may take beyond its WaitTimeSeconds before it is abandoned. The client's own
timeouts, including those for fetching credentials, are shorter; a response that trickles in byte by
byte never hits them."""
RECEIVE_MARGIN_SECONDS = 300.0
"""How long a receive may take beyond its WaitTimeSeconds before the loop counts as hung, because
even abandoning it has failed."""


LEAST_PERIOD_SECONDS = 1.0
"""Between the starts of two receives, unless the first brought messages. Without it, a poller with
WaitTimeSeconds 0 asks an empty queue more than a hundred times a second."""
RETRY_SECONDS = 1.0
"""Pause after a single receive that failed."""
_MAY_BE_SINGLE = frozenset({Reason.UNREACHABLE, Reason.UNAVAILABLE, Reason.THROTTLED})
"""Faults of which one now and then is normal: only two in a row are an outage."""


class Poller:
    """One long poll after the other.

    Args:
        queue: to receive from.
        in_flight: where messages are entered.
        slots: taken before each receive, one per message.
        wait_seconds: WaitTimeSeconds.
        gate: returns when this process may receive.
        visibility_seconds: called at each receive.
        start: begins the work on a delivery.
        on_receive: called with the number of messages received.
        on_fault: called with each fault of the queue, except the first of a kind that may be
            single.
    """

    def __init__(
        self,
        queue: Queue,
        in_flight: InFlight,
        slots: Slots,
        *,
        wait_seconds: int,
        gate: Callable[[], Awaitable[None]],
        visibility_seconds: Callable[[], int],
        start: Callable[[Delivery], None],
        on_receive: Callable[[int], None],
        on_fault: Callable[[EdgeFault], None],
    ) -> None:
        self._queue = queue
        self._in_flight = in_flight
        self._slots = slots
        self._wait_seconds = wait_seconds
        self._gate = gate
        self._visibility_seconds = visibility_seconds
        self._start = start
        self._on_receive = on_receive
        self._on_fault = on_fault
        self._failures = 0

    async def run(self, stop: asyncio.Event, pulse: Pulse) -> None:
        """Runs until stopped. The current long poll is never cancelled, because SQS may already
        have handed out messages that would then stay invisible.
        """
        while not stop.is_set():
            pulse.rest()
            taken = await unless(stop, self._ready())
            if taken is None:
                return
            if stop.is_set():
                self._slots.give_back(taken)
                return
            pulse.work(self._wait_seconds + RECEIVE_MARGIN_SECONDS)
            pause = await self._receive(taken, stop)
            pulse.rest()
            if pause > 0:
                await unless(stop, asyncio.sleep(pause))

    async def _ready(self) -> int:
        """Waits for slots, then for the gate: an edge may fail while all slots are taken."""
        taken = await self._slots.take(RECEIVE_LIMIT)
        try:
            await self._gate()
        except BaseException:
            self._slots.give_back(taken)
            raise
        return taken

    async def _receive(self, taken: int, stop: asyncio.Event) -> float:
        """One long poll. Returns how many seconds to wait before the next."""
        visibility = self._visibility_seconds()
        begun = monotonic()
        unused = taken
        try:
            messages = await self._ask(taken, visibility)
            self._failures = 0
            self._on_receive(len(messages))
            if stop.is_set():
                await self._return_unstarted(messages)
                return 0.0
            for message in messages:
                # SQS began to count some time before the response arrived
                delivery = self._in_flight.add(
                    message, visibility - min(monotonic() - begun, visibility / 2)
                )
                if delivery is None:
                    log.info(
                        "message received again while in flight",
                        message_id=message.message_id,
                        receive_count=message.receive_count,
                    )
                else:
                    unused -= 1
                    self._start(delivery)
        except EdgeFault as fault:
            return self._failed(fault)
        finally:
            self._slots.give_back(unused)
        return 0.0 if messages else begun + LEAST_PERIOD_SECONDS - monotonic()

    def _failed(self, fault: EdgeFault) -> float:
        self._failures += 1
        if self._failures == 1 and fault.reason in _MAY_BE_SINGLE:
            log.info("a receive failed; trying again", reason=fault.reason, detail=fault.detail)
            return RETRY_SECONDS
        self._on_fault(fault)
        return 0.0

    async def _return_unstarted(self, messages: Sequence[Message]) -> None:
        """Makes messages visible again at once, for other processes."""
        if messages:
            # if this fails, they become visible when their visibility timeout expires
            with contextlib.suppress(EdgeFault):
                await self._queue.hide([(each.receipt_handle, 0) for each in messages])

    async def _ask(self, limit: int, visibility: int) -> Sequence[Message]:
        deadline = self._wait_seconds + RECEIVE_DEADLINE_SECONDS
        try:
            async with asyncio.timeout(deadline):
                return await self._queue.receive(
                    limit=limit, wait_seconds=self._wait_seconds, visibility_seconds=visibility
                )
        except TimeoutError as error:
            raise EdgeFault(
                Edge.QUEUE,
                Reason.UNREACHABLE,
                f"a receive did not complete within {deadline:.0f} s",
            ) from error

"""Acknowledgements: deletes messages, or hides them for a while, in batches.

SQS answers a batch with 200 and an entry per message. A stale receipt handle means that the message
will be delivered again, nothing more. Other failed entries are retried.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from daemon.aws.ports import Failed, Queue
    from daemon.intake.backoff import Backoff
    from daemon.observability.watchdog import Pulse
    from daemon.pipeline.delivery import Delivery

log = structlog.get_logger(__name__)

BATCH_SIZE = 10
"""SQS: entries per DeleteMessageBatch and ChangeMessageVisibilityBatch."""
GATHER_SECONDS = 0.05
"""How long an incomplete batch waits for more."""
ATTEMPTS = 12
"""With the pauses between them, about as long as a message stays invisible by default (30 s): a
delete that is given up earlier costs a receive."""
ATTEMPTS_OF_A_STOP = 5
"""Of a message that is given back: its stop has a deadline."""
SEND_SECONDS = 60.0
"""Deadline of a batch. Exceeds the client's timeouts and retries; a response that trickles in never
hits those."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Gathers single requests into batches.

    Args:
        send: takes up to `BATCH_SIZE` items and returns an answer for each, in order. Its exception
            is raised in every caller of the batch.
    """

    def __init__(self, send: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]) -> None:
        self._send = send
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()

    async def ask(self, item: Item) -> Answer:
        """Sends an item with the next batch and returns its answer."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._arrived.set()
        if len(self._waiting) >= BATCH_SIZE:
            self._full.set()
        return await future

    async def run(self, pulse: Pulse) -> None:
        """Sends batches. Ends only by cancellation, and then waits for those already sent; a second
        cancellation ends those, too.
        """
        try:
            while True:
                pulse.rest()
                await self._arrived.wait()
                pulse.work(SEND_SECONDS)
                try:
                    async with asyncio.timeout(GATHER_SECONDS):
                        await self._full.wait()
                except TimeoutError:
                    pass
                batch = [
                    self._waiting.popleft() for _ in range(min(BATCH_SIZE, len(self._waiting)))
                ]
                if not self._waiting:
                    self._arrived.clear()
                if len(self._waiting) < BATCH_SIZE:
                    self._full.clear()
                task = asyncio.create_task(self._send_batch(batch))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
        finally:
            await self._finish_sending()

    async def _finish_sending(self) -> None:
        try:
            if self._sending:
                await asyncio.wait(self._sending)
        finally:
            for task in self._sending:
                task.cancel()

    async def _send_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send_in_time([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - raised again in each caller
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _send_in_time(self, items: Sequence[Item]) -> Sequence[Answer]:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                return await self._send(items)
        except TimeoutError as error:
            raise EdgeFault(
                Edge.QUEUE,
                Reason.UNREACHABLE,
                f"a batch of acknowledgements did not complete within {SEND_SECONDS:.0f} s",
            ) from error


class Acknowledgements:
    """Ends deliveries in the queue.

    Args:
        queue: the main queue.
        backoff: pauses between attempts at a failed request.
        on_fault: called with each fault of the queue.
    """

    def __init__(
        self, queue: Queue, backoff: Backoff, on_fault: Callable[[EdgeFault], None]
    ) -> None:
        self._backoff = backoff
        self._on_fault = on_fault
        self._deletes: Batcher[str, Failed | None] = Batcher(queue.delete)
        self._hides: Batcher[tuple[str, int], Failed | None] = Batcher(queue.hide)

    async def delete(self, delivery: Delivery) -> bool:
        """Deletes a message whose outcome is durable. False: its redelivery is harmless."""
        return await self._persist(
            delivery, "delete", lambda: self._deletes.ask(delivery.receipt_handle)
        )

    async def hide(self, delivery: Delivery, seconds: float) -> bool:
        """Makes a message visible again after some seconds (0: at once). False: it becomes visible
        when its visibility timeout expires.
        """
        return await self._persist(
            delivery,
            "hide",
            lambda: self._hides.ask((delivery.receipt_handle, delivery.hidable_seconds(seconds))),
        )

    async def run_deletes(self, pulse: Pulse) -> None:
        await self._deletes.run(pulse)

    async def run_hides(self, pulse: Pulse) -> None:
        await self._hides.run(pulse)

    async def _persist(
        self, delivery: Delivery, what: str, ask: Callable[[], Awaitable[Failed | None]]
    ) -> bool:
        for attempt in itertools.count(1):
            try:
                failed = await ask()
            except EdgeFault as fault:
                self._on_fault(fault)
                detail = fault.detail
            else:
                if failed is None:
                    return True
                if failed.stale:
                    log.info(
                        "message will be delivered again", acknowledgement=what, code=failed.code
                    )
                    return False
                detail = f"{failed.code}: {failed.detail}"
            if attempt >= (ATTEMPTS_OF_A_STOP if delivery.released.is_set() else ATTEMPTS):
                break
            await asyncio.sleep(self._backoff.delay(attempt))
        log.warning(
            "acknowledgement failed, the message will be delivered again",
            acknowledgement=what,
            detail=detail,
            receive_count=delivery.receive_count,
        )
        return False

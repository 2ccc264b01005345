"""Acknowledgements: sent in batches of ten; refused entries are retried, stale ones are not."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from daemon.app import ACKNOWLEDGE_BACKOFF
from daemon.aws.ports import Failed
from daemon.intake import acknowledgements
from daemon.intake.acknowledgements import (
    ATTEMPTS,
    ATTEMPTS_OF_A_STOP,
    Acknowledgements,
    Batcher,
)
from daemon.intake.backoff import Backoff
from daemon.observability.watchdog import Pulse
from daemon.pipeline.delivery import Delivery
from daemon.reasons import Edge
from tests.support.flow_scene import (
    CountingBackoff,
    MemoryQueue,
    Waiting,
    a_while,
    edge_fault,
    message,
    until,
)
from tests.support.log_lines import log_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pytest

    from daemon.errors import EdgeFault

AGAIN = Failed("InternalError", "try again", stale=False)
STALE = Failed("ReceiptHandleIsInvalid", "expired", stale=True)


class AcknowledgementScene:
    def __init__(self) -> None:
        self.queue = MemoryQueue()
        self.backoff = CountingBackoff()
        self.faults: list[EdgeFault] = []
        self.acknowledgements = Acknowledgements(self.queue, self.backoff, self.faults.append)
        self.delete = self.acknowledgements.delete
        self.hide = self.acknowledgements.hide


@contextlib.asynccontextmanager
async def acknowledgement_scene() -> AsyncIterator[AcknowledgementScene]:
    made = AcknowledgementScene()
    loops = [
        asyncio.create_task(made.acknowledgements.run_deletes(Pulse())),
        asyncio.create_task(made.acknowledgements.run_hides(Pulse())),
    ]
    try:
        async with asyncio.timeout(5):
            yield made
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)


def delivery(number: int = 1) -> Delivery:
    return Delivery(message(message_id=f"m-{number}"), 30)


async def test_what_comes_together_goes_in_batches_of_ten() -> None:
    async with acknowledgement_scene() as scene:
        assert (
            await asyncio.gather(*(scene.delete(delivery(number)) for number in range(25)))
            == [True] * 25
        )
        assert scene.queue.batches == [("delete", 10), ("delete", 10), ("delete", 5)]
        assert sorted(scene.queue.deleted) == sorted(f"m-{number}/1" for number in range(25))
        assert (
            await asyncio.gather(*(scene.hide(delivery(number), number) for number in range(11)))
            == [True] * 11
        )
        assert scene.queue.batches[3:] == [("hide", 10), ("hide", 1)]
        assert sorted(scene.queue.hidden) == sorted(
            (f"m-{number}/1", number) for number in range(11)
        )


async def test_what_comes_soon_after_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledgements, "GATHER_SECONDS", 0.2)
    async with acknowledgement_scene() as scene:
        first = asyncio.create_task(scene.delete(delivery(1)))
        await a_while()
        await scene.delete(delivery(2))
        await first
        assert scene.queue.batches == [("delete", 2)]


async def test_a_full_batch_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledgements, "GATHER_SECONDS", 3600)
    async with acknowledgement_scene() as scene:
        await asyncio.gather(*(scene.delete(delivery(number)) for number in range(20)))
        assert scene.queue.batches == [("delete", 10), ("delete", 10)]
        late = asyncio.create_task(scene.delete(delivery(20)))
        await a_while()
        assert not late.done()  # one alone waits for company
        late.cancel()


async def test_a_batch_does_not_wait_for_the_one_before() -> None:
    async with acknowledgement_scene() as scene:
        waiting = Waiting()

        async def witness(_call: str) -> None:
            if not scene.queue.batches and not waiting.reached.is_set():
                await waiting.pause()

        scene.queue.witness = witness
        first = asyncio.create_task(scene.delete(delivery(1)))
        await waiting.reached.wait()
        await scene.delete(delivery(2))
        assert not first.done()
        waiting.go_on.set()
        assert await first


async def test_each_refused_entry_is_tried_again_with_a_growing_pause_and_only_it() -> None:
    async with acknowledgement_scene() as scene:
        scene.queue.refusals["m-2/1"] = deque([AGAIN, AGAIN])
        assert (
            await asyncio.gather(*(scene.delete(delivery(number)) for number in (1, 2, 3)))
            == [True] * 3
        )
        assert scene.queue.batches == [("delete", 3), ("delete", 1), ("delete", 1)]
        assert scene.queue.deleted == ["m-1/1", "m-3/1", "m-2/1"]
        assert scene.backoff.asked == [1, 2]
        assert not scene.faults


async def test_a_stale_handle_is_not_tried_again_and_no_outage() -> None:
    async with acknowledgement_scene() as scene:
        scene.queue.refusals["m-1/1"] = deque([STALE])
        assert not await scene.delete(delivery(1))
        scene.queue.refusals["m-1/1"] = deque([STALE])
        assert not await scene.hide(delivery(1), 0)
        assert scene.queue.batches == [("delete", 1), ("hide", 1)]
        assert not scene.faults


async def test_it_is_given_up_after_some_tries() -> None:
    async with acknowledgement_scene() as scene:
        scene.queue.refusals["m-1/1"] = deque([AGAIN] * 100)
        assert not await scene.delete(delivery(1))
        assert len(scene.queue.batches) == ATTEMPTS
        assert scene.backoff.asked == list(range(1, ATTEMPTS))


async def test_of_a_message_that_is_given_back_it_is_given_up_sooner() -> None:
    async with acknowledgement_scene() as scene:
        scene.queue.refusals["m-1/1"] = deque([AGAIN] * 100)
        back = delivery(1)
        back.give_back()
        assert not await scene.hide(back, 0)
        assert len(scene.queue.batches) == ATTEMPTS_OF_A_STOP < ATTEMPTS


def test_it_is_tried_for_about_the_default_visibility_timeout() -> None:
    backoff = Backoff(*ACKNOWLEDGE_BACKOFF, random.Random(1))
    assert 20 < sum(backoff.delay(attempt) for attempt in range(1, ATTEMPTS)) < 40


async def test_an_outage_is_reported_and_the_batch_retried() -> None:
    async with acknowledgement_scene() as scene:
        scene.queue.faults["delete"] = deque([edge_fault(Edge.QUEUE)])
        assert all(await asyncio.gather(scene.delete(delivery(1)), scene.delete(delivery(2))))
        assert {fault.edge for fault in scene.faults} == {Edge.QUEUE}
        assert sorted(scene.queue.deleted) == ["m-1/1", "m-2/1"]


async def test_another_try_uses_the_newest_handle() -> None:
    async with acknowledgement_scene() as scene:
        one = delivery(1)
        scene.queue.refusals["m-1/1"] = deque([AGAIN])

        async def witness(_call: str) -> None:
            one.received_again(message(receive_count=2), 30)

        scene.queue.witness = witness
        assert await scene.delete(one)
        assert scene.queue.deleted == ["m-1/2"]


async def test_a_caller_that_is_gone_does_not_spoil_the_batch() -> None:
    async with acknowledgement_scene() as scene:
        gone = asyncio.create_task(scene.delete(delivery(1)))
        await asyncio.sleep(0)
        gone.cancel()
        assert await scene.delete(delivery(2))


async def test_an_error_reaches_every_caller_and_the_next_batch_is_sent() -> None:
    answers: deque[Exception | None] = deque([ValueError("odd"), None])

    async def send(items: Sequence[int]) -> Sequence[int]:
        if (error := answers.popleft()) is not None:
            raise error
        return items

    batcher = Batcher(send)
    loop = asyncio.create_task(batcher.run(Pulse()))
    async with asyncio.timeout(5):
        results = await asyncio.gather(batcher.ask(1), batcher.ask(2), return_exceptions=True)
        assert [str(result) for result in results] == ["odd", "odd"]
        assert await batcher.ask(3) == 3
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_the_end_waits_for_the_batches_that_are_under_way() -> None:
    scene, waiting = AcknowledgementScene(), Waiting()

    async def witness(_call: str) -> None:
        await waiting.pause()

    scene.queue.witness = witness
    loop = asyncio.create_task(scene.acknowledgements.run_deletes(Pulse()))
    asking = asyncio.create_task(scene.delete(delivery(1)))
    async with asyncio.timeout(5):
        await waiting.reached.wait()
        loop.cancel()
        await a_while()
        assert not loop.done()
        waiting.go_on.set()
        await until(loop.done)
        assert await asking
    assert scene.queue.deleted == ["m-1/1"]


async def test_an_acknowledgement_that_is_given_up_is_logged() -> None:
    async with acknowledgement_scene() as scene:
        scene.queue.refusals["m-1/1"] = deque([AGAIN] * ATTEMPTS)
        with capture_logs() as logs:
            assert not await scene.delete(delivery(1))
    [line] = log_lines(logs, "acknowledgement failed, the message will be delivered again")
    assert (line["log_level"], line["acknowledgement"], line["receive_count"]) == (
        "warning",
        "delete",
        1,
    )
    assert line["detail"] == "InternalError: try again"


async def test_an_old_receipt_handle_is_logged_without_a_warning() -> None:
    async with acknowledgement_scene() as scene:
        scene.queue.refusals["m-1/1"] = deque([STALE])
        with capture_logs() as logs:
            assert not await scene.delete(delivery(1))
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("message will be delivered again", "info")
    ]

"""A delivery: how long its message can be hidden, and which attempts are cancelled when."""

from __future__ import annotations

import asyncio

import pytest

from daemon.outcome import Deferred, Outcome
from daemon.pipeline.delivery import LONGEST_IN_FLIGHT_SECONDS, RELEASE_AFTER_SECONDS, Delivery
from daemon.pipeline.step import Step
from daemon.reasons import Reason
from tests.support.flow_scene import a_while, message

VISIBILITY = 30


def received(seconds_ago: float) -> Delivery:
    delivery = Delivery(message(), VISIBILITY)
    delivery.received_at -= seconds_ago
    return delivery


async def test_near_the_12_hours_a_message_is_hidden_only_for_what_is_left() -> None:
    assert received(0).hidable_seconds(VISIBILITY) == VISIBILITY
    assert 5 <= received(LONGEST_IN_FLIGHT_SECONDS - 20).hidable_seconds(VISIBILITY) <= 11
    assert received(LONGEST_IN_FLIGHT_SECONDS).hidable_seconds(VISIBILITY) == 0


async def test_a_message_is_held_for_eleven_and_a_half_hours_at_most() -> None:
    assert not received(RELEASE_AFTER_SECONDS - 1).held_too_long
    assert received(RELEASE_AFTER_SECONDS + 1).held_too_long


@pytest.mark.parametrize(
    ("how", "step", "ends"),
    [
        ("give_back", Step.SYNC, True),
        ("give_back", Step.RECORD, False),
        ("abandon", Step.RECORD, True),
        ("lose_claim", Step.RECORD, True),
    ],
)
async def test_an_attempt_is_cancelled_unless_it_must_finish(
    how: str, step: Step, *, ends: bool
) -> None:
    delivery, go_on = Delivery(message(), VISIBILITY), asyncio.Event()
    outcome = Deferred(Reason.TARGET_FAULT)

    async def work() -> Outcome:
        delivery.job.step = step
        await go_on.wait()
        return outcome

    attempt = asyncio.create_task(delivery.attempt(work()))
    await a_while()
    getattr(delivery, how)()
    await a_while()
    assert attempt.done() is ends
    go_on.set()
    assert await attempt == (None if ends else outcome)
    assert (delivery.claim_lost, delivery.released.is_set()) == (
        how == "lose_claim",
        how != "lose_claim",
    )


async def test_the_next_attempt_may_claim_the_job_again() -> None:
    delivery = Delivery(message(), VISIBILITY)
    delivery.lose_claim()

    async def work() -> Outcome:
        assert not delivery.claim_lost
        return Deferred(Reason.TARGET_FAULT)

    assert await delivery.attempt(work()) is not None

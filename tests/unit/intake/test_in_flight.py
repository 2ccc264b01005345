"""The ledger: duplicates join, the newest receipt handle is used, different jobs with one name are
processed one after the other.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from daemon.aws.ports import Message
from daemon.intake.in_flight import InFlight, Joined, Slots
from daemon.outcome import Deferred, Duplicate, Outcome, Rejected, Synced
from daemon.reasons import Reason
from daemon.training_job.event import TrainingJobEvent, parse_event
from daemon.training_job.identity import JobArn, JobMark
from tests.support.flow_scene import event_body

if TYPE_CHECKING:
    from daemon.pipeline.delivery import Delivery

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn-1"


def message(message_id: str, handle: str = "handle", receive_count: int = 1) -> Message:
    return Message(message_id, handle, "{}", receive_count, None)


def of_job(delivery: Delivery, created: datetime) -> None:
    """As the flow leaves a delivery after parsing it."""
    arn = JobArn.parse(ARN)
    event = parse_event(event_body("churn-1", CreationTime=round(created.timestamp() * 1000)))
    assert isinstance(event, TrainingJobEvent)
    delivery.job.event, delivery.job.arn = event, arn


async def test_a_message_received_again_joins_with_its_newer_handle() -> None:
    ledger = InFlight()
    delivery = ledger.add(message("m1", "old", 1), 30)
    assert delivery is not None
    assert ledger.add(message("m1", "new", 2), 30) is None
    assert (delivery.receipt_handle, delivery.receive_count, len(ledger)) == ("new", 2, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Synced(Reason.CREATED, {"run_id": "r"}), Duplicate(Reason.JOINED, {"run_id": "r"})),
        (
            Rejected(Reason.TAGS_INCOMPLETE, "MODEL_DB_MODEL_TYPE"),
            Rejected(Reason.TAGS_INCOMPLETE, "MODEL_DB_MODEL_TYPE"),
        ),
        (Deferred(Reason.NOT_TERMINAL, "", None), Deferred(Reason.NOT_TERMINAL, "", None)),
    ],
)
async def test_a_second_message_of_the_job_gets_the_first_ones_outcome(
    first: Outcome, second: Outcome
) -> None:
    ledger = InFlight()
    created = datetime(2025, 11, 20, 8, 40, 0, 50_000, UTC)
    leader, follower = ledger.add(message("m1"), 30), ledger.add(message("m2"), 30)
    assert leader is not None
    assert follower is not None
    of_job(leader, created)
    of_job(follower, created.replace(microsecond=0))
    leader.job.mark = mark = JobMark.of(JobArn.parse(ARN), created)
    assert await ledger.lead(leader) is None
    joining = asyncio.create_task(ledger.lead(follower))
    await asyncio.sleep(0)
    assert not joining.done()
    ledger.finish(leader, first)
    assert await joining == Joined(second, mark)


async def test_jobs_of_one_name_created_at_different_times_take_turns() -> None:
    ledger = InFlight()
    older, newer = ledger.add(message("m1"), 30), ledger.add(message("m2"), 30)
    assert older is not None
    assert newer is not None
    of_job(older, datetime(2025, 11, 20, tzinfo=UTC))
    of_job(newer, datetime(2025, 11, 21, tzinfo=UTC))
    assert await ledger.lead(older) is None
    waiting = asyncio.create_task(ledger.lead(newer))
    await asyncio.sleep(0)
    assert not waiting.done()
    ledger.finish(older, Synced(Reason.CREATED))
    assert await waiting is None


async def test_slots_bound_what_is_taken_and_wake_the_next() -> None:
    slots = Slots(12)
    assert await slots.take(10) == 10
    assert await slots.take(10) == 2
    waiting = asyncio.create_task(slots.take(10))
    await asyncio.sleep(0)
    assert not waiting.done()
    slots.give_back(1)
    assert await waiting == 1


async def test_of_two_that_wait_for_one_slot_one_goes_on_waiting() -> None:
    slots = Slots(1)
    assert await slots.take(10) == 1
    waiting = [asyncio.create_task(slots.take(10)) for _ in range(2)]
    await asyncio.sleep(0)
    slots.give_back(1)
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [task.result() for task in done] == [1]
    assert len(rest) == 1
    slots.give_back(1)
    assert await rest.pop() == 1


async def test_the_ledger_says_when_it_is_empty() -> None:
    ledger = InFlight()
    await ledger.wait_empty()
    delivery = ledger.add(message("m1"), 30)
    assert delivery is not None
    waiting = asyncio.create_task(ledger.wait_empty())
    await asyncio.sleep(0)
    assert not waiting.done()
    ledger.remove(delivery)
    await waiting

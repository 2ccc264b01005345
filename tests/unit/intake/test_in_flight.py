"""The ledger: duplicates join, the newest receipt handle counts, different jobs of one name take
turns.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from daemon.aws.ports import Message
from daemon.intake.in_flight import InFlight, Slots
from daemon.outcome import Deferred, Duplicate, Outcome, Reason, Rejected, Synced
from daemon.training_job.event import TrainingJobEvent
from daemon.training_job.identity import JobArn

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn-1"


def message(message_id: str, handle: str = "handle", receive_count: int = 1) -> Message:
    return Message(message_id, handle, "{}", receive_count, None)


def event(created: datetime | None) -> TrainingJobEvent:
    return TrainingJobEvent(
        name="churn-1",
        arn=JobArn.parse(ARN),
        status="Completed",
        secondary_status=None,
        creation_time=created,
        tags=None,
        event_time=None,
        event_id=None,
        replayed=False,
    )


def test_a_message_received_again_joins_with_its_newer_handle() -> None:
    async def scenario() -> None:
        ledger = InFlight()
        entry = ledger.add(message("m1", "old", 1), 30)
        assert entry is not None
        assert ledger.add(message("m1", "new", 2), 30) is None
        assert (entry.receipt_handle, entry.receive_count, len(ledger)) == ("new", 2, 1)

    asyncio.run(scenario())


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
    leader.event = event(created)
    follower.event = event(created.replace(microsecond=0))
    assert await ledger.lead(leader, ARN) is None
    joining = asyncio.create_task(ledger.lead(follower, ARN))
    await asyncio.sleep(0)
    assert not joining.done()
    ledger.finish(leader, first)
    assert await joining == second


async def test_jobs_of_one_name_created_at_different_times_take_turns() -> None:
    ledger = InFlight()
    older, newer = ledger.add(message("m1"), 30), ledger.add(message("m2"), 30)
    assert older is not None
    assert newer is not None
    older.event, newer.event = (
        event(datetime(2025, 11, 20, tzinfo=UTC)),
        event(datetime(2025, 11, 21, tzinfo=UTC)),
    )
    assert await ledger.lead(older, ARN) is None
    waiting = asyncio.create_task(ledger.lead(newer, ARN))
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
    entry = ledger.add(message("m1"), 30)
    assert entry is not None
    waiting = asyncio.create_task(ledger.wait_empty())
    await asyncio.sleep(0)
    assert not waiting.done()
    ledger.remove(entry)
    await waiting

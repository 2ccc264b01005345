"""What a job costs: the calls of the table, and the size of what is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import Claim, JobState
from daemon.reasons import Reason
from daemon.story import StoryEntry, StoryEvent
from daemon.training_job.identity import JobMark
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    NAME,
    TARGET,
    arn_of,
    begin,
    claimed,
    deferred,
    mark_of,
    row,
    synced,
)
from tests.support.dynamodb_processes import Processes

if TYPE_CHECKING:
    from tests.support.dynamodb_processes import Process

RUN_LOCKS = [
    f"modeldb-v2/run/7c0c3d0e-5d4e-4a37-9b0e-0b3d8e6f1a11/{NAME}",
    f"modeldb-v1/run/modeldb.internal:6543/{MARK.short_hash}/{NAME}",
    f"mlflow/run/{MARK.short_hash}/{NAME}",
]
"""As `daemon.targets` names them."""


@pytest.fixture
async def ours() -> Process:
    return await Processes().start()


async def unwritten(process: Process) -> Claim:
    claim = await process.checkpoint.claim(ARN, LEASE, at_once=False)
    assert isinstance(claim, Claim)
    return claim


@pytest.mark.parametrize("lock_name", RUN_LOCKS)
async def test_a_job_costs_one_read_and_two_writes(ours: Process, lock_name: str) -> None:
    claim = await unwritten(ours)
    assert ours.asked() == ["partition"]

    assert await ours.checkpoint.job(MARK) is None
    assert await ours.checkpoint.described(ARN) == []
    assert await ours.checkpoint.renew([claim], LEASE) == []
    assert ours.asked() == []

    await begin(ours.checkpoint, claim, lock_name=lock_name)
    assert ours.asked() == ["put"]

    assert (await row(ours.checkpoint)).state is JobState.WRITING
    await synced(ours.checkpoint, claim)
    assert ours.asked() == ["put"]


async def test_a_duplicate_costs_one_read(ours: Process) -> None:
    await synced(ours.checkpoint, await unwritten(ours))
    ours.asked()
    claim = await unwritten(ours)
    assert (await row(ours.checkpoint)).done
    await ours.checkpoint.release(claim)
    assert ours.asked() == ["partition"]


async def test_what_was_known_of_a_job_ends_with_its_claim(ours: Process) -> None:
    claim = await unwritten(ours)
    await ours.checkpoint.release(claim)
    ours.asked()
    assert await ours.checkpoint.job(MARK) is None
    assert ours.asked() == ["partition"]
    assert not ours.checkpoint._partitions._known
    assert not ours.checkpoint._partitions._locks


async def test_a_refusal_is_never_from_memory(ours: Process) -> None:
    claim, other = await unwritten(ours), await claimed(ours.checkpoint, arn_of(2))
    theirs = await Processes(ours.table.held).start()
    locked = f"modeldb-v2/run/7/{NAME}"
    third = await claimed(theirs.checkpoint, arn_of(3))
    await theirs.checkpoint.lock_name(third, locked, LEASE)
    claim = await unwritten(ours)  # sees the lock
    await theirs.checkpoint.unlock_name(third, locked)
    await begin(ours.checkpoint, claim, lock_name=locked)
    await ours.checkpoint.release(other)


async def test_that_a_table_is_in_use_is_noted_once_an_hour(ours: Process) -> None:
    for _ in range(2):
        ours.clock.now += 3601
        for number in range(3):
            await deferred(
                ours.checkpoint, await claimed(ours.checkpoint, arn_of(number)), mark_of(number)
            )
        assert ours.asked().count("get") == 1


async def test_a_table_of_one_target_is_counted_without_reading_its_rows(ours: Process) -> None:
    assert await ours.checkpoint.job_counts() == {}
    await synced(ours.checkpoint, await unwritten(ours))
    ours.asked()
    assert await ours.checkpoint.job_counts() == {TARGET: 1}
    assert ours.asked() == ["partition"]


async def test_a_usual_document_is_small(ours: Process) -> None:
    message_id = "0b0a5a35-4f6c-4a4f-9d2c-5a55d1a4c0de"
    claim = await unwritten(ours)
    now = ours.clock.now

    def told(seconds: float, what: StoryEvent, detail: str = "") -> StoryEntry:
        return StoryEntry(now + seconds, what, message_id, detail, claim.owner)

    first = [
        told(0.012345, StoryEvent.RECEIVED, "receive 1"),
        told(0.023456, StoryEvent.CLAIMED),
        told(0.134567, StoryEvent.DESCRIBED, "Completed"),
        told(0.234567, StoryEvent.TAGS_READ, "from the event"),
        StoryEntry(now + 0.345678, StoryEvent.WRITE_BEGUN),
    ]
    await ours.checkpoint.begin_write(
        claim, MARK, NAME, lock_name=RUN_LOCKS[0], project="churn prediction", story=first
    )
    writing = _size(ours)
    await ours.checkpoint.record_synced(
        claim,
        MARK,
        NAME,
        reason=Reason.CREATED,
        detail="",
        target_ids={
            "project": "churn prediction",
            "project_id": "a3c1a3f0-7f2b-4f0c-9ad0-0b54a93ed401",
            "experiment_id": "7c0c3d0e-5d4e-4a37-9b0e-0b3d8e6f1a11",
            "run_id": "5f8d9c64-0d3e-4dd0-8f3a-2f5ab0b7a7d9",
        },
        message_id=message_id,
        project="churn prediction",
        story=[told(0.456789, StoryEvent.OUTCOME, "synced: created")],
    )
    print(f"a document: {writing} bytes while it is written, {_size(ours)} when it is synced")
    assert writing < 2048
    assert _size(ours) < 2048


def _size(process: Process) -> int:
    """As DynamoDB counts: names and values in UTF-8, a number about a byte for two digits."""
    (item,) = [item for (pk, _), item in process.table.held.items.items() if pk.startswith("job#")]
    return sum(
        len(name.encode()) + (len(value.encode()) if isinstance(value, str) else 10)
        for name, value in item.items()
    )


async def test_a_job_whose_name_was_used_before_writes_its_former_row_once(ours: Process) -> None:
    await synced(ours.checkpoint, await unwritten(ours))
    later = JobMark(ARN, "2026-02-01T00:00:00.000Z")
    claim = await unwritten(ours)
    ours.asked()
    ours.clock.now += 1
    await begin(ours.checkpoint, claim, later, lock_name=RUN_LOCKS[0])
    assert ours.asked() == ["put", "put"]
    await synced(ours.checkpoint, claim, later)
    assert ours.asked() == ["put"]

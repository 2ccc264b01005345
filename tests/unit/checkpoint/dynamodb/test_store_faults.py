"""The store when the table fails, when others are quicker, and when items grow too large."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.dynamodb.concurrent_calls import AT_ONCE
from daemon.checkpoint.dynamodb.keys import lock_partition
from daemon.checkpoint.dynamodb.messages import BODY_LIMIT
from daemon.checkpoint.dynamodb.partitions import ATTEMPTS
from daemon.checkpoint.dynamodb.table import ConditionFailed
from daemon.checkpoint.ports import Claim, HistoryFilter, JobState, LeaseLost, NameLocked
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.story import StoryEntry, StoryEvent
from daemon.targets.place import TargetPlace
from daemon.training_job.identity import JobMark
from tests.support.checkpoint_calls import (
    ARN,
    LEASE,
    MARK,
    NAME,
    TARGET,
    FakeClock,
    arn_of,
    begin,
    claimed,
    deferred,
    mark_of,
    rejected,
    row,
    skipped,
    synced,
)
from tests.support.dynamodb_processes import Processes

if TYPE_CHECKING:
    from daemon.checkpoint.dynamodb.table import Item
    from tests.support.dynamodb_processes import Process

JOB = f"job#{NAME}"
OF_RUN = f"modeldb-v2/run/7/{NAME}"
PROJECT_LOCK = "modeldb-v2/project/churn"
"""Kept in a document of its own."""


@pytest.fixture
async def processes() -> Processes:
    return Processes()


@pytest.fixture
async def ours(processes: Processes) -> Process:
    return await processes.start()


async def test_a_fault_of_the_table_is_one_of_the_checkpoint(ours: Process) -> None:
    claim = await claimed(ours.checkpoint)
    ours.table.refused.add(JOB)
    with pytest.raises(EdgeFault) as caught:
        await begin(ours.checkpoint, claim, lock_name=OF_RUN)
    assert (caught.value.edge, caught.value.reason) == (Edge.CHECKPOINT, Reason.THROTTLED)
    ours.table.refused.clear()
    assert (await begin(ours.checkpoint, claim, lock_name=OF_RUN)).unanswered_writes == 1


async def test_a_record_whose_answer_is_lost_may_be_repeated(ours: Process) -> None:
    claim = await claimed(ours.checkpoint)
    await begin(ours.checkpoint, claim, lock_name=OF_RUN)
    ours.table.unanswered.add(JOB)
    with pytest.raises(EdgeFault):
        await synced(ours.checkpoint, claim)
    await synced(ours.checkpoint, claim)
    assert (await row(ours.checkpoint)).done


async def test_what_is_remembered_ends_with_a_write_whose_answer_is_lost(ours: Process) -> None:
    claim = await claimed(ours.checkpoint)
    ours.table.unanswered.add(JOB)
    with pytest.raises(EdgeFault):
        await begin(ours.checkpoint, claim, lock_name=OF_RUN)
    assert (await row(ours.checkpoint)).unanswered_writes == 1


async def test_calls_that_are_made_together_end_together(
    ours: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    arns = [arn_of(number) for number in range(AT_ONCE + 4)]
    claims = [await claimed(ours.checkpoint, arn) for arn in arns]
    ours.table.refused.add("job#job-0")
    with pytest.raises(EdgeFault):
        await ours.checkpoint.renew(claims, 10 * LEASE)
    ours.table.refused.clear()
    left = [await ours.checkpoint.claim_on(arn) for arn in arns]
    assert [each and each.seconds_left for each in left] == [LEASE] + [10 * LEASE] * (AT_ONCE + 3)

    async def hangs(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ours.table, "put", hangs)
    with pytest.raises(TimeoutError):  # and no call is left behind unawaited
        async with asyncio.timeout(0.01):
            await ours.checkpoint.renew(claims, LEASE)
    gc.collect()


async def test_a_rejection_goes_on_where_the_table_failed(ours: Process) -> None:
    claim = await claimed(ours.checkpoint)
    ours.table.refused.add("message#m-3")
    with pytest.raises(EdgeFault):
        await rejected(ours.checkpoint, claim)
    assert await ours.checkpoint.rejected_messages() == []
    ours.table.refused.clear()
    await rejected(ours.checkpoint, claim)
    assert (await row(ours.checkpoint)).state is JobState.REJECTED
    assert len(await ours.checkpoint.rejected_messages()) == 1
    with pytest.raises(LeaseLost):
        await rejected(ours.checkpoint, claim)


async def test_a_change_of_another_process_makes_a_decision_be_made_again(
    processes: Processes, ours: Process
) -> None:
    theirs = await processes.start()
    claim = await claimed(ours.checkpoint)
    await theirs.checkpoint.note_story(ARN, [StoryEntry(1.0, StoryEvent.HELD)])
    ours.asked()
    await begin(ours.checkpoint, claim, lock_name=OF_RUN)
    assert ours.asked() == ["put", "partition", "put"]
    await theirs.checkpoint.note_story(ARN, [StoryEntry(2.0, StoryEvent.HELD)])
    await synced(ours.checkpoint, claim)
    assert len(await theirs.checkpoint.story(ARN)) == 2


async def test_many_processes_at_one_name_are_served_one_after_the_other(
    processes: Processes,
) -> None:
    started = [await processes.start() for _ in range(8)]
    claims = [await claimed(each.checkpoint, arn_of(number)) for number, each in enumerate(started)]

    async def lock(process: Process, claim: Claim) -> bool:
        try:
            await process.checkpoint.lock_name(claim, "project/churn", LEASE)
        except NameLocked:
            return False
        return True

    answers = await asyncio.gather(*map(lock, started, claims))
    assert sum(answers) == 1

    stories = [StoryEntry(float(number), StoryEvent.HELD) for number in range(8)]
    await asyncio.gather(
        *(
            each.checkpoint.note_story(ARN, [entry])
            for each, entry in zip(started, stories, strict=True)
        )
    )
    assert await started[0].checkpoint.story(ARN) == stories


async def test_whoever_is_never_quick_enough_holds_the_message(
    ours: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await claimed(ours.checkpoint)
    tried = 0

    async def always_late(item: Item, *, expected: int | None) -> None:
        nonlocal tried
        tried += 1
        raise ConditionFailed

    monkeypatch.setattr(ours.table, "put", always_late)
    monkeypatch.setattr("daemon.checkpoint.dynamodb.partitions.LONGEST_PAUSE_SECONDS", 0.001)
    with pytest.raises(EdgeFault, match="was changed by others"):
        await begin(ours.checkpoint, claim, lock_name=OF_RUN)
    with pytest.raises(EdgeFault, match="was changed by others"):
        await ours.checkpoint.put_note("page", "1")
    assert tried == 1 + ATTEMPTS + ATTEMPTS


async def test_a_lock_of_another_name_ends_with_the_claim(
    processes: Processes, ours: Process
) -> None:
    theirs = await processes.start(ours.clock)
    other = await claimed(theirs.checkpoint, arn_of(2))
    for finish in (synced, skipped, deferred, rejected):
        claim = await claimed(ours.checkpoint)
        await begin(ours.checkpoint, claim, lock_name=f"{OF_RUN}-0a1b2c3d")
        with pytest.raises(NameLocked):
            await theirs.checkpoint.lock_name(other, f"{OF_RUN}-0a1b2c3d", LEASE)
        await finish(ours.checkpoint, claim)
        await theirs.checkpoint.lock_name(other, f"{OF_RUN}-0a1b2c3d", LEASE)
        await theirs.checkpoint.unlock_name(other, f"{OF_RUN}-0a1b2c3d")
    assert not [pk for pk, _ in processes.held.items if pk.startswith("job#churn-2025-11-20-")]


async def test_renewing_a_claim_prolongs_its_locks_of_other_names(
    processes: Processes, ours: Process
) -> None:
    theirs = await processes.start(ours.clock)
    claim = await claimed(ours.checkpoint)
    await begin(ours.checkpoint, claim, lock_name=f"{OF_RUN}-0a1b2c3d")
    ours.clock.now += LEASE - 1
    await ours.checkpoint.renew([claim], LEASE)
    ours.clock.now += LEASE - 1
    other = await claimed(theirs.checkpoint, arn_of(2))
    with pytest.raises(NameLocked):
        await begin(theirs.checkpoint, other, mark_of(2), lock_name=f"{OF_RUN}-0a1b2c3d")


async def test_the_lock_of_a_run_meets_the_job_of_another_account(
    processes: Processes, ours: Process
) -> None:
    theirs = await processes.start()
    await begin(ours.checkpoint, await claimed(ours.checkpoint), lock_name=OF_RUN)
    same_name = JobMark(ARN.replace("123456789012", "210987654321"), MARK.creation_time)
    other = await claimed(theirs.checkpoint, same_name.arn)
    with pytest.raises(NameLocked):
        await begin(theirs.checkpoint, other, same_name, lock_name=OF_RUN)
    assert await theirs.checkpoint.job(same_name) is None


async def test_a_body_that_does_not_fit_is_cut_and_says_so(ours: Process) -> None:
    await rejected(ours.checkpoint, None, None, job_arn="")
    await ours.checkpoint.keep_body("m-3", "é" * 400_000)
    (message,) = await ours.checkpoint.rejected_messages()
    assert message == await ours.checkpoint.rejected_message("m-3")
    assert message.body == "é" * (BODY_LIMIT // 2)
    assert message.detail.endswith(
        f"only the first {BODY_LIMIT} of the body's 800000 bytes were kept"
    )
    await rejected(ours.checkpoint, None, None, job_arn="")
    assert (await ours.checkpoint.rejected_messages())[0] == message
    await ours.checkpoint.forget_body("m-3")
    (message,) = await ours.checkpoint.rejected_messages()
    assert (message.body, message.detail) == (None, "no MODEL_DB_MODEL_NAME")


async def test_closing_gives_everything_back_although_a_part_fails(
    processes: Processes, ours: Process
) -> None:
    theirs = await processes.start(ours.clock)
    await claimed(ours.checkpoint)
    await claimed(ours.checkpoint, arn_of(2))
    await ours.checkpoint.ask("churn", force=False)
    assert await ours.checkpoint.take_request(lease_seconds=6000) is not None
    ours.table.refused.add(JOB)
    await ours.checkpoint.aclose()
    await claimed(theirs.checkpoint, arn_of(2))
    assert await theirs.checkpoint.take_request(lease_seconds=60) is not None
    assert not isinstance(await theirs.checkpoint.claim(ARN, LEASE), Claim)


async def test_a_row_is_never_missing_from_the_history_and_never_there_twice(
    processes: Processes, ours: Process
) -> None:
    marks = [JobMark(ARN, f"2026-0{number}-01T00:00:00.000Z") for number in (1, 2, 3)]
    for mark in [*marks, marks[0], marks[2]]:
        ours.clock.now += 1
        await deferred(ours.checkpoint, await claimed(ours.checkpoint), mark)
        found = await ours.checkpoint.history(HistoryFilter())
        times = [each.creation_time for each in found]
        assert len(times) == len(set(times))
        assert times[0] == mark.creation_time
        assert sum((await ours.checkpoint.row_counts()).values()) == len(times)
    assert {each.creation_time: each.attempts for each in found} == {
        marks[0].creation_time: 2,
        marks[1].creation_time: 1,
        marks[2].creation_time: 2,
    }
    assert (await ours.checkpoint.job_counts()) == {TARGET: 3}


async def test_a_crash_between_the_writes_leaves_every_row_in_the_history(
    processes: Processes, ours: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = JobMark(ARN, "2026-01-01T00:00:00.000Z")
    await synced(ours.checkpoint, await claimed(ours.checkpoint))
    ours.clock.now += 1
    claim = await claimed(ours.checkpoint)
    put = ours.table.put

    async def dies(item: Item, *, expected: int | None) -> None:
        await put(item, expected=expected)
        raise asyncio.CancelledError

    monkeypatch.setattr(ours.table, "put", dies)
    with pytest.raises(asyncio.CancelledError):
        await begin(ours.checkpoint, claim, later, lock_name=OF_RUN)
    theirs = await processes.start(ours.clock)
    (record,) = await theirs.checkpoint.history(HistoryFilter())
    assert record.done

    ours.clock.now += LEASE + 30
    await begin(theirs.checkpoint, await claimed(theirs.checkpoint), later, lock_name=OF_RUN)
    found = await theirs.checkpoint.history(HistoryFilter())
    assert [each.state for each in found] == [JobState.WRITING, JobState.SYNCED]


async def test_a_table_that_deletes_by_itself_is_not_pruned(processes: Processes) -> None:
    ours = await processes.start(expires=True)
    await synced(ours.checkpoint, await claimed(ours.checkpoint))
    ours.clock.now += 500 * 86400
    ours.asked()
    assert await ours.checkpoint.prune(ours.clock.now) == 0
    assert ours.asked() == []


async def test_rows_that_are_old_enough_go_with_the_next_change(processes: Processes) -> None:
    ours = await processes.start(keep_days=10)
    later = JobMark(ARN, "2026-01-01T00:00:00.000Z")
    await synced(ours.checkpoint, await claimed(ours.checkpoint))
    ours.clock.now += 10 * 86400 + 1
    await synced(ours.checkpoint, await claimed(ours.checkpoint), later)
    (record,) = await ours.checkpoint.history(HistoryFilter())
    assert record.creation_time == later.creation_time
    assert await ours.checkpoint.job(MARK) is None


async def test_pruning_spares_claims_and_what_changed_meanwhile(
    processes: Processes, ours: Process
) -> None:
    await synced(ours.checkpoint, await claimed(ours.checkpoint))
    fence = (await claimed(ours.checkpoint)).fence
    await ours.checkpoint.note_story(arn_of(2), [StoryEntry(1.0, StoryEvent.HELD)])
    await ours.checkpoint.release(await claimed(ours.checkpoint, arn_of(3)))
    ours.clock.now += 10
    assert await ours.checkpoint.prune(ours.clock.now) == 3
    assert await ours.checkpoint.prune(ours.clock.now) == 0
    assert await ours.checkpoint.history(HistoryFilter()) == []
    theirs = await processes.start(ours.clock)
    assert not isinstance(await theirs.checkpoint.claim(ARN, LEASE), Claim)
    claim = Claim(ARN, ours.checkpoint.owner, fence)
    await begin(ours.checkpoint, claim, lock_name=OF_RUN)


async def test_the_rows_of_every_target_are_pruned(processes: Processes, ours: Process) -> None:
    moved = await processes.start(ours.clock, target=TargetPlace(TARGET.kind, "http://other"))
    for each in (ours, moved):
        await synced(each.checkpoint, await claimed(each.checkpoint))
    other = await claimed(moved.checkpoint, arn_of(2))
    await begin(moved.checkpoint, other, mark_of(2), lock_name="modeldb-v2/run/7/job-2")
    ours.clock.now += LEASE + 31
    assert await ours.checkpoint.prune(ours.clock.now) == 2
    (record,) = await ours.checkpoint.history(HistoryFilter())
    assert record.state is JobState.WRITING


async def test_many_rows_are_merged_by_time_over_pages_and_shards(ours: Process) -> None:
    for number in range(60):
        ours.clock.now += 1
        finish = (synced, deferred, skipped)[number % 3]
        await finish(
            ours.checkpoint, await claimed(ours.checkpoint, arn_of(number)), mark_of(number)
        )
    for limit in (1, 7, 60, 100):
        found = await ours.checkpoint.history(HistoryFilter(limit=limit))
        assert [each.job_arn for each in found] == [
            arn_of(59 - number) for number in range(min(limit, 60))
        ]
    wanted = HistoryFilter(states=[JobState.SYNCED], limit=5)
    found = await ours.checkpoint.history(wanted)
    assert [each.job_arn for each in found] == [arn_of(number) for number in (57, 54, 51, 48, 45)]
    assert await ours.checkpoint.history(replace(wanted, limit=0)) == []


async def test_a_renewal_does_not_bring_back_a_lock_that_is_given_back_meanwhile(
    processes: Processes, ours: Process
) -> None:
    theirs = await processes.start()
    claim, other = await claimed(ours.checkpoint, ARN), await claimed(theirs.checkpoint, arn_of(2))
    await ours.checkpoint.lock_name(claim, PROJECT_LOCK, LEASE)
    partitions, partition = ours.checkpoint._partitions, lock_partition(PROJECT_LOCK)
    async with partitions._turn(partition):
        given_back = asyncio.create_task(ours.checkpoint.unlock_name(claim, PROJECT_LOCK))
        renewed = asyncio.create_task(ours.checkpoint.renew([claim], LEASE))
        async with asyncio.timeout(5):
            while partitions._waiting[partition] < 3:  # this one, and both
                await asyncio.sleep(0)
    await asyncio.gather(given_back, renewed)
    await theirs.checkpoint.lock_name(other, PROJECT_LOCK, LEASE)


async def test_a_renewal_keeps_a_lock_that_another_document_has(processes: Processes) -> None:
    clock = FakeClock()
    ours, theirs = await processes.start(clock), await processes.start(clock)
    claim, other = await claimed(ours.checkpoint, ARN), await claimed(theirs.checkpoint, arn_of(2))
    await ours.checkpoint.lock_name(claim, PROJECT_LOCK, LEASE)
    clock.now += LEASE - 1
    assert await ours.checkpoint.renew([claim], LEASE) == []
    assert await theirs.checkpoint.renew([other], LEASE) == []
    clock.now += LEASE - 1
    with pytest.raises(NameLocked):
        await theirs.checkpoint.lock_name(other, PROJECT_LOCK, LEASE)

"""What the status page reads from a DynamoDB checkpoint, and at what cost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.dynamodb import reader as module
from daemon.checkpoint.dynamodb.reader import DynamoDbReader
from daemon.checkpoint.dynamodb.store import open_dynamodb_checkpoint
from daemon.checkpoint.ports import Claim, JobState
from daemon.checkpoint.reading import JobSearch, MinuteCount
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.story import StoryEntry, StoryEvent
from daemon.targets.place import TargetPlace
from daemon.training_job.identity import JobMark
from tests.support.memory_table import MemoryItems, MemoryTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.checkpoint.dynamodb.store import DynamoDbCheckpoint

HERE, THERE = TargetPlace("modeldb-v2", "http://a/v1"), TargetPlace("mlflow", "http://b")
CREATED = "2026-11-29T10:00:00+00:00"


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class CountingTable(MemoryTable):
    """A table that counts what is asked of it."""

    def __init__(self, held: MemoryItems) -> None:
        super().__init__(held)
        self.queries = 0
        self.closed = False

    async def index(self, *arguments: Any, **named: Any) -> Any:
        self.queries += 1
        return await super().index(*arguments, **named)

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def held() -> MemoryItems:
    return MemoryItems()


@pytest.fixture
async def store(held: MemoryItems, clock: Clock) -> DynamoDbCheckpoint:
    return await open_dynamodb_checkpoint(MemoryTable(held), HERE, keep_days=400, clock=clock)


@pytest.fixture
def table(held: MemoryItems) -> CountingTable:
    return CountingTable(held)


@pytest.fixture
async def reader(table: CountingTable) -> AsyncIterator[DynamoDbReader]:
    async def opened() -> CountingTable:
        return table

    reader = DynamoDbReader(opened)
    yield reader
    await reader.aclose()


def arn(name: str) -> str:
    return f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}".lower()


async def synced(
    store: DynamoDbCheckpoint, clock: Clock, name: str, *, project: str = "churn"
) -> None:
    claim = await store.claim(arn(name), 60)
    assert isinstance(claim, Claim)
    clock.now += 1
    await store.record_synced(
        claim,
        JobMark(arn(name), CREATED),
        name,
        reason=Reason.CREATED,
        detail="",
        target_ids={"run_id": f"run of {name}"},
        message_id="m",
        project=project,
        story=[StoryEntry(clock.now, StoryEvent.OUTCOME, "m", "it is there", "me")],
    )


async def rejected(store: DynamoDbCheckpoint, clock: Clock, name: str) -> None:
    clock.now += 1
    await store.record_rejected(
        None,
        JobMark(arn(name), CREATED),
        name,
        job_arn=arn(name),
        reason=Reason.TAGS_INCOMPLETE,
        detail="no project",
        message_id=f"m-{name}",
    )


async def names(reader: DynamoDbReader, **wanted: Any) -> list[str]:
    return [row.job_name for row in (await reader.search(JobSearch(**wanted))).jobs]


async def test_jobs_are_found_newest_first_by_what_they_are(
    store: DynamoDbCheckpoint, clock: Clock, reader: DynamoDbReader
) -> None:
    for name in ("churn-1", "Fraud-2", "churn-3"):
        await synced(store, clock, name, project=name[:5])
    await rejected(store, clock, "churn-4")

    assert await names(reader) == ["churn-4", "churn-3", "Fraud-2", "churn-1"]
    assert await names(reader, state=JobState.SYNCED) == ["churn-3", "Fraud-2", "churn-1"]
    assert await names(reader, reason="tags_incomplete") == ["churn-4"]
    assert await names(reader, job="CHURN") == ["churn-4", "churn-3", "churn-1"]
    assert await names(reader, job=arn("fraud-2")) == ["Fraud-2"]
    assert await names(reader, project="FRAU") == ["Fraud-2"]
    assert await names(reader, project="fraud", state=JobState.REJECTED) == []


async def test_pages_follow_each_other_without_gap_or_repetition(
    store: DynamoDbCheckpoint, clock: Clock, reader: DynamoDbReader
) -> None:
    for number in range(25):
        await synced(store, clock, f"job-{number:02}")

    pages, before = [], None
    while True:
        found = await reader.search(JobSearch(limit=10, before=before))
        pages.append([row.job_name for row in found.jobs])
        if (before := found.next) is None:
            break

    assert [len(page) for page in pages] == [10, 10, 5]
    shown = [name for page in pages for name in page]
    assert shown == [f"job-{number:02}" for number in reversed(range(25))]


async def test_rows_of_one_moment_are_on_one_page(
    store: DynamoDbCheckpoint, clock: Clock, reader: DynamoDbReader
) -> None:
    for number in range(4):
        await synced(store, clock, f"job-{number}")
        clock.now -= 1

    found = await reader.search(JobSearch(limit=2))

    assert len(found.jobs) == 4
    assert found.next is None


async def test_a_search_that_finds_little_ends_and_says_how_far_it_looked(
    store: DynamoDbCheckpoint,
    clock: Clock,
    reader: DynamoDbReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 5)
    await synced(store, clock, "needle", project="sewing")
    for number in range(12):
        await synced(store, clock, f"hay-{number:02}")

    found = await reader.search(JobSearch(job="nee"))
    assert found.jobs == []
    assert found.searched_back_to == clock.now - 4
    assert found.next is not None
    further = await reader.search(JobSearch(job="nee", before=found.next))
    assert further.searched_back_to == clock.now - 9
    last = await reader.search(JobSearch(job="nee", before=further.next))
    assert [row.job_name for row in last.jobs] == ["needle"]
    assert last.searched_back_to is None
    assert await names(reader, job="Needle") == ["needle"], "the whole name finds it at once"
    assert await names(reader, job=arn("needle")) == ["needle"]
    assert await names(reader, project="Sewing") == ["needle"], "and so does the whole project"


async def test_a_slow_first_answer_is_no_empty_page(
    store: DynamoDbCheckpoint,
    clock: Clock,
    table: CountingTable,
    reader: DynamoDbReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await synced(store, clock, "a")
    now, index = 50.0, table.index

    async def slow(*arguments: Any, **named: Any) -> Any:
        nonlocal now
        now += module.SEARCH_SECONDS
        return await index(*arguments, **named)

    monkeypatch.setattr(module, "monotonic", lambda: now)
    monkeypatch.setattr(table, "index", slow)

    found = await reader.search(JobSearch())

    assert [row.job_name for row in found.jobs] == ["a"]
    assert found.searched_back_to is None


async def test_everything_about_a_job(
    held: MemoryItems, store: DynamoDbCheckpoint, clock: Clock, reader: DynamoDbReader
) -> None:
    other = await open_dynamodb_checkpoint(MemoryTable(held), THERE, keep_days=400, clock=clock)
    await synced(store, clock, "churn-1")
    await synced(other, clock, "churn-1")
    claim = await store.claim(arn("churn-1"), 60)
    assert isinstance(claim, Claim)

    found = await reader.job(arn("Churn-1").upper())

    assert [(row.target, row.target_ids) for row in found.records] == [
        (place.kind, {"run_id": "run of churn-1"}) for place in (THERE, HERE)
    ]
    assert [entry.detail for entry in found.story] == ["it is there"] * 2
    assert [entry.at for entry in found.story] == [1_000_001.0, 1_000_002.0]
    assert found.working_on is not None
    assert found.working_on.owner == store.owner
    assert found.working_on.lease_until == clock.now + 60
    nothing = await reader.job(arn("other"))
    assert (nothing.records, nothing.story, nothing.working_on) == ([], [], None)


async def test_messages_that_name_no_job(
    store: DynamoDbCheckpoint, clock: Clock, reader: DynamoDbReader
) -> None:
    for number in range(3):
        clock.now += 1
        await store.record_rejected(
            None,
            None,
            "",
            job_arn="",
            reason=Reason.MALFORMED_BODY,
            detail="no JSON",
            message_id=f"odd-{number}",
        )
    await rejected(store, clock, "churn-1")

    found = await reader.unnamed_rejections(2)

    assert [message.message_id for message in found] == ["odd-2", "odd-1"]
    assert [message.body for message in found] == [None, None]


async def test_rows_are_counted_by_minute(
    store: DynamoDbCheckpoint, clock: Clock, reader: DynamoDbReader
) -> None:
    clock.now = 6000.0 - 0.5
    await synced(store, clock, "a")
    await synced(store, clock, "b")
    await rejected(store, clock, "c")
    clock.now = 7000.0
    await synced(store, clock, "too late")

    counted = await reader.minutes(5940.0, 7000.0)

    assert sorted(counted, key=lambda each: each.state) == [
        MinuteCount(100, "rejected", 1),
        MinuteCount(100, "synced", 2),
    ]


async def test_the_same_question_is_answered_for_some_seconds(
    store: DynamoDbCheckpoint,
    clock: Clock,
    table: CountingTable,
    reader: DynamoDbReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 50.0
    monkeypatch.setattr(module, "monotonic", lambda: now)
    await synced(store, clock, "a")
    assert await names(reader) == ["a"]
    asked = table.queries
    await synced(store, clock, "b")

    assert await names(reader) == ["a"]
    assert table.queries == asked
    now += module.KEPT_SECONDS
    assert await names(reader) == ["b", "a"]
    assert table.queries == 2 * asked


async def test_one_view_of_all_jobs_asks_each_key_of_the_index_once(
    store: DynamoDbCheckpoint, clock: Clock, table: CountingTable, reader: DynamoDbReader
) -> None:
    for number in range(30):
        await synced(store, clock, f"job-{number}")

    assert len(await names(reader)) == 30
    assert table.queries == 24, "docs/checkpoint-dynamodb.md says so"


async def test_a_silent_table_is_not_waited_for(
    table: CountingTable, reader: DynamoDbReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)

    async def silent(*_arguments: object, **_named: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(table, "index", silent)

    with pytest.raises(EdgeFault, match="cannot be read for the page") as caught:
        await reader.search(JobSearch())

    assert caught.value.edge is Edge.CHECKPOINT


async def test_a_table_that_cannot_be_opened_is_tried_again(table: CountingTable) -> None:
    tries = 0

    async def opened() -> CountingTable:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise EdgeFault(Edge.CHECKPOINT, Reason.CREDENTIALS, "the AWS file cannot be parsed")
        return table

    reader = DynamoDbReader(opened)
    with pytest.raises(EdgeFault):
        await reader.search(JobSearch())
    assert (await reader.search(JobSearch())).jobs == []
    await reader.search(JobSearch(job="x"))
    await reader.aclose()

    assert tries == 2
    assert table.closed

"""Documents as items, and where everything is in the table."""

from __future__ import annotations

import pytest

from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.documents import (
    STORIES_LIMIT,
    Document,
    document_item,
    document_of,
    mirrors,
    row_of,
)
from daemon.checkpoint.dynamodb.table import EXPIRES_AT
from daemon.checkpoint.ports import Claim, JobRecord, JobState
from daemon.checkpoint.rules import ClaimRow, NameLockRow
from daemon.story import StoryEntry, StoryEvent
from daemon.targets.place import TargetPlace
from tests.support.checkpoint_calls import ARN, NAME, TARGET, arn_of

NOW = 1_763_628_000.25
PARTITION = keys.job_partition(NAME)


def record(created: str = "2025", *, updated_at: float = NOW, **members: object) -> JobRecord:
    known: dict[str, object] = {
        "state": JobState.SYNCED,
        "reason": "created",
        "detail": "é \ud800",
        "attempts": 3,
        "unanswered_writes": 0,
        "target_ids": {"run_id": "r-1\udfff"},
        "steps": {"fit": "7"},
        "project": "Churn",
    }
    return JobRecord(
        job_arn=ARN,
        creation_time=created,
        job_name=NAME,
        target=TARGET.kind,
        place=TARGET.place,
        message_id="m-1",
        first_seen_at=NOW - 5,
        updated_at=updated_at,
        **{**known, **members},  # type: ignore[arg-type] # members by name
    )


def full() -> Document:
    claim = Claim(ARN, "process-1", 7)
    document = Document(TARGET).with_claim(ClaimRow(claim, NOW + 60))
    document = document.with_lock(NameLockRow("modeldb-v2/run/1/x", claim, NOW + 60))
    document = document.with_row(record()).with_row(record("2024", updated_at=NOW - 100))
    entries = [
        StoryEntry(1.5, StoryEvent.CLAIMED, "m-1", "", "process-1"),
        StoryEntry(2.5, StoryEvent.OUTCOME, "m-1", "synced", ""),
        StoryEntry(3.5, StoryEvent.CLAIMED, "m-2", "0", "process-1"),
        StoryEntry(4.5, StoryEvent.GIVEN_BACK, "", "", "0"),
    ]
    return document.told(ARN, entries, now=NOW).told(arn_of(2), entries[:1], now=NOW - 9)


@pytest.mark.parametrize("document", [full(), Document(TARGET)])
def test_a_document_comes_back_as_it_was(document: Document) -> None:
    item = document_item(document, PARTITION, now=NOW, keep_seconds=10.0)
    found = document_of(item)
    assert found.claims == document.claims
    assert found.locks == document.locks
    assert found.rows == document.rows
    assert {arn: (list(each.entries), each.told_at) for arn, each in found.stories.items()} == {
        arn: (list(each.entries), each.told_at) for arn, each in document.stories.items()
    }


def test_it_shows_the_row_that_changed_last_and_the_others_have_items_of_their_own() -> None:
    document = full()
    item = document_item(document, PARTITION, now=NOW, keep_seconds=10.0)
    assert row_of(item) == record()
    assert item["changed_at"] == NOW
    assert item["group"] == "project#churn"
    (mirror,) = mirrors(document, PARTITION, keep_seconds=10.0).values()
    assert row_of(mirror) == record("2024", updated_at=NOW - 100)
    assert str(mirror["sk"]).startswith(str(item["sk"]))


def test_what_is_being_written_does_not_expire() -> None:
    document = full()
    item = document_item(document, PARTITION, now=NOW, keep_seconds=10.0)
    assert item[EXPIRES_AT] == NOW + 10.75
    writing = document.with_row(record("2024", state=JobState.WRITING, updated_at=NOW - 100))
    item = document_item(writing, PARTITION, now=NOW, keep_seconds=10.0)
    assert EXPIRES_AT not in item
    (mirror,) = mirrors(writing, PARTITION, keep_seconds=10.0).values()
    assert EXPIRES_AT not in mirror
    assert writing.without_old(NOW + 1).rows.keys() == {(ARN, "2024")}


def test_stories_that_are_too_long_for_an_item_lose_their_beginning() -> None:
    document = Document(TARGET)
    for number in range(9):
        entries = [
            StoryEntry(float(at), StoryEvent.HELD, f"m-{at}", "\U0001f600" * 300)
            for at in range(60)
        ]
        document = document.told(arn_of(number), entries, now=NOW)
    item = document_item(document, PARTITION, now=NOW, keep_seconds=10.0)
    assert len(str(item["document"]).encode()) < STORIES_LIMIT + 10_000
    stories = document_of(item).stories
    assert len(stories) == 9
    assert all(story.entries[-1].at == 59 for story in stories.values())


@pytest.mark.parametrize(
    ("lock_name", "home"),
    [
        (f"modeldb-v2/run/7c0c/{NAME.upper()}", PARTITION),
        (f"modeldb-v1/run/host:6543/0a1b2c3d/{NAME}", PARTITION),
        (f"mlflow/run/0a1b2c3d/{NAME}", PARTITION),
        ("modeldb-v2/project/a/run", "lock#modeldb-v2/project/a/run"),
        ("mlflow/experiment/run", "lock#mlflow/experiment/run"),
    ],
)
def test_the_lock_of_a_run_is_where_the_job_of_its_name_is(lock_name: str, home: str) -> None:
    assert keys.lock_partition(lock_name) == home


def test_long_names_have_keys_of_their_own_that_fit() -> None:
    places = [TargetPlace("modeldb-v2", "é" * 5000 + end) for end in "ab"]
    made = [keys.document_key(place) for place in places]
    made += [keys.row_key(made[0], "x" * 5000, end) for end in "ab"]
    made += [keys.project_group("p" * 5000 + end) for end in "ab"]
    made += [keys.lock_partition("l" * 5000 + end) for end in "ab"]
    assert len(set(made)) == len(made)
    assert max(len(key.encode()) for key in made) < 1024
    assert made[2].startswith(keys.row_prefix(made[0]))

"""One job's story, as the checkpoint has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import EnqueuedJob, WatchedJob
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.clock import wall
from daemon.operations.job_story import moments, read_stories
from daemon.story import StoryEvent, story_entry
from tests.support.checkpoint_calls import ARN, MARK, NAME, TARGET, claimed, rejected, synced

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint


@pytest.fixture
async def checkpoint(tmp_path: Path) -> AsyncIterator[SqliteCheckpoint]:
    checkpoint = await open_sqlite_checkpoint(tmp_path / "checkpoint.db", TARGET)
    yield checkpoint
    await checkpoint.aclose()


async def told(checkpoint: SqliteCheckpoint, job: str) -> list[str]:
    (story,) = await read_stories(checkpoint, job)
    return [f"{moment.what}: {moment.text}" for moment in moments(story)]


async def test_everything_of_a_job_is_told_in_order(checkpoint: SqliteCheckpoint) -> None:
    name = "job-1"
    arn = ARN.replace("churn-2025-11-20", name)
    await checkpoint.watch([WatchedJob(arn, MARK.creation_time, name, wall(), wall())])
    await checkpoint.record_enqueued(
        [EnqueuedJob(arn, MARK.creation_time, name, "reconcile", None, "m")]
    )
    await checkpoint.note_story(arn, [story_entry(StoryEvent.HELD, "target unreachable")])
    await checkpoint.ask(name.upper(), force=True)
    expected = [
        "watched: reconcile saw it unfinished and watches it",
        "enqueued: message sent to the queue: by reconcile",
        "held: held: target unreachable",
        "asked: sync --force asked for; not begun yet",
    ]
    assert await told(checkpoint, name) == expected
    assert await told(checkpoint, arn.upper()) == expected
    claim = await claimed(checkpoint, arn)
    (story,) = await read_stories(checkpoint, name)
    assert story.claim is not None
    assert story.claim.owner == claim.owner


async def test_a_row_without_a_story_is_told_by_itself(checkpoint: SqliteCheckpoint) -> None:
    await synced(checkpoint, await claimed(checkpoint))
    assert await told(checkpoint, NAME) == ["recorded: recorded as synced (created)"]


async def test_a_kept_body_is_told(checkpoint: SqliteCheckpoint) -> None:
    await rejected(checkpoint, None, None)
    await checkpoint.keep_body("m-3", "the body")
    assert (await told(checkpoint, ARN))[-1] == (
        "rejected_message: message rejected: tags_incomplete: no MODEL_DB_MODEL_NAME; its body is "
        "kept in the checkpoint"
    )


async def test_an_unknown_name_has_no_story_and_an_unknown_arn_an_empty_one(
    checkpoint: SqliteCheckpoint,
) -> None:
    assert await read_stories(checkpoint, "unknown") == []
    (story,) = await read_stories(checkpoint, ARN)
    assert not story.known

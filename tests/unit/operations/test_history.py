"""`history` and its follow, on real SQLite files."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import Claim, HistoryFilter, JobState
from daemon.checkpoint.registry import open_checkpoint
from daemon.config.settings import SqliteSettings
from daemon.operations.history import Change, changed_at, follow, history
from daemon.reasons import Reason
from daemon.targets.place import TargetPlace
from daemon.training_job.identity import JobMark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.checkpoint.ports import Checkpoint

HERE = TargetPlace("modeldb-v2", "http://modeldb:8080/v1")
NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The wall clock of the checkpoint: everything happens in one instant, until it is set."""
    now = [NOW]
    monkeypatch.setattr("daemon.checkpoint.sqlite.store.wall", lambda: now[0])
    return now


@pytest.fixture
def settings(tmp_path: Path) -> SqliteSettings:
    return SqliteSettings(path=tmp_path / "checkpoint.db")


@pytest.fixture
async def checkpoint(settings: SqliteSettings) -> AsyncIterator[Checkpoint]:
    opened = await open_checkpoint(settings, HERE)
    yield opened
    await opened.aclose()


async def skip(checkpoint: Checkpoint, name: str) -> None:
    arn = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}"
    claim = await checkpoint.claim(arn, 60)
    assert isinstance(claim, Claim)
    mark = JobMark(arn, "2026-11-20T08:40:00.050Z")
    await checkpoint.record_skipped(
        claim, mark, name, reason=Reason.NOT_TAGGED, message_id=f"m-{name}"
    )


async def reject(checkpoint: Checkpoint, message_id: str, reason: Reason) -> None:
    await checkpoint.record_rejected(
        None, None, "", job_arn="", reason=reason, detail="", message_id=message_id
    )


def names(changes: list[Change]) -> list[str]:
    return [each.message_id.removeprefix("m-") for each in changes]


async def test_messages_are_filtered_as_jobs_are(
    settings: SqliteSettings, checkpoint: Checkpoint, clock: list[float]
) -> None:
    await reject(checkpoint, "early", Reason.MALFORMED_BODY)
    clock[0] += 10
    await reject(checkpoint, "late", Reason.FOREIGN_ACCOUNT)
    await skip(checkpoint, "job")

    async def found(**wanted: object) -> list[str]:
        return names((await history(settings, HistoryFilter(**wanted))).changes)  # type: ignore[arg-type] # names of members

    assert sorted(await found()) == ["early", "job", "late"]
    assert await found(since=NOW + 1, states=[JobState.REJECTED]) == ["late"]
    assert await found(until=NOW + 1) == ["early"]
    assert await found(reasons=[Reason.MALFORMED_BODY]) == ["early"]
    assert await found(project="Churn") == []
    assert await found(states=[JobState.SKIPPED]) == ["job"]


class Follower:
    """Collects what `follow` shows."""

    def __init__(self, settings: SqliteSettings, wanted: HistoryFilter) -> None:
        self.waiting: list[str] = []
        self._changes = follow(settings, wanted, self.waiting.append, look_seconds=0.01)

    async def next(self, number: int) -> list[Change]:
        async with asyncio.timeout(20):
            return [await anext(self._changes) for _ in range(number)]

    async def end(self) -> None:
        await self._changes.aclose()


async def test_follow_shows_the_last_and_then_each_change_once_in_order(
    settings: SqliteSettings, checkpoint: Checkpoint, clock: list[float]
) -> None:
    for number in range(3):
        clock[0] += 1
        await skip(checkpoint, f"old-{number}")
    follower = Follower(settings, HistoryFilter(limit=2))
    assert names(await follower.next(2)) == ["old-1", "old-2"]
    await skip(checkpoint, "same-instant")  # as old-2
    assert names(await follower.next(1)) == ["same-instant"]
    await asyncio.gather(skip(checkpoint, "a"), reject(checkpoint, "b", Reason.MALFORMED_BODY))
    assert sorted(names(await follower.next(2))) == ["a", "b"]
    clock[0] += 5
    await skip(checkpoint, "old-0")  # changes again
    [again] = await follower.next(1)
    assert (names([again]), changed_at(again)) == (["old-0"], clock[0])
    clock[0] -= 4
    await skip(checkpoint, "dated-before-and-committed-later")
    assert names(await follower.next(1)) == ["dated-before-and-committed-later"]
    await follower.end()


async def test_follow_goes_on_with_a_file_in_place_of_the_old_one(
    settings: SqliteSettings, checkpoint: Checkpoint, clock: list[float]
) -> None:
    await skip(checkpoint, "before")
    follower = Follower(settings, HistoryFilter(limit=10))
    assert names(await follower.next(1)) == ["before"]
    await checkpoint.aclose()
    upcoming = asyncio.create_task(follower.next(1))
    for file in settings.path.parent.glob("checkpoint.db*"):
        file.unlink()
    async with asyncio.timeout(20):
        while not follower.waiting:
            await asyncio.sleep(0.01)
    clock[0] += 1
    new = await open_checkpoint(settings, HERE)
    try:
        await skip(new, "after")
        assert names(await upcoming) == ["after"]
    finally:
        await follower.end()
        await new.aclose()
    assert len(follower.waiting) == 1
    assert "there is no checkpoint at" in follower.waiting[0]

"""The status page's own reader of the SQLite checkpoint."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import JobState
from daemon.checkpoint.reading import JobSearch, MinuteCount
from daemon.checkpoint.sqlite import reader as reader_module
from daemon.checkpoint.sqlite.reader import SqliteReader
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from tests.support.page_scenes import (
    TARGET,
    arn_of,
    make_checkpoint,
    of_each_kind,
    record,
    rejected,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from daemon.checkpoint.ports import JobRecord

ROWS = of_each_kind(130, newest=1_000_000.0, seconds=30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint.db"
    make_checkpoint(made, ROWS)
    return made


@pytest.fixture
async def reader(path: Path) -> AsyncIterator[SqliteReader]:
    made = SqliteReader(path, seconds=5)
    yield made
    await made.aclose()


def names(jobs: Sequence[JobRecord]) -> list[str]:
    return [job.job_name for job in jobs]


async def test_the_newest_change_comes_first_and_pages_follow_each_other(
    reader: SqliteReader,
) -> None:
    pages = []
    wanted = JobSearch(limit=50)
    while True:
        found = await reader.search(wanted)
        pages.append(names(found.jobs))
        if found.next is None:
            break
        wanted = replace(wanted, before=found.next)
    assert [len(page) for page in pages] == [50, 50, 30]
    assert [name for page in pages for name in page] == names(ROWS)
    assert found.searched_back_to is None


async def test_rows_of_one_moment_are_neither_lost_nor_doubled(tmp_path: Path) -> None:
    rows = [record(number, at=77.0) for number in range(7)]
    make_checkpoint(tmp_path / "c.db", rows)
    reader = SqliteReader(tmp_path / "c.db")
    first = await reader.search(JobSearch(limit=3))
    second = await reader.search(JobSearch(limit=9, before=first.next))
    assert sorted(names(first.jobs) + names(second.jobs)) == sorted(names(rows))
    await reader.aclose()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (JobSearch(state=JobState.REJECTED), lambda row: row.state is JobState.REJECTED),
        (JobSearch(reason=Reason.NOT_TAGGED), lambda row: row.reason is Reason.NOT_TAGGED),
        (JobSearch(job="LSTM"), lambda row: "lstm" in row.job_name),
        (JobSearch(job="training-job/fraud"), lambda row: row.job_name.startswith("fraud")),
        (JobSearch(project="Demand F"), lambda row: row.target_ids.get("project", "")[:3] == "dem"),
        (
            JobSearch(state=JobState.SYNCED, project="pricing", job="0004"),
            lambda row: row.job_name.endswith(("00004", "00044", "00049")) and row.target_ids,
        ),
        (JobSearch(job="%"), lambda _row: False),
        (JobSearch(job="'; DROP TABLE jobs; --"), lambda _row: False),
    ],
)
async def test_searches(reader: SqliteReader, wanted: JobSearch, expected: object) -> None:
    found = await reader.search(replace(wanted, limit=200))
    assert callable(expected)
    assert names(found.jobs) == [row.job_name for row in ROWS if expected(row)]
    assert found.next is None


async def test_a_project_in_any_script_is_found_as_it_is_written(tmp_path: Path) -> None:
    rows = [record(1, at=1.0), record(2, at=2.0, target_ids={"project": "Übersee Ökologie"})]
    make_checkpoint(tmp_path / "c.db", rows)
    reader = SqliteReader(tmp_path / "c.db")
    found = await reader.search(JobSearch(project="Übersee ÖkO"))
    assert names(found.jobs) == [rows[1].job_name]
    await reader.aclose()


async def test_when_the_time_is_up_it_says_how_far_back_it_looked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older jobs are still found if their name begins with the text: by their ARN."""
    monkeypatch.setattr(reader_module, "_FIRST_CHUNK", 20)
    monkeypatch.setattr(reader_module, "_NEXT_CHUNKS", 20)
    chunk = reader_module._Search._chunk
    looked = 0

    def slow(self: object, *arguments: object) -> object:
        nonlocal looked
        looked += 1
        if looked > 2:
            error = sqlite3.OperationalError("interrupted")
            error.sqlite_errorcode = sqlite3.SQLITE_INTERRUPT
            raise error
        return chunk(self, *arguments)  # type: ignore[arg-type] # as it was called

    monkeypatch.setattr(reader_module._Search, "_chunk", slow)
    reader = SqliteReader(path)
    old = ROWS[99].job_name
    found = await reader.search(JobSearch(job=old))
    assert names(found.jobs) == [old]
    assert found.searched_back_to == ROWS[39].updated_at
    assert found.next is not None
    monkeypatch.undo()
    rest = await reader.search(JobSearch(job=old[-5:], before=found.next))
    assert names(rest.jobs) == [old]
    await reader.aclose()


async def test_a_read_ends_when_its_time_is_up(tmp_path: Path) -> None:
    rows = [record(number, at=float(number)) for number in range(3_000)]
    make_checkpoint(tmp_path / "c.db", rows)
    reader = SqliteReader(tmp_path / "c.db", seconds=-1)
    with pytest.raises(EdgeFault, match="reading took longer than") as caught:
        await reader.minutes(0, 1e12)
    assert (caught.value.edge, caught.value.reason) == (Edge.CHECKPOINT, Reason.STORAGE)
    await reader.aclose()


async def test_a_job_with_all_its_rows_and_who_works_on_it(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    first = record(1, at=5.0, creation_time="2025-01-01T00:00:00.000Z")
    again = record(1, at=9.0, creation_time="2025-02-02T00:00:00.000Z")
    make_checkpoint(path, [first, again, record(2, at=6.0)])
    reader = SqliteReader(path)
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    arn = first.job_arn
    assert (await reader.job(arn.upper())).working_on is None
    await checkpoint.claim(arn, 60)
    found = await reader.job(arn)
    assert [row.creation_time[:10] for row in found.records] == ["2025-02-02", "2025-01-01"]
    assert found.working_on is not None
    assert (await reader.job(arn_of("never-heard-of"))).records == []
    await checkpoint.aclose()
    await reader.aclose()


async def test_rejected_messages_that_name_no_job_come_without_their_bodies(
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.db"
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    for number, arn in enumerate(("", arn_of("x"), "")):
        await checkpoint.record_rejected(
            None,
            None,
            "x" if arn else "",
            job_arn=arn,
            reason=Reason.MALFORMED_BODY,
            detail="no JSON",
            message_id=f"m{number}",
        )
        await checkpoint.keep_body(f"m{number}", "a body")
    reader = SqliteReader(path)
    found = await reader.unnamed_rejections(10)
    assert [(each.message_id, each.body) for each in found] == [("m2", None), ("m0", None)]
    assert len(await reader.unnamed_rejections(1)) == 1
    await checkpoint.aclose()
    await reader.aclose()


async def test_jobs_by_the_minute(tmp_path: Path) -> None:
    rows = [record(1, at=60.0), record(2, at=119.9), rejected(3, at=61.0), record(4, at=120.0)]
    make_checkpoint(tmp_path / "c.db", rows)
    reader = SqliteReader(tmp_path / "c.db")
    assert await reader.minutes(60, 120) == [
        MinuteCount(1, "rejected", 1),
        MinuteCount(1, "synced", 2),
    ]
    await reader.aclose()


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000])
async def test_a_file_that_cannot_be_read_is_a_fault_and_read_when_it_can(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "c.db"
    if content is not None:
        path.write_bytes(content)
    reader = SqliteReader(path)
    with pytest.raises(EdgeFault, match="cannot be read for the page"):
        await reader.search(JobSearch())
    path.unlink(missing_ok=True)
    make_checkpoint(path, ROWS[:1])
    assert names((await reader.search(JobSearch())).jobs) == names(ROWS[:1])
    await reader.aclose()


async def test_it_cannot_write_and_does_not_wait_for_who_does(path: Path) -> None:
    reader = SqliteReader(path)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    async with asyncio.timeout(2):
        assert len((await reader.search(JobSearch(limit=5))).jobs) == 5
    writer.execute("ROLLBACK")
    writer.close()
    with pytest.raises(EdgeFault, match="readonly"):
        await reader._read(lambda connection: connection.execute("DELETE FROM jobs"))
    await reader.aclose()

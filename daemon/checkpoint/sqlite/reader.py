"""Reads the SQLite checkpoint for the status page: its own read-only connections, in its own
thread.

In WAL mode a reader never waits for the daemon's writes, nor they for it. A connection is opened
for each call, so a file that was replaced, or could not be read for a while, needs no care.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.checkpoint.ports import JobRecord, JobState, RejectedMessage
from daemon.checkpoint.reading import FoundJobs, JobHistory, MinuteCount, Position, WorkingOn
from daemon.checkpoint.sqlite import story_rows
from daemon.checkpoint.sqlite.daemon_thread import DaemonThread
from daemon.clock import monotonic
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.targets.place import ANY_TARGET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from daemon.checkpoint.reading import JobSearch

T = TypeVar("T")

READ_SECONDS = 0.3
"""The longest that one call may read."""
INDEXED_SECONDS = 0.1
"""And for older jobs that an index finds, when that time is up."""
STUCK_SECONDS = 5.0
"""A read that is not interrupted by then hangs in the file system."""
MOST_ROWS_OF_JOB = 20

_FIRST_CHUNK, _NEXT_CHUNKS = 1000, 5000
_INSTRUCTIONS = 50_000
"""Of SQLite, between two looks at the clock: about a millisecond."""
_AFTER_ALL_TEXT = "\U0010ffff"
_COLUMNS = ", ".join(member.name for member in fields(JobRecord))
_NEWEST_FIRST = "ORDER BY updated_at DESC, rowid DESC"
_NEWEST = Position(float("inf"), 0)


class SqliteReader:
    """A `CheckpointReader`.

    Args:
        path: of the database; it need not exist yet.
        seconds: as `READ_SECONDS`.
    """

    def __init__(self, path: Path, *, seconds: float = READ_SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._thread = DaemonThread("checkpoint reader")

    async def search(self, wanted: JobSearch) -> FoundJobs:
        return await self._read(lambda connection: _Search(connection, wanted).run())

    async def job(self, job_arn: str) -> JobHistory:
        return await self._read(lambda connection: _job(connection, job_arn.lower()))

    async def unnamed_rejections(self, limit: int) -> Sequence[RejectedMessage]:
        return await self._read(lambda connection: _unnamed(connection, limit))

    async def minutes(self, since: float, until: float) -> Sequence[MinuteCount]:
        return await self._read(lambda connection: _minutes(connection, since, until))

    async def aclose(self) -> None:
        self._thread.shutdown()

    async def _read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                return await loop.run_in_executor(self._thread, self._with_connection, run)
        except TimeoutError:
            raise self._fault(f"no answer within {STUCK_SECONDS:g} s") from None

    def _with_connection(self, run: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with closing(self._connect()) as connection:
                _limit(connection, self._seconds)
                return run(connection)
        except sqlite3.Error as error:
            raise self._fault(
                f"reading took longer than {self._seconds:g} s"
                if _interrupted(error)
                else str(error)
            ) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=self._seconds,
            isolation_level=None,
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _fault(self, why: str) -> EdgeFault:
        return EdgeFault(
            Edge.CHECKPOINT,
            Reason.STORAGE,
            f"checkpoint {self._path}: cannot be read for the page ({why})",
        )


@dataclass(frozen=True, slots=True)
class _Row:
    record: JobRecord
    position: Position


class _Search:
    """Looks through the rows from the newest to the oldest, chunk by chunk along an index, until
    enough are found or the time is up.
    """

    def __init__(self, connection: sqlite3.Connection, wanted: JobSearch) -> None:
        self._connection = connection
        self._wanted = wanted
        self._filter, self._values = _filter(wanted)

    def run(self) -> FoundJobs:
        found: list[_Row] = []
        limit = self._wanted.limit
        at: Position | None = self._wanted.before or _NEWEST
        size = _FIRST_CHUNK
        while at is not None:
            try:
                end = self._end_of_chunk(at, size)
                found += self._chunk(at, end, limit + 1 - len(found))
            except sqlite3.OperationalError as error:
                if not _interrupted(error) or at == _NEWEST:  # nothing was looked at
                    raise
                return self._out_of_time(found, at)
            if len(found) > limit:
                records = [row.record for row in found[:limit]]
                return FoundJobs(records, next=found[limit - 1].position)
            at, size = end, _NEXT_CHUNKS
        return FoundJobs([row.record for row in found])

    def _out_of_time(self, found: Sequence[_Row], at: Position) -> FoundJobs:
        jobs = [row.record for row in found]
        if self._wanted.before is None and (self._wanted.job or self._wanted.project):
            older = self._indexed(at, self._wanted.limit - len(jobs))
            jobs += sorted(older, key=lambda record: record.updated_at, reverse=True)
        return FoundJobs(jobs, next=at, searched_back_to=at.updated_at)

    def _end_of_chunk(self, start: Position, size: int) -> Position | None:
        # along the index of what leaves the fewest rows
        same = "reason" if self._wanted.reason else "state" if self._wanted.state else ""
        row = self._connection.execute(
            "SELECT updated_at, rowid FROM jobs WHERE (updated_at, rowid) < (:at, :row) "  # noqa: S608 - SQL of our own
            f"{f'AND {same} = :{same}' if same else ''} {_NEWEST_FIRST} LIMIT 1 OFFSET :offset",
            {**self._values, "at": start.updated_at, "row": start.row, "offset": size - 1},
        ).fetchone()
        return None if row is None else Position(*row)

    def _chunk(self, start: Position, end: Position | None, limit: int) -> Iterator[_Row]:
        last = "" if end is None else "AND (updated_at, rowid) >= (:end_at, :end_row)"
        rows = self._connection.execute(
            f"SELECT {_COLUMNS}, rowid FROM jobs WHERE (updated_at, rowid) < (:at, :row) {last} "  # noqa: S608 - SQL of our own
            f"{self._filter} {_NEWEST_FIRST} LIMIT :limit",
            {
                **self._values,
                "at": start.updated_at,
                "row": start.row,
                "end_at": 0 if end is None else end.updated_at,
                "end_row": 0 if end is None else end.row,
                "limit": limit,
            },
        ).fetchall()
        return (_Row(_record(row), Position(row["updated_at"], row["rowid"])) for row in rows)

    def _indexed(self, before: Position, limit: int) -> list[JobRecord]:
        """Older jobs whose name or ARN begins with the wanted text, or else whose project is just
        that: an index finds them, however old they are.
        """
        wanted = self._wanted
        if wanted.job:
            column = "job_arn" if wanted.job.lower().startswith("arn:") else "job_name"
            order = ""
        else:
            column, order = "project", _NEWEST_FIRST
        begin = _lower(wanted.job) if wanted.job else wanted.project
        same = "=" if column == "project" else ">="
        _limit(self._connection, INDEXED_SECONDS)
        try:
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM jobs WHERE {column} {same} :begin {_COLLATION[column]} "  # noqa: S608 - SQL of our own
                f"AND {column} < :end {_COLLATION[column]} AND updated_at < :at {self._filter} "
                f"{order} LIMIT :limit",
                {
                    **self._values,
                    "begin": begin,
                    "end": begin + _AFTER_ALL_TEXT,
                    "at": before.updated_at,
                    "limit": limit,
                },
            ).fetchall()
        except sqlite3.OperationalError as error:
            if not _interrupted(error):
                raise
            return []
        return [_record(row) for row in rows]


_COLLATION = {"job_arn": "", "job_name": "COLLATE NOCASE", "project": "COLLATE NOCASE"}
"""Of the indexes."""


def _filter(wanted: JobSearch) -> tuple[str, Mapping[str, Any]]:
    conditions = {
        "AND state = :state": wanted.state,
        "AND reason = :reason": wanted.reason,
        "AND (instr(job_arn, :job) OR instr(lower(job_name), :job))": wanted.job,
        f"AND instr(lower({_PROJECT}), :project)": wanted.project,
    }
    values = {
        "state": wanted.state,
        "reason": wanted.reason,
        "job": _lower(wanted.job),
        "project": _lower(wanted.project),
    }
    return " ".join(words for words, value in conditions.items() if value), values


_PROJECT = "coalesce(nullif(project, ''), json_extract(target_ids, '$.project'), '')"
"""Rows of earlier versions have no project of their own."""


def _lower(text: str) -> str:
    """In lower case as SQLite's `lower` has it, which knows ASCII only."""
    return "".join(each.lower() if each.isascii() else each for each in text)


def _limit(connection: sqlite3.Connection, seconds: float) -> None:
    """Interrupts what the connection reads from now on, when the time is up."""
    deadline = monotonic() + seconds
    connection.set_progress_handler(lambda: monotonic() > deadline, _INSTRUCTIONS)


def _interrupted(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT


def _job(connection: sqlite3.Connection, job_arn: str) -> JobHistory:
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM jobs WHERE job_arn = ? "  # noqa: S608 - SQL of our own
        "ORDER BY creation_time DESC, updated_at DESC LIMIT ?",
        (job_arn, MOST_ROWS_OF_JOB),
    )
    records = [_record(row) for row in rows]
    claim = connection.execute(
        "SELECT owner, lease_until FROM claims WHERE job_arn = ?", (job_arn,)
    ).fetchone()
    return JobHistory(
        records,
        story_rows.find(connection, ANY_TARGET, job_arn),
        None if claim is None else WorkingOn(*claim),
    )


def _unnamed(connection: sqlite3.Connection, limit: int) -> list[RejectedMessage]:
    rows = connection.execute(
        """
        SELECT message_id, job_arn, reason, detail, NULL AS body, rejected_at FROM (
            SELECT * FROM rejected_messages ORDER BY rejected_at DESC LIMIT 500
        )
        WHERE job_arn = '' ORDER BY rejected_at DESC, message_id LIMIT ?
        """,
        (limit,),
    )
    return [RejectedMessage(**dict(row)) for row in rows]


def _minutes(connection: sqlite3.Connection, since: float, until: float) -> list[MinuteCount]:
    rows = connection.execute(
        "SELECT CAST(updated_at / 60 AS INTEGER), state, count(*) FROM jobs "
        "WHERE updated_at >= ? AND updated_at < ? GROUP BY 1, 2",
        (since, until),
    )
    return [MinuteCount(*row) for row in rows]


def _record(row: sqlite3.Row) -> JobRecord:
    columns = {name: row[name] for name in row.keys() if name != "rowid"}  # noqa: SIM118 - a Row iterates over its values
    columns["state"] = JobState(columns["state"])
    columns["target_ids"] = json.loads(columns["target_ids"])
    columns["steps"] = json.loads(columns["steps"])
    return JobRecord(**columns)

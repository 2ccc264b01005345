"""Reads a DynamoDB checkpoint for the status page: see `daemon.checkpoint.reading`.

Everything is read from the indexes, eventually consistent, with a client of its own. A view of all
jobs asks each hash key of the index for its newest entries, a page of one job reads one partition.
Answers are kept for some seconds, so that several people who look at the refreshing page cost as
much as one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.documents import document_of, is_document, row_of
from daemon.checkpoint.dynamodb.index_rows import newest
from daemon.checkpoint.dynamodb.messages import message_of
from daemon.checkpoint.dynamodb.table import Index
from daemon.checkpoint.ports import JobState
from daemon.checkpoint.reading import FoundJobs, JobHistory, MinuteCount, Position, WorkingOn
from daemon.clock import monotonic
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Sequence

    from daemon.checkpoint.dynamodb.table import Item, Table
    from daemon.checkpoint.ports import JobRecord, RejectedMessage
    from daemon.checkpoint.reading import JobSearch
    from daemon.story import StoryEntry

T = TypeVar("T")

READ_SECONDS = 5.0
"""For one call."""
SEARCH_SECONDS = 2.0
"""How long rows that do not fit are passed over."""
KEPT_SECONDS = 4.0
"""How long an answer serves those who ask the same."""
MOST_KEPT = 32
MOST_ROWS = 2_000
"""How many rows one search looks at: about 1 MB of an index."""
MOST_MESSAGES = 500
MOST_MINUTE_ROWS = 5_000
MOST_ROWS_OF_JOB = 20


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: object
    until: float


class DynamoDbReader:
    """A `daemon.checkpoint.reading.CheckpointReader`.

    Args:
        open_table: opens the table, at the first call.
    """

    def __init__(self, open_table: Callable[[], Awaitable[Table]]) -> None:
        self._open_table = open_table
        self._table: Table | None = None
        self._opening = asyncio.Lock()
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    async def search(self, wanted: JobSearch) -> FoundJobs:
        return await self._read(wanted, lambda table: _Search(table, wanted).run())

    async def job(self, job_arn: str) -> JobHistory:
        return await self._read(
            ("job", job_arn.lower()), lambda table: _job(table, job_arn.lower())
        )

    async def unnamed_rejections(self, limit: int) -> Sequence[RejectedMessage]:
        return await self._read(("unnamed", limit), lambda table: _unnamed(table, limit))

    async def minutes(self, since: float, until: float) -> Sequence[MinuteCount]:
        """As the protocol says; of very many rows the latest are counted."""
        return await self._read(
            ("minutes", since, until), lambda table: _minutes(table, since, until)
        )

    async def aclose(self) -> None:
        if self._table is not None:
            await self._table.aclose()

    async def _read(self, question: Hashable, read: Callable[[Table], Awaitable[T]]) -> T:
        kept = self._kept.get(question)
        if kept is not None and monotonic() < kept.until:
            return kept.answer  # type: ignore[return-value] # of the same question
        try:
            async with asyncio.timeout(READ_SECONDS):
                answer = await read(await self._opened())
        except TimeoutError:
            raise EdgeFault(
                Edge.CHECKPOINT,
                Reason.UNAVAILABLE,
                f"the checkpoint cannot be read for the page: no answer within {READ_SECONDS:g} s",
            ) from None
        self._kept[question] = _Kept(answer, monotonic() + KEPT_SECONDS)
        self._kept.move_to_end(question)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return answer

    async def _opened(self) -> Table:
        async with self._opening:
            if self._table is None:
                self._table = await self._open_table()
            return self._table


class _EnoughError(Exception):
    """As many rows were looked at as may be."""


class _Looking:
    """Which rows of a merged index are wanted, and for how long it is looked.

    Args:
        fits: which rows are wanted.
        most: how many rows are looked at.
    """

    def __init__(self, fits: Callable[[JobRecord], bool], most: int) -> None:
        self._fits = fits
        self._left = most
        self._deadline: float | None = None
        self.found: list[JobRecord] = []
        self.back_to = math.inf
        """Epoch seconds: everything since then was looked at."""

    def __call__(self, row: JobRecord) -> bool:
        if self._deadline is None:  # the time of the requests before the first row does not count
            self._deadline = monotonic() + SEARCH_SECONDS
        # rows of one moment belong together: a next page begins at another
        elif row.updated_at < self.back_to and (self._left <= 0 or monotonic() > self._deadline):
            raise _EnoughError
        self._left -= 1
        self.back_to = row.updated_at
        fits = self._fits(row)
        if fits:
            self.found.append(row)
        return fits


class _Search:
    """One search, newest change first."""

    def __init__(self, table: Table, wanted: JobSearch) -> None:
        self._table = table
        self._wanted = wanted
        self._job = wanted.job.lower()
        self._project = keys.ascii_lower(wanted.project)

    async def run(self) -> FoundJobs:
        wanted = self._wanted
        before = None if wanted.before is None else wanted.before.updated_at
        states = list(JobState) if wanted.state is None else [wanted.state]
        looking = _Looking(self._fits, MOST_ROWS)
        try:
            await newest(
                self._table,
                Index.BY_OUTCOME,
                [key for state in states for key in keys.outcomes(state)],
                row_of,
                looking,
                limit=wanted.limit + 1,
                before=before,
            )
        except _EnoughError:
            return await self._out_of_time(looking)
        found = _once(looking.found)
        if len(found) <= wanted.limit:
            return FoundJobs(found)
        # rows of one moment are shown on one page
        last = found[wanted.limit - 1].updated_at
        shown = [row for row in found if row.updated_at >= last]
        following = Position(last, 0) if len(shown) < len(found) else None
        return FoundJobs(shown, next=following)

    async def _out_of_time(self, looking: _Looking) -> FoundJobs:
        jobs, back_to = _once(looking.found), looking.back_to
        if self._wanted.before is None and (self._job or self._project):
            jobs += await self._indexed(back_to, self._wanted.limit - len(jobs))
        return FoundJobs(jobs, next=Position(back_to, 0), searched_back_to=back_to)

    async def _indexed(self, before: float, limit: int) -> list[JobRecord]:
        """Older jobs with just that name or ARN, or else of just that project."""
        if limit <= 0:
            return []
        if self._job:
            items = await self._table.partition(keys.arn_partition(self._job), consistent=False)
            rows = [row for row in _rows(items) if row.updated_at < before]
        else:
            looking = _Looking(self._fits, MOST_ROWS)
            group = [keys.project_group(self._wanted.project)]
            with contextlib.suppress(_EnoughError):
                await newest(
                    self._table,
                    Index.BY_GROUP,
                    group,
                    row_of,
                    looking,
                    limit=limit,
                    before=before,
                )
            rows = looking.found
        return _once([row for row in rows if self._fits(row)])[:limit]

    def _fits(self, row: JobRecord) -> bool:
        wanted = self._wanted
        return (
            (wanted.state is None or row.state is wanted.state)
            and (not wanted.reason or row.reason == wanted.reason)
            and (not self._job or self._job in row.job_arn or self._job in row.job_name.lower())
            and (not self._project or self._project in keys.ascii_lower(row.project))
        )


def _once(rows: Sequence[JobRecord]) -> list[JobRecord]:
    """Newest change first; a row that an index has twice for a moment is there once."""
    found: dict[tuple[str, str, str, str], JobRecord] = {}
    for row in sorted(rows, key=lambda row: row.updated_at, reverse=True):
        found.setdefault((row.job_arn, row.creation_time, row.target, row.place), row)
    return list(found.values())


def _rows(items: Sequence[Item]) -> list[JobRecord]:
    documents = [document_of(item) for item in items if is_document(item)]
    return [row for document in documents for row in document.rows.values()]


async def _job(table: Table, job_arn: str) -> JobHistory:
    items = await table.partition(keys.arn_partition(job_arn), consistent=False)
    documents = [document_of(item) for item in items if is_document(item)]
    rows = [
        row for document in documents for row in document.rows.values() if row.job_arn == job_arn
    ]
    rows.sort(key=lambda row: (row.creation_time, row.updated_at), reverse=True)
    story: list[StoryEntry] = [
        entry
        for document in documents
        if job_arn in document.stories
        for entry in document.stories[job_arn].entries
    ]
    story.sort(key=lambda entry: entry.at)
    claims = [held for each in documents if (held := each.claim_on(job_arn)) is not None]
    latest = max(claims, key=lambda held: held.lease_until, default=None)
    return JobHistory(
        rows[:MOST_ROWS_OF_JOB],
        story,
        None if latest is None else WorkingOn(latest.claim.owner, latest.lease_until),
    )


async def _unnamed(table: Table, limit: int) -> Sequence[RejectedMessage]:
    left, found = MOST_MESSAGES, []

    def names_no_job(message: RejectedMessage) -> bool:
        nonlocal left
        if left <= 0:
            raise _EnoughError
        left -= 1
        if message.job_arn:
            return False
        found.append(message)
        return True

    shards = keys.outcomes(keys.MESSAGE)
    with contextlib.suppress(_EnoughError):
        await newest(table, Index.BY_OUTCOME, shards, message_of, names_no_job, limit=limit)
    found.sort(key=lambda message: (-message.rejected_at, message.message_id))
    return found[:limit]


async def _minutes(table: Table, since: float, until: float) -> Sequence[MinuteCount]:
    found = await newest(
        table,
        Index.BY_OUTCOME,
        [key for state in JobState for key in keys.outcomes(state)],
        row_of,
        limit=MOST_MINUTE_ROWS,
        after=since,
        before=until,
    )
    counts: dict[tuple[int, str], int] = {}
    for row in found:
        minute = (int(row.updated_at // 60), row.state.value)
        counts[minute] = counts.get(minute, 0) + 1
    return [MinuteCount(minute, state, jobs) for (minute, state), jobs in counts.items()]

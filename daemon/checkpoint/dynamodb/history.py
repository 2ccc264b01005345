"""What the checkpoint has of all targets, from the indexes, which show a change a moment later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.concurrent_calls import each_of
from daemon.checkpoint.dynamodb.documents import row_of
from daemon.checkpoint.dynamodb.index_rows import LARGEST_PAGE, newest
from daemon.checkpoint.dynamodb.table import SORT_KEY, Index
from daemon.checkpoint.ports import JobState
from daemon.targets.place import TargetPlace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.checkpoint.dynamodb.table import Item, Table
    from daemon.checkpoint.ports import HistoryFilter, JobRecord


async def history(table: Table, wanted: HistoryFilter) -> Sequence[JobRecord]:
    """As `daemon.checkpoint.ports.Checkpoint.history`. A project or states choose the index; the
    other members are compared row by row.
    """
    states, reasons = set(wanted.states), set(wanted.reasons)
    project, name = keys.ascii_lower(wanted.project), wanted.job.lower()

    def counts(row: JobRecord) -> bool:
        return (
            (not states or row.state in states)
            and (not reasons or row.reason in reasons)
            and (not project or keys.ascii_lower(row.project) == project)
            and name in row.job_arn
        )

    index, hash_keys = Index.BY_GROUP, [keys.project_group(wanted.project)]
    if not wanted.project:
        index = Index.BY_OUTCOME
        hash_keys = [key for state in states or JobState for key in keys.outcomes(state)]
    found = await newest(
        table,
        index,
        hash_keys,
        row_of,
        counts,
        limit=wanted.limit,
        after=0.0 if wanted.since is None else wanted.since,
        before=wanted.until,
    )
    found.sort(key=lambda row: (-row.updated_at, row.job_arn, row.creation_time, row.target))
    once: dict[tuple[str, str, str, str], JobRecord] = {}
    for row in found:  # a row may be there twice for a moment: the newest counts
        once.setdefault((row.job_arn, row.creation_time, row.target, row.place), row)
    return list(once.values())[: wanted.limit]


async def row_counts(table: Table) -> Mapping[str, int]:
    """The number of rows in each state, zeros included."""

    async def rows(state: str) -> int:
        return sum([await table.count(Index.BY_OUTCOME, key) for key in keys.outcomes(state)])

    return dict(zip(map(str, JobState), await each_of(map(rows, JobState)), strict=True))


async def job_counts(table: Table, target: TargetPlace) -> Mapping[TargetPlace, int]:
    """The number of rows of each target that has any.

    Args:
        table: in use for this target only: their entries are counted, not read.
        target: the checkpoint's.
    """
    used_for = {str(item[SORT_KEY]) for item in await table.partition(keys.TARGETS)}
    if used_for == {keys.document_key(target)}:
        rows = sum((await row_counts(table)).values())
        return {target: rows} if rows else {}
    counted: dict[TargetPlace, int] = {}

    async def count(key: str) -> None:
        page: str | None = None
        while True:
            found = await table.index(Index.BY_OUTCOME, key, limit=LARGEST_PAGE, page=page)
            for item in found.items:
                target = _target(item)
                counted[target] = counted.get(target, 0) + 1
            if (page := found.next) is None:
                return

    await each_of(count(key) for state in JobState for key in keys.outcomes(state))
    return dict(sorted(counted.items(), key=lambda each: (each[0].kind, each[0].place)))


def _target(item: Item) -> TargetPlace:
    row = row_of(item)
    return TargetPlace(row.target, row.place)

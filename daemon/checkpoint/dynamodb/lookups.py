"""Finds the rows of jobs in the documents of a name, as the SQLite store does it in SQL. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint import rules
from daemon.checkpoint.ports import JobState
from daemon.targets.place import ANY_TARGET

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daemon.checkpoint.ports import JobRecord
    from daemon.targets.place import TargetPlace


def find(
    rows: Iterable[JobRecord], target: TargetPlace, job_arn: str, creation_time: str
) -> JobRecord | None:
    """The row of a job: this target's, or else what `rules.seen_from` sees of another place."""
    of_job = (row for row in rows if (row.job_arn, row.creation_time) == (job_arn, creation_time))
    return next(iter(one_per_job(of_job, target)), None)


def described(rows: Iterable[JobRecord], target: TargetPlace, job_arn: str) -> Sequence[JobRecord]:
    """The rows of an ARN whose creation time is known, one per job, the newest job first."""
    return one_per_job(
        (row for row in rows if row.job_arn == job_arn and row.creation_time), target
    )


def enqueued(rows: Iterable[JobRecord], target: TargetPlace, job_arn: str) -> Sequence[JobRecord]:
    """The enqueued rows of an ARN in this target."""
    return [
        row
        for row in rows
        if row.job_arn == job_arn
        and (row.target, row.place) == (target.kind, target.place)
        and row.state is JobState.ENQUEUED
    ]


def named(rows: Iterable[JobRecord], target: TargetPlace, name: str) -> Sequence[JobRecord]:
    """Those of a partition's rows that have a name or ARN, in any case, the newest job first; of a
    target one per job, of `ANY_TARGET` all.
    """
    wanted = name.lower()
    found = [row for row in rows if not wanted.startswith("arn:") or row.job_arn == wanted]
    if target == ANY_TARGET:
        return sorted(found, key=lambda row: row.creation_time, reverse=True)
    return one_per_job(found, target)


def one_per_job(rows: Iterable[JobRecord], target: TargetPlace) -> Sequence[JobRecord]:
    """Rows as they count for a target, the newest job first."""
    seen = [
        row
        for row in rows
        if (row.target, row.place) == (target.kind, target.place)
        or (row.target == target.kind and row.unanswered_writes > 0)
    ]
    seen.sort(key=lambda row: row.updated_at, reverse=True)
    seen.sort(key=lambda row: (row.target, row.place) != (target.kind, target.place))
    seen.sort(key=lambda row: row.creation_time, reverse=True)
    first: dict[tuple[str, str], JobRecord] = {}
    for row in seen:
        first.setdefault((row.job_arn, row.creation_time), rules.seen_from(target, row))
    return list(first.values())

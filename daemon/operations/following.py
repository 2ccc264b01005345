"""Follows jobs that were sent to the queue until the daemons are done with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import HistoryFilter, JobState
from daemon.clock import monotonic
from daemon.training_job.identity import iso_milliseconds
from daemon.waiting import unless

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.checkpoint.ports import Checkpoint, JobRecord
    from daemon.operations.when import Period
    from daemon.targets.place import TargetPlace

POLL_SECONDS = 2.0
QUIET_SECONDS = 60.0
"""Without a change of any row, nobody seems to work."""
LONGEST_QUIET_SECONDS = 900.0
"""The same, before it is given up: `queue.retry` and a ModelDB that restarts take less."""

_UNDER_WAY = (JobState.ENQUEUED, JobState.WRITING, JobState.RELEASED)
_MOST_ROWS = 200_000
"""That are read at once, in memory."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What has become of the jobs of a period since a moment."""

    counts: Mapping[tuple[str, str], int]
    """By state and reason, without those that are left."""
    left: int
    """Nothing final has come of them."""

    @property
    def rejected(self) -> int:
        return sum(count for (state, _), count in self.counts.items() if state == "rejected")


@dataclass(frozen=True, slots=True)
class Followed:
    """Whose outcomes are meant."""

    target: TargetPlace
    period: Period
    """When the jobs were created."""
    since: float
    """Only what has changed since; epoch seconds."""


async def follow(
    checkpoint: Checkpoint,
    followed: Followed,
    stop: asyncio.Event,
    on_poll: Callable[[int, float], None],
    *,
    poll_seconds: float = POLL_SECONDS,
    longest_quiet_seconds: float = LONGEST_QUIET_SECONDS,
) -> Outcomes:
    """Returns when nothing is left, when it was stopped, or when no row has changed for long.

    Args:
        checkpoint: of the target.
        followed: whose outcomes.
        stop: ends it when it is set.
        on_poll: called after each look with how many are left, and for how many seconds nothing
            has changed.
        poll_seconds: between two looks.
        longest_quiet_seconds: when to give up.
    """
    seen: frozenset[tuple[str, str, str, float]] | None = None
    changed_at = monotonic()
    while True:
        rows = await _rows(checkpoint, followed, _UNDER_WAY)
        gone = await _rejected_since(checkpoint, rows)
        left = [row for row in rows if row.job_arn not in gone]
        now_seen = frozenset(
            (row.job_arn, row.creation_time, row.state.value, row.updated_at) for row in left
        )
        if now_seen != seen:
            seen, changed_at = now_seen, monotonic()
        quiet = monotonic() - changed_at
        on_poll(len(left), quiet)
        if not left or stop.is_set() or quiet >= longest_quiet_seconds:
            return await outcomes(checkpoint, followed)
        await unless(stop, asyncio.sleep(poll_seconds))


async def outcomes(checkpoint: Checkpoint, followed: Followed) -> Outcomes:
    """What has become of the jobs by now."""
    rows = await _rows(checkpoint, followed, ())
    gone = await _rejected_since(checkpoint, rows)
    counts: Counter[tuple[str, str]] = Counter()
    left = 0
    for row in rows:
        if row.state not in _UNDER_WAY:
            counts[row.state.value, row.reason] += 1
        elif row.job_arn in gone:
            counts["rejected", gone[row.job_arn]] += 1
        else:
            left += 1
    return Outcomes(dict(counts.most_common()), left)


async def _rows(
    checkpoint: Checkpoint, followed: Followed, states: Sequence[JobState]
) -> Sequence[JobRecord]:
    period, target = followed.period, followed.target
    since, until = (_text(moment) for moment in (period.since, period.until))
    return [
        row
        for row in await checkpoint.history(
            HistoryFilter(states=states, since=followed.since, limit=_MOST_ROWS)
        )
        if (row.target, row.place) == (target.kind, target.place)
        and since <= row.creation_time < until
    ]


async def _rejected_since(checkpoint: Checkpoint, rows: Sequence[JobRecord]) -> Mapping[str, str]:
    """By ARN, why messages were rejected about jobs that are still enqueued: one that SageMaker
    does not have any more is not described, so its row stays as it is.
    """
    sent_at = {row.job_arn: row.updated_at for row in rows if row.state is JobState.ENQUEUED}
    if not sent_at:
        return {}
    return {
        message.job_arn: message.reason
        for message in await checkpoint.rejected_messages(_MOST_ROWS)
        if message.rejected_at >= sent_at.get(message.job_arn, float("inf"))
    }


def _text(epoch_seconds: float) -> str:
    """As creation times are recorded."""
    return iso_milliseconds(datetime.fromtimestamp(epoch_seconds, UTC))

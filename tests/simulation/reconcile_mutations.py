"""The rules of reconcile, each broken on purpose, for `tests.simulation.mutations`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from unittest import mock

from daemon.checkpoint.ports import EnqueuedJob
from daemon.checkpoint.sqlite.store import SqliteCheckpoint
from daemon.clock import wall
from daemon.operations import reconcile
from daemon.operations.reconcile import NOTE, Progress, Verdict
from daemon.training_job.identity import iso_milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager


def position_before_the_scan() -> AbstractContextManager[object]:
    """The position is that of the clock, and is kept as soon as a scan begins."""
    real = reconcile._Pass.scan

    async def scan(self: Any, jobs: Any, position: float | None) -> float | None:
        began = Progress(wall())
        await self._edges.checkpoint.put_note(NOTE, began.note, self._claim)
        await real(self, jobs, position)
        return began.position

    return mock.patch.object(reconcile._Pass, "scan", scan)


def recorded_before_sent() -> AbstractContextManager[object]:
    real = reconcile._Pass._send

    async def send(self: Any, jobs: Any) -> None:
        await self._edges.checkpoint.record_enqueued(
            [
                EnqueuedJob(
                    job.arn.lower(),
                    iso_milliseconds(job.creation_time),
                    job.name,
                    "reconcile",
                    None if row is None else row.updated_at,
                )
                for job, row in jobs
            ]
        )
        await real(self, jobs)

    return mock.patch.object(reconcile._Pass, "_send", send)


def too_young_is_forgotten() -> AbstractContextManager[object]:
    real = reconcile.decide

    def decide(*arguments: Any) -> Verdict:
        verdict = real(*arguments)
        return Verdict.KNOWN if verdict is Verdict.TOO_YOUNG else verdict

    return mock.patch.object(reconcile, "decide", decide)


@contextlib.contextmanager
def nothing_is_watched() -> Iterator[None]:
    async def watch(_self: SqliteCheckpoint, _jobs: object) -> None: ...

    with mock.patch.object(SqliteCheckpoint, "watch", watch):
        yield

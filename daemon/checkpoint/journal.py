"""The journal of one job's writes: a target's `WriteJournal`, kept in the checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import NameLocked
from daemon.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from daemon.checkpoint.ports import Checkpoint, Claim, JobRecord
    from daemon.training_job.identity import JobMark

LOCK_RETRY_SECONDS = 0.25


class Journal:
    """Counts the creates of one job whose answer is not known, durably before each create.

    It survives a hold: the next attempt of this process knows which creates were answered, while
    the checkpoint only knows that they were begun.

    Args:
        record: the job's row when the attempt began, if there was one.
        look_up_first: as in `daemon.targets.ports.WriteJournal`.
        lease_seconds: of the name locks.
        lock_patience_seconds: how long to wait for a name lock; None: one and a half leases.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        claim: Claim,
        mark: JobMark,
        job_name: str,
        record: JobRecord | None,
        *,
        look_up_first: bool,
        lease_seconds: float,
        lock_patience_seconds: float | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._claim = claim
        self._mark = mark
        self._job_name = job_name
        self._lease_seconds = lease_seconds
        # After more than a lease the lock is free, unless its holder is at work and renews it.
        self._lock_patience_seconds = (
            1.5 * lease_seconds if lock_patience_seconds is None else lock_patience_seconds
        )
        self._unanswered = 0 if record is None else record.unanswered_writes
        self._look_up_first = look_up_first
        self._steps: Mapping[str, str] = {} if record is None else record.steps
        self._write_under_way = False
        self._begun = False

    @property
    def mark(self) -> JobMark:
        return self._mark

    @property
    def unanswered_writes(self) -> int:
        return self._unanswered

    @property
    def look_up_first(self) -> bool:
        return self._look_up_first

    @property
    def steps(self) -> Mapping[str, str]:
        return self._steps

    @property
    def write_under_way(self) -> bool:
        """True while this attempt waits for the answer of a create."""
        return self._write_under_way

    @property
    def claim(self) -> Claim:
        return self._claim

    def resume(self) -> None:
        """Begins another attempt under the same claim. Writes of the one before may have been
        carried out, so the job is looked up first.
        """
        self._look_up_first = self._look_up_first or self._begun
        self._write_under_way = False

    async def begin_write(self, lock_name: str) -> None:
        self._write_under_way = True
        try:
            await self._checkpoint.begin_write(
                self._claim, self._mark, self._job_name, lock_name=lock_name
            )
        except BaseException:
            self._write_under_way = False
            raise
        self._unanswered += 1
        self._begun = True

    async def note_steps(self, steps: Mapping[str, str]) -> None:
        await self._checkpoint.note_steps(self._claim, self._mark, steps)
        self._steps = {**self._steps, **steps}

    def answered(self) -> None:
        self._unanswered -= 1
        self._write_under_way = False

    def settled(self) -> None:
        self._unanswered = 0
        self._write_under_way = False

    @contextlib.asynccontextmanager
    async def name_lock(self, lock_name: str) -> AsyncIterator[None]:
        await self._lock_patiently(lock_name)
        try:
            yield
        finally:
            await self._checkpoint.unlock_name(self._claim, lock_name)

    async def _lock_patiently(self, lock_name: str) -> None:
        """Waits while another claim has the lock: that takes a few requests, while releasing the
        message would use up a receive.
        """
        end = monotonic() + self._lock_patience_seconds
        while True:
            try:
                await self._checkpoint.lock_name(self._claim, lock_name, self._lease_seconds)
            except NameLocked:
                if monotonic() >= end:
                    raise
                await asyncio.sleep(LOCK_RETRY_SECONDS)
            else:
                return

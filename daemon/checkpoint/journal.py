"""The journal of one job's writes: a target's `WriteJournal`, kept in the checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import LeaseLost, NameLocked
from daemon.clock import monotonic, wall
from daemon.story import StoryDraft, StoryEntry, StoryEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from daemon.checkpoint.lease_clock import LeaseClock
    from daemon.checkpoint.ports import Checkpoint, Claim, JobRecord
    from daemon.training_job.identity import JobMark

LOCK_RETRY_SECONDS = 0.25
DOUBTFUL_WRITES = 3
"""Unanswered creates of a job whose lease ended under way: more than what is there accounts for (a
run, and a model version of it), so that the target settles before it looks the job up."""


class Journal:
    """Counts the creates of one job whose answer is not known, durably before each create.

    It survives a hold: the next attempt of this process knows which creates were answered, while
    the checkpoint only knows that they were begun.

    A create counts as answered only if the lease of the claim outlasted it. A process that was
    paused meanwhile wakes when another one may have written the job: the create is *in doubt*, and
    the job has to be looked up under a new claim (`in_doubt`).

    Args:
        record: the job's row when the attempt began, if there was one.
        look_up_first: as in `daemon.targets.ports.WriteJournal`.
        lease_seconds: of the name locks.
        lock_patience_seconds: how long to wait for a name lock; None: one and a half leases.
        project: as `Checkpoint.begin_write`.
        story: of the job; goes with the writes of this journal.
        lease: of the claim; None: it never ends.
        in_doubt: an earlier journal of this process was, whatever the row says now.
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
        project: str = "",
        story: StoryDraft | None = None,
        lease: LeaseClock | None = None,
        in_doubt: bool = False,
    ) -> None:
        self._checkpoint = checkpoint
        self._claim = claim
        self._lease = lease
        self._mark = mark
        self._job_name = job_name
        self._lease_seconds = lease_seconds
        # After more than a lease the lock is free, unless its holder is at work and renews it.
        self._lock_patience_seconds = (
            1.5 * lease_seconds if lock_patience_seconds is None else lock_patience_seconds
        )
        self._unanswered = 0 if record is None else record.unanswered_writes
        if in_doubt:
            self._unanswered = max(DOUBTFUL_WRITES, self._unanswered)
        self._inherited_doubt = in_doubt
        self._own_unanswered = 0
        self._look_up_first = look_up_first or in_doubt
        self._steps: Mapping[str, str] = {} if record is None else record.steps
        self._write_under_way = False
        self._begun = False
        self._project = project
        self._story = story or StoryDraft()

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

    def is_under(self, claim: Claim | None, lease: LeaseClock | None) -> bool:
        """Whether this is the journal of a claim and of this lease of it."""
        return self._claim == claim and self._lease is lease

    @property
    def in_doubt(self) -> bool:
        """True when a create of this process may have been carried out after its lease had ended,
        beside one of another process. It stays true until a lookup has settled it.
        """
        return self._inherited_doubt or (self._own_unanswered > 0 and not self._lease_holds)

    @property
    def _lease_holds(self) -> bool:
        return self._lease is None or self._lease.valid

    def resume(self) -> None:
        """Begins another attempt under the same claim. Writes of the one before may have been
        carried out, so the job is looked up first.
        """
        self._look_up_first = self._look_up_first or self._begun
        self._write_under_way = False

    async def begin_write(self, lock_name: str) -> None:
        self._write_under_way = True
        story = (*self._story.entries, StoryEntry(wall(), StoryEvent.WRITE_BEGUN))
        try:
            await self._checkpoint.begin_write(
                self._claim,
                self._mark,
                self._job_name,
                lock_name=lock_name,
                project=self._project,
                story=story,
            )
        except BaseException:
            self._write_under_way = False
            raise
        self._story.kept(story)
        self._unanswered += 1
        self._own_unanswered += 1
        self._begun = True

    def require_lease(self) -> None:
        if not self._lease_holds:
            self._outcome_known()
            raise LeaseLost(self._claim.job_arn)

    async def note_steps(self, steps: Mapping[str, str]) -> None:
        done = ", ".join(name for name, value in steps.items() if value)
        told = StoryEntry(wall(), StoryEvent.STEP_WRITTEN, detail=done)
        story = (*self._story.entries, told)
        try:
            await self._checkpoint.note_steps(self._claim, self._mark, steps, story=story)
        except LeaseLost:
            if self._lease is not None:
                self._lease.end()  # whatever the clocks of this process say
            raise
        self._story.kept(story)
        self._steps = {**self._steps, **steps}

    def answered(self) -> None:
        if not self._lease_holds:
            self._write_under_way = False
            raise LeaseLost(self._claim.job_arn)
        self._outcome_known()

    def _outcome_known(self) -> None:
        self._unanswered -= 1
        self._own_unanswered -= 1
        self._write_under_way = False

    def settled(self) -> None:
        self._unanswered = self._own_unanswered = 0
        self._inherited_doubt = False
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

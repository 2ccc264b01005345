"""A base for targets that write a run in one step; its author adds `sync`, `find` and `preview`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from daemon.targets.ports import Repair
from daemon.training_job.identity import JobMark

if TYPE_CHECKING:
    from daemon.targets.ports import Preview, TargetRun, WriteJournal
    from daemon.training_job.training_run import TrainingRun

NOT_COMPARED = "the run: this kind of target cannot tell whether it differs from its job"
_NO_JOB = JobMark("arn:aws:sagemaker:none:000000000000:training-job/none", "")


class PlainTarget(ABC):
    """A `daemon.targets.ports.Target` with defaults that promise no more than they keep.

    `compare` only tells whether the run is there, and `repair` only writes one that is missing.
    """

    kind: str
    """As in ``target.kind``."""

    @abstractmethod
    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        """See `Target.sync`."""

    @abstractmethod
    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        """See `Target.find`."""

    @abstractmethod
    def preview(self, run: TrainingRun) -> Preview:
        """See `Target.preview`."""

    async def compare(self, run: TrainingRun) -> Repair | None:
        """Whether the run is there; never what differs."""
        found = await self.find(run.mark)
        return None if found is None else Repair(found, unchangeable=(NOT_COMPARED,))

    async def repair(self, run: TrainingRun, journal: WriteJournal) -> Repair:
        """`sync`: a run that is there is left as it is."""
        done = await self.sync(run, journal)
        return Repair(done, unchangeable=() if done.created else (NOT_COMPARED,))

    async def probe(self) -> None:
        """Looks up a job that does not exist. Override it if writes need more than look-ups do."""
        await self.find(_NO_JOB)

    async def aclose(self) -> None:  # noqa: B027 - nothing to close is a good answer
        """Closes nothing. Override it if the target keeps connections."""

"""What a target is: the protocol behind which ModelDB V2, ModelDB V1, MLflow or yours stands.

A target only translates a `TrainingRun` and writes it exactly once. It knows nothing of SQS. Before
every create it tells the journal, so that a crash between the write and its answer is known as
"outcome unknown" and never taken for "not done".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun


@dataclass(frozen=True, slots=True)
class TargetRun:
    """A run as it is in the target."""

    created: bool
    """True: this call created it. False: it was already there."""
    ids: Mapping[str, str]
    """The target's own ids, kept in the checkpoint and shown to people."""
    healed: int = 0
    """Doubles of this run that were deleted."""
    detail: str = ""
    """What a person should know, for example that the run had to take another name."""
    notes: tuple[str, ...] = field(default=())
    """Members of the job that were shortened, renamed or left out, one line each."""
    complete: bool = True
    """False: of a run that was found, when its mark alone does not prove that all of the job is
    there."""


class WriteJournal(Protocol):
    """What the checkpoint must hear of a job's writes. One object per attempt at one job."""

    @property
    def unanswered_writes(self) -> int:
        """Creates of this job, of this or an earlier attempt or process, whose answer was never
        read.
        """

    @property
    def look_up_first(self) -> bool:
        """True when the checkpoint cannot vouch that the job is new: the target is to be asked by
        the mark before a create.
        """

    async def begin_write(self, lock_name: str) -> None:
        """To be awaited right before a create: durable intent, and the lock of the name that is
        created.

        Raises:
            LeaseLost, NameLocked (`daemon.checkpoint.ports`): do not write.
            EdgeFault: the checkpoint cannot be written; do not write.
        """

    @property
    def steps(self) -> Mapping[str, str]:
        """What was noted of this job's completed writes, by this or an earlier attempt or
        process.
        """

    async def note_steps(self, steps: Mapping[str, str]) -> None:
        """Notes completed writes of a job whose run takes several, durably; after `begin_write`.

        Raises:
            LeaseLost: do not write on.
            EdgeFault: the checkpoint cannot be written; do not write on.
        """

    def answered(self) -> None:
        """The create begun last was answered: it is known whether the target has it."""

    def settled(self) -> None:
        """All unanswered creates have been accounted for: the target was asked after the settle
        time and holds exactly one run.
        """

    def name_lock(self, lock_name: str) -> AbstractAsyncContextManager[None]:
        """The lock of a name that several jobs share (a project, an experiment), over all processes
        with this checkpoint.

        Raises:
            LeaseLost, NameLocked, EdgeFault: as `begin_write`.
        """


class WritePermit(Protocol):
    """Whether this process may write to a server that takes one writer only."""

    @property
    def holds(self) -> bool:
        """True while this process is the writer."""

    def may_send(self) -> bool:
        """True while the right to write outlives the deadline of a call that is sent now."""

    def on_end(self, end: Callable[[], None]) -> None:
        """`end` is called whenever the right has ended: what is under way must be cut off at
        once.
        """

    async def release(self) -> None:
        """Gives the right back. Only when nothing that was sent is without an answer."""


class NoPermit:
    """The `WritePermit` of those who only ask."""

    holds = False

    def may_send(self) -> bool:
        return False

    def on_end(self, end: Callable[[], None]) -> None:
        """Never called: nothing begins."""

    async def release(self) -> None:
        """There is nothing to give back."""


class Target(Protocol):
    """One object per process, safe for concurrent calls."""

    @property
    def kind(self) -> str:
        """As in ``target.kind``."""

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        """Makes sure that the target has exactly one run with the job's mark, complete.

        Raises:
            EdgeFault: the target as a whole does not work.
            JobFault: this job cannot be written now, others can.
            JobRefused: the target will never take this job.
        """

    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        """The run with this mark, wherever in the target it is; None when there is none. Raises as
        `sync`.

        Args:
            mark: of the job.
            unanswered_writes: creates of this job that may still be carried out. With any, the
                answer is given when that is over: from then on it stays true, and of several runs
                one is left.
        """

    async def probe(self) -> None:
        """Asks every service of the target that `sync` uses, down to its database, one request at a
        time.

        Raises:
            EdgeFault: what is wrong and what to do.
        """

    async def aclose(self) -> None: ...

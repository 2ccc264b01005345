"""The protocol of a target: ModelDB V2, ModelDB V1, or one of your own.

A target translates a `TrainingRun` and writes it exactly once. It knows nothing of SQS. Every
create is announced to the journal first, so that a crash between the write and its answer counts as
"outcome unknown", never as "not done".
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
    """True: this call created it. False: it already existed."""
    ids: Mapping[str, str]
    """The target's own ids, kept in the checkpoint and shown to people."""
    healed: int = 0
    """Number of duplicates of this run that were deleted."""
    detail: str = ""
    """A remark for operators, such as that the run had to take another name."""
    notes: tuple[str, ...] = field(default=())
    """Members of the job that were shortened, renamed or left out, one line each."""
    complete: bool = True
    """False: the run was found, and its mark alone does not prove that it holds all of the job."""


class WriteJournal(Protocol):
    """Records a job's writes in the checkpoint. One object per attempt at one job."""

    @property
    def unanswered_writes(self) -> int:
        """Creates of this job, by any attempt or process, whose answer was never read."""

    @property
    def look_up_first(self) -> bool:
        """The checkpoint cannot vouch that the job is new: look up the mark before a create."""

    async def begin_write(self, lock_name: str) -> None:
        """Makes the intent to create durable and takes the lock of the new name. Awaited right
        before every create.

        Raises:
            LeaseLost, NameLocked (`daemon.checkpoint.ports`): do not write.
            EdgeFault: the checkpoint cannot be written; do not write.
        """

    @property
    def steps(self) -> Mapping[str, str]:
        """Completed writes of this job, as noted by any attempt or process."""

    async def note_steps(self, steps: Mapping[str, str]) -> None:
        """Notes completed writes of a job whose run takes several, durably; after `begin_write`.

        Raises:
            LeaseLost: do not write on.
            EdgeFault: the checkpoint cannot be written; do not write on.
        """

    def answered(self) -> None:
        """The last create was answered, so its outcome is known."""

    def settled(self) -> None:
        """No create is in doubt any more: a lookup after the settle time found a single run."""

    def name_lock(self, lock_name: str) -> AbstractAsyncContextManager[None]:
        """The lock of a name that jobs share (a project, an experiment), across all processes with
        this checkpoint.

        Raises:
            LeaseLost, NameLocked, EdgeFault: as `begin_write`.
        """


class WritePermit(Protocol):
    """This process's right to write to a server that takes a single writer."""

    @property
    def holds(self) -> bool:
        """True while this process is the writer."""

    def may_send(self) -> bool:
        """True while the right outlives the deadline of a call sent now."""

    def on_end(self, end: Callable[[], None]) -> None:
        """Registers a callback for the end of the right: it cuts off calls in flight at once."""

    async def release(self) -> None:
        """Gives the right back. Only if every call sent was answered."""


class NoPermit:
    """The `WritePermit` of callers that only read."""

    holds = False

    def may_send(self) -> bool:
        return False

    def on_end(self, end: Callable[[], None]) -> None:
        """Does nothing: there is no right that could end."""

    async def release(self) -> None:
        """Does nothing: there is no right to give back."""


class Target(Protocol):
    """One object per process, safe for concurrent calls."""

    @property
    def kind(self) -> str:
        """As in ``target.kind``."""

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        """Ensures that the target has exactly one complete run with the job's mark.

        Raises:
            EdgeFault: the target as a whole does not work.
            JobFault: this job cannot be written now, others can.
            JobRefused: the target will never take this job.
        """

    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        """The run with this mark, anywhere in the target; None if there is none. Raises as `sync`.

        Args:
            mark: of the job.
            unanswered_writes: number of creates of this job that may still be processed. If there
                are any, waits until that is over, so that the answer stays true, and deletes
                duplicates.
        """

    async def probe(self) -> None:
        """Tests every service that `sync` uses, down to its database, one request at a time.

        Raises:
            EdgeFault: says what is wrong and what to do.
        """

    async def aclose(self) -> None: ...

"""The protocol of a target: ModelDB V2, ModelDB V1, or one of your own.

A target translates a `TrainingRun` and writes it exactly once. It knows nothing of SQS. Every
create is announced to the journal first, so that a crash between the write and its answer counts as
"outcome unknown", never as "not done".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Preview:
    """What `Target.sync` would write for a job that the target does not have."""

    title: str
    """What it becomes, as a noun: ``a run in ModelDB V2``."""
    sections: Sequence[tuple[str, Sequence[tuple[str, str]]]]
    """For people: headings, each with rows of a key and its value."""
    document: Mapping[str, Any]
    """For programs: JSON, all of it, in the target's own words."""


@dataclass(frozen=True, slots=True)
class Repair:
    """How a run that exists differs from what its job is now, and what became of each difference.

    All texts are for people, one line each.
    """

    target_run: TargetRun
    changed: tuple[str, ...] = ()
    """What was brought up to date."""
    unchangeable: tuple[str, ...] = ()
    """What stays as it is, each with the reason: the target cannot change it, or people did."""


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

        Args:
            lock_name: ``<kind>/run/<where>/<name of the run>``, without a slash in the last part: a
                store may keep the lock where it keeps the job of that name, and take both at once.

        Raises:
            LeaseLost, NameLocked (`daemon.checkpoint.ports`): do not write.
            EdgeFault: the checkpoint cannot be written; do not write.
        """

    def require_lease(self) -> None:
        """Looks at the clock once more, right before a create that was begun leaves this process:
        it may have been paused since (SIGSTOP, a suspended machine).

        Raises:
            LeaseLost: another process may write by now. Do not send; nothing is in doubt.
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
        """The last create was answered, so its outcome is known.

        Raises:
            LeaseLost: the lease ended before the answer came, so another process may have written
                meanwhile. Do not write on: the job is looked up again under a new claim.
        """

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


class AwsCredentials(Protocol):
    """What one request is signed with; botocore's ``ReadOnlyCredentials`` is one."""

    @property
    def access_key(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def token(self) -> str | None:
        """Of temporary credentials."""


class CredentialsSource(Protocol):
    """The daemon's own AWS credentials, for a target that signs its requests."""

    async def __call__(self) -> AwsCredentials:
        """The credentials for one request; asked before each.

        Raises:
            EdgeFault: of `Edge.TARGET`, usually `Reason.CREDENTIALS`: there are none now.
        """

    def refused(self) -> None:
        """The server refuses these credentials: newer ones are looked for before the next
        request.
        """


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

    def preview(self, run: TrainingRun) -> Preview:
        """Exactly what `sync` would write. Pure: asks nobody."""

    async def compare(self, run: TrainingRun) -> Repair | None:
        """What `repair` would change; only reads. None: the target has no run of this job. Raises
        as `sync`.
        """

    async def repair(self, run: TrainingRun, journal: WriteJournal) -> Repair:
        """Brings what this program wrote of a job up to date with the job; a job that the target
        does not have is synced.

        Never makes a second run, and may be interrupted anywhere: done again, it completes. What
        people added stays. Raises as `sync`.
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

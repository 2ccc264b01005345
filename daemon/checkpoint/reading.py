"""What the status page and its API read from the checkpoint, beside the daemon's own calls.

A reader has a connection and a thread of its own, only reads, and limits each call in time: no
request of a browser may delay a claim or a record. The rows of all targets are read, as in
``history``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.checkpoint.ports import JobRecord, JobState, RejectedMessage
    from daemon.story import StoryEntry


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list of all rows, newest change first."""

    updated_at: float
    """Epoch seconds."""
    row: int


@dataclass(frozen=True, slots=True)
class JobSearch:
    """Which jobs are wanted; the members are combined with AND."""

    state: JobState | None = None
    reason: str = ""
    job: str = ""
    """Part of the job's name or ARN, case-insensitive."""
    project: str = ""
    """Part of the project's name, case-insensitive."""
    before: Position | None = None
    """Only rows that follow this one; None: from the newest on."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class FoundJobs:
    """Some of the wanted jobs, most recently changed first."""

    jobs: Sequence[JobRecord] = ()
    next: Position | None = None
    """Where to look on; None: there is nothing more."""
    searched_back_to: float | None = None
    """Epoch seconds: the time was up, and older rows were not looked at, except for jobs that an
    index finds: those whose name begins with the wanted text, or else those of just that project.
    None: everything was looked at, or as many as wanted were found."""


@dataclass(frozen=True, slots=True)
class WorkingOn:
    """A claim on a job: somebody works on it now."""

    owner: str
    lease_until: float
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class JobHistory:
    """Everything that the checkpoint has about one ARN."""

    records: Sequence[JobRecord]
    """The newest job first: names can be reused. One row for each target."""
    story: Sequence[StoryEntry] = ()
    """What was done with them, oldest first, in all targets."""
    working_on: WorkingOn | None = None


@dataclass(frozen=True, slots=True)
class MinuteCount:
    """How many jobs were last changed within a minute, and to which state."""

    minute: int
    """Minutes since the epoch."""
    state: str
    jobs: int


class CheckpointReader(Protocol):
    """Every method may raise `daemon.errors.EdgeFault` with `Edge.CHECKPOINT`, which says why the
    checkpoint cannot be read.
    """

    async def search(self, wanted: JobSearch) -> FoundJobs:
        """The wanted jobs; as many as were found when the time was up."""

    async def job(self, job_arn: str) -> JobHistory:
        """Everything about an ARN, in any case of letters."""

    async def unnamed_rejections(self, limit: int) -> Sequence[RejectedMessage]:
        """Of the latest rejected messages those that name no job, newest first, without bodies."""

    async def minutes(self, since: float, until: float) -> Sequence[MinuteCount]:
        """Counts rows by the minute of their last change, within epoch seconds."""

    async def aclose(self) -> None:
        """Ends the reader; does not wait for a read that hangs."""

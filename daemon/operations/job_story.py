"""Everything the checkpoint knows of one job, for `explain` and the status page. Pure, except for
`read_stories`, which asks the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from daemon.story import StoryEvent
from daemon.training_job.identity import JobArn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.checkpoint.ports import (
        ClaimedElsewhere,
        JobRecord,
        RejectedMessage,
        SyncRequest,
        WatchedJob,
    )
    from daemon.story import StoryEntry


@dataclass(frozen=True, slots=True)
class JobStory:
    """What the checkpoint has of one ARN."""

    job_name: str
    job_arn: str
    """In lower case."""
    rows: Sequence[JobRecord] = ()
    """Of all jobs that had the ARN, the newest job first."""
    entries: Sequence[StoryEntry] = ()
    """Oldest first."""
    rejected: Sequence[RejectedMessage] = ()
    """The newest first."""
    claim: ClaimedElsewhere | None = None
    """Who works on it now."""
    watched: Sequence[WatchedJob] = ()
    """Its entries of reconcile's watch list."""
    requests: Sequence[SyncRequest] = field(default=())
    """What `sync` has asked the daemon, by this name or ARN; the newest first."""

    @property
    def known(self) -> bool:
        """Whether the checkpoint has anything of it."""
        return bool(
            self.rows
            or self.entries
            or self.rejected
            or self.claim
            or self.watched
            or self.requests
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of a story."""

    at: float
    """Epoch seconds."""
    what: str
    """A `StoryEvent`, or ``rejected_message``, ``watched``, ``asked``, ``recorded``."""
    text: str
    """For people; may contain anything that came from outside, but no secrets."""
    message_id: str = ""
    owner: str = ""


class StoryReader(Protocol):
    """The part of `daemon.checkpoint.ports.Checkpoint` that a story is read from."""

    async def jobs_named(self, name: str) -> Sequence[JobRecord]: ...

    async def story(self, job_arn: str) -> Sequence[StoryEntry]: ...

    async def rejected_about(self, job_arn: str) -> Sequence[RejectedMessage]: ...

    async def claim_on(self, job_arn: str) -> ClaimedElsewhere | None: ...

    async def watching(self, job_arn: str) -> Sequence[WatchedJob]: ...

    async def requests_about(self, job: str) -> Sequence[SyncRequest]: ...


async def read_stories(
    checkpoint: StoryReader, job: str, *, arns: Sequence[str] = ()
) -> Sequence[JobStory]:
    """The stories of a job, one for each ARN that the checkpoint knows by its name.

    Args:
        checkpoint: of the target that is asked about.
        job: name or ARN.
        arns: more ARNs to look for, such as the one that SageMaker says.

    Raises:
        EdgeFault: the checkpoint cannot be read.
    """
    rows = await checkpoint.jobs_named(job)
    given = [job.lower()] if job.lower().startswith("arn:") else []
    wanted = dict.fromkeys([*given, *map(str.lower, arns), *(row.job_arn for row in rows)])
    return [await _read(checkpoint, job, arn) for arn in wanted]


async def _read(checkpoint: StoryReader, job: str, arn: str) -> JobStory:
    rows = await checkpoint.jobs_named(arn)
    name = next((row.job_name for row in rows if row.job_name), None) or name_of(arn)
    asked_by = dict.fromkeys([job.lower(), name.lower(), arn])
    requests = [request for each in asked_by for request in await checkpoint.requests_about(each)]
    return JobStory(
        job_name=name,
        job_arn=arn,
        rows=rows,
        entries=await checkpoint.story(arn),
        rejected=await checkpoint.rejected_about(arn),
        claim=await checkpoint.claim_on(arn),
        watched=await checkpoint.watching(arn),
        requests=sorted(requests, key=lambda request: -request.asked_at),
    )


def name_of(arn: str) -> str:
    """The job's name in an ARN; the text itself if it is none."""
    try:
        return JobArn.parse(arn).name
    except ValueError:
        return arn


_SENTENCES = {
    StoryEvent.RECEIVED: "message received",
    StoryEvent.JOINED: "joined an earlier message about the job",
    StoryEvent.CLAIMED: "claimed",
    StoryEvent.DESCRIBED: "SageMaker described it",
    StoryEvent.TAGS_READ: "tags read",
    StoryEvent.WRITE_BEGUN: "write begun",
    StoryEvent.STEP_WRITTEN: "part of the write done",
    StoryEvent.HELD: "held",
    StoryEvent.GIVEN_BACK: "message given back to the queue",
    StoryEvent.OUTCOME: "outcome",
    StoryEvent.ENQUEUED: "message sent to the queue",
    StoryEvent.REDRIVEN: "dead letter sent back to the queue",
    StoryEvent.HANDED_OVER: "handed to the running daemon",
    StoryEvent.REPAIRED: "run repaired",
}


def sentence(entry: StoryEntry) -> str:
    """An entry in words."""
    words = _SENTENCES[entry.what]
    return f"{words}: {entry.detail}" if entry.detail else words


def moments(story: JobStory) -> Sequence[Moment]:
    """A story in order, oldest first: its entries, and what else has a time. For a row
    that its story does not mention (written by an earlier version, or the story was shortened), the
    row itself is an entry.
    """
    told = [
        Moment(entry.at, entry.what, sentence(entry), entry.message_id, entry.owner)
        for entry in story.entries
    ]
    outcomes = [
        entry.at
        for entry in story.entries
        if entry.what in {StoryEvent.OUTCOME, StoryEvent.ENQUEUED, StoryEvent.GIVEN_BACK}
    ]
    told += [
        Moment(row.updated_at, "recorded", _recorded(row), row.message_id)
        for row in story.rows
        if not any(abs(at - row.updated_at) < _SAME_MOMENT_SECONDS for at in outcomes)
        and not _told_as_begun(story, row)
    ]
    told += [
        Moment(
            message.rejected_at,
            "rejected_message",
            f"message rejected: {message.reason}"
            + (f": {message.detail}" if message.detail else "")
            + ("; its body is kept in the checkpoint" if message.body is not None else ""),
            message.message_id,
        )
        for message in story.rejected
        if message.body is not None
        or not any(abs(at - message.rejected_at) < _SAME_MOMENT_SECONDS for at in outcomes)
    ]
    told += [
        Moment(job.first_seen_at, "watched", "reconcile saw it unfinished and watches it")
        for job in story.watched
    ]
    told += [
        Moment(request.asked_at, "asked", _asked(request), owner=request.taken_by)
        for request in story.requests
    ]
    return sorted(told, key=lambda moment: moment.at)


_SAME_MOMENT_SECONDS = 60.0
"""Between the entry of an outcome and its row: both are written by one transaction, which may be
tried again."""


def _told_as_begun(story: JobStory, row: JobRecord) -> bool:
    return any(
        entry.what in {StoryEvent.WRITE_BEGUN, StoryEvent.STEP_WRITTEN}
        and abs(entry.at - row.updated_at) < _SAME_MOMENT_SECONDS
        for entry in story.entries
    )


def _recorded(row: JobRecord) -> str:
    words = " ".join(filter(None, [row.state, f"({row.reason})" if row.reason else ""]))
    return f"recorded as {words}" + (f": {row.detail}" if row.detail else "")


def _asked(request: SyncRequest) -> str:
    words = f"sync{' --force' if request.force else ''} asked for"
    if request.answer is not None:
        return f"{words}, and answered"
    return f"{words}; {'the daemon works on it' if request.taken_by else 'not begun yet'}"

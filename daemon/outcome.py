"""What can become of a message: six outcomes, and the closed set of reasons of each.

The words are part of the contract: they are metric labels, log fields, checkpoint values and
dead-letter attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.errors import EdgeFault


class Edge(StrEnum):
    """The four external systems that can fail as a whole. Each has one circuit breaker."""

    TARGET = "target"
    SAGEMAKER = "sagemaker"
    QUEUE = "queue"
    CHECKPOINT = "checkpoint"


class Reason(StrEnum):
    """Why an outcome is what it is; `REASONS` says which outcome has which. A word never changes
    its meaning; new ones may be added.
    """

    CREATED = "created"  # this program has just created the run
    FOUND_IN_TARGET = "found_in_target"  # the target already had a run with this job's mark

    ALREADY_SYNCED = "already_synced"  # according to the checkpoint
    JOINED = "joined"  # shares the outcome of an earlier message about the job, then in flight

    OTHER_EVENT = "other_event"  # another event type or source, or a service's own notice
    STATUS_NOT_CONFIGURED = "status_not_configured"  # the job's status is not in jobs.statuses
    NOT_TAGGED = "not_tagged"  # ListTags confirmed that the sync tag is absent

    MALFORMED_BODY = "malformed_body"  # the message cannot be understood
    TAGS_INCOMPLETE = "tags_incomplete"  # sync tag present, another tag missing or blank
    JOB_GONE = "job_gone"  # SageMaker does not know the job (any more)
    JOB_REPLACED = "job_replaced"  # another job now has this name
    FOREIGN_ACCOUNT = "foreign_account"  # a job of another account or region
    JOB_REFUSED = "job_refused"  # SageMaker refuses the request for this job as invalid
    TARGET_REFUSED = "target_refused"  # the target's own verdict on this job

    NOT_TERMINAL = "not_terminal"  # DescribeTrainingJob says the job has not ended
    CLAIMED_ELSEWHERE = "claimed_elsewhere"  # another process works on this job
    LEASE_LOST = "lease_lost"  # the claim's lease expired during the attempt
    NAME_LOCKED = "name_locked"  # another process is creating something of the same name
    TARGET_FAULT = "target_fault"  # the target failed on this job while it works for others
    SAGEMAKER_FAULT = "sagemaker_fault"  # SageMaker failed on this job while it works for others
    DEAD_LETTER_FAILED = "dead_letter_failed"  # rejected, but the dead-letter queue failed
    STANDING_BY = "standing_by"  # another process is the writer of this ModelDB V1
    STOPPING = "stopping"  # the daemon stopped before the job was begun
    INTERNAL_ERROR = "internal_error"  # a bug in this program; the log has the traceback
    HELD_TOO_LONG = "held_too_long"  # held for 11.5 h; the next receive starts a new 12 h

    UNREACHABLE = "unreachable"  # connection refused, reset or timed out; DNS
    UNAVAILABLE = "unavailable"  # the service says that it cannot serve (5xx, database down)
    THROTTLED = "throttled"  # too many requests
    CREDENTIALS = "credentials"  # missing, expired or unknown credentials; a refused login
    ACCESS_DENIED = "access_denied"  # a permission is missing
    NOT_THE_API = "not_the_api"  # something else answers at this address (web page, wrong path)
    OTHER_WRITER = "other_writer"  # something else writes to this ModelDB V1, which mixes up rows
    NOT_FOUND = "not_found"  # a resource named in the configuration does not exist
    STORAGE = "storage"  # the checkpoint cannot be read or written (disk full, I/O error)


REASONS: Mapping[str, tuple[Reason, ...]] = {
    "synced": (Reason.CREATED, Reason.FOUND_IN_TARGET),
    "duplicate": (Reason.ALREADY_SYNCED, Reason.JOINED),
    "skipped": (Reason.OTHER_EVENT, Reason.STATUS_NOT_CONFIGURED, Reason.NOT_TAGGED),
    "rejected": (
        Reason.MALFORMED_BODY,
        Reason.TAGS_INCOMPLETE,
        Reason.JOB_GONE,
        Reason.JOB_REPLACED,
        Reason.FOREIGN_ACCOUNT,
        Reason.JOB_REFUSED,
        Reason.TARGET_REFUSED,
    ),
    "deferred": (
        Reason.NOT_TERMINAL,
        Reason.CLAIMED_ELSEWHERE,
        Reason.LEASE_LOST,
        Reason.NAME_LOCKED,
        Reason.TARGET_FAULT,
        Reason.SAGEMAKER_FAULT,
        Reason.DEAD_LETTER_FAILED,
        Reason.STANDING_BY,
        Reason.STOPPING,
        Reason.INTERNAL_ERROR,
        Reason.HELD_TOO_LONG,
    ),
    "held": (
        Reason.UNREACHABLE,
        Reason.UNAVAILABLE,
        Reason.THROTTLED,
        Reason.CREDENTIALS,
        Reason.ACCESS_DENIED,
        Reason.NOT_THE_API,
        Reason.OTHER_WRITER,
        Reason.NOT_FOUND,
        Reason.STORAGE,
    ),
}
"""The reasons of each kind of outcome. Each reason belongs to exactly one kind."""


@dataclass(frozen=True, slots=True)
class Synced:
    """The run is in the target, complete."""

    kind: ClassVar[str] = "synced"
    reason: Reason
    target_ids: Mapping[str, str] = field(default_factory=dict)
    """The target's own ids, for example ``{"project_id": …, "experiment_id": …, "run_id": …}``."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The job is already synced."""

    kind: ClassVar[str] = "duplicate"
    reason: Reason
    target_ids: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not to be synced; nothing else happens."""

    kind: ClassVar[str] = "skipped"
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A permanent failure: retrying cannot help. The message becomes a dead letter."""

    kind: ClassVar[str] = "rejected"
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """This job may succeed later; the message is hidden for a while and received again."""

    kind: ClassVar[str] = "deferred"
    reason: Reason
    detail: str = ""
    delay_seconds: float | None = None
    """How long to hide the message; None: by the configured backoff and the receive count."""


@dataclass(frozen=True, slots=True)
class Held:
    """An edge is unavailable; the message is kept in flight until it recovers."""

    kind: ClassVar[str] = "held"
    fault: EdgeFault

    @property
    def reason(self) -> Reason:
        return self.fault.reason

    @property
    def detail(self) -> str:
        return self.fault.detail


Outcome = Synced | Duplicate | Skipped | Rejected | Deferred | Held

"""What can become of a message: six outcomes and a closed set of reasons.

The words are part of the contract: they are metric labels, log fields, checkpoint values and
dead-letter attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class Reason(StrEnum):
    """Why an outcome is what it is. A word here never changes its meaning; new ones may be
    added.
    """

    # synced
    CREATED = "created"  # this program created the run just now
    FOUND_IN_TARGET = "found_in_target"  # the target already had the run with this job's mark
    # duplicate
    ALREADY_SYNCED = "already_synced"  # the checkpoint says so
    JOINED = "joined"  # a second message of a job that was in flight shared its outcome
    # skipped
    # another event type, another source, no event at all but a service's own notice
    OTHER_EVENT = "other_event"
    STATUS_NOT_CONFIGURED = "status_not_configured"  # the job's status is not one of jobs.statuses
    NOT_TAGGED = "not_tagged"  # ListTags confirmed that the sync tag is absent
    # rejected
    MALFORMED_BODY = "malformed_body"  # the message cannot be understood
    TAGS_INCOMPLETE = "tags_incomplete"  # sync tag there, another tag missing or blank
    JOB_GONE = "job_gone"  # SageMaker does not know the job (any more)
    JOB_REPLACED = "job_replaced"  # another job has this name now
    FOREIGN_ACCOUNT = "foreign_account"  # a job of another account or region
    JOB_REFUSED = "job_refused"  # SageMaker refuses the request for this job as invalid
    TARGET_REFUSED = "target_refused"  # the target's own verdict on this job
    # deferred
    NOT_TERMINAL = "not_terminal"  # DescribeTrainingJob says the job is still going on
    CLAIMED_ELSEWHERE = "claimed_elsewhere"  # another process works on this job
    LEASE_LOST = "lease_lost"  # the claim ran out while the job was worked on
    NAME_LOCKED = "name_locked"  # another process creates something of the same name
    TARGET_FAULT = "target_fault"  # the target failed on this job while it works for others
    SAGEMAKER_FAULT = "sagemaker_fault"  # SageMaker failed on this job while it works for others
    # a rejected message could not be sent to the dead-letter queue
    DEAD_LETTER_FAILED = "dead_letter_failed"
    STANDING_BY = "standing_by"  # another process is the writer of this ModelDB V1
    STOPPING = "stopping"  # the daemon stopped before the job was begun
    INTERNAL_ERROR = "internal_error"  # a bug of ours; the log has the traceback
    HELD_TOO_LONG = "held_too_long"  # held for 11.5 h; received again with a new 12 h
    # held, and the state of an edge
    UNREACHABLE = "unreachable"  # connection refused, reset, timed out; DNS
    # the service answers that it cannot serve now (5xx, its database is down)
    UNAVAILABLE = "unavailable"
    THROTTLED = "throttled"  # too many requests
    CREDENTIALS = "credentials"  # missing, expired or unknown credentials; a refused login
    ACCESS_DENIED = "access_denied"  # a permission is missing
    NOT_THE_API = "not_the_api"  # something else answers at this address (a web page, a wrong path)
    # somebody else writes to this ModelDB V1, which mixes up the rows
    OTHER_WRITER = "other_writer"
    # the queue or another resource named in the configuration does not exist
    NOT_FOUND = "not_found"
    # the checkpoint cannot be written or read (disk full, file gone, I/O error)
    STORAGE = "storage"


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
    """The job is already done."""

    kind: ClassVar[str] = "duplicate"
    reason: Reason
    target_ids: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not for us; nothing to do and nobody to tell."""

    kind: ClassVar[str] = "skipped"
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Will never work as it is; a person must look."""

    kind: ClassVar[str] = "rejected"
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """This job may work later; the message is hidden for a while and received again."""

    kind: ClassVar[str] = "deferred"
    reason: Reason
    detail: str = ""
    delay_seconds: float | None = None
    """How long to hide the message; None: by the configured back-off and the receive count."""


@dataclass(frozen=True, slots=True)
class Held:
    """The edge is down for everybody; the message is kept until the edge is back."""

    kind: ClassVar[str] = "held"
    reason: Reason
    edge: Edge
    detail: str = ""
    curable: bool = True
    """False when waiting cannot help: the configuration is wrong."""


Outcome = Synced | Duplicate | Skipped | Rejected | Deferred | Held


class Edge(StrEnum):
    """The four things outside the process that can fail as a whole. Each has one breaker."""

    TARGET = "target"
    SAGEMAKER = "sagemaker"
    QUEUE = "queue"
    CHECKPOINT = "checkpoint"

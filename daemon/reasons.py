"""The words for what can fail and why: edges, and the reasons of outcomes.

They are part of the contract: metric labels, log fields, checkpoint values and dead-letter
attributes.
"""

from __future__ import annotations

from enum import StrEnum


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
    REPAIRED = "repaired"  # it did, and what differed was repaired, as an operator asked

    ALREADY_SYNCED = "already_synced"  # according to the checkpoint
    JOINED = "joined"  # shares the outcome of an earlier message about the job, then in flight

    OTHER_EVENT = "other_event"  # another event type or source, or a service's own notice
    STATUS_NOT_CONFIGURED = "status_not_configured"  # the job's status is not in jobs.statuses
    NOT_TAGGED = "not_tagged"  # ListTags confirmed that the sync tag is absent
    UNKNOWN_ACCOUNT = "unknown_account"  # as foreign_account, with jobs.unknown_accounts: skip

    MALFORMED_BODY = "malformed_body"  # the message cannot be understood
    TAGS_INCOMPLETE = "tags_incomplete"  # sync tag present, another tag missing or blank
    JOB_GONE = "job_gone"  # SageMaker does not know the job (any more)
    JOB_REPLACED = "job_replaced"  # another job now has this name
    FOREIGN_ACCOUNT = "foreign_account"  # a job of an account or region that is not configured
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
    ACCOUNT_UNAVAILABLE = "account_unavailable"  # many messages of such accounts wait already

    UNREACHABLE = "unreachable"  # connection refused, reset or timed out; DNS
    UNAVAILABLE = "unavailable"  # the service says that it cannot serve (5xx, database down)
    THROTTLED = "throttled"  # too many requests
    CREDENTIALS = "credentials"  # missing, expired or unknown credentials; a refused login
    ACCESS_DENIED = "access_denied"  # a permission is missing
    NOT_THE_API = "not_the_api"  # something else answers at this address (web page, wrong path)
    OTHER_WRITER = "other_writer"  # something else writes to this ModelDB V1, which mixes up rows
    NOT_FOUND = "not_found"  # a resource named in the configuration does not exist
    STORAGE = "storage"  # the checkpoint cannot be read or written (disk full, I/O error)

"""What each reason means and what to do about it, in one sentence each: for the status page, and
for the table under "Reasons" in docs/runbook.md, which a test compares with this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Advice:
    """About one reason."""

    means: str
    do: str


NOTHING = "Nothing to do."

ADVICE: Mapping[Reason, Advice] = {
    Reason.CREATED: Advice("The run was created.", NOTHING),
    Reason.FOUND_IN_TARGET: Advice("The run was in the target already.", NOTHING),
    Reason.REPAIRED: Advice(
        "The run was there, and `sync --force` brought it up to date.", NOTHING
    ),
    Reason.ALREADY_SYNCED: Advice("The job was synced before.", NOTHING),
    Reason.JOINED: Advice("Another message about the job was in work.", NOTHING),
    Reason.OTHER_EVENT: Advice("The message is not about the end of a training job.", NOTHING),
    Reason.STATUS_NOT_CONFIGURED: Advice(
        "Jobs that end with this status are not wanted.",
        "Add the status to jobs.statuses if they are.",
    ),
    Reason.NOT_TAGGED: Advice(
        "The job does not have the sync tag.",
        "Add its tags, then run sync with its name.",
    ),
    Reason.UNKNOWN_ACCOUNT: Advice(
        "The job belongs to an account or region that is not configured.",
        "Add it to accounts if its jobs are wanted.",
    ),
    Reason.MALFORMED_BODY: Advice(
        "The message cannot be understood.",
        "Look at the dead letter, and at what sends to the queue.",
    ),
    Reason.TAGS_INCOMPLETE: Advice(
        "The job has the sync tag but lacks another one.",
        "Add the tags that the detail names, then redrive the dead letter.",
    ),
    Reason.JOB_GONE: Advice(
        "SageMaker does not know the job any more.", "Nothing can be done: it was deleted."
    ),
    Reason.JOB_REPLACED: Advice(
        "Another job has this name now.", "Nothing can be done: the first one was deleted."
    ),
    Reason.FOREIGN_ACCOUNT: Advice(
        "The job belongs to an account or region that is not configured.",
        "Add it to accounts, or send its events to the daemon of that account.",
    ),
    Reason.JOB_REFUSED: Advice(
        "SageMaker refuses the request for this job.", "Read the detail; look at the dead letter."
    ),
    Reason.TARGET_REFUSED: Advice(
        "The target refuses this job.",
        "Fix what the detail says, then redrive the dead letter.",
    ),
    Reason.NOT_TERMINAL: Advice("The job has not ended yet.", "Wait: it is tried again."),
    Reason.CLAIMED_ELSEWHERE: Advice(
        "Another process works on the job.", "Wait: it is tried again."
    ),
    Reason.LEASE_LOST: Advice(
        "The attempt took longer than its lease.", "Wait: it is tried again."
    ),
    Reason.NAME_LOCKED: Advice(
        "Another process is creating something of the same name.", "Wait: it is tried again."
    ),
    Reason.TARGET_FAULT: Advice(
        "The target failed on this job while it works for others.",
        "Read the detail and the target's log; after its last attempt the job is a dead letter.",
    ),
    Reason.SAGEMAKER_FAULT: Advice(
        "SageMaker failed on this job while it works for others.",
        "Read the detail; after its last attempt the job is a dead letter.",
    ),
    Reason.DEAD_LETTER_FAILED: Advice(
        "The job is rejected, but the dead-letter queue does not take the message.",
        "Check that queue and the permission to send to it.",
    ),
    Reason.STANDING_BY: Advice("Another process is the writer of this ModelDB V1.", NOTHING),
    Reason.STOPPING: Advice(
        "The daemon stopped before the job was begun.", "Start the daemon: the queue has the job."
    ),
    Reason.INTERNAL_ERROR: Advice(
        "A bug in this program.", "Send us the log entry with its traceback."
    ),
    Reason.HELD_TOO_LONG: Advice(
        "The outage lasted longer than SQS lets a message be held.",
        "End the outage; the message is received again.",
    ),
    Reason.ACCOUNT_UNAVAILABLE: Advice(
        "The job's account cannot be asked about now, and many messages of such accounts wait.",
        "Fix what the account's fault says; the message is received again.",
    ),
    Reason.UNREACHABLE: Advice(
        "There is no connection, or no answer in time.",
        "Check that the service runs, then network, proxy, DNS and endpoints.",
    ),
    Reason.UNAVAILABLE: Advice(
        "The service says that it cannot serve.",
        "Look at the service and at its database; the daemon goes on by itself.",
    ),
    Reason.THROTTLED: Advice(
        "There are too many requests.", "Wait; request a higher quota if it lasts."
    ),
    Reason.CREDENTIALS: Advice(
        "Credentials are missing, expired or refused.",
        "Fix what the detail names; they are looked for again without a restart.",
    ),
    Reason.ACCESS_DENIED: Advice(
        "A permission is missing.", "Allow the action that the detail names."
    ),
    Reason.NOT_THE_API: Advice(
        "Something else answers at this address.",
        "Correct the address, or what stands in front of the service.",
    ),
    Reason.OTHER_WRITER: Advice(
        "Something else writes to this ModelDB V1, which mixes up rows.",
        "Find the other writer and switch it off.",
    ),
    Reason.NOT_FOUND: Advice(
        "Something that the configuration names does not exist.",
        "Correct the name, or create what it names.",
    ),
    Reason.STORAGE: Advice(
        "The checkpoint cannot be read or written.",
        "Free disk space, and check the volume and its permissions.",
    ),
}

RUNBOOK_ENTRY: Mapping[Edge, str] = {
    Edge.TARGET: "ModelDBSyncTargetUnavailable",
    Edge.SAGEMAKER: "ModelDBSyncSageMakerUnavailable",
    Edge.QUEUE: "ModelDBSyncQueueUnavailable",
    Edge.CHECKPOINT: "ModelDBSyncCheckpointUnavailable",
}
"""The heading in docs/runbook.md about the outage of each edge."""
ACCOUNT_ENTRY = "ModelDBSyncAccountUnavailable"
"""That about SageMaker in one account and region of several."""


def advice(reason: str) -> Advice | None:
    """About a reason by its word; None for a word that this version does not know."""
    return ADVICE[Reason(reason)] if reason in {each.value for each in Reason} else None

"""Whether the checkpoint proves that a job without a row was never written.

It does for a fresh event of a job that ended while this process had the checkpoint open. For
everything else another checkpoint, lost since, or a newer copy of this one may have known better: a
look-up in the target costs one call, a second run costs the promise, so whatever is in doubt is
looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.ports import JobState
from daemon.checkpoint.rules import EARLIEST_CLOCK
from daemon.training_job.field_readers import moment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from daemon.checkpoint.ports import Checkpoint, JobRecord
    from daemon.pipeline.delivery import Delivery
    from daemon.training_job.event import TrainingJobEvent

CLOCKS_APART_SECONDS = 300.0
"""How far this machine's clock and those of AWS are trusted to agree."""
FRESH_SECONDS = 900.0
"""An event is sent within seconds of the end of its job, and reaches the queue within seconds."""


def vouches(
    known: JobRecord | None,
    delivery: Delivery,
    event: TrainingJobEvent,
    description: Mapping[str, Any],
    *,
    checkpoint: Checkpoint,
    now: float,
    look_back_seconds: float,
) -> bool:
    """True if a job without a run on record needs no look-up in the target.

    Args:
        known: the job's row for this target.
        delivery: of the message.
        event: in the message.
        description: of the job, from DescribeTrainingJob.
        checkpoint: asked for its age.
        now: epoch seconds.
        look_back_seconds: a younger checkpoint vouches for nothing.
    """
    created_at = checkpoint.created_at
    since = max(created_at, checkpoint.opened_at)
    return (
        # synced, perhaps to another place
        not (known is not None and known.state is JobState.SYNCED)
        and created_at >= EARLIEST_CLOCK
        and now - created_at >= look_back_seconds
        and _is_fresh(delivery, event, description, since=since, now=now)
    )


def _is_fresh(
    delivery: Delivery,
    event: TrainingJobEvent,
    description: Mapping[str, Any],
    *,
    since: float,
    now: float,
) -> bool:
    """True for the first receive of an event that EventBridge sent when the job ended, after a
    moment.
    """
    if delivery.receive_count > 1 or not _is_as_eventbridge_sent_it(delivery, event):
        return False
    ends = [moment(description, name) for name in ("TrainingEndTime", "LastModifiedTime")]
    ended = [end.timestamp() for end in ends if end is not None]
    sent_at = delivery.message.sent_at
    if event.event_time is None or sent_at is None or not ended:
        return False
    changed_at = event.event_time.timestamp()
    times = (changed_at, sent_at, *ended)
    # Times after `now`: this machine's clock is wrong, and so is its opinion of `since`. The other
    # two go by the clocks of AWS alone.
    return (
        min(times) >= since + CLOCKS_APART_SECONDS
        and max(times) <= now + CLOCKS_APART_SECONDS
        and abs(sent_at - changed_at) < FRESH_SECONDS
        and changed_at - max(ended) < FRESH_SECONDS
    )


def _is_as_eventbridge_sent_it(delivery: Delivery, event: TrainingJobEvent) -> bool:
    """False: sent by hand, replayed from an archive, or moved back from a dead-letter queue."""
    message = delivery.message
    return (
        event.whole
        and not event.replayed
        and not message.attributes
        and not message.was_dead_letter
    )

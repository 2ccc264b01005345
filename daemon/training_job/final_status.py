"""The status in which a training job ended, from its event and its description.

DescribeTrainingJob is eventually consistent: after the event of the end it may still describe the
running job, whose final metrics and artifacts are missing. A job that is being deleted, on the
other hand, has ended, and its description is complete, but its TrainingJobStatus no longer says how
it ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.text import one_line
from daemon.training_job.described_job import described_status
from daemon.training_job.field_readers import moment, section, sections, text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from daemon.training_job.event import TrainingJobEvent

TERMINAL_STATUSES = frozenset({"Completed", "Stopped", "Failed"})
"""Final values of TrainingJobStatus (botocore's service model)."""

_RUNNING = frozenset({"InProgress", "Stopping", ""})
"""The job, or this description of it, has yet to reach its end."""
_LEAVING = frozenset({"Deleting", "Deleted"})
"""Only a job that has ended can be deleted. `Deleted` is not in the service model."""

_SECONDARY = {
    **{status: status for status in TERMINAL_STATUSES},
    "MaxRuntimeExceeded": "Stopped",
    "MaxWaitTimeExceeded": "Stopped",
}
"""Final values of SecondaryStatus, and the TrainingJobStatus that each belongs to."""


def final_status(event: TrainingJobEvent, description: Mapping[str, Any]) -> str | None:
    """The status in which the job ended; None: as far as can be told, it has not.

    Args:
        event: about the described job: a creation time in it is the described one.
        description: DescribeTrainingJob as botocore parses it.
    """
    status = described_status(description)
    if status in TERMINAL_STATUSES:
        return status
    if status in _RUNNING:
        return None
    final_by_event = event.status if event.status in TERMINAL_STATUSES else None
    final_by_description = _final_secondary_status(description)
    has_ended = final_by_description is not None or moment(description, "TrainingEndTime")
    if status not in _LEAVING and not has_ended:
        return None
    if event.creation_time is not None:
        return final_by_event or final_by_description
    # An event without a creation time may be about an earlier job of this name.
    if final_by_description is not None:
        return final_by_description
    has_result = final_by_event == "Failed" or text(
        section(description, "ModelArtifacts"), "S3ModelArtifacts"
    )
    return final_by_event if has_ended and has_result else None


def _final_secondary_status(description: Mapping[str, Any]) -> str | None:
    """How the job ended according to SecondaryStatus, or to the last transition that tells it."""
    transitions = sections(description, "SecondaryStatusTransitions")
    told = [text(item, "Status") for item in transitions]
    for secondary in (text(description, "SecondaryStatus"), *reversed(told)):
        final = _SECONDARY.get(one_line(secondary or ""))
        if final is not None:
            return final
    return None

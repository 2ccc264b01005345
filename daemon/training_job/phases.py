"""Phases of a job: how long it waited, downloaded, trained, uploaded and was interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.training_job.field_readers import moment, sections, text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_PENDING = frozenset({"Pending", "Starting", "LaunchingMLInstances", "PreparingTrainingStack"})
_DOWNLOADING = frozenset({"Downloading", "DownloadingTrainingImage"})
_TRAINING = frozenset({"Training"})
_UPLOADING = frozenset({"Uploading"})
_INTERRUPTED = frozenset({"Interrupted"})
"""Secondary statuses, including those that SageMaker no longer uses."""


@dataclass(frozen=True, slots=True)
class Phases:
    """Whole seconds in each phase, all its periods added; None for a phase the job was not in."""

    pending: int | None
    """Until its instances were ready, the waits after interruptions included."""
    downloading: int | None
    """Input data and image."""
    training: int | None
    uploading: int | None
    interrupted: int | None
    """After its spot instances were taken away."""
    interruptions: int | None
    """0 only if the job's phases are known."""


@dataclass(frozen=True, slots=True)
class _Transition:
    status: str
    start: datetime
    end: datetime | None


def read_phases(description: Mapping[str, Any], job_end: datetime | None) -> Phases:
    """Reads SecondaryStatusTransitions: statuses and times only, because messages are subject to
    change.

    A job has one secondary status at a time, so a period ends no later than the next one begins.
    The last one ends with the job. Entries without a status or a start are left out; order and
    repetitions do not matter.

    Args:
        description: the job's description.
        job_end: TrainingEndTime.
    """
    distinct = dict.fromkeys(_transitions(description))
    transitions = sorted(distinct, key=lambda each: each.start)
    next_starts = [*(each.start for each in transitions[1:]), job_end]
    seconds: dict[str, float] = {}
    for transition, limit in zip(transitions, next_starts, strict=False):
        ends = [end for end in (transition.end, limit) if end is not None]
        if ends:
            spent = max(0.0, (min(ends) - transition.start).total_seconds())
            seconds[transition.status] = seconds.get(transition.status, 0.0) + spent
    starts = {each.start for each in transitions if each.status in _INTERRUPTED}
    return Phases(
        pending=_whole(seconds, _PENDING),
        downloading=_whole(seconds, _DOWNLOADING),
        training=_whole(seconds, _TRAINING),
        uploading=_whole(seconds, _UPLOADING),
        interrupted=_whole(seconds, _INTERRUPTED),
        interruptions=len(starts) if transitions else None,
    )


def _transitions(description: Mapping[str, Any]) -> list[_Transition]:
    return [
        _Transition(status, start, moment(item, "EndTime"))
        for item in sections(description, "SecondaryStatusTransitions")
        if (status := text(item, "Status")) and (start := moment(item, "StartTime"))
    ]


def _whole(seconds: Mapping[str, float], statuses: frozenset[str]) -> int | None:
    spent = [seconds[status] for status in statuses if status in seconds]
    return round(sum(spent)) if spent else None

"""What SageMaker says of a job beyond its description and tags, and a run can do without."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.aws.ports import TrainingJobs
    from daemon.training_job.identity import JobMark
    from daemon.training_job.metric_series import MetricSeries
    from daemon.training_job.training_run import TrainingRun
    from daemon.training_job.tuning_job import TuningJob

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OtherAnswers:
    """The answers about one job."""

    mark: JobMark
    metric_series: tuple[MetricSeries, ...] = ()
    tuning: TuningJob | None = None
    notes: tuple[str, ...] = ()
    """What could not be read."""

    def added_to(self, run: TrainingRun) -> TrainingRun:
        """The run with them; the same one if there are none."""
        if not (self.metric_series or self.tuning or self.notes):
            return run
        return replace(
            run,
            metric_series=self.metric_series,
            tuning=self.tuning,
            notes=(*run.notes, *self.notes),
        )


async def other_answers(
    jobs: TrainingJobs, mark: JobMark, description: Mapping[str, Any]
) -> OtherAnswers:
    """Asks for the metric series and the tuning job of a described job. Never raises."""
    try:
        series, notes = await jobs.metric_series(description)
        tuning, more_notes = await jobs.tuning_job(description)
    except Exception as error:
        log.exception("internal error", call="other answers")
        note = f"metric series and tuning job not read: {type(error).__name__}"
        return OtherAnswers(mark, notes=(note,))
    return OtherAnswers(mark, series, tuning, (*notes, *more_notes))

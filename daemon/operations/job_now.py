"""Asks SageMaker and the checkpoint about jobs, for `daemon.operations.verdict`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.operations.verdict import JobNow
from daemon.pipeline.foreign_jobs import jobs_of
from daemon.pipeline.same_job import described_job

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from daemon.aws.ports import TrainingJobs
    from daemon.checkpoint.ports import Checkpoint
    from daemon.training_job.event import TrainingJobEvent
    from daemon.training_job.identity import Home


async def job_now(
    event: TrainingJobEvent,
    home: Home,
    jobs: TrainingJobs | None = None,
    checkpoint: Checkpoint | None = None,
) -> JobNow:
    """What is known of an event's job. What SageMaker could not say is a fault in it.

    Args:
        event: names the job.
        home: the account and region that the daemon works for.
        jobs: SageMaker's; None: it is not asked.
        checkpoint: None: it is not asked.

    Raises:
        EdgeFault: the checkpoint cannot be read.
    """
    description: Mapping[str, Any] | None = None
    tags: Mapping[str, str] | None = None
    fault: EdgeFault | JobFault | JobRefused | None = None
    asked = None if jobs is None else jobs_of(jobs, event.arn)
    if asked is not None:
        home = asked.home
        try:
            description = await asked.describe(event.name)
            tags = await asked.tags(described_job(event, description).arn.text)
        except (EdgeFault, JobFault, JobRefused) as error:
            fault = error
    now = JobNow(home, description, tags, fault)
    arn = now.arn_of(event)
    if arn is None or checkpoint is None:
        return now
    return replace(now, rows=await checkpoint.described(arn.key))

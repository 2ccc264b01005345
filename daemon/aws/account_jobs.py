"""The training jobs of one entry of ``accounts``: those of any account, with faults that say whose
they are, so that they concern no other account.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from daemon.errors import DaemonError, EdgeFault
from daemon.reasons import Edge
from daemon.unforeseen import unforeseen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daemon.aws.ports import JobPage, TrainingJobs
    from daemon.training_job.identity import Home
    from daemon.training_job.metric_series import MetricSeries
    from daemon.training_job.tuning_job import TuningJob


class AccountTrainingJobs:
    """A `daemon.aws.ports.TrainingJobs` whose faults have a `where`.

    Args:
        jobs: the account's and region's.
        where: ``<account>/<region>``.
    """

    def __init__(self, jobs: TrainingJobs, where: str) -> None:
        self._jobs = jobs
        self._where = where

    @property
    def home(self) -> Home:
        return self._jobs.home

    @property
    def elsewhere(self) -> Mapping[str, TrainingJobs]:
        return {}

    async def describe(self, name: str) -> Mapping[str, Any]:
        """See `daemon.aws.ports.TrainingJobs.describe`."""
        with self._of_here("describe"):
            return await self._jobs.describe(name)

    async def tags(self, arn: str) -> Mapping[str, str]:
        """See `daemon.aws.ports.TrainingJobs.tags`."""
        with self._of_here("tags"):
            return await self._jobs.tags(arn)

    async def list_page(
        self, *, created_after: float, created_before: float, token: str | None = None
    ) -> JobPage:
        """See `daemon.aws.ports.TrainingJobs.list_page`."""
        with self._of_here("list"):
            return await self._jobs.list_page(
                created_after=created_after, created_before=created_before, token=token
            )

    async def metric_series(
        self, description: Mapping[str, Any]
    ) -> tuple[tuple[MetricSeries, ...], tuple[str, ...]]:
        """See `daemon.aws.ports.TrainingJobs.metric_series`."""
        return await self._jobs.metric_series(description)

    async def tuning_job(
        self, description: Mapping[str, Any]
    ) -> tuple[TuningJob | None, tuple[str, ...]]:
        """See `daemon.aws.ports.TrainingJobs.tuning_job`."""
        return await self._jobs.tuning_job(description)

    async def probe(self) -> None:
        """See `daemon.aws.ports.TrainingJobs.probe`."""
        with self._of_here("the probe"):
            await self._jobs.probe()

    @contextmanager
    def _of_here(self, call: str) -> Iterator[None]:
        try:
            yield
        except EdgeFault as fault:
            raise fault.of(self._where) from fault
        except DaemonError:
            raise
        except Exception as error:
            raise unforeseen(Edge.SAGEMAKER, call, error).of(self._where) from error

"""The adapters of the daemon, built from the settings; tests/simulation builds others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from daemon.aws.clients import Endpoints, open_clients
from daemon.aws.metric_series import MetricSeriesReader
from daemon.aws.queue import SqsQueue
from daemon.aws.training_jobs import SageMakerTrainingJobs, resolve_home
from daemon.checkpoint.registry import open_checkpoint
from daemon.observability.http import serve_http
from daemon.targets.registry import TARGET_KINDS, open_target
from daemon.training_job.identity import Home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from daemon.aws.clients import AwsClients
    from daemon.aws.errors import Observe
    from daemon.aws.ports import Queue, TrainingJobs
    from daemon.checkpoint.ports import Checkpoint
    from daemon.config.settings import Settings
    from daemon.observability.http import HealthReport, HttpServer
    from daemon.observability.metrics import Metrics
    from daemon.targets.ports import Target, WritePermit


class Parts(Protocol):
    """The adapters of `daemon.app.Daemon`. Each is opened once."""

    async def checkpoint(self) -> Checkpoint:
        """The open checkpoint; the caller closes it."""

    def aws(self, observe: Observe) -> AbstractAsyncContextManager[tuple[Queue, TrainingJobs]]:
        """The queue and SageMaker. Their clients are closed with the context.

        Args:
            observe: called with (service, operation, result) for each request.

        Raises:
            EdgeFault: they cannot be opened now; it is to be tried again.
        """

    def target(self, observe: Callable[[str, str], None], permit: WritePermit | None) -> Target:
        """The target, not yet connected; the caller closes it.

        Args:
            observe: called with (operation, result) for each request.
            permit: to write, for a single-writer target; None for the others.
        """

    async def http(
        self,
        *,
        metrics: Metrics,
        healthz: Callable[[], HealthReport],
        readyz: Callable[[], HealthReport],
    ) -> HttpServer:
        """The listening server; the caller closes it.

        Args:
            metrics: for ``/metrics``.
            healthz: called at each request for ``/healthz``.
            readyz: called at each request for ``/readyz``.
        """


class ConfiguredParts:
    """The adapters of the settings. Each method may raise `SetupFault`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def checkpoint(self) -> Checkpoint:
        return await open_checkpoint(self._settings.checkpoint, self._settings.target.target_place)

    @asynccontextmanager
    async def aws(self, observe: Observe) -> AsyncIterator[tuple[Queue, TrainingJobs]]:
        aws, queue = self._settings.aws, self._settings.queue
        async with open_configured_clients(self._settings) as clients:
            yield (
                SqsQueue(
                    clients.sqs_polling,
                    clients.sqs,
                    queue.url,
                    dead_letter_url=queue.dead_letter_url,
                    observe=observe,
                ),
                SageMakerTrainingJobs(
                    clients.sagemaker,
                    Home(aws.account_id, clients.region, clients.partition),
                    resolve=lambda: resolve_home(clients, aws.account_id, observe),
                    series=None
                    if clients.sagemaker_metrics is None
                    else MetricSeriesReader(clients.sagemaker_metrics, observe),
                    observe=observe,
                ),
            )

    def target(self, observe: Callable[[str, str], None], permit: WritePermit | None) -> Target:
        return open_target(self._settings.target, observe, permit)

    async def http(
        self,
        *,
        metrics: Metrics,
        healthz: Callable[[], HealthReport],
        readyz: Callable[[], HealthReport],
    ) -> HttpServer:
        http = self._settings.http
        return await serve_http(
            http.host, http.port, metrics=metrics, healthz=healthz, readyz=readyz
        )


def reads_metric_series(settings: Settings) -> bool:
    """Whether metric series are asked for: they are wanted, and the target writes them."""
    return settings.jobs.metric_series and TARGET_KINDS[settings.target.kind].takes_metric_series


def open_configured_clients(settings: Settings) -> AbstractAsyncContextManager[AwsClients]:
    """The AWS clients of the sections ``aws`` and ``queue``."""
    return open_clients(
        queue_url=settings.queue.url,
        region=settings.aws.region,
        endpoints=Endpoints(
            sqs=settings.aws.sqs_endpoint_url,
            sagemaker=settings.aws.sagemaker_endpoint_url,
            sts=settings.aws.sts_endpoint_url,
            sagemaker_metrics=settings.aws.sagemaker_metrics_endpoint_url,
        ),
        pollers=settings.queue.pollers,
        wait_seconds=settings.queue.wait_seconds,
        metric_series=reads_metric_series(settings),
    )

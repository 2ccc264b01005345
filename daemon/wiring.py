"""The parts of the daemon that touch the outside, built from the settings. The simulation in
tests/simulation builds others.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from daemon.aws.clients import Endpoints, open_clients
from daemon.aws.queue import SqsQueue
from daemon.aws.training_jobs import SageMakerTrainingJobs, resolve_home
from daemon.checkpoint.registry import open_checkpoint
from daemon.observability.http import serve_http
from daemon.targets.registry import open_target
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
    """What `daemon.app.Daemon` is made of beside its own loops. Each is opened once, in the order
    of the methods.
    """

    async def checkpoint(self) -> Checkpoint:
        """Opened; closed by the caller."""

    def aws(self, observe: Observe) -> AbstractAsyncContextManager[tuple[Queue, TrainingJobs]]:
        """The queue and SageMaker, with the clients under them, which close with the context.

        Args:
            observe: told (service, operation, result) of each request.
        """

    def target(self, observe: Callable[[str, str], None], permit: WritePermit | None) -> Target:
        """Not yet connected; closed by the caller.

        Args:
            observe: told (operation, result) of each request.
            permit: to write, for a target that takes one writer only.
        """

    async def http(
        self,
        *,
        metrics: Metrics,
        healthz: Callable[[], HealthReport],
        readyz: Callable[[], HealthReport],
    ) -> HttpServer:
        """Listening; closed by the caller."""


class ConfiguredParts:
    """The real `Parts`, as the settings want them. Each method may raise `SetupFault`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def checkpoint(self) -> Checkpoint:
        return await open_checkpoint(self._settings.checkpoint)

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


def open_configured_clients(settings: Settings) -> AbstractAsyncContextManager[AwsClients]:
    """The AWS clients as the sections ``aws`` and ``queue`` want them; see
    `daemon.aws.clients.open_clients`.
    """
    return open_clients(
        queue_url=settings.queue.url,
        region=settings.aws.region,
        endpoints=Endpoints(
            sqs=settings.aws.sqs_endpoint_url,
            sagemaker=settings.aws.sagemaker_endpoint_url,
            sts=settings.aws.sts_endpoint_url,
        ),
        pollers=settings.queue.pollers,
        wait_seconds=settings.queue.wait_seconds,
    )

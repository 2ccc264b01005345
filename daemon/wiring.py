"""The adapters of the daemon, built from the settings; tests/simulation builds others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from daemon.aws.account_jobs import AccountTrainingJobs
from daemon.aws.clients import Endpoints, open_clients
from daemon.aws.errors import unobserved
from daemon.aws.metric_series import MetricSeriesReader
from daemon.aws.queue import SqsQueue
from daemon.aws.signing_credentials import SigningCredentials
from daemon.aws.training_jobs import SageMakerTrainingJobs, resolve_home
from daemon.checkpoint.registry import checkpoint_reader, open_checkpoint
from daemon.observability.http import serve_http
from daemon.observability.site import StatusSite
from daemon.operations.reconcile import ReconcileRules
from daemon.pipeline.flow import FlowRules
from daemon.targets.kind import TargetContext
from daemon.targets.ports import NoPermit
from daemon.targets.registry import TARGET_KINDS, open_target
from daemon.training_job.identity import Home

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from daemon.aws.clients import AwsClients
    from daemon.aws.errors import Observe
    from daemon.aws.ports import Queue, TrainingJobs
    from daemon.checkpoint.ports import Checkpoint
    from daemon.config.settings import Settings
    from daemon.observability.http import HealthReport, HttpServer
    from daemon.observability.metrics import Metrics
    from daemon.observability.site import StatusSource
    from daemon.targets.ports import Target, WritePermit


class Parts(Protocol):
    """The adapters of `daemon.app.Daemon`. Each is opened once."""

    async def checkpoint(self, observe: Observe) -> Checkpoint:
        """The open checkpoint; the caller closes it.

        Args:
            observe: called with (service, operation, result) for each request.

        Raises:
            EdgeFault: it cannot be opened now; it is to be tried again.
        """

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
        status: StatusSource,
    ) -> HttpServer:
        """The listening server; the caller closes it.

        Args:
            metrics: for ``/metrics``.
            healthz: called at each request for ``/healthz``.
            readyz: called at each request for ``/readyz``.
            status: asked for the status page.
        """


class ConfiguredParts:
    """The adapters of the settings. Each method may raise `SetupFault`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def checkpoint(self, observe: Observe) -> Checkpoint:
        settings = self._settings
        return await open_checkpoint(
            settings.checkpoint, settings.target.target_place, observe=observe
        )

    @asynccontextmanager
    async def aws(self, observe: Observe) -> AsyncIterator[tuple[Queue, TrainingJobs]]:
        aws, queue = self._settings.aws, self._settings.queue
        async with open_configured_clients(self._settings, observe=observe) as clients:
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
                    listing=clients.sagemaker_listing,
                    resolve=lambda: resolve_home(clients, aws.account_id, observe),
                    series=None
                    if clients.sagemaker_metrics is None
                    else MetricSeriesReader(clients.sagemaker_metrics, observe),
                    elsewhere=jobs_elsewhere(clients, aws.account_id, observe),
                    observe=observe,
                ),
            )

    def target(self, observe: Callable[[str, str], None], permit: WritePermit | None) -> Target:
        return open_configured_target(self._settings, observe, permit)

    async def http(
        self,
        *,
        metrics: Metrics,
        healthz: Callable[[], HealthReport],
        readyz: Callable[[], HealthReport],
        status: StatusSource,
    ) -> HttpServer:
        http = self._settings.http
        site = None
        if http.status_page:
            site = StatusSite(status, checkpoint_reader(self._settings.checkpoint))
        return await serve_http(
            http.host, http.port, metrics=metrics, healthz=healthz, readyz=readyz, site=site
        )


def training_jobs(
    settings: Settings, clients: AwsClients, home: Home, observe: Observe = unobserved
) -> SageMakerTrainingJobs:
    """SageMaker's training jobs of all configured accounts and regions, for a verb.

    Args:
        settings: the configuration.
        clients: the open clients.
        home: the daemon's own account and region.
        observe: called after each call.
    """
    return SageMakerTrainingJobs(
        clients.sagemaker,
        home,
        listing=clients.sagemaker_listing,
        elsewhere=jobs_elsewhere(clients, settings.aws.account_id, observe),
        observe=observe,
    )


def jobs_elsewhere(
    clients: AwsClients, own_account: str | None, observe: Observe = unobserved
) -> Mapping[str, TrainingJobs]:
    """The training jobs of the other configured accounts and regions, by ``<account>/<region>``.

    Args:
        clients: the open clients.
        own_account: ``aws.account_id``; its jobs in the daemon's own region are left out.
        observe: called after each call.
    """
    found: dict[str, TrainingJobs] = {}
    for member in clients.members:
        if (member.account, member.region) == (own_account, clients.region):
            continue
        where = f"{member.account}/{member.region}"
        jobs = SageMakerTrainingJobs(
            member.sagemaker,
            Home(member.account, member.region, member.partition, confirmed=True),
            listing=member.sagemaker_listing,
            series=None
            if member.sagemaker_metrics is None
            else MetricSeriesReader(member.sagemaker_metrics, observe),
            observe=observe,
        )
        found[where] = AccountTrainingJobs(jobs, where)
    return found


def flow_rules(settings: Settings) -> FlowRules:
    """The part of the configuration that concerns jobs."""
    return FlowRules(
        statuses=frozenset(settings.jobs.statuses),
        tag_keys=settings.jobs.tag_keys.as_tag_keys(),
        tag_defaults=settings.jobs.tag_defaults.as_tag_defaults(),
        redact=settings.jobs.redact,
        look_back_seconds=settings.reconcile.look_back_seconds,
        skip_unknown_accounts=settings.jobs.unknown_accounts == "skip",
    )


def reconcile_rules(settings: Settings) -> ReconcileRules:
    """The part of the configuration that concerns jobs without an event."""
    return ReconcileRules(
        statuses=frozenset(settings.jobs.statuses),
        look_back_seconds=settings.reconcile.look_back_seconds,
        longest_job_seconds=settings.reconcile.longest_job_seconds,
    )


def reads_metric_series(settings: Settings) -> bool:
    """Whether metric series are asked for: they are wanted, and the target writes them."""
    return settings.jobs.metric_series and TARGET_KINDS[settings.target.kind].takes_metric_series


def open_configured_target(
    settings: Settings,
    observe: Callable[[str, str], None] = lambda _operation, _result: None,
    permit: WritePermit | None = None,
) -> Target:
    """The target of the section ``target``, not yet connected; the caller closes it.

    Args:
        settings: the configuration.
        observe: called with (operation, result) of each request.
        permit: to write, for a single-writer target; None: nothing will be written to it.

    Raises:
        SetupFault: a file that the settings name cannot be used.
    """
    return open_target(settings.target, target_context(settings, observe, permit))


def target_context(
    settings: Settings,
    observe: Callable[[str, str], None] = lambda _operation, _result: None,
    permit: WritePermit | None = None,
) -> TargetContext:
    """What the daemon gives a target beside its settings; arguments as `open_configured_target`."""
    aws = settings.aws
    return TargetContext(
        observe,
        NoPermit() if permit is None else permit,
        SigningCredentials(
            queue_url=settings.queue.url,
            region=aws.region,
            sqs_elsewhere=aws.sqs_endpoint_url is not None,
        ),
    )


def open_configured_clients(
    settings: Settings, *, pollers: int | None = None, observe: Observe = unobserved
) -> AbstractAsyncContextManager[AwsClients]:
    """The AWS clients of the sections ``aws``, ``accounts`` and ``queue``.

    Args:
        settings: the configuration.
        pollers: concurrent receives; None: ``queue.pollers``.
        observe: called after each AssumeRole.
    """
    return open_clients(
        queue_url=settings.queue.url,
        region=settings.aws.region,
        endpoints=Endpoints(
            sqs=settings.aws.sqs_endpoint_url,
            sagemaker=settings.aws.sagemaker_endpoint_url,
            sts=settings.aws.sts_endpoint_url,
            sagemaker_metrics=settings.aws.sagemaker_metrics_endpoint_url,
        ),
        pollers=settings.queue.pollers if pollers is None else pollers,
        wait_seconds=settings.queue.wait_seconds,
        metric_series=reads_metric_series(settings),
        accounts=[each.as_access() for each in settings.accounts],
        observe=observe,
    )

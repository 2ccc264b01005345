"""The target MLflow: exactly one run per job. Read `daemon.targets.mlflow.job_sync` first."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.clock import monotonic, wall
from daemon.errors import DaemonError, EdgeFault, JobFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.targets.http.session import HttpSession
from daemon.targets.mlflow.auth import fixed_headers, request_signer
from daemon.targets.mlflow.client import HINTS, MlflowClient
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.experiments import Experiments
from daemon.targets.mlflow.job_sync import JobSync, Server
from daemon.targets.mlflow.mapping import map_run
from daemon.targets.mlflow.marked_runs import MarkedRuns, Sighting
from daemon.targets.mlflow.model_versions import ModelVersions
from daemon.targets.mlflow.preview import preview
from daemon.targets.mlflow.repair import RunRepair
from daemon.targets.mlflow.settings import WORKSPACE_HEADER
from daemon.targets.ports import Repair
from daemon.targets.renaming import quoted
from daemon.targets.tls import tls_context
from daemon.training_job.identity import iso_milliseconds

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.kind import TargetContext
    from daemon.targets.mlflow.mapping import MappedRun
    from daemon.targets.mlflow.settings import MlflowSettings
    from daemon.targets.ports import Preview, TargetRun, WriteJournal
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun

CREATES_BEGUN_PER_SLOT = 2
"""Creates with a durable intent per slot of the client: enough to keep the slots busy, and few,
because a create with an intent cannot be released when the daemon stops."""
PERMITTED_SECONDS = 300.0
"""For this long after a job was written, a missing permission is that of one experiment or model,
and so of the jobs in it; otherwise it is this program's on the whole server."""
_NO_SUCH_MODEL = "name = 'sagemaker-modeldb-sync-probe'"

_REASONS = {
    ApiErrorKind.DATABASE_DOWN: Reason.UNAVAILABLE,
    ApiErrorKind.UNAVAILABLE: Reason.UNAVAILABLE,
    ApiErrorKind.THROTTLED: Reason.THROTTLED,
    ApiErrorKind.TIMEOUT: Reason.UNREACHABLE,
    ApiErrorKind.CONNECTION: Reason.UNREACHABLE,
    ApiErrorKind.UNAUTHENTICATED: Reason.CREDENTIALS,
    ApiErrorKind.HOST_REFUSED: Reason.NOT_THE_API,
    ApiErrorKind.NOT_THE_API: Reason.NOT_THE_API,
}
_WRITES = frozenset(
    {
        "experiments/create",
        "runs/create",
        "runs/log-batch",
        "runs/log-inputs",
        "registered-models/create",
        "model-versions/create",
    }
)


def open_mlflow(settings: MlflowSettings, context: TargetContext) -> MlflowTarget:
    """The configured target, not yet connected. Called in a running event loop.

    Args:
        settings: the section ``target``.
        context: the observer of requests, and the AWS credentials for a managed server.

    Raises:
        SetupFault: a file that the settings name cannot be used.
    """
    headers = fixed_headers(settings)
    # no secret: what MLflow says of a workspace may be quoted
    public = {name: headers.pop(name) for name in {WORKSPACE_HEADER} & headers.keys()}
    session = HttpSession(
        HINTS,
        headers=headers,
        public_headers=public,
        tls=tls_context(settings.ca_file, settings.client_cert_file, settings.client_key_file),
        timeout_seconds=settings.timeout_seconds,
        max_concurrency=settings.max_concurrency,
    )
    client = MlflowClient(
        session,
        settings.base_url,
        signer=request_signer(settings, context.aws_credentials),
        observe=context.observe,
    )
    return MlflowTarget(
        client,
        settle_seconds=settings.settle_seconds,
        experiment_prefix=settings.experiment_prefix,
        register_models=settings.register_models,
        ui_url=settings.pages_url,
        managed_arn=None if settings.managed is None else settings.managed.arn,
    )


class MlflowTarget:
    """A `daemon.targets.ports.Target`.

    Args:
        client: closed with the target.
        settle_seconds: how long a create without an answer may still be processed.
        experiment_prefix: goes before the names of experiments.
        register_models: whether model versions are registered.
        ui_url: of the web pages, for links to runs; None: no links.
        managed_arn: of the server, if SageMaker manages it.
        sleep: for the settle time, in seconds.
        wall_clock: epoch seconds; dates the runs, so that of duplicates the first is kept.
        suffix: a random text that tells apart runs of the same millisecond.
    """

    def __init__(
        self,
        client: MlflowClient,
        *,
        settle_seconds: float,
        experiment_prefix: str = "",
        register_models: bool = True,
        ui_url: str | None = None,
        managed_arn: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wall_clock: Callable[[], float] = wall,
        suffix: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self._client = client
        self._settle_seconds = settle_seconds
        self._experiment_prefix = experiment_prefix
        self._register_models = register_models
        self._sleep = sleep
        experiments = Experiments(client)
        versions = ModelVersions(client, enabled=register_models)
        self._versions = versions
        self._runs = MarkedRuns(client, experiments, versions, ui_url)
        self._server = Server(
            client,
            experiments,
            self._runs,
            versions,
            asyncio.Semaphore(CREATES_BEGUN_PER_SLOT * client.max_concurrency),
            self._settle,
            lambda: f"{_iso(wall_clock())} {suffix()}",
            None if managed_arn is None else managed_arn.lower(),
        )
        self._written_at: float | None = None
        """When a job was last written, in monotonic seconds."""
        self._doubtful_repairs: dict[JobMark, float] = {}
        """When a repair of a job had an unanswered call, in monotonic seconds."""

    @property
    def kind(self) -> str:
        return "mlflow"

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        """See `Target.sync`. A `JobRefused` is always MLflow's own verdict on a write."""
        mapped = self._mapped(run)
        try:
            done = await JobSync(self._server, run, mapped, journal).sync()
        except ApiError as error:
            raise self._fault_of(error, mapped) from error
        if done.target_run.created:
            self._written_at = monotonic()
        return done.target_run

    async def compare(self, run: TrainingRun) -> Repair | None:
        """See `Target.compare`."""
        try:
            seen = await self._runs.anywhere(run.mark)
            if not seen.active:
                return None if seen.removed is None else await self._removed(seen, run.mark)
            kept, *duplicates = seen.active
            repair = RunRepair(self._server, kept.id, run, self._mapped(run))
            changed, unchangeable = await repair.compare()
            described = await self._runs.with_version(kept, run.mark)
        except ApiError as error:
            raise self._fault_of(error) from error
        doubled = tuple(f"run {each.id} (a duplicate)" for each in duplicates)
        return Repair(described, (*doubled, *changed), unchangeable)

    async def repair(self, run: TrainingRun, journal: WriteJournal) -> Repair:
        """See `Target.repair`. Duplicates are healed first, and an incomplete run is completed."""
        await self._settle_repair(run.mark)
        mapped = self._mapped(run)
        try:
            sync = JobSync(self._server, run, mapped, journal)
            done = await sync.sync(look_up_first=True)
            target_run = done.target_run
            if target_run.created:
                return Repair(target_run)
            if done.run.deleted:
                return Repair(target_run, unchangeable=(target_run.detail,))
            healed = (f"duplicates of the run ({target_run.healed})",) if target_run.healed else ()
            run_id = done.run.id
            repair = RunRepair(self._server, run_id, run, mapped)
            changed, unchangeable = await repair.repair(lambda: sync.register(run_id))
        except ApiError as error:
            if error.outcome_unknown:
                self._doubtful_repairs[run.mark] = monotonic()
            raise self._fault_of(error) from error
        return Repair(target_run, (*healed, *changed), unchangeable)

    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        """See `Target.find`. Duplicates are healed."""
        if unanswered_writes:
            await self._settle()
        try:
            seen = Sighting() if unanswered_writes else await self._by_version(mark)
            if not seen.active:
                seen = await self._runs.anywhere(mark)
            if not seen.active:
                removed = seen.removed
                return None if removed is None else await self._runs.with_version(removed, mark)
            kept, healed = await self._runs.keep_first(seen.active, mark)
            if unanswered_writes:
                await self._versions.keep_lowest(await self._versions.of_run(kept.id, mark))
            return await self._runs.with_version(kept, mark, healed=healed)
        except ApiError as error:
            raise self._fault_of(error) from error

    def preview(self, run: TrainingRun) -> Preview:
        """See `Target.preview`."""
        return preview(self._mapped(run))

    async def probe(self) -> None:
        """See `Target.probe`. MLflow's own ``/health`` says OK without its database."""
        try:
            await self._client.search_experiments(max_results=1)
            if self._register_models:
                await self._client.search_model_versions(_NO_SUCH_MODEL)
        except ApiError as error:
            raise _probe_fault(error) from error

    async def aclose(self) -> None:
        await self._client.aclose()

    def _mapped(self, run: TrainingRun) -> MappedRun:
        return map_run(
            run,
            experiment_prefix=self._experiment_prefix,
            register_models=self._register_models,
        )

    async def _settle(self) -> None:
        await self._sleep(self._settle_seconds)

    async def _settle_repair(self, mark: JobMark) -> None:
        """A call without an answer may still be carried out, and would undo what comes now."""
        since = self._doubtful_repairs.pop(mark, None)
        if since is not None:
            await self._sleep(max(0.0, since + self._settle_seconds - monotonic()))

    async def _by_version(self, mark: JobMark) -> Sighting:
        """The job's run if a model version was registered from it, in two calls at any size."""
        found = [
            run
            for run_id in await self._versions.run_ids(mark)
            if (run := await self._runs.with_id(run_id)) is not None
        ]
        return Sighting.of(found, mark)

    async def _removed(self, seen: Sighting, mark: JobMark) -> Repair:
        assert seen.removed is not None  # noqa: S101 - for the type checker
        described = await self._runs.with_version(seen.removed, mark)
        return Repair(described, unchangeable=(described.detail,))

    def _fault_of(self, error: ApiError, mapped: MappedRun | None = None) -> DaemonError:
        """See `fault_of`. Where access is denied, the detail names what the job writes to."""
        if error.kind is not ApiErrorKind.ACCESS_DENIED:
            return fault_of(error)
        detail = error.detail
        if mapped is not None:
            detail += f": experiment {quoted(mapped.experiment_name)}"
            if mapped.model is not None:
                detail += f", model {quoted(mapped.model.name)}"
        if self._written_at is not None and monotonic() - self._written_at < PERMITTED_SECONDS:
            return JobFault(Reason.TARGET_FAULT, detail)
        return EdgeFault(Edge.TARGET, Reason.ACCESS_DENIED, detail)


def fault_of(error: ApiError) -> DaemonError:
    """The fault of an `ApiError`: the edge's, this job's for now, or this job's for good."""
    if error.kind in _REASONS:
        return EdgeFault(
            Edge.TARGET,
            _REASONS[error.kind],
            error.detail,
            curable=error.unforeseen or error.kind is not ApiErrorKind.NOT_THE_API,
        )
    if error.kind is ApiErrorKind.ACCESS_DENIED:
        return EdgeFault(Edge.TARGET, Reason.ACCESS_DENIED, error.detail)
    if error.kind is ApiErrorKind.INACTIVE:
        return JobRefused(
            Reason.TARGET_REFUSED,
            f"{error.detail}: the run or its experiment was deleted in MLflow while the job was "
            "written; restore it (mlflow experiments restore, mlflow runs restore) and send the "
            "job again",
        )
    if error.kind is ApiErrorKind.INVALID and error.operation in _WRITES:
        return JobRefused(Reason.TARGET_REFUSED, error.detail)
    return JobFault(Reason.TARGET_FAULT, error.detail)


def _probe_fault(error: ApiError) -> DaemonError:
    """The fault of a probe, which a working MLflow never refuses."""
    fault = fault_of(error)
    if isinstance(fault, EdgeFault):
        return fault
    if error.kind in {ApiErrorKind.INTERNAL, ApiErrorKind.DATABASE_REFUSED}:
        return EdgeFault(Edge.TARGET, Reason.UNAVAILABLE, error.detail)
    return EdgeFault(Edge.TARGET, Reason.NOT_THE_API, error.detail, curable=False)


def _iso(epoch_seconds: float) -> str:
    return iso_milliseconds(datetime.fromtimestamp(epoch_seconds, UTC))

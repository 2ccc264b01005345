"""One attempt to write one job as exactly one complete run. Start reading at `JobSync.sync`.

A run takes several calls. Only two are not idempotent: runs/create, which brings the mark and all
tags, and model-versions/create. Both are in the journal before they are sent. Everything else is
sent again when an attempt was interrupted, and the status comes last: a run with the mark and a
terminal status is complete and is not written to, because people may have changed it since.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.targets.mlflow import limits
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.mapping import (
    ARN_TAG,
    CREATION_TIME_TAG,
    WRITTEN_TAG,
    distinct_run_name,
)
from daemon.targets.mlflow.marked_runs import ADOPTED_TAG, Sighting, is_complete
from daemon.targets.mlflow.model_versions import has_mark
from daemon.targets.mlflow.retries import until_recorded, until_visible

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from daemon.targets.mlflow.client import MlflowClient
    from daemon.targets.mlflow.entities import ModelVersion, Run
    from daemon.targets.mlflow.experiments import Experiments
    from daemon.targets.mlflow.mapping import MappedRun
    from daemon.targets.mlflow.marked_runs import MarkedRuns
    from daemon.targets.mlflow.model_versions import ModelVersions
    from daemon.targets.ports import TargetRun, WriteJournal
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun

MARK = (ARN_TAG, CREATION_TIME_TAG)

EXPERIMENTS_TRIED = 3
"""Attempts at a job's experiment when people delete it meanwhile."""
TAGS_PER_BATCH = 100
"""Of one runs/log-batch: the server's limit."""

_Created = TypeVar("_Created")
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Server:
    """What all attempts share.

    Attributes:
        client: of the server.
        experiments: of the server.
        runs: of the server.
        versions: of the server.
        creates: limits the creates with a durable intent.
        settle: waits until a create without an answer must have been processed.
        stamp: the value of the next run's `WRITTEN_TAG`; later ones are greater.
        managed_arn: of the server, in lower case; None: it is not managed by SageMaker.
    """

    client: MlflowClient
    experiments: Experiments
    runs: MarkedRuns
    versions: ModelVersions
    creates: asyncio.Semaphore
    settle: Callable[[], Awaitable[None]]
    stamp: Callable[[], str]
    managed_arn: str | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The end of an attempt."""

    target_run: TargetRun
    run: Run
    """As it was found or created. If it is `deleted`, a person did that."""


class JobSync:
    """Writes one job; see the module docstring.

    Args:
        server: where to.
        run: the job.
        mapped: the same.
        journal: of its writes.
    """

    def __init__(
        self, server: Server, run: TrainingRun, mapped: MappedRun, journal: WriteJournal
    ) -> None:
        self._server = server
        self._client = server.client
        self._job = run
        self._mark: JobMark = run.mark
        self._mapped = mapped
        self._journal = journal
        self._notes: list[str] = list(mapped.notes)

    async def sync(self, *, look_up_first: bool = False) -> Done:
        """Writes what is missing of the job.

        Args:
            look_up_first: also where the checkpoint vouches that the job is new.

        Raises:
            ApiError: a call failed.
            JobRefused: its experiment was deleted.
            JobFault, EdgeFault: also those of the journal.
        """
        seen = await self._look_up(thorough=look_up_first)
        if len(seen.active) > 1 or await self._is_in_doubt(seen):
            seen = await self._settled(seen)
        if not seen.active and seen.removed is not None:
            self._journal.settled()
            project = self._mapped.experiment_name
            described = self._server.runs.described(seen.removed, project, created=False)
            return Done(replace(described, notes=tuple(self._notes)), seen.removed)
        done = await self._found(seen) if seen.active else await self._new(seen)
        self._journal.settled()
        return done

    async def _found(self, seen: Sighting) -> Done:
        run, healed = await self._server.runs.keep_first(seen.active, self._mark)
        version = await self._server.versions.keep_lowest(
            await self._server.versions.of_run(run.id, self._mark)
        )
        if not is_complete(run):
            if not self._journal.unanswered_writes:
                # a job that is deleted now must be known to have an incomplete run
                await self._journal.begin_write(self._lock_name)
            write = self._adopt if ADOPTED_TAG in run.tags else self._fill
            version = await write(run, version)
            run = replace(run, status=self._mapped.status)
        return Done(self._told(await self._server.runs.named(run, version, healed=healed)), run)

    async def _new(self, seen: Sighting) -> Done:
        given = await self._run_of_sagemaker()
        if given is not None:
            versions = await self._server.versions.of_run(given.id, self._mark)
            version = await self._adopt(given, await self._server.versions.keep_lowest(versions))
            adopted = replace(
                given,
                tags={**self._mapped.tags, **given.tags},
                status=given.status if is_complete(given) else self._mapped.status,
            )
            return Done(self._told(await self._server.runs.named(adopted, version)), adopted)
        run, seen = await self._created_or_seen(seen)
        if run is None:
            return await self._found(seen)
        version = await self._fill(run, None)
        run = replace(run, status=self._mapped.status)
        described = self._server.runs.described(
            run, self._mapped.experiment_name, version, created=True
        )
        return Done(self._told(described), run)

    def _told(self, described: TargetRun) -> TargetRun:
        distinct_name = distinct_run_name(self._mapped.run_name, self._mark)
        detail = described.detail
        if described.ids.get("run") == distinct_name:
            detail = (
                f"named {distinct_name!r}, because another run has the name "
                f"{self._mapped.run_name!r}"
            )
        return replace(described, detail=detail, notes=tuple(self._notes))

    @property
    def _lock_name(self) -> str:
        return f"mlflow/run/{self._mark.short_hash}/{self._mark.job_name}"

    # --- lookup -----------------------------------------------------------------------------------

    async def _look_up(self, *, thorough: bool) -> Sighting:
        """The job's runs: on the whole server if they may be outside its experiment."""
        unknown = self._journal.look_up_first or self._journal.unanswered_writes
        if not thorough and unknown and (noted := await self._noted_run()) is not None:
            return noted
        if not (thorough or unknown or self._is_for_adoption):
            return await self._in_own_experiment()
        return await self._anywhere()

    async def _anywhere(self) -> Sighting:
        seen = await self._server.runs.anywhere(self._mark)
        if seen.runs or self._is_for_adoption:
            return seen
        return await self._in_own_experiment()

    async def _in_own_experiment(self) -> Sighting:
        experiment_id = await self._server.experiments.id_of(self._mapped, self._journal)
        return await self._server.runs.in_experiment(experiment_id, self._mark)

    async def _noted_run(self) -> Sighting | None:
        """The run that an interrupted attempt created: before that it had looked everywhere."""
        run_id = self._journal.steps.get("run_id")
        run = await self._server.runs.with_id(run_id) if run_id else None
        if run is None or run.deleted or not has_mark(run.tags, self._mark):
            return None
        return Sighting.of([run], self._mark)

    async def _is_in_doubt(self, seen: Sighting) -> bool:
        """Whether creates without an answer may still be processed. Found runs and versions account
        for one create each.
        """
        unaccounted = self._journal.unanswered_writes - min(1, seen.runs)
        if unaccounted > 0 and seen.active:
            versions = await self._server.versions.of_run(seen.active[0].id, self._mark)
            unaccounted -= min(1, len(versions))
        return unaccounted > 0

    async def _settled(self, before: Sighting) -> Sighting:
        """The job's runs when no create is in doubt any more."""
        await self._server.settle()
        seen = await self._anywhere()
        if not seen.runs:
            if before.runs:
                raise JobFault(
                    Reason.TARGET_FAULT, "the job's run existed and is gone: was it just deleted?"
                )
            self._journal.settled()
        return seen

    # --- the run ----------------------------------------------------------------------------------

    async def _created_or_seen(self, seen: Sighting) -> tuple[Run | None, Sighting]:
        """The new run; None if the job's experiment is another one now and has runs of the job."""
        gone = ""
        for _ in range(EXPERIMENTS_TRIED):
            experiment_id = await self._server.experiments.id_of(self._mapped, self._journal)
            if gone or self._is_for_adoption:
                seen = await self._server.runs.in_experiment(experiment_id, self._mark)
                if seen.active:
                    return None, seen
            try:
                return await self._create(experiment_id, seen), seen
            except ApiError as error:
                if error.kind not in {ApiErrorKind.ABSENT, ApiErrorKind.INACTIVE}:
                    raise
                self._server.experiments.forget(self._mapped.experiment_name)
                gone = error.detail
        raise JobFault(Reason.TARGET_FAULT, f"the job's experiment was deleted meanwhile: {gone}")

    async def _create(self, experiment_id: str, seen: Sighting) -> Run:
        name = self._mapped.run_name
        if seen.name_is_taken:
            name = distinct_run_name(name, self._mark)
        run = await self._create_once(
            "runs/create",
            lambda: until_visible(
                self._client.create_run,
                experiment_id,
                run_name=name,
                start_time=self._mapped.start_time,
                tags={**self._mapped.tags, WRITTEN_TAG: self._server.stamp()},
                ready=self._journal.require_lease,
            ),
        )
        if not has_mark(run.tags, self._mark):
            await self._refuse_unmarked(run)
        # counts as unanswered until the run is complete, so that an interrupted one is completed
        forgotten = dict.fromkeys(self._journal.steps, "")  # of a run that is gone for good
        steps = {"experiment_id": experiment_id, "run_id": run.id}
        await self._journal.note_steps({**forgotten, **steps})
        return run

    async def _create_once(
        self, operation: str, create: Callable[[], Awaitable[_Created]]
    ) -> _Created:
        """Sends a create that is not idempotent, with a durable intent."""
        outages = self._client.outages
        async with self._server.creates:
            self._client.refuse_if_out_since(outages, operation)
            await self._journal.begin_write(self._lock_name)
            try:
                return await create()
            except ApiError as error:
                if not error.outcome_unknown:
                    self._journal.answered()
                raise

    async def _refuse_unmarked(self, run: Run) -> None:
        """Deletes a run that the server stored without the mark: nobody would find it again."""
        await self._client.delete_run(run.id)
        self._journal.answered()
        raise EdgeFault(
            Edge.TARGET,
            Reason.NOT_THE_API,
            f"runs/create: the new run {run.id} came back without the tags of its mark and was "
            "deleted; target.tracking_uri must be that of an MLflow tracking server",
            curable=False,
        )

    # --- its content ------------------------------------------------------------------------------

    async def _fill(self, run: Run, version: ModelVersion | None) -> ModelVersion | None:
        """Writes everything that did not come with the create.

        Args:
            run: incomplete.
            version: that was registered from it.

        Returns:
            The version.
        """
        try:
            await self._log(run)
        except ApiError as error:
            if error.kind is not ApiErrorKind.INVALID:
                raise
            raise JobRefused(
                Reason.TARGET_REFUSED,
                f"{error.detail}; run {run.id} stays incomplete in MLflow, with status RUNNING",
            ) from error
        version = await self._registered(run.id, version)
        await until_visible(
            self._client.update_run,
            run.id,
            status=self._mapped.status,
            end_time=self._mapped.end_time,
        )
        return version

    async def _log(self, run: Run) -> None:
        mapped = self._mapped
        for key, value in mapped.params.items():
            if run.params.get(key, value) != value:
                self._notes.append(f"param {key!r} stays as first written: MLflow cannot change it")
        params = {key: value for key, value in mapped.params.items() if key not in run.params}
        for some_metrics, some_params in limits.batches(mapped.metrics, params):
            await until_visible(
                self._client.log_batch, run.id, metrics=some_metrics, params=some_params
            )
        if mapped.inputs:
            await until_recorded(self._client.log_inputs, run.id, mapped.inputs)

    async def _registered(self, run_id: str, version: ModelVersion | None) -> ModelVersion | None:
        """Registers the job's model version unless that has been done."""
        model = self._mapped.model
        if model is None or version is not None:
            return version
        if self._journal.steps.get("model_version"):
            return None  # a person deleted it
        await self._server.versions.register(model)
        try:
            version = await self._create_once(
                "model-versions/create",
                lambda: self._server.versions.create(model, run_id, self._journal.require_lease),
            )
        except ApiError as error:
            if error.kind is not ApiErrorKind.INVALID or error.outcome_unknown:
                raise
            self._notes.append(f"MLflow refused the model version: {error.detail}")
            return None
        # counts as unanswered until the run is complete, like its create
        await self._journal.note_steps({"model_version": version.version})
        return version

    async def register(self, run_id: str) -> ModelVersion | None:
        """Registers the version that a complete run lacks; None if MLflow refuses it."""
        await self._journal.begin_write(
            self._lock_name
        )  # as of an incomplete run: see `_is_in_doubt`
        version = await self._registered(run_id, None)
        self._journal.settled()
        return version

    # --- a run of SageMaker's own -----------------------------------------------------------------

    @property
    def _is_for_adoption(self) -> bool:
        """Whether SageMaker's MLflow integration wrote a run of this job to this server."""
        arn = self._job.mlflow_resource_arn
        return bool(arn and self._job.mlflow_run_id and arn.lower() == self._server.managed_arn)

    async def _run_of_sagemaker(self) -> Run | None:
        run_id = self._job.mlflow_run_id
        if not self._is_for_adoption or run_id is None:
            return None
        run = await self._server.runs.with_id(run_id)
        return None if run is None or run.deleted else run

    async def _adopt(self, run: Run, version: ModelVersion | None) -> ModelVersion | None:
        """Writes what SageMaker does not. The mark is last: with it, the run is known to have all
        of this. A status that SageMaker or the training code gave stays. Otherwise as `_fill`.
        """
        if self._mapped.inputs:
            await until_recorded(self._client.log_inputs, run.id, self._mapped.inputs)
        version = await self._registered(run.id, version)
        mark = {key: self._mapped.tags[key] for key in MARK}
        tags = {
            key: value
            for key, value in self._mapped.tags.items()
            if key not in mark and not (key.startswith("mlflow.") and key in run.tags)
        }
        for some in in_batches(list(tags.items())):
            await self._client.log_batch(run.id, tags=dict(some))
        await self._client.log_batch(run.id, tags={ADOPTED_TAG: "true", **mark})
        if not is_complete(run):
            await self._client.update_run(
                run.id, status=self._mapped.status, end_time=self._mapped.end_time
            )
        return version


def in_batches(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """As many tags at a time as one runs/log-batch takes."""
    for begin in range(0, len(items), TAGS_PER_BATCH):
        yield items[begin : begin + TAGS_PER_BATCH]

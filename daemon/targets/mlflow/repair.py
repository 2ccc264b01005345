"""Brings a run in MLflow up to date with its job, for ``sync --force``.

All calls but the registration of a model version name the run and are idempotent, so they need no
intent in the checkpoint, and a repair can be interrupted anywhere: the next one compares again and
does what is left. The job stays synced meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.mlflow import limits
from daemon.targets.mlflow.differences import differences
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.job_sync import in_batches
from daemon.targets.mlflow.mapping import VERSION_DESCRIPTION_TAG
from daemon.targets.mlflow.marked_runs import ADOPTED_TAG
from daemon.targets.mlflow.retries import until_recorded
from daemon.targets.renaming import quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.mlflow.client import MlflowClient
    from daemon.targets.mlflow.differences import Differences
    from daemon.targets.mlflow.entities import ModelVersion, Run
    from daemon.targets.mlflow.job_sync import Server
    from daemon.targets.mlflow.mapping import MappedRun
    from daemon.training_job.training_run import TrainingRun

Texts = tuple[str, ...]


class RunRepair:
    """The repair of one run. Every call raises `ApiError`.

    Args:
        server: the run's.
        run_id: of the job's run, which is complete.
        run: the job.
        mapped: the same.
    """

    def __init__(self, server: Server, run_id: str, run: TrainingRun, mapped: MappedRun) -> None:
        self._server = server
        self._client: MlflowClient = server.client
        self._run_id = run_id
        self._run = run
        self._mapped = mapped

    async def compare(self) -> tuple[Texts, Texts]:
        """What `repair` would change, and what it could not. Only reads."""
        _, found, changed, unchangeable = await self._compared()
        return (*found.changed, *changed), (*found.unchangeable, *unchangeable)

    async def repair(
        self, register: Callable[[], Awaitable[ModelVersion | None]]
    ) -> tuple[Texts, Texts]:
        """What was changed, and what could not be.

        Args:
            register: registers the job's model version; None if MLflow refuses it.
        """
        stored, found, changed, unchangeable = await self._compared()
        registered = _NO_VERSION in changed and await register() is not None
        if changed and not registered:
            changed, unchangeable = (), (*unchangeable, "model version: refused by MLflow")
        await self._apply(stored, found, registered=registered)
        return (*found.changed, *changed), (*found.unchangeable, *unchangeable)

    async def _compared(self) -> tuple[Run, Differences, Texts, Texts]:
        """The run, its differences, and what else can and cannot be changed."""
        stored = await self._client.get_run(self._run_id)
        versions = await self._server.versions.of_run(self._run_id, self._run.mark)
        found = differences(stored, versions, self._mapped, self._run)
        changed: Texts = ()
        unchangeable: Texts = ()
        if found.lacks_version and VERSION_DESCRIPTION_TAG in stored.tags:
            unchangeable = ("model version: deleted by people, or refused by MLflow",)
        elif found.lacks_version:
            changed = (_NO_VERSION,)
        if ADOPTED_TAG not in stored.tags:
            experiment = await self._client.get_experiment(stored.experiment_id)
            if experiment.name != self._mapped.experiment_name:
                moved = (
                    f"experiment: the job's is {quoted(self._mapped.experiment_name)}, its run is "
                    f"in {quoted(experiment.name)}; MLflow cannot move a run"
                )
                unchangeable = (*unchangeable, moved)
        return stored, found, changed, unchangeable

    async def _apply(self, stored: Run, found: Differences, *, registered: bool) -> None:
        client, run_id = self._client, self._run_id
        for metrics, params in limits.batches(found.metrics, found.params):
            await client.log_batch(run_id, metrics=metrics, params=params)
        if found.inputs:
            await until_recorded(client.log_inputs, run_id, found.inputs)
        if found.version_description is not None:
            version, description = found.version_description
            await client.update_model_version(version.name, version.version, description)
        tags = dict(found.tags)
        if registered:
            tags[VERSION_DESCRIPTION_TAG] = self._mapped.tags[VERSION_DESCRIPTION_TAG]
        for some in in_batches(list(tags.items())):
            await client.log_batch(run_id, tags=dict(some))
        for key in found.old_tags:
            await self._delete_tag(key)
        if found.status is not None or found.end_time is not None:
            await client.update_run(
                run_id, status=found.status or stored.status, end_time=found.end_time
            )

    async def _delete_tag(self, key: str) -> None:
        try:
            await self._client.delete_tag(self._run_id, key)
        except ApiError as error:
            if error.kind is not ApiErrorKind.ABSENT:
                raise


_NO_VERSION = "model version (missing)"

"""The runs that carry a job's mark: lookup, deletion of duplicates, description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.mapping import ARN_TAG, CREATION_TIME_TAG, DOUBLE_OF_TAG, WRITTEN_TAG
from daemon.targets.mlflow.model_versions import has_mark
from daemon.targets.ports import TargetRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daemon.targets.mlflow.client import MlflowClient
    from daemon.targets.mlflow.entities import ModelVersion, Run
    from daemon.targets.mlflow.experiments import Experiments
    from daemon.targets.mlflow.model_versions import ModelVersions
    from daemon.training_job.identity import JobMark

ADOPTED_TAG = "sagemaker_sync_adopted"
"""On a run that SageMaker's own MLflow integration created: never deleted as a duplicate."""
TERMINAL = frozenset({"FINISHED", "FAILED", "KILLED"})


def is_complete(run: Run) -> bool:
    """Whether a run with a mark holds all of its job: the status is written last."""
    return run.status in TERMINAL


@dataclass(frozen=True, slots=True)
class Sighting:
    """The runs of a job that a lookup found."""

    active: Sequence[Run] = ()
    """The one to keep first."""
    removed: Run | None = None
    """A run that a person deleted."""
    name_is_taken: bool = False
    """By the run of an earlier job with the same ARN."""

    @property
    def runs(self) -> int:
        return len(self.active) or int(self.removed is not None)

    @classmethod
    def of(cls, runs: Iterable[Run], mark: JobMark) -> Sighting:
        """Of runs with the mark's ARN."""
        runs = list(runs)
        # A found run may be deleted as a duplicate, so the query alone is not proof enough.
        ours = {run.id: run for run in runs if has_mark(run.tags, mark)}
        removed = [run for run in ours.values() if run.deleted and DOUBLE_OF_TAG not in run.tags]
        return cls(
            sorted((run for run in ours.values() if not run.deleted), key=_order),
            min(removed, key=_order, default=None),
            any(
                run.id not in ours and not run.deleted and run.tags.get(ARN_TAG) == mark.arn
                for run in runs
            ),
        )


def _order(run: Run) -> tuple[bool, str, str]:
    return ADOPTED_TAG not in run.tags, run.tags.get(WRITTEN_TAG, ""), run.id


class MarkedRuns:
    """Operations on runs that exist. All raise `ApiError`.

    Args:
        client: the server's.
        experiments: of the same server.
        versions: of the same server.
        ui_url: of its web pages, for links; None: no links.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiments: Experiments,
        versions: ModelVersions,
        ui_url: str | None,
    ) -> None:
        self._client = client
        self._experiments = experiments
        self._versions = versions
        self._pages = None if ui_url is None else ui_url.rstrip("/")

    async def in_experiment(self, experiment_id: str, mark: JobMark) -> Sighting:
        """The job's runs in one experiment."""
        return Sighting.of(await self._client.search_runs([experiment_id], _by_arn(mark)), mark)

    async def anywhere(self, mark: JobMark) -> Sighting:
        """The job's runs on the server, which has no search over all experiments at once."""
        found: list[Run] = []
        by_mark = f"{_by_arn(mark)} and tags.`{CREATION_TIME_TAG}` = '{mark.creation_time}'"
        async for ids in self._experiments.chunks_of_ids():
            found += await self._client.search_runs(ids, by_mark)
        return Sighting.of(found, mark)

    async def with_id(self, run_id: str) -> Run | None:
        """A run, deleted or not; None if there is none of this id."""
        try:
            return await self._client.get_run(run_id)
        except ApiError as error:
            if error.kind not in {ApiErrorKind.ABSENT, ApiErrorKind.INVALID}:
                raise
            return None

    async def keep_first(self, active: Sequence[Run], mark: JobMark) -> tuple[Run, int]:
        """Deletes all of a job's runs but the first.

        Returns:
            That run, and how many were deleted.
        """
        kept, *duplicates = active
        healed = 0
        for run in duplicates:
            if ADOPTED_TAG not in run.tags:
                healed += await self._delete(run, kept, mark)
        return kept, healed

    async def _delete(self, run: Run, kept: Run, mark: JobMark) -> bool:
        """Deletes a duplicate. A deleted run takes no tags, so the reason is written first."""
        try:
            await self._client.set_tag(run.id, DOUBLE_OF_TAG, kept.id)
            for version in await self._versions.of_run(run.id, mark):
                await self._versions.delete(version)
            await self._client.delete_run(run.id)
        except ApiError as error:
            if error.kind not in {ApiErrorKind.ABSENT, ApiErrorKind.INACTIVE}:
                raise
            return False  # already deleted
        return True

    async def named(
        self, run: Run, version: ModelVersion | None = None, *, healed: int = 0
    ) -> TargetRun:
        """`described`, with the name that MLflow has for the experiment."""
        try:
            project = (await self._client.get_experiment(run.experiment_id)).name
        except ApiError:
            project = ""
        return self.described(run, project, version, created=False, healed=healed)

    async def with_version(self, run: Run, mark: JobMark, *, healed: int = 0) -> TargetRun:
        """`named`, with the version that was registered from the run."""
        versions = await self._versions.of_run(run.id, mark)
        return await self.named(run, versions[0] if versions else None, healed=healed)

    def described(
        self,
        run: Run,
        project: str,
        version: ModelVersion | None = None,
        *,
        created: bool,
        healed: int = 0,
    ) -> TargetRun:
        """A run as the checkpoint keeps it and people see it.

        Args:
            run: it.
            project: the name of its experiment, "" if unknown.
            version: registered from it.
            created: whether this attempt created it.
            healed: the number of duplicates deleted.
        """
        ids = {
            "experiment_id": run.experiment_id,
            "run_id": run.id,
            "project": project,
            "experiment": run.tags.get("model_name", ""),
            "run": run.name,
        }
        if version is not None:
            ids |= {"model": version.name, "model_version": version.version}
        if self._pages is not None:
            ids["run_url"] = f"{self._pages}/#/experiments/{run.experiment_id}/runs/{run.id}"
        return TargetRun(
            created,
            {key: value for key, value in ids.items() if value},
            healed,
            complete=is_complete(run) or run.deleted,
            detail=removed_detail(run) if run.deleted else "",
        )


def removed_detail(run: Run) -> str:
    """What to tell people of a run that they deleted."""
    return (
        f"run {run.id} was deleted in MLflow by a person, perhaps with its experiment "
        f"{run.experiment_id}, and is not made again; to have it back: mlflow runs restore "
        f"--run-id {run.id}, mlflow experiments restore --experiment-id {run.experiment_id}"
    )


def _by_arn(mark: JobMark) -> str:
    # neither an ARN nor a time has quotes, which MLflow's filters cannot escape
    return f"tags.`{ARN_TAG}` = '{mark.arn}'"

"""The model versions that are registered from a job's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.mapping import ARN_TAG, CREATION_TIME_TAG
from daemon.targets.mlflow.retries import until_visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.targets.mlflow.client import MlflowClient
    from daemon.targets.mlflow.entities import ModelVersion
    from daemon.targets.mlflow.mapping import MappedModel
    from daemon.training_job.identity import JobMark


def has_mark(tags: Mapping[str, str], mark: JobMark) -> bool:
    """Whether these are the tags of a run or model version of the job with this mark."""
    return (tags.get(ARN_TAG), tags.get(CREATION_TIME_TAG)) == (mark.arn, mark.creation_time)


REMEMBERED = 10_000
"""Names of registered models that are cached."""


class ModelVersions:
    """Operations on the model registry. All raise `ApiError`.

    Args:
        client: the server's.
        enabled: False: the registry is not used at all, and nothing is found in it.
    """

    def __init__(self, client: MlflowClient, *, enabled: bool = True) -> None:
        self._client = client
        self._enabled = enabled
        self._registered: dict[str, None] = {}
        """Names of models that exist."""

    async def of_run(self, run_id: str, mark: JobMark) -> Sequence[ModelVersion]:
        """The versions that this program registered from a job's run, the lowest number first.
        People may have registered others from it.
        """
        if not self._enabled:
            return ()
        found = await self._client.search_model_versions(f"run_id = '{run_id}'")
        ours = [version for version in found if has_mark(version.tags, mark)]
        return sorted(ours, key=lambda version: int(version.version))

    async def run_ids(self, mark: JobMark) -> Sequence[str]:
        """The ids of the runs from which versions with this mark were registered."""
        if not self._enabled:
            return ()
        found = await self._client.search_model_versions(f"tags.`{ARN_TAG}` = '{mark.arn}'")
        return sorted({each.run_id for each in found if each.run_id and has_mark(each.tags, mark)})

    async def keep_lowest(self, versions: Sequence[ModelVersion]) -> ModelVersion | None:
        """Deletes all of a run's versions but the first."""
        for version in versions[1:]:
            await self.delete(version)
        return versions[0] if versions else None

    async def delete(self, version: ModelVersion) -> None:
        """Deletes a duplicate for good: MLflow keeps no deleted versions."""
        try:
            await self._client.delete_model_version(version.name, version.version)
        except ApiError as error:
            if error.kind is not ApiErrorKind.ABSENT:
                raise

    async def register(self, model: MappedModel) -> None:
        """Makes the registered model unless there is one of this name."""
        if model.name in self._registered:
            return
        try:
            await self._client.create_registered_model(model.name, model.description)
        except ApiError as error:
            # as for experiments: MLflow up to 2.22 on MySQL
            if error.kind is ApiErrorKind.DATABASE_REFUSED:
                await until_visible(self._client.get_registered_model, model.name)
            elif error.kind is not ApiErrorKind.EXISTS:
                raise
        self._registered[model.name] = None
        if len(self._registered) > REMEMBERED:
            self._registered.pop(next(iter(self._registered)))

    async def create(
        self, model: MappedModel, run_id: str, ready: Callable[[], None] = lambda: None
    ) -> ModelVersion:
        """Registers a version; its model may have been deleted meanwhile. Not idempotent.

        Args:
            model: of which it is a version.
            run_id: of the run.
            ready: as `daemon.targets.http.session.HttpSession.send`.
        """
        try:
            return await self._create(model, run_id, ready)
        except ApiError as error:
            if error.kind is not ApiErrorKind.ABSENT:
                raise
        self._registered.pop(model.name, None)
        await self.register(model)
        return await until_visible(self._create, model, run_id, ready)

    async def _create(
        self, model: MappedModel, run_id: str, ready: Callable[[], None]
    ) -> ModelVersion:
        return await self._client.create_model_version(
            model.name,
            source=model.source,
            run_id=run_id,
            run_link=model.run_link,
            description=model.version_description,
            tags=model.tags,
            ready=ready,
        )

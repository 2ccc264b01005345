"""Rules of the target MLflow, each broken on purpose. See `tests.simulation.mutations`."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from daemon.targets.mlflow import differences, job_sync, marked_runs
from daemon.targets.mlflow.client import MlflowClient
from daemon.targets.mlflow.job_sync import JobSync
from daemon.targets.mlflow.mapping import ARN_TAG, CREATION_TIME_TAG, DOUBLE_OF_TAG, WRITTEN_TAG
from daemon.targets.mlflow.marked_runs import MarkedRuns, Sighting
from daemon.targets.mlflow.model_versions import ModelVersions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from daemon.targets.mlflow.entities import ModelVersion, Run


def status_before_the_rest() -> AbstractContextManager[object]:
    real = JobSync._fill

    async def fill(self: JobSync, run: Run, version: ModelVersion | None) -> ModelVersion | None:
        mapped = self._mapped
        await self._client.update_run(run.id, status=mapped.status, end_time=mapped.end_time)
        return await real(self, run, version)

    return mock.patch.object(JobSync, "_fill", fill)


def running_is_complete() -> AbstractContextManager[object]:
    return mock.patch.object(job_sync, "is_complete", return_value=True)


@contextlib.contextmanager
def no_look_after_an_unknown_create() -> Iterator[None]:
    async def look_up(self: JobSync, *, thorough: bool) -> Sighting:
        del thorough
        await self._server.experiments.id_of(self._mapped, self._journal)
        return Sighting()

    async def is_in_doubt(_self: JobSync, _seen: Sighting) -> bool:
        return False

    with (
        mock.patch.object(JobSync, "_look_up", look_up),
        mock.patch.object(JobSync, "_is_in_doubt", is_in_doubt),
    ):
        yield


def no_settling() -> AbstractContextManager[object]:
    async def is_in_doubt(_self: JobSync, _seen: Sighting) -> bool:
        return False

    return mock.patch.object(JobSync, "_is_in_doubt", is_in_doubt)


def version_without_a_look() -> AbstractContextManager[object]:
    async def none(_self: ModelVersions, _run_id: str, _mark: object) -> list[ModelVersion]:
        return []

    return mock.patch.object(ModelVersions, "of_run", none)


def newest_stays() -> AbstractContextManager[object]:
    real = Sighting.of.__func__  # type: ignore[attr-defined] # the function of the class method

    def of(cls: type[Sighting], runs: Any, mark: Any) -> Sighting:
        seen: Sighting = real(cls, runs, mark)
        return replace(seen, active=list(reversed(seen.active)))

    return mock.patch.object(Sighting, "of", classmethod(of))


def deleted_is_made_again() -> AbstractContextManager[object]:
    real = Sighting.of.__func__  # type: ignore[attr-defined] # as above

    def of(cls: type[Sighting], runs: Any, mark: Any) -> Sighting:
        seen: Sighting = real(cls, runs, mark)
        return replace(seen, removed=None)

    return mock.patch.object(Sighting, "of", classmethod(of))


def mark_after_the_create() -> AbstractContextManager[object]:
    real = MlflowClient.create_run

    async def create(
        self: MlflowClient, experiment_id: str, *, tags: dict[str, str], **more: Any
    ) -> Run:
        mark = {key: tags[key] for key in (ARN_TAG, CREATION_TIME_TAG)}
        others = {key: value for key, value in tags.items() if key not in mark}
        run = await real(self, experiment_id, tags=others, **more)
        for key, value in mark.items():
            await self.set_tag(run.id, key, value)
        return replace(run, tags=tags)

    return mock.patch.object(MlflowClient, "create_run", create)


def double_without_a_word() -> AbstractContextManager[object]:
    real = MlflowClient.set_tag

    async def set_tag(self: MlflowClient, run_id: str, key: str, value: str) -> None:
        if key != DOUBLE_OF_TAG:
            await real(self, run_id, key, value)

    return mock.patch.object(MlflowClient, "set_tag", set_tag)


def versions_of_doubles_stay() -> AbstractContextManager[object]:
    async def delete(self: MarkedRuns, run: Run, kept: Run, _mark: object) -> bool:
        await self._client.set_tag(run.id, DOUBLE_OF_TAG, kept.id)
        await self._client.delete_run(run.id)
        return True

    return mock.patch.object(marked_runs.MarkedRuns, "_delete", delete)


def all_descriptions_are_ours() -> AbstractContextManager[object]:
    return mock.patch.object(differences._Comparison, "_is_to_be_described", return_value=True)


def all_tags_are_ours() -> AbstractContextManager[object]:
    def old_tags(self: differences._Comparison) -> list[str]:
        ours = {*self._mapped.tags, WRITTEN_TAG}
        return [key for key in self._stored.tags if key not in ours]

    return mock.patch.object(differences._Comparison, "old_tags", old_tags)


def edited_runs_are_filled() -> AbstractContextManager[object]:
    return mock.patch.object(job_sync, "is_complete", return_value=False)

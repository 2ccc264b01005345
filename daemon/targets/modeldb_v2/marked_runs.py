"""The runs that carry a job's mark: lookup, deletion of duplicates, description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind
from daemon.targets.modeldb_v2.mapping import ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE
from daemon.targets.modeldb_v2.retries import retrying
from daemon.targets.ports import TargetRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.targets.modeldb_v2.client import ModelDbV2Client
    from daemon.targets.modeldb_v2.entities import Run
    from daemon.training_job.identity import JobMark

OPEN_SOURCE_WORKSPACE = "personal"


def carries(run: Run, mark: JobMark) -> bool:
    """Whether a run is that of the job with this mark."""
    return (run.attributes.get(ARN_ATTRIBUTE), run.attributes.get(CREATION_TIME_ATTRIBUTE)) == (
        mark.arn,
        mark.creation_time,
    )


class MarkedRuns:
    """Operations on runs that exist.

    Args:
        client: the server's.
        ui_url: of its web front end, for links; None: no links.
        workspace: part of the links; None: that of the open-source server.
    """

    def __init__(self, client: ModelDbV2Client, ui_url: str | None, workspace: str | None) -> None:
        self._client = client
        self._pages = (
            None
            if ui_url is None
            else f"{ui_url.rstrip('/')}/{workspace or OPEN_SOURCE_WORKSPACE}/projects"
        )

    async def marked(self, mark: JobMark) -> Sequence[Run]:
        """The runs with this mark anywhere on the server, the oldest first. Raises `ApiError`."""
        found = await self._client.find_experiment_runs(
            {
                f"attributes.{ARN_ATTRIBUTE}": mark.arn,
                f"attributes.{CREATION_TIME_ATTRIBUTE}": mark.creation_time,
            }
        )
        # A found run may be deleted as a duplicate, so the query alone is not proof enough.
        return [run for run in found if carries(run, mark)]

    async def keep_oldest(self, marked: Sequence[Run], *, created: bool = False) -> TargetRun:
        """Deletes all runs but the first and describes that one. Raises `ApiError`."""
        kept, *duplicates = marked
        healed = await self._delete([run.id for run in duplicates]) if duplicates else 0
        return await self.named(kept, created=created, healed=healed)

    async def named(self, run: Run, *, created: bool = False, healed: int = 0) -> TargetRun:
        """`described`, with the names of project and experiment as ModelDB has them."""
        project, experiment = await self._names(run)
        return self.described(run, project, experiment, created=created, healed=healed)

    def described(
        self, run: Run, project: str, experiment: str, *, created: bool, healed: int = 0
    ) -> TargetRun:
        """A run as the checkpoint keeps it and people see it."""
        ids = {
            "project_id": run.project_id,
            "experiment_id": run.experiment_id,
            "run_id": run.id,
            "project": project,
            "experiment": experiment,
            "run": run.name,
        }
        if self._pages is not None:
            ids["run_url"] = f"{self._pages}/{run.project_id}/exp-runs/{run.id}"
        return TargetRun(created, {key: value for key, value in ids.items() if value}, healed)

    async def _delete(self, run_ids: Sequence[str]) -> int:
        """Returns the number of deleted runs."""
        try:
            await retrying(lambda: self._client.delete_experiment_runs(run_ids))
        except ApiError as error:
            if error.kind is not ApiErrorKind.ABSENT:
                raise
            return 0  # already deleted
        return len(run_ids)

    async def _names(self, run: Run) -> tuple[str, str]:
        """Names of the run's project and experiment; "" if they cannot be read."""
        try:
            project = await self._client.get_project_by_id(run.project_id)
            experiment = await self._client.get_experiment_by_id(run.experiment_id)
        except ApiError:
            return "", ""
        return project.name, experiment.name

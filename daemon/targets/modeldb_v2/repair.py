"""Brings a run in ModelDB V2 up to date with its job, for ``sync --force``.

A repair only names the run that was found, and creates nothing, so it needs no intent in the
checkpoint: whatever becomes of one of its calls, no second run can come of it. It can be
interrupted anywhere. The next one compares again and does what is left: each call can be repeated,
or is refused when it was carried out already. The job stays synced meanwhile.

A changed value takes two calls, because ModelDB only adds keys and deletes them; in between the key
is missing. Attributes come last, see `daemon.targets.modeldb_v2.differences`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from daemon.targets.modeldb_v2.differences import differences
from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind
from daemon.targets.modeldb_v2.placement import brought_up_to_date, project_differences
from daemon.targets.modeldb_v2.retries import retrying
from daemon.targets.renaming import quoted

if TYPE_CHECKING:
    from daemon.targets.modeldb_v2.client import ModelDbV2Client
    from daemon.targets.modeldb_v2.differences import Differences, KeyChanges
    from daemon.targets.modeldb_v2.entities import Project
    from daemon.targets.modeldb_v2.mapping import MappedRun
    from daemon.training_job.training_run import TrainingRun

ROUNDS = 3
"""A key that appears between the comparison and a call refuses the call: then again from the start.
"""

Texts = tuple[str, ...]


class RunRepair:
    """The repair of one run. Every call raises `ApiError`.

    Args:
        client: the server's.
        run_id: of the job's run.
        run: the job.
        mapped: the same.
    """

    def __init__(
        self, client: ModelDbV2Client, run_id: str, run: TrainingRun, mapped: MappedRun
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._run = run
        self._mapped = mapped

    async def compare(self) -> tuple[Texts, Texts]:
        """What `repair` would change, and what it could not. Only reads."""
        found, _, changed, unchangeable = await self._compared()
        return (*found.changed, *changed), (*found.unchangeable, *unchangeable)

    async def repair(self) -> tuple[Texts, Texts]:
        """What was changed, and what could not be."""
        done: dict[str, None] = {}
        for last in (*[False] * (ROUNDS - 1), True):
            found, project, of_project, unchangeable = await self._compared()
            done |= dict.fromkeys((*found.changed, *of_project))
            try:
                await self._apply(found)
            except ApiError as error:
                if error.kind is not ApiErrorKind.EXISTS or last:
                    raise
                continue
            if project is not None and of_project:
                unchangeable = (
                    *unchangeable,
                    *await brought_up_to_date(self._client, project, self._mapped),
                )
            return tuple(done), (*found.unchangeable, *unchangeable)
        raise AssertionError("the last round returns or raises")

    async def _compared(self) -> tuple[Differences, Project | None, Texts, Texts]:
        """The run's differences; its project if that can be brought up to date, with its
        differences, and what cannot be changed about either.
        """
        stored = await retrying(lambda: self._client.get_run_content(self._run_id))
        found = differences(stored, self._mapped, self._run)
        project = await retrying(lambda: self._client.get_project_by_id(stored.run.project_id))
        experiment = await retrying(
            lambda: self._client.get_experiment_by_id(stored.run.experiment_id)
        )
        unchangeable = []
        if project.name != self._mapped.project_name:
            unchangeable.append(
                f"project: the job's is {quoted(self._mapped.project_name)}, its run is in "
                f"{quoted(project.name)}; ModelDB cannot move a run"
            )
        if experiment.name != self._mapped.experiment_name:
            unchangeable.append(
                f"experiment: the job's is {quoted(self._mapped.experiment_name)}, its run is in "
                f"{quoted(experiment.name)}; ModelDB cannot move a run"
            )
        if project.name != self._mapped.project_name:
            return found, None, (), tuple(unchangeable)
        changed, kept = project_differences(project, self._mapped)
        return found, project, changed, (*unchangeable, *kept)

    async def _apply(self, found: Differences) -> None:
        client, run_id = self._client, self._run_id
        if found.new_tags:
            await retrying(lambda: client.add_run_tags(run_id, found.new_tags))
        if found.old_tags:
            await retrying(lambda: client.delete_run_tags(run_id, found.old_tags))
        if (text := found.description) is not None:
            await retrying(lambda: client.update_run_description(run_id, text))
        for member, changes in found.keys.items():
            await self._apply_keys(member, changes)

    async def _apply_keys(self, member: str, changes: KeyChanges) -> None:
        client, run_id = self._client, self._run_id
        if member == "datasets":
            await retrying(lambda: client.overwrite_run_datasets(run_id, changes.write))
            return
        if member == "artifacts":
            for key in changes.delete:
                await retrying(partial(client.delete_run_artifact, run_id, key))
        elif changes.delete:
            await retrying(lambda: client.delete_run_entries(run_id, member, changes.delete))
        if changes.write:
            # once: repeated, observations would double, and the others be refused as existing
            await client.log_run_entries(run_id, member, changes.write)

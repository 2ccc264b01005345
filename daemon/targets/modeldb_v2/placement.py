"""Finds or creates the project and experiment of a job.

ModelDB checks for a name and then inserts it, without a uniqueness constraint, so concurrent
creates of one name make duplicates. Creates are therefore serialised: within this process by a lock
per name, across processes by the checkpoint's name locks. If there are duplicates anyway, the
oldest is used.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from daemon.clock import monotonic
from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind
from daemon.targets.modeldb_v2.retries import retrying
from daemon.targets.name_locks import NameLocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from daemon.targets.modeldb_v2.client import ModelDbV2Client
    from daemon.targets.modeldb_v2.entities import Experiment, Project
    from daemon.targets.modeldb_v2.mapping import MappedRun
    from daemon.targets.ports import WriteJournal

USER_ATTRIBUTE = "project_user"
DESCRIPTION_ATTRIBUTE = "sagemaker_project_description"
"""The project description this program wrote last; another one was edited by a person."""

REMEMBERED = 10_000
"""Projects, and as many experiments, whose ids are cached."""
FRESH_SECONDS = 300.0
"""How long a cached id is used without a look whether it still has the name: people rename projects
and experiments."""
SEEN_TAGS = 1000
"""Descriptions and users of one project that are remembered."""

Key = TypeVar("Key")
Found = TypeVar("Found")


def project_attributes(mapped: MappedRun) -> dict[str, str]:
    """The attributes of a job's project."""
    return {
        USER_ATTRIBUTE: mapped.project_user,
        DESCRIPTION_ATTRIBUTE: mapped.project_description,
    }


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run belongs."""

    project_id: str
    experiment_id: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _KnownProject:
    id: str
    found_at: float
    """When it was last found by its name, in monotonic seconds."""
    seen: tuple[tuple[str, str], ...] = ()
    """(description, user) of the jobs that it was brought up to. Of two users with one project name
    and different tags, each changes it once, not with every job."""


class Placement:
    """Cached ids of projects and experiments. Safe for concurrent calls."""

    def __init__(self, client: ModelDbV2Client) -> None:
        self._client = client
        self._projects: dict[str, _KnownProject] = {}
        self._experiments: dict[tuple[str, str], tuple[str, float]] = {}
        self._locks_of_names = NameLocks()

    async def place(self, mapped: MappedRun, journal: WriteJournal) -> Place:
        """Finds or creates project and experiment, and updates an existing project's user and
        description from the tags of a job that has other ones than those before it.

        Raises:
            ApiError: `ApiErrorKind.ABSENT` when a cached project has been deleted: `forget` it and
                retry.
            JobFault, EdgeFault: of the journal's name locks.
        """
        project_id, notes = await self._project(mapped, journal)
        experiment_id = await self._experiment(project_id, mapped.experiment_name, journal)
        return Place(project_id, experiment_id, notes)

    def forget(self, mapped: MappedRun) -> None:
        """Drops a job's project and experiment from the cache."""
        known = self._projects.pop(mapped.project_name, None)
        if known is not None:
            self._experiments.pop((known.id, mapped.experiment_name), None)

    async def _project(
        self, mapped: MappedRun, journal: WriteJournal
    ) -> tuple[str, tuple[str, ...]]:
        name, description, user = (
            mapped.project_name,
            mapped.project_description,
            mapped.project_user,
        )
        tags = (description, user)
        known = self._projects.get(name)
        if known is not None and tags in known.seen and _is_fresh(known.found_at):
            return known.id, ()
        async with self._in_turn(f"project/{name}"):
            known = self._projects.get(name)
            if known is not None and tags in known.seen and _is_fresh(known.found_at):
                return known.id, ()
            found_at = monotonic()
            project = await self._project_called(mapped, journal)
            seen = known.seen if known is not None and known.id == project.id else ()
            notes = () if tags in seen else await brought_up_to_date(self._client, project, mapped)
            seen = (*(each for each in seen if each != tags), tags)[-SEEN_TAGS:]
            _remember(self._projects, name, _KnownProject(project.id, found_at, seen))
            return project.id, notes

    async def _experiment(self, project_id: str, name: str, journal: WriteJournal) -> str:
        known = self._experiments.get((project_id, name))
        if known is not None and _is_fresh(known[1]):
            return known[0]
        async with self._in_turn(f"experiment/{project_id}/{name}"):
            known = self._experiments.get((project_id, name))
            if known is None or not _is_fresh(known[1]):
                found_at = monotonic()
                experiment = await self._experiment_called(project_id, name, journal)
                known = experiment.id, found_at
                _remember(self._experiments, (project_id, name), known)
            return known[0]

    @contextlib.asynccontextmanager
    async def _in_turn(self, name: str) -> AsyncIterator[None]:
        """One job of this process at a time. Those that waited through an outage fail unsent."""
        outages = self._client.outages
        async with self._locks_of_names.turn(name):
            self._client.refuse_if_out_since(outages, f"lookup of {name}")
            yield

    async def _project_called(self, mapped: MappedRun, journal: WriteJournal) -> Project:
        name = mapped.project_name
        fields = {
            "name": name,
            "description": mapped.project_description,
            "attributes": [
                {"key": key, "value": value} for key, value in project_attributes(mapped).items()
            ],
        }
        return await self._found_or_created(
            lambda: self._client.find_projects(name),
            lambda: self._client.create_project(fields),
            journal,
            f"modeldb-v2/project/{name}",
        )

    async def _experiment_called(
        self, project_id: str, name: str, journal: WriteJournal
    ) -> Experiment:
        return await self._found_or_created(
            lambda: self._client.find_experiments(project_id, name),
            lambda: self._client.create_experiment({"project_id": project_id, "name": name}),
            journal,
            f"modeldb-v2/experiment/{project_id}/{name}",
        )

    async def _found_or_created(
        self,
        find: Callable[[], Awaitable[Sequence[Found]]],
        create: Callable[[], Awaitable[Found]],
        journal: WriteJournal,
        lock_name: str,
    ) -> Found:
        async def find_or_create() -> Found:
            if found := await find():
                return found[0]
            try:
                return await create()
            except ApiError as error:
                if error.kind is ApiErrorKind.EXISTS and (found := await find()):
                    return found[0]
                raise

        if found := await retrying(find):
            return found[0]
        async with journal.name_lock(lock_name):
            return await retrying(find_or_create)


def project_differences(
    project: Project, mapped: MappedRun
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What `brought_up_to_date` would change about a job's project, and what stays, for people."""
    written = project.attributes.get(DESCRIPTION_ATTRIBUTE)
    wanted = mapped.project_description
    changed, kept = [], []
    if project.description != wanted:
        if _is_ours(project):
            changed.append("project description (differs)")
        else:
            kept.append("project description: edited by people")
    elif written != wanted:
        changed.append(f"project attribute '{DESCRIPTION_ATTRIBUTE}' (differs)")
    if project.attributes.get(USER_ATTRIBUTE) != mapped.project_user:
        changed.append(f"project attribute '{USER_ATTRIBUTE}' (differs)")
    return tuple(changed), tuple(kept)


async def brought_up_to_date(
    client: ModelDbV2Client, project: Project, mapped: MappedRun
) -> tuple[str, ...]:
    """Writes user and description from the job's tags, except over a person's edits.

    Returns:
        Notes on what could not be written.
    """

    async def set_attribute(key: str, value: str) -> None:
        await retrying(lambda: client.update_project_attribute(project.id, key, value))

    async def describe() -> None:
        await retrying(lambda: client.update_project_description(project.id, wanted))
        await set_attribute(DESCRIPTION_ATTRIBUTE, wanted)

    notes: tuple[str, ...] = ()
    wanted = mapped.project_description
    if project.description != wanted and _is_ours(project):
        notes += await _noting(describe())
    # Ours, but its writer ended before it could note that.
    elif project.description == wanted and project.attributes.get(DESCRIPTION_ATTRIBUTE) != wanted:
        notes += await _noting(set_attribute(DESCRIPTION_ATTRIBUTE, wanted))
    if project.attributes.get(USER_ATTRIBUTE) != mapped.project_user:
        notes += await _noting(set_attribute(USER_ATTRIBUTE, mapped.project_user))
    return notes


def _is_ours(project: Project) -> bool:
    """Whether no person has edited the description."""
    return not project.description or project.description == project.attributes.get(
        DESCRIPTION_ATTRIBUTE
    )


async def _noting(update: Awaitable[None]) -> tuple[str, ...]:
    """Awaits an update of a project whose failure must not fail the run; returns a note instead."""
    try:
        await update
    except ApiError as error:
        if error.kind.is_of_the_server or error.kind is ApiErrorKind.ABSENT:
            raise
        return (f"the project is not up to date with the job's tags: {error.detail}",)
    return ()


def _is_fresh(found_at: float) -> bool:
    return monotonic() - found_at < FRESH_SECONDS


def _remember(known: dict[Key, Found], key: Key, value: Found) -> None:
    known[key] = value
    if len(known) > REMEMBERED:
        known.pop(next(iter(known)))

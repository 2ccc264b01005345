"""Index of the projects and runs of a ModelDB V1 server, by the marks in the runs' descriptions.

The server cannot look up a run by its description, so all runs of a project are read once per
connection, and runs that this process creates are added. The index stays valid as long as the
connection lives, because ModelDB V1 never deletes anything, nothing else writes, and a server whose
database is replaced is restarted. After a failed
or cancelled write, the project is dropped and read again on the same connection, so that the answer
comes after that write. Reads in progress at that moment do not count: they may have come before it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.mapping import mark_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

PROJECTS_READ_AT_ONCE = 16
"""Limits concurrent reads of all projects' runs, whose answers can be large."""


class Caller(Protocol):
    """A connection."""

    async def call(self, method: str, **arguments: object) -> Any: ...  # noqa: ANN401 - each method has its own type of answer


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run that carries a mark."""

    project_id: int
    experiment_id: int
    run_id: int


@dataclass(slots=True)
class Project:
    """A project as known on this connection.

    Attributes:
        id: None: it does not exist yet.
        experiment_id: of its default experiment; None: not yet known.
        making: held while project, experiment and first run are created back to back.
    """

    id: int | None
    experiment_id: int | None = None
    making: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_made(self) -> bool:
        """Whether a run can be stored in it."""
        return self.experiment_id is not None


class RunIndex:
    """The projects and runs of one server; valid for the life of one connection."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._projects: dict[tuple[str, str], Project] = {}
        self._runs: dict[str, FoundRun] = {}
        self._read: set[int] = set()
        self._all_read = False
        self._forgotten = 0
        self._reading = asyncio.Lock()

    async def project(self, name: str, author: str) -> Project:
        """The project of this name and author (the oldest, if several), with its runs indexed.

        Raises:
            CallFailed: a read failed.
        """
        async with self._reading:
            known = self._projects.get((name, author))
            if known is None or (
                known.id is not None and known.id not in self._read and not known.making.locked()
            ):
                ids = await self._caller.call(
                    "getProjectIds", keyValuePairs={"name": name, "author": author}
                )
                await self._read_runs(ids)
                oldest = min(ids, default=None)
                if known is None or known.id != oldest:
                    known = self._projects[name, author] = Project(oldest)
            return known

    def marked(self, marker: str) -> FoundRun | None:
        """The oldest run with this mark in the projects read so far."""
        return self._runs.get(marker)

    async def marked_anywhere(self, marker: str) -> FoundRun | None:
        """The oldest run with this mark in any project of the server.

        Raises:
            CallFailed: a read failed.
        """
        async with self._reading:
            if not self._all_read:
                forgotten = self._forgotten
                await self._read_runs(await self._caller.call("getProjectIds", keyValuePairs={}))
                self._all_read = forgotten == self._forgotten
        return self.marked(marker)

    def newest(self) -> tuple[str, FoundRun] | None:
        """The mark and the run with the highest id among those known."""
        return max(self._runs.items(), key=lambda each: each[1].run_id, default=None)

    async def still_has(self, marker: str, run: FoundRun) -> bool:
        """Whether a run that was known on an earlier connection is there. Reads its project, which
        its jobs will need.

        Raises:
            CallFailed: a read failed.
        """
        async with self._reading:
            await self._read_runs([run.project_id])
        return self.marked(marker) == run

    def add(self, marker: str, run: FoundRun) -> None:
        """Adds a run."""
        known = self._runs.get(marker)
        if known is None or run.run_id < known.run_id:
            self._runs[marker] = run

    def forget(self, name: str, author: str, used: Project | None) -> None:
        """Drops a project whose state is uncertain, so that it is read again before its next use.

        Args:
            name: of the project.
            author: of the project.
            used: the object that the failed attempt used; another attempt may have dropped and
                replaced it already.
        """
        self._all_read = False
        self._forgotten += 1
        for project in (self._projects.pop((name, author), None), used):
            if project is not None and project.id is not None:
                self._read.discard(project.id)

    async def _read_runs(self, project_ids: Iterable[int]) -> None:
        unread = sorted(set(project_ids) - self._read)
        for start in range(0, len(unread), PROJECTS_READ_AT_ONCE):
            some, forgotten = unread[start : start + PROJECTS_READ_AT_ONCE], self._forgotten
            answers = await all_of(
                [
                    self._caller.call("getRunsAndExperimentsInProject", projId=project_id)
                    for project_id in some
                ]
            )
            for project_id, answer in zip(some, answers, strict=True):
                self._add_runs(project_id, answer)
            if forgotten == self._forgotten:
                self._read.update(some)

    def _add_runs(self, project_id: int, answer: Any) -> None:  # noqa: ANN401 - a Thrift struct
        for run in answer.experimentRuns or ():
            marker = mark_in(run.description)
            if marker is not None:
                self.add(marker, FoundRun(project_id, run.experimentId, run.id))


async def all_of(calls: Iterable[Any]) -> list[Any]:
    """Runs calls concurrently and returns their answers in order. Waits for all of them before it
    raises the first error.
    """
    answers = await asyncio.gather(*calls, return_exceptions=True)
    raise_first(answers)
    return answers


def raise_first(answers: Iterable[Any]) -> None:
    """Raises the first exception among the answers, if any."""
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


async def oldest_project(caller: Caller, event: object, key: Mapping[str, str]) -> int:
    """Finds or creates a project; of duplicates, the oldest.

    Args:
        caller: the connection.
        event: the ``ProjectEvent``.
        key: its name and author, as ``getProjectIds`` takes them.

    Returns:
        The project's id.

    Raises:
        CallFailed: a call failed for another reason than duplicates.
    """
    try:
        answer = await caller.call("storeProjectEvent", pr=event)
    except CallFailed as failed:
        if failed.kind is not CallErrorKind.TWIN_ROWS:
            raise
        return int(min(await caller.call("getProjectIds", keyValuePairs=dict(key))))
    return int(answer.projectId)

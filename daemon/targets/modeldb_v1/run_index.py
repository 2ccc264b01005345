"""Which runs a ModelDB V1 has: projects, and the index of the marks that stand in their runs'
descriptions.

The server has no look-up of a run by its description, so all runs of a project are read once per
connection, and what this process writes on that connection is added. Nothing is ever deleted in
ModelDB V1, and nobody else writes, so the index stays true as long as the connection lives. What is
not certain any more (a write that failed or was given up) is forgotten and read anew: on the same
connection, so that the answer comes after that write. A read that is under way at that moment does
not count, for it may have come before it.
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
"""Answers that may be under way while the runs of all projects are read: they can be large."""


class Caller(Protocol):
    """A connection."""

    async def call(self, method: str, **arguments: object) -> Any: ...  # noqa: ANN401 - each method has an answer of its own


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run that carries a mark."""

    project_id: int
    experiment_id: int
    run_id: int


@dataclass(slots=True)
class Project:
    """A project as this connection knows it.

    Attributes:
        id: None: there is none yet.
        experiment_id: of its default experiment; None: not asked yet.
        making: held while project, experiment and first run are made, one right after the other.
    """

    id: int | None
    experiment_id: int | None = None
    making: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_made(self) -> bool:
        """A run can be stored in it."""
        return self.experiment_id is not None


class RunIndex:
    """The projects and runs of one server, as long as one connection lives."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._projects: dict[tuple[str, str], Project] = {}
        self._runs: dict[str, FoundRun] = {}
        self._read: set[int] = set()
        self._all_read = False
        self._forgotten = 0
        self._reading = asyncio.Lock()

    async def project(self, name: str, author: str) -> Project:
        """The project of this name and author, its runs read into the index. Of twins, the oldest
        one.

        Raises:
            CallFailed: of its reads.
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
        """The oldest run with this mark in the projects that have been read."""
        return self._runs.get(marker)

    async def marked_anywhere(self, marker: str) -> FoundRun | None:
        """The oldest run with this mark in any project of the server.

        Raises:
            CallFailed: of its reads.
        """
        async with self._reading:
            if not self._all_read:
                forgotten = self._forgotten
                await self._read_runs(await self._caller.call("getProjectIds", keyValuePairs={}))
                self._all_read = forgotten == self._forgotten
        return self.marked(marker)

    def add(self, marker: str, run: FoundRun) -> None:
        """A run that this process has just made."""
        known = self._runs.get(marker)
        if known is None or run.run_id < known.run_id:
            self._runs[marker] = run

    def forget(self, name: str, author: str, used: Project | None) -> None:
        """What is known of a project may be wrong: it is read anew before it is used again.

        Args:
            used: by whoever knows no more; another attempt may have forgotten it, too, and made a
                new one of the same project.
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
                self._take_over(project_id, answer)
            if forgotten == self._forgotten:
                self._read.update(some)

    def _take_over(self, project_id: int, answer: Any) -> None:  # noqa: ANN401 - a Thrift struct
        for run in answer.experimentRuns or ():
            marker = mark_in(run.description)
            if marker is not None:
                self.add(marker, FoundRun(project_id, run.experimentId, run.id))


async def all_of(calls: Iterable[Any]) -> list[Any]:
    """The answers of calls that go out together, in order. Waits for all of them, then raises the
    first error.
    """
    answers = await asyncio.gather(*calls, return_exceptions=True)
    raise_first(answers)
    return answers


def raise_first(answers: Iterable[Any]) -> None:
    """Raises the first of them that is an error."""
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


async def oldest_project(caller: Caller, event: object, key: Mapping[str, str]) -> int:
    """Finds or makes a project.

    Args:
        event: the ``ProjectEvent``.
        key: its name and author.

    Raises:
        CallFailed: as the server says; never because there are twins, of which the oldest counts.
    """
    try:
        answer = await caller.call("storeProjectEvent", pr=event)
    except CallFailed as failed:
        if failed.kind is not CallErrorKind.TWIN_ROWS:
            raise
        return int(min(await caller.call("getProjectIds", keyValuePairs=dict(key))))
    return int(answer.projectId)

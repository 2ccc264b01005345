"""What the demo needs of a kind of target: a server or a stand-in, an outage of that, and the
runs that it has at the end. `daemon.demo.STAND_INS` names the module of each kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from daemon.demo import STAND_INS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import aiohttp

    from daemon.training_job.identity import JobMark

DATABASE_ANSWER_SECONDS = 0.5
"""How long a stand-in takes to report that its database is down or locked; the real servers take
5.1 s (V2) and 3 s (V1)."""
SETTLE_SECONDS = 1
"""After a write without an answer; a real ModelDB V2 gets 30 s, a real V1 5 s."""


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run, with what it is in and what is in it."""

    project: str
    experiment: str
    name: str
    """The name that the target shows."""
    run_id: str
    mark: JobMark
    """The job's mark; blank for a run without one."""
    metrics: Sequence[tuple[str, float]]
    """Names as the job has them."""
    inputs: Sequence[tuple[str, str]]
    """Name and URI of each channel."""
    models: int
    """In V2 a run is the model."""
    content: str
    """All of it as text."""


class DemoTarget(Protocol):
    """A running server or stand-in."""

    @property
    def system(self) -> str:
        """What it is called: ModelDB, MLflow."""

    @property
    def title(self) -> str:
        """What it is and where, for people."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The configuration's section ``target``."""

    @property
    def outage(self) -> str:
        """What `go_down` does, as a sentence without its end."""

    @property
    def recovery(self) -> str:
        """What `come_back` does to the database, as a sentence without its end."""

    @property
    def run_count(self) -> int:
        """How many runs there are now."""

    @property
    def places(self) -> Sequence[tuple[str, str]]:
        """How to look into it while it stays up: names with addresses or commands."""

    def go_down(self) -> None:
        """The database can no longer be used, the server can be reached."""

    def come_back(self) -> None:
        """Everything works again, but the answer to the next create of a run is lost."""

    async def runs(self) -> Sequence[FoundRun]:
        """All there are."""


def running_target(
    kind: str, http: aiohttp.ClientSession, folder: Path
) -> AbstractAsyncContextManager[DemoTarget]:
    """A server or stand-in that runs until the block ends.

    Args:
        kind: ``target.kind`` of the configuration, one of `STAND_INS`.
        http: to read it, if it is read over HTTP.
        folder: for the files of a real server.
    """
    stand_in: AbstractAsyncContextManager[DemoTarget] = import_module(STAND_INS[kind]).running(
        http, folder
    )
    return stand_in

"""Helpers of the tests of the simulated ModelDB V1."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.targets.modeldb_v1.target import ModelDBV1Target
from tests.simulation.loop import VirtualLoop
from tests.simulation.modeldb_v1_server import SimulatedModelDbV1
from tests.support.modeldb_v1_plain_client import project, run
from tests.support.modeldb_v1_target import Permit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.modeldb_v1.connection import Connection

    Scenario = Callable[[SimulatedModelDbV1], Awaitable[None]]

LINGER_SECONDS = 3.0
SETTLE_SECONDS = 5.0
SEEDS = range(30)


def run_scenario(
    scenario: Scenario, *, seed: int = 1, metadata_store: bool = True, bounded: bool = True
) -> tuple[SimulatedModelDbV1, list[str]]:
    """Runs a scenario; returns the server and the history."""
    history: list[str] = []

    loop = VirtualLoop()

    async def on_server() -> SimulatedModelDbV1:
        server = SimulatedModelDbV1(
            Random(seed),
            loop.spawn,
            lambda line: history.append(f"{loop.time():.4f} {line}"),
            metadata_store=metadata_store,
            linger_seconds=LINGER_SECONDS,
            bounded=bounded,
        )
        await scenario(server)
        return server

    try:
        return loop.run_until_complete(on_server()), history
    finally:
        loop.end()


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(condition: Callable[[], bool]) -> None:
    """Polls a condition."""
    async with asyncio.timeout(100):
        while not condition():
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def target_of(
    server: SimulatedModelDbV1, *, settle_seconds: float = SETTLE_SECONDS, owner: object = None
) -> Any:
    target = ModelDBV1Target(
        partial(server.connect, owner=owner),
        Permit(),
        server_id="test",
        metadata_store=server.metadata_store,
        call_seconds=45.0,
        settle_seconds=settle_seconds,
    )
    try:
        yield target
    finally:
        await target.aclose()


async def new_run(connection: Connection) -> int:
    project_id = (await connection.call("storeProjectEvent", pr=project())).projectId
    experiment = INTERFACE.ExperimentEvent(INTERFACE.Experiment(-1, project_id, "", "", True))
    experiment_id = (await connection.call("storeExperimentEvent", er=experiment)).experimentId
    answer = await connection.call("storeExperimentRunEvent", er=run(experiment_id))
    return int(answer.experimentRunId)

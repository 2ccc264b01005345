"""The index of runs: what is read, when it is valid, and when it is read again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v1 import requests, run_index
from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.mapping import map_job
from daemon.targets.modeldb_v1.run_index import FoundRun, RunIndex, all_of, oldest_project
from tests.support.modeldb_v1_target import full_job, marker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

JOB = map_job(full_job(), metadata_store=False)
KEY = ("customer-churn", "amara")
ALL_RUNS = "getRunsAndExperimentsInProject"


@pytest.fixture
async def connection(server: ModelDbV1StandIn) -> AsyncIterator[Connection]:
    made = await Connection.open("127.0.0.1", server.port)
    yield made
    await made.aclose()


@pytest.fixture
def index(connection: Connection) -> RunIndex:
    return RunIndex(connection)


def add_project(
    server: ModelDbV1StandIn, name: str = KEY[0], author: str = KEY[1], *descriptions: str
) -> int:
    """A project with its experiment and runs of these descriptions."""
    store = server.store
    project = int(
        store.projects.insert({"name": name, "author": author, "description": "", "created": 1})[
            "id"
        ]
    )
    experiment = store.experiments.insert(
        {"project": project, "name": "default", "description": "", "created": 1}
    )["id"]
    for description in descriptions:
        store.runs.insert({"experiment": experiment, "description": description, "created": 1})
    return project


async def test_a_project_that_there_is_not(server: ModelDbV1StandIn, index: RunIndex) -> None:
    project = await index.project(*KEY)
    assert (project.id, project.is_made()) == (None, False)
    assert await index.project(*KEY) is project
    assert server.calls == ["getProjectIds"]


async def test_a_projects_runs_are_read_once(server: ModelDbV1StandIn, index: RunIndex) -> None:
    add_project(server, "customer-churn", "somebody else", marker(full_job("foreign")))
    number = add_project(
        server, *KEY, "", marker(full_job()), "a note of somebody", marker(full_job("b")).upper()
    )
    projects = await asyncio.gather(*(index.project(*KEY) for _ in range(5)))
    assert {id(each) for each in projects} == {id(projects[0])}
    assert projects[0].id == number
    assert server.calls == ["getProjectIds", ALL_RUNS]
    assert index.marked(marker(full_job())) == FoundRun(number, 2, 3)
    assert index.marked(marker(full_job("foreign"))) is None, "of another author's project"


async def test_of_twins_the_oldest_is_used_and_the_runs_of_all_are_known(
    server: ModelDbV1StandIn, index: RunIndex
) -> None:
    older = add_project(server, *KEY)
    newer = add_project(server, *KEY, marker(full_job()))
    assert (await index.project(*KEY)).id == older
    assert index.marked(marker(full_job())) == FoundRun(newer, 2, 1)


async def test_of_two_runs_with_a_mark_the_oldest_counts(
    server: ModelDbV1StandIn, index: RunIndex
) -> None:
    add_project(server, *KEY, marker(full_job()), marker(full_job()))
    await index.project(*KEY)
    index.add(marker(full_job()), FoundRun(1, 1, 3))
    assert index.marked(marker(full_job())) == FoundRun(1, 1, 1)


async def test_the_whole_server_is_read_once(server: ModelDbV1StandIn, index: RunIndex) -> None:
    for number in range(40):
        add_project(server, f"project-{number}", "x", marker(full_job(f"job-{number}")))
    await index.project("project-7", "x")
    found = await asyncio.gather(
        *(index.marked_anywhere(marker(full_job(f"job-{number}"))) for number in range(40))
    )
    assert found == [FoundRun(number, number, number) for number in range(1, 41)]
    assert server.calls.count(ALL_RUNS) == 40
    assert await index.marked_anywhere(marker(full_job("unknown"))) is None
    assert server.calls.count("getProjectIds") == 2


async def test_not_all_large_answers_are_asked_for_at_once(server: ModelDbV1StandIn) -> None:
    for number in range(40):
        add_project(server, f"project-{number}", "x", marker(full_job(f"job-{number}")))
    under_way, most = 0, 0
    connection = await Connection.open("127.0.0.1", server.port)

    class Counting:
        async def call(self, method: str, **arguments: object) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                return await connection.call(method, **arguments)
            finally:
                under_way -= 1

    assert await RunIndex(Counting()).marked_anywhere(marker(full_job("job-39"))) == FoundRun(
        40, 40, 40
    )
    assert most == run_index.PROJECTS_READ_AT_ONCE
    await connection.aclose()


async def test_what_was_forgotten_is_read_anew(server: ModelDbV1StandIn, index: RunIndex) -> None:
    add_project(server, *KEY)
    project = await index.project(*KEY)
    await index.marked_anywhere(marker(full_job()))
    server.store.runs.insert({"experiment": 1, "description": marker(full_job()), "created": 1})
    assert await index.marked_anywhere(marker(full_job())) is None
    index.forget(*KEY, project)
    again = await index.project(*KEY)
    assert again is not project
    assert index.marked(marker(full_job())) == FoundRun(1, 1, 1)


async def test_the_whole_server_is_read_anew_when_something_was_forgotten(
    server: ModelDbV1StandIn, index: RunIndex
) -> None:
    project = await index.project(*KEY)
    assert await index.marked_anywhere(marker(full_job())) is None
    index.forget(*KEY, project)
    add_project(server, *KEY, marker(full_job()))
    assert await index.marked_anywhere(marker(full_job())) == FoundRun(1, 1, 1)


async def test_a_project_that_two_forget(server: ModelDbV1StandIn, index: RunIndex) -> None:
    """The second one's write may have come after the first one's read."""
    add_project(server, *KEY)
    first = await index.project(*KEY)
    index.forget(*KEY, first)
    await index.marked_anywhere("somebody's")
    server.store.runs.insert({"experiment": 1, "description": marker(full_job()), "created": 1})
    index.forget(*KEY, first)
    assert await index.marked_anywhere(marker(full_job())) == FoundRun(1, 1, 1)


@pytest.mark.parametrize("anywhere", [True, False])
async def test_a_read_that_was_under_way_while_something_was_forgotten_does_not_count(
    server: ModelDbV1StandIn, index: RunIndex, *, anywhere: bool
) -> None:
    add_project(server, *KEY)
    hold = server.faults.hold_before_answer(method=ALL_RUNS)
    reading = asyncio.create_task(
        index.marked_anywhere(marker(full_job())) if anywhere else index.project(*KEY)
    )
    await hold.reached.wait()
    server.store.runs.insert({"experiment": 1, "description": marker(full_job()), "created": 1})
    index.forget(*KEY, None)
    hold.release()
    await reading
    assert index.marked(marker(full_job())) is None
    await (index.marked_anywhere(marker(full_job())) if anywhere else index.project(*KEY))
    assert index.marked(marker(full_job())) == FoundRun(1, 1, 1)


async def test_nobody_reads_a_project_while_it_is_made(
    server: ModelDbV1StandIn, index: RunIndex
) -> None:
    project = await index.project(*KEY)
    async with project.making:
        project.id = add_project(server, *KEY)
        assert await index.project(*KEY) is project
    assert server.calls == ["getProjectIds"]
    assert await index.project(*KEY) is project
    assert server.calls == ["getProjectIds", "getProjectIds", ALL_RUNS]


async def test_a_read_that_fails_is_made_again(server: ModelDbV1StandIn, index: RunIndex) -> None:
    add_project(server, *KEY, marker(full_job()))
    error = INTERFACE.ServerLogicException(
        "DataAccessException: SQL [select 1]; [SQLITE_BUSY]  The database file is locked"
    )
    server.faults.refuse(error, method=ALL_RUNS)
    with pytest.raises(CallFailed) as caught:
        await index.project(*KEY)
    assert caught.value.kind is CallErrorKind.STORAGE
    await index.project(*KEY)
    assert index.marked(marker(full_job())) == FoundRun(1, 1, 1)


async def test_a_project_is_found_or_made(server: ModelDbV1StandIn, connection: Connection) -> None:
    key = {"name": KEY[0], "author": KEY[1]}
    assert await oldest_project(connection, requests.project_event(JOB), key) == 1
    assert await oldest_project(connection, requests.project_event(JOB), key) == 1
    add_project(server)
    assert await oldest_project(connection, requests.project_event(JOB), key) == 1
    assert server.calls.count("getProjectIds") == 1
    server.faults.refuse(INTERFACE.ServerLogicException("FooException: x"))
    with pytest.raises(CallFailed):
        await oldest_project(connection, requests.project_event(JOB), key)


async def test_calls_that_go_out_together_are_all_waited_for(
    server: ModelDbV1StandIn, connection: Connection
) -> None:
    server.faults.refuse(
        INTERFACE.ServerLogicException("FooException: the first"), method="getProjectIds"
    )
    hold = server.faults.hold_before_answer(method="testConnection")
    calls = [connection.call("getProjectIds", keyValuePairs={}), connection.call("testConnection")]
    together = asyncio.create_task(all_of(calls))
    await hold.reached.wait()
    assert not together.done()
    hold.release()
    with pytest.raises(CallFailed, match="the first"):
        await together
    assert await all_of([]) == []
    assert await all_of(
        [connection.call("testConnection"), connection.call("getProjectIds", keyValuePairs={})]
    ) == [200, []]

"""A server whose SQLite file is deleted or replaced while the daemon runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from daemon.reasons import Reason
from tests.support.log_lines import log_lines
from tests.support.modeldb_v1_connections import until
from tests.support.modeldb_v1_target import (
    edge_fault,
    full_job,
    lose,
    runs_of,
    until_synced,
    wrong,
)
from tests.support.modeldb_v2_target import MemoryJournal, job_fault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict

    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
    from tests.support.modeldb_v1_target import Permit

RESET = "ModelDB V1 was reset: the newest run that this process knew is gone"
RUN_GONE = "ModelDB V1 was reset: the run of an unfinished job is gone"


@pytest.fixture(params=[True, False], ids=["with-store", "without-store"])
def metadata_store(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def reset(server: ModelDbV1StandIn) -> None:
    """Both databases are new."""
    await server.forget_sqlite()
    server.forget_documents()


def warnings(logs: Sequence[EventDict], event: str) -> list[Any]:
    return [(line["log_level"], line["run_id"]) for line in log_lines(logs, event)]


@pytest.mark.parametrize("jobs", [1, 3])
async def test_a_reset_is_noticed_at_the_next_connection(
    server: ModelDbV1StandIn, target: ModelDBV1Target, jobs: int, *, metadata_store: bool
) -> None:
    for number in range(jobs):
        await target.sync(full_job(f"old-{number}"), MemoryJournal())
    await reset(server)
    with capture_logs() as logs:
        await target.sync(full_job(), MemoryJournal())
        await target.sync(full_job("next"), MemoryJournal())
    assert warnings(logs, RESET) == [("warning", jobs)]
    assert warnings(logs, RUN_GONE) == []
    assert wrong(server, [full_job(), full_job("next")], metadata_store=metadata_store) == []


async def test_a_job_that_comes_again_after_a_reset_is_made_anew(
    server: ModelDbV1StandIn, target: ModelDBV1Target, *, metadata_store: bool
) -> None:
    for attempt in range(2):
        synced = await target.sync(full_job(), MemoryJournal(look_up_first=True))
        assert synced.created
        assert synced.ids["run_id"] == "1"
        if attempt == 0:
            await reset(server)
    again = await target.sync(full_job(), MemoryJournal(look_up_first=True))
    assert not again.created
    assert wrong(server, [full_job()], metadata_store=metadata_store) == []


async def test_numbers_of_projects_from_before_are_not_used(
    server: ModelDbV1StandIn, target: ModelDBV1Target, *, metadata_store: bool
) -> None:
    projects = {name: full_job(name, project_name=name) for name in "abc"}
    for run in projects.values():
        await target.sync(run, MemoryJournal())
    await reset(server)
    for name in "cba":
        await target.sync(projects[name], MemoryJournal())
    assert [row["name"] for row in server.projects] == [*"cba"]
    assert wrong(server, [*projects.values()], metadata_store=metadata_store) == []


async def test_a_restart_without_a_reset_is_none(
    server: ModelDbV1StandIn, target: ModelDBV1Target, *, metadata_store: bool
) -> None:
    with capture_logs() as logs:
        for name in "abc":
            await target.sync(full_job(name), MemoryJournal())
            await server.restart()
    assert warnings(logs, RESET) == []
    assert wrong(server, [full_job(name) for name in "abc"], metadata_store=metadata_store) == []


@pytest.mark.parametrize("metadata_store", [True])
async def test_a_mongodb_that_is_dropped_is_no_reset(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job("a"), MemoryJournal())
    server.forget_documents()
    await server.restart()
    with capture_logs() as logs:
        await target.sync(full_job("b"), MemoryJournal())
    assert warnings(logs, RESET) == []
    assert [each["JOB"]["name"] for each in server.documents] == ["b"]


async def test_an_sqlite_file_from_a_backup_is_a_reset(
    server: ModelDbV1StandIn, target: ModelDBV1Target, *, metadata_store: bool
) -> None:
    """It lacks the newest run; what it has is found."""
    for name in "ab":
        await target.sync(full_job(name), MemoryJournal())
    store, lost = server.store, runs_of(server, full_job("b"))[0]["id"]
    await server.aclose()
    store.runs.delete(lost)
    for table in (store.fits, store.models, store.metrics, store.data_frames, store.specs):
        for row in [dict(each) for each in table if each["experimentRun"] == lost]:
            table.delete(row["id"])
    server.forget_documents()
    await server.start()
    with capture_logs() as logs:
        assert (await target.sync(full_job("b"), MemoryJournal(look_up_first=True))).created
    assert warnings(logs, RESET) == [("warning", lost)]
    found = await target.sync(full_job("a"), MemoryJournal(look_up_first=True))
    assert not found.created


async def test_a_reset_while_another_process_is_the_writer(
    server: ModelDbV1StandIn,
    target: ModelDBV1Target,
    permit: Permit,
    *,
    metadata_store: bool,
) -> None:
    await target.sync(full_job("old"), MemoryJournal())
    permit.end()
    await reset(server)
    assert (await job_fault(target.sync(full_job(), MemoryJournal()))).reason is Reason.STANDING_BY
    permit.holds = True
    with capture_logs() as logs:
        await target.sync(full_job(), MemoryJournal())
    assert warnings(logs, RESET) == [("warning", 1)]
    assert wrong(server, [full_job()], metadata_store=metadata_store) == []


@pytest.mark.parametrize(
    "method",
    [
        "storeExperimentEvent",
        "storeExperimentRunEvent",
        "getExperimentRunDetails",
        "storeFitEvent",
        "storeDataFrame",
        "storeMetricEvent",
    ],
)
async def test_a_reset_in_the_middle_of_a_job(
    server: ModelDbV1StandIn, target: ModelDBV1Target, method: str, *, metadata_store: bool
) -> None:
    journal = MemoryJournal()
    await lose(target, server, method, journal)
    noted = "run_id" in journal.steps
    await reset(server)
    with capture_logs() as logs:
        synced = await target.sync(full_job(), journal)
    assert synced.created
    assert warnings(logs, RUN_GONE) == ([("warning", 1)] if noted else [])
    assert wrong(server, [full_job()], metadata_store=metadata_store) == []


@pytest.mark.parametrize("metadata_store", [True])
async def test_a_reset_between_fit_and_metrics_that_leaves_mongodb(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """Nothing is written until somebody has decided which of the two is right."""
    journal = MemoryJournal()
    await lose(target, server, "storeMetricEvent", journal)
    await server.forget_sqlite()
    fault = await edge_fault(target.sync(full_job(), journal))
    assert "MongoDB is of another database" in fault.detail
    assert server.runs == []
    server.forget_documents()
    await target.sync(full_job(), journal)
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_several_jobs_are_in_progress(
    server: ModelDbV1StandIn, target: ModelDBV1Target, *, metadata_store: bool
) -> None:
    jobs = [full_job(f"churn-{number}") for number in range(8)]
    hold = server.faults.hold_before_execution(5, method="storeFitEvent")
    syncing = asyncio.gather(*(until_synced(target, each, MemoryJournal()) for each in jobs))
    await hold.reached.wait()
    hold.release()
    await server.aclose()
    server.store.clear()
    server.forget_documents()
    await server.start()
    synced = await syncing
    stored = [each for each in jobs if runs_of(server, each)]
    assert stored, "those that were in progress"
    assert wrong(server, stored, metadata_store=metadata_store) == []
    assert all(each.created for each in synced)


@pytest.mark.parametrize("metadata_store", [False])
async def test_ids_that_come_again_do_not_make_the_steps_of_before_true(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """Run 1 and its model 1 had all metrics. The new run 1 and model 1 have none, and the answers
    to both are lost.
    """
    journal = MemoryJournal()
    server.faults.drop_before_answer(4, method="storeMetricEvent")
    await edge_fault(target.sync(full_job(), journal))
    journal.steps = {**journal.steps, "metrics": "0 1 2 3"}
    assert journal.steps["model_id"] == "1"
    await reset(server)
    await lose(target, server, "storeExperimentRunEvent", journal)
    await lose(target, server, "storeFitEvent", journal)
    await until(lambda: server.open_connections == 0)
    await target.sync(full_job(), journal)
    assert wrong(server, [full_job()], metadata_store=False) == []

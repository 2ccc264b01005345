"""Another program writes to the same server: detected, and one complete run per job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from daemon.reasons import Reason
from daemon.targets.modeldb_v1.readback import float32
from tests.support.log_lines import log_lines
from tests.support.modeldb_v1_target import (
    at_each_call,
    edge_fault,
    full_job,
    mixed_up,
    move_models,
    runs_of,
    until_synced,
    wrong,
)
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize("their_id", [True, False])
async def test_a_run_that_got_mixed_up(
    server: ModelDbV1StandIn, target: ModelDBV1Target, *, metadata_store: bool, their_id: bool
) -> None:
    await target.sync(full_job("before"), MemoryJournal())
    server.faults.foreign_writer("ExperimentRun", their_id=their_id)
    journal = MemoryJournal()
    await mixed_up(server, target, journal)
    assert len(server.fits) == 1, "nothing is written into another's run"
    await target.sync(full_job(), journal)
    problems = wrong(server, [full_job("before"), full_job()], metadata_store=metadata_store)
    assert problems == (["a run that nobody wanted: another writer's run"] if their_id else [])


async def test_a_run_that_is_in_another_project(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job("before", project_name="before"), MemoryJournal())
    at_each_call(server, "getExperimentRunDetails", lambda: move_run(server, 2, experiment=1))
    journal = MemoryJournal()
    await mixed_up(server, target, journal)
    assert len(server.fits) == 1
    server.faults.clear()
    assert (await target.sync(full_job(), journal)).ids["run_id"] == "2"


def move_run(server: ModelDbV1StandIn, run: int, *, experiment: int) -> None:
    row = server.store.runs.get(run)
    assert row is not None
    server.store.runs.delete(run)
    server.store.runs.insert(row | {"experiment": experiment})


async def test_a_new_run_that_has_a_model(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """It is another job's whose mark is the same by mistake, or somebody wrote into it."""
    await target.sync(full_job("before"), MemoryJournal())

    def move_model() -> None:
        for table in (server.store.models, server.store.fits):
            table.delete(1)
            table.insert({**moved[table.name], "id": 1, "experimentRun": 2})

    moved = {
        table.name: dict(next(iter(table))) for table in (server.store.models, server.store.fits)
    }
    at_each_call(server, "getExperimentRunDetails", move_model)
    await mixed_up(server, target, MemoryJournal())
    assert len(server.fits) == 1


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize("table", ["DataFrame", "Transformer", "TransformerSpec"])
async def test_a_fit_that_got_mixed_up(
    server: ModelDbV1StandIn, target: ModelDBV1Target, table: str
) -> None:
    journal = MemoryJournal()
    server.faults.foreign_writer(table)
    await mixed_up(server, target, journal)
    await target.sync(full_job(), journal)
    assert len(runs_of(server, full_job())) == 1
    assert len(server.fits) == 1
    assert {each["metricValue"] for each in server.metrics} == {
        float32(each.value) for each in full_job().metrics
    }


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_a_model_that_never_reads_back_is_taken_as_it_is_after_two_fits(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    at_each_call(
        server,
        "storeMetricEvent",
        lambda: list(server.store.specs)[-1].update(tag="somebody else's"),
    )
    journal = MemoryJournal()
    synced = await until_synced(target, full_job(), journal, attempts=4)
    assert len(server.fits) == 2
    note = "model 2 in ModelDB differs from what was written: another program writes to the server"
    assert synced.notes == (note,)
    assert synced.ids["model_id"] == "2"
    assert journal.steps["fits"] == "2"
    await target.sync(full_job(), journal)
    assert len(server.fits) == 2


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_a_model_that_is_shown_in_another_run_is_not_stored_a_third_time(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    at_each_call(server, "storeMetricEvent", lambda: move_models(server))
    synced = await until_synced(target, full_job(), MemoryJournal(), attempts=4)
    assert len(server.fits) == 2
    assert "differs from what was written" in synced.notes[0]


async def test_a_metric_that_got_lost_is_noticed(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()

    def lose_one() -> None:
        if server.metrics:
            server.store.metrics.delete(1)

    at_each_call(server, "getExperimentRunDetails", lose_one)
    fault = await edge_fault(target.sync(full_job(), journal))
    assert fault.reason is Reason.OTHER_WRITER
    server.faults.clear()
    await target.sync(full_job(), journal)
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_damage_by_another_writer_is_logged(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    server.faults.foreign_writer("TransformerSpec")
    with capture_logs() as logs:
        await mixed_up(server, target, MemoryJournal())
    [line] = log_lines(logs, "another writer on ModelDB V1")
    assert (line["log_level"], line["method"]) == ("error", "storeFitEvent")


async def test_a_model_that_is_recorded_as_it_is_is_logged(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    at_each_call(
        server,
        "storeMetricEvent",
        lambda: list(server.store.specs)[-1].update(tag="somebody else's"),
    )
    with capture_logs() as logs:
        await until_synced(target, full_job(), MemoryJournal(), attempts=4)
    assert {
        (line["log_level"], line["model_id"])
        for line in log_lines(logs, "a model does not read back as it was written")
    } == {("error", 2)}

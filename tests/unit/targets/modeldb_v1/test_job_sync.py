"""What a further attempt at a job finds and adds: the run by its mark, data frames, metrics."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import JobFault
from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.training_job.training_run import Metric
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.modeldb_v1_target import (
    CHANNELS,
    cancel_in,
    edge_fault,
    full_job,
    lose,
    marker,
    mixed_up,
    orphan_sets,
    target_on,
    when_it_stores_a_fit,
    writing_connections,
    wrong,
)
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.target import ModelDBV1Target


# The run by its mark
# ---

DOUBTS = [{"look_up_first": True}, {"unanswered_writes": 1}]


@pytest.mark.parametrize("doubt", DOUBTS)
async def test_in_doubt_a_run_is_found_in_any_project(
    server: ModelDbV1StandIn, doubt: dict[str, Any]
) -> None:
    before = full_job(project_name="before", project_user="somebody")
    async with target_on(server.port, metadata_store=True) as target:
        await target.sync(before, MemoryJournal())
    async with target_on(server.port, metadata_store=True) as target:
        synced = await target.sync(full_job(), MemoryJournal(**doubt))
    assert not synced.created
    assert [each["name"] for each in server.projects] == ["before"]
    assert wrong(server, [before], metadata_store=True) == []


@pytest.mark.parametrize("doubt", DOUBTS)
async def test_in_doubt_a_run_that_is_nowhere_is_made(
    server: ModelDbV1StandIn, target: ModelDBV1Target, doubt: dict[str, Any]
) -> None:
    journal = MemoryJournal(**doubt)
    assert (await target.sync(full_job(), journal)).created
    assert journal.unanswered_writes == 0
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_without_doubt_only_the_own_project_is_read(server: ModelDbV1StandIn) -> None:
    others = [full_job(f"other-{number}", project_name=f"project-{number}") for number in range(5)]
    async with target_on(server.port, metadata_store=True) as target:
        for each in [*others, full_job("own")]:
            await target.sync(each, MemoryJournal())
    server.received.clear()
    async with target_on(server.port, metadata_store=True) as target:
        await target.sync(full_job(), MemoryJournal())
    assert server.calls.count("getRunsAndExperimentsInProject") == 1


async def test_without_a_row_of_the_job_its_run_is_found_in_its_project(
    server: ModelDbV1StandIn,
) -> None:
    for created in (True, False):
        async with target_on(server.port, metadata_store=True) as target:
            assert (await target.sync(full_job(), MemoryJournal())).created is created
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_of_two_runs_with_the_mark_the_oldest_counts(server: ModelDbV1StandIn) -> None:
    async with target_on(server.port, metadata_store=True) as target:
        await target.sync(full_job(), MemoryJournal())
    for _ in range(2):
        server.store.runs.insert({"experiment": 1, "description": marker(full_job()), "created": 1})
    async with target_on(server.port, metadata_store=True) as target:
        synced = await target.sync(full_job(), MemoryJournal(look_up_first=True))
    assert (synced.created, synced.ids["run_id"]) == (False, "1")
    assert len(server.fits) == 1


async def test_the_run_of_a_cancelled_attempt_is_found_over_the_same_connection(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job("before"), MemoryJournal())
    journal = MemoryJournal()
    hold = await cancel_in(target, server, "storeExperimentRunEvent", journal)
    again = asyncio.create_task(target.sync(full_job(), journal))
    hold.release()
    assert not (await again).created
    assert len(writing_connections(server)) == 1
    assert wrong(server, [full_job("before"), full_job()], metadata_store=True) == []


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize(
    "method",
    [
        "storeProjectEvent",
        "storeExperimentEvent",
        "storeExperimentRunEvent",
        "storeFitEvent",
        "storeDataFrame",
        "storeMetricEvent",
    ],
)
async def test_whatever_call_a_cancelled_attempt_was_in(
    server: ModelDbV1StandIn, target: ModelDBV1Target, method: str, *, metadata_store: bool
) -> None:
    journal = MemoryJournal()
    hold = await cancel_in(target, server, method, journal)
    again = asyncio.create_task(target.sync(full_job(), journal))
    hold.release()
    await again
    assert wrong(server, [full_job()], metadata_store=metadata_store) == []


async def test_a_read_that_was_under_way_while_a_write_was_given_up_does_not_count(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """It may have come before that write: the run would be made a second time."""
    journal = MemoryJournal()
    experiment = server.faults.hold_before_execution(method="storeExperimentEvent")
    syncing = asyncio.create_task(target.sync(full_job(), journal))
    await experiment.reached.wait()
    look_up = asyncio.create_task(
        target.sync(full_job("other", project_name="other"), MemoryJournal(look_up_first=True))
    )
    read = server.faults.hold_before_answer(method="getRunsAndExperimentsInProject")
    experiment.release()
    await read.reached.wait()  # that of the look-up, in the project that has no run so far
    syncing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await syncing
    again = asyncio.create_task(target.sync(full_job(), journal))
    read.release()
    await asyncio.gather(look_up, again)
    assert (
        wrong(server, [full_job(), full_job("other", project_name="other")], metadata_store=True)
        == []
    )


# Data frames and metrics
# ---


async def test_only_missing_metrics_are_sent(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    server.faults.drop_before_execution(nth=3, method="storeMetricEvent")
    await edge_fault(target.sync(full_job(), journal))
    assert len(server.metrics) == 2
    server.received.clear()
    await target.sync(full_job(), journal)
    assert server.calls.count("storeMetricEvent") == 2
    assert wrong(server, [full_job()], metadata_store=True) == []
    assert len(server.metrics) == 4


@pytest.mark.parametrize("value", [0.1, 1e-45, 123456789.123, -0.0, 3.4028235e38, 1e-50])
async def test_metrics_are_compared_as_the_server_keeps_them(
    server: ModelDbV1StandIn, target: ModelDBV1Target, value: float
) -> None:
    run = full_job(metrics=(Metric("train:x", value),))
    journal = MemoryJournal()
    await target.sync(run, journal)
    await target.sync(run, journal)
    assert len(server.metrics) == 1


async def test_a_metric_on_another_data_frame_is_missing(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await target.sync(full_job(), journal)
    row = next(each for each in server.store.metrics if each["metricType"] == "validation:auc")
    row["df"] = 1
    await target.sync(full_job(), journal)
    frames = {each["df"] for each in server.metrics if each["metricType"] == "validation:auc"}
    assert frames == {1, 2}


async def test_noted_data_frames_are_used_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    server.faults.drop_before_execution(method="storeMetricEvent")
    await edge_fault(target.sync(full_job(), journal))
    await target.sync(full_job(), journal)
    assert len(server.data_frames) == len(CHANNELS)
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_data_frames_stored_beside_a_fit_that_failed_are_used(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    server.faults.refuse(
        INTERFACE.ServerLogicException("FooException: bar"), method="storeFitEvent"
    )
    with pytest.raises(JobFault):
        await target.sync(full_job(), journal)
    assert len(server.data_frames) == 2
    when_it_stores_a_fit(server.faults, partial(setattr, server.faults, "mongo_down", True))
    await edge_fault(target.sync(full_job(), journal))
    server.faults.mongo_down = False
    await target.sync(full_job(), journal)
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_nothing_is_noted_when_rows_got_mixed_up(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """The number of a data frame that was answered may be another's."""
    journal = MemoryJournal()
    server.faults.foreign_writer("TransformerSpec")
    await mixed_up(server, target, journal)
    assert {"data_frame_1", "data_frame_2"}.isdisjoint(journal.steps)


async def test_data_frames_without_an_answer_are_stored_once_more(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    await target.sync(full_job(), journal)
    assert orphan_sets(server) <= 1
    assert len(server.fits) == 1
    assert wrong(server, [full_job()], metadata_store=True) == []


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_notes_of_a_run_that_is_no_longer_there_are_dropped(
    server: ModelDbV1StandIn, target: ModelDBV1Target, *, metadata_store: bool
) -> None:
    """The database was replaced: the numbers that were noted are other jobs' now."""
    journal = MemoryJournal()
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as old,
        target_on(old.port, metadata_store=metadata_store) as target_of_old,
    ):
        await target_of_old.sync(full_job("before"), MemoryJournal())
        await lose(target_of_old, old, "storeMetricEvent", journal)
        assert journal.steps["run_id"] == "2"
    others = [full_job("a"), full_job("b"), full_job("c")]
    for each in others:
        await target.sync(each, MemoryJournal())
    # the run exists, but is empty
    await lose(target, server, "storeExperimentRunEvent", journal)
    assert not (await target.sync(full_job(), journal)).created
    assert wrong(server, [*others, full_job()], metadata_store=metadata_store) == []
    assert journal.steps["run_id"] == "4"

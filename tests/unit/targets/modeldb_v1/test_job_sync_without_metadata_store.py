"""A server without MongoDB, where no read leads from a run to its model."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.modeldb_v1_connections import until
from tests.support.modeldb_v1_target import (
    CHANNELS,
    add_models,
    at_each_call,
    cancel_in,
    edge_fault,
    full_job,
    lose,
    move_models,
    wrong,
)
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn


@pytest.fixture
def metadata_store() -> bool:
    return False


async def test_a_noted_model_is_used_without_a_search(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    add_models(server, 40)
    journal = MemoryJournal()
    await lose(target, server, "storeMetricEvent", journal)
    assert journal.steps["model_id"] == "41"
    server.received.clear()
    await target.sync(full_job(), journal)
    assert server.calls.count("computeModelAncestry") == 2
    assert server.calls.count("getExperimentRunDetails") == 0
    assert len(server.fits) == 41


async def test_a_noted_model_that_is_no_longer_there(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """The database is a copy of before the model."""
    journal = MemoryJournal()
    await lose(target, server, "storeMetricEvent", journal)
    for table in (
        server.store.fits,
        server.store.models,
        server.store.metrics,
        server.store.data_frames,
    ):
        for row in list(table):
            table.delete(row["id"])
    await target.sync(full_job(), journal)
    assert len(server.fits) == 1
    assert wrong(server, [full_job()], metadata_store=False) == []


async def test_a_noted_model_that_is_anothers_now(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeMetricEvent", journal)
    move_models(server)
    await target.sync(full_job(), journal)
    assert [each["experimentRun"] for each in server.fits] == [2, 1]


async def test_a_run_is_read_over_a_connection_of_its_own(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """It may take 30 s, in which no other job would get an answer."""
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    server.received.clear()
    await target.sync(full_job(), journal)
    reading = {
        each.connection for each in server.received if each.method == "getExperimentRunDetails"
    }
    writing = {each.connection for each in server.received if each.method.startswith("store")}
    assert (len(reading), len(writing), reading & writing) == (1, 1, set())
    await until(lambda: server.open_connections == 1)


async def test_a_run_is_read_when_what_was_sent_before_is_carried_out(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal(look_up_first=True)
    hold = await cancel_in(target, server, "storeFitEvent", journal)
    fits: list[int] = []
    at_each_call(server, "getExperimentRunDetails", lambda: fits.append(len(server.fits)))
    again = asyncio.create_task(target.sync(full_job(), journal))
    await asyncio.wait([again], timeout=0.05)  # enough for a read that does not wait for the fit
    hold.release()
    await again
    assert fits == [1]
    assert len(server.fits) == 1


async def test_what_was_answered_is_noted_although_a_call_beside_it_was_lost(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """Without the note of the fit, its model would have to be searched."""
    journal = MemoryJournal()
    server.faults.drop_before_execution(nth=2, method="storeDataFrame")
    await edge_fault(target.sync(full_job(), journal))
    noted = {
        word: journal.steps.get(word)
        for word in ("model_id", "fits", "data_frame_0", "data_frame_1", "data_frame_2")
    }
    assert noted == {
        "model_id": "1",
        "fits": "1",
        "data_frame_0": "1",
        "data_frame_1": "2",
        "data_frame_2": None,
    }
    server.received.clear()
    await target.sync(full_job(), journal)
    assert (
        server.calls.count("storeDataFrame"),
        server.calls.count("getExperimentRunDetails"),
    ) == (
        1,
        0,
    )
    assert len(server.data_frames) == len(CHANNELS)

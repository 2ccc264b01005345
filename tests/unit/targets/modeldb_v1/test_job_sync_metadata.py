"""A model's metadata when the server or its metadata store fails while storing them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from daemon.errors import EdgeFault
from daemon.reasons import Reason
from tests.support.log_lines import log_lines
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.modeldb_v1_target import (
    at_each_call,
    edge_fault,
    full_job,
    lose,
    only,
    orphan_sets,
    runs_of,
    target_on,
    when_it_stores_a_fit,
    wrong,
)
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.target import ModelDBV1Target

MISSING = "the model's metadata are missing in ModelDB: the server ended while it stored them"


async def test_the_metadata_store_is_down_in_the_middle(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """The model exists despite the failure: sent again with its id, it gets its metadata, and
    nothing else happens.
    """
    journal = MemoryJournal()
    when_it_stores_a_fit(server.faults, partial(setattr, server.faults, "mongo_down", True))
    for _ in range(3):
        fault = await edge_fault(target.sync(full_job(), journal))
        assert (fault.reason, fault.curable) == (Reason.UNAVAILABLE, True)
    assert (len(server.fits), server.documents) == (1, [])
    fitted = server.calls.index("storeFitEvent")
    assert "computeModelAncestry" not in server.calls[fitted:], (
        "the metadata store will come back: there is nothing to search for"
    )
    server.faults.mongo_down = False
    synced = await target.sync(full_job(), journal)
    assert synced.notes == ()
    assert wrong(server, [full_job()], metadata_store=True) == []
    assert orphan_sets(server) <= 1, (
        "the answers to the other data frames' calls went with that of the fit"
    )


async def test_several_jobs_while_the_metadata_store_is_down(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    jobs = {name: (full_job(name), MemoryJournal()) for name in "abcde"}
    when_it_stores_a_fit(server.faults, partial(setattr, server.faults, "mongo_down", True))
    await asyncio.gather(*(edge_fault(target.sync(*each)) for each in jobs.values()))
    server.faults.mongo_down = False
    await asyncio.gather(*(target.sync(*each) for each in jobs.values()))
    assert wrong(server, [run for run, _ in jobs.values()], metadata_store=True) == []


async def test_the_answer_that_the_metadata_were_added_is_lost(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    when_it_stores_a_fit(server.faults, partial(setattr, server.faults, "mongo_down", True))
    await edge_fault(target.sync(full_job(), journal))
    server.faults.mongo_down = False
    await lose(target, server, "storeFitEvent", journal)
    await target.sync(full_job(), journal)
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_metadata_that_a_dying_server_did_not_store_are_left_out(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """Sent again, the fit could become two, which no read of the run would survive."""
    journal = MemoryJournal()
    server.faults.die_after_row("Event")  # that of the fit, which comes before its document
    await edge_fault(target.sync(full_job(), journal))
    await server.restart()
    synced = await target.sync(full_job(), journal)
    assert synced.notes == (MISSING,)
    assert server.calls.count("storeFitEvent") == 1
    assert wrong(server, [full_job()], metadata_store=True) == [
        "churn-1: documents [] instead of ['churn-xgb']"
    ]


@pytest.mark.parametrize("table", ["DataFrame", "Transformer", "TransformerSpec", "HyperParameter"])
async def test_a_fit_that_a_dying_server_did_not_finish_is_sent_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target, table: str
) -> None:
    """What it had stored is seen by no read."""
    journal = MemoryJournal()
    server.faults.die_after_row(table)
    await edge_fault(target.sync(full_job(), journal))
    await server.restart()
    await target.sync(full_job(), journal)
    assert len(server.fits) == 1
    assert len(server.documents) == 1
    run = only(runs_of(server, full_job()))
    assert {each["experimentRun"] for each in server.models} == {run["id"]}


async def test_metadata_that_a_metadata_store_forgot_are_added_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """It was killed right after it had taken them."""
    at_each_call(server, "storeMetricEvent", server.stored_documents._documents.clear)
    synced = await target.sync(full_job(), MemoryJournal())
    assert synced.notes == ()
    assert len(server.fits) == 1
    assert len(server.documents) == 1


async def test_a_server_that_died_between_fit_and_its_event(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    server.faults.die_after_row("FitEvent")
    await edge_fault(target.sync(full_job(), journal))
    await server.restart()
    assert (await target.sync(full_job(), journal)).notes == (MISSING,)
    assert len(server.fits) == 1


async def test_a_note_of_missing_metadata_of_a_run_that_is_gone_means_nothing(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """The database was replaced; the new run has the old one's number."""
    journal = MemoryJournal()
    when_it_stores_a_fit(server.faults, partial(setattr, server.faults, "mongo_down", True))
    await edge_fault(target.sync(full_job(), journal))
    assert journal.steps["fit"] == "without document"
    async with ModelDbV1StandIn() as new, target_on(new.port, metadata_store=True) as target_of_new:
        new.faults.die_after_row("FitEvent")
        await edge_fault(target_of_new.sync(full_job(), journal))
        await new.restart()
        assert (await target_of_new.sync(full_job(), journal)).notes == (MISSING,)
        assert len(new.fits) == 1


async def test_a_model_without_its_metadata_is_logged(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    server.faults.die_after_row("Event")
    with pytest.raises(EdgeFault):
        await target.sync(full_job(), journal)
    await server.restart()
    with capture_logs() as logs:
        await target.sync(full_job(), journal)
    assert [
        (line["log_level"], line["model_id"])
        for line in log_lines(logs, "a model has no metadata and is left without")
    ] == [("warning", 1)]

"""Finding the model of a run by its id, on a server without a metadata store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from daemon.errors import EdgeFault, JobFault
from daemon.reasons import Edge, Reason
from daemon.targets.modeldb_v1 import model_search
from tests.support.log_lines import log_lines
from tests.support.modeldb_v1_target import add_models, edge_fault, full_job, lose, runs_of
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn


@pytest.fixture
def metadata_store() -> bool:
    return False


@pytest.mark.parametrize(
    ("before", "after"), [(0, 0), (500, 500), (900, 10), (31, 0), (32, 1), (1, 33)]
)
async def test_a_model_without_an_answer_is_found_by_its_number(
    server: ModelDbV1StandIn, target: ModelDBV1Target, before: int, after: int
) -> None:
    add_models(server, before)
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    add_models(server, after)
    synced = await target.sync(full_job(), journal)
    assert synced.ids["model_id"] == str(before + 1)
    assert len(server.fits) == before + 1 + after
    assert len(runs_of(server, full_job())) == 1
    assert len(server.metrics) == 4


async def test_a_model_among_numbers_without_a_fit(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    for _ in range(20):
        server.store.models.insert({"transformerType": "", "tag": "", "experimentRun": 1})
    assert (await target.sync(full_job(), journal)).ids["model_id"] == "1"


async def test_a_model_that_cannot_be_found_is_not_stored_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    for row in server.store.specs:
        row["tag"] = "changed by somebody"
    with pytest.raises(JobFault) as caught:
        await target.sync(full_job(), journal)
    assert caught.value.reason is Reason.TARGET_FAULT
    assert "run 1 has a model that is not among the newest 10000" in caught.value.detail
    assert len(server.fits) == 1


async def test_a_model_found_by_trying_ids_is_logged(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    add_models(server, 3)
    with capture_logs() as logs:
        await target.sync(full_job(), journal)
    [line] = log_lines(logs, "found the model of a run by trying numbers")
    assert (line["log_level"], line["model_id"]) == ("warning", 1)


def reads(server: ModelDbV1StandIn) -> tuple[int, int]:
    """Reads of a run, each of which takes 30 s without MongoDB; and ids that were tried."""
    calls = server.calls
    return calls.count("getExperimentRunDetails"), calls.count("computeModelAncestry")


async def test_a_lost_fit_is_found_above_the_newest_model_known_before_it(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """Neither the read that takes 30 s nor a search through the models of before."""
    add_models(server, 3000)
    await target.sync(full_job("before"), MemoryJournal())
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    assert journal.steps["fit_after"] == "3001"
    server.received.clear()
    synced = await target.sync(full_job(), journal)
    assert synced.ids["model_id"] == "3002"
    slow, tried = reads(server)
    assert slow == 0
    assert tried <= 2 * 32 + 1
    assert len(server.fits) == 3002


async def test_a_fit_that_was_never_carried_out_is_sent_after_one_quick_read(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job("before"), MemoryJournal())
    journal = MemoryJournal()
    server.faults.drop_before_execution(method="storeFitEvent")
    await edge_fault(target.sync(full_job(), journal))
    synced = await target.sync(full_job(), journal)
    assert synced.ids["model_id"] == "2"
    assert len(server.fits) == 2


async def test_that_a_run_has_a_model_is_learnt_once(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)  # the first fit of this process
    for _ in range(3):
        server.faults.drop_before_answer(method="computeModelAncestry")
        await edge_fault(target.sync(full_job(), journal))
    assert journal.steps["has_model"] == "yes"
    await target.sync(full_job(), journal)
    slow, _ = reads(server)
    assert slow == 2  # and the one of the new run, which has no model yet and is read at once
    assert len(server.fits) == 1


class ForgetsFits(MemoryJournal):
    """A checkpoint that is out of reach when a fit has been answered."""

    async def note_steps(self, steps: Mapping[str, str]) -> None:
        if "model_id" in steps:
            raise EdgeFault(Edge.CHECKPOINT, Reason.UNAVAILABLE, "down")
        await super().note_steps(steps)


async def test_a_model_stored_after_a_search_is_found_on_the_same_connection(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """A search also asks ids that no model has yet; one of them becomes the next model's."""
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    await target.sync(full_job(), journal)
    later = ForgetsFits()
    assert (await edge_fault(target.sync(full_job("later"), later))).edge is Edge.CHECKPOINT
    journal = MemoryJournal()
    journal.steps = later.steps
    assert (await target.sync(full_job("later"), journal)).ids["model_id"] == "2"
    assert len(server.fits) == 2


async def test_jobs_that_search_at_the_same_time_share_one_search(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    add_models(server, 500)
    jobs = {name: MemoryJournal() for name in ("a", "b", "c", "d", "e", "f")}

    async def lost(name: str, journal: MemoryJournal) -> None:
        server.faults.drop_before_answer(method="storeFitEvent")
        await edge_fault(target.sync(full_job(name), journal))

    for name, journal in jobs.items():
        await lost(name, journal)
    add_models(server, 500)
    server.received.clear()
    await asyncio.gather(*(target.sync(full_job(name), each) for name, each in jobs.items()))
    _, tried = reads(server)
    assert tried < 1300  # for six jobs together; one alone needs about as many
    assert len(server.fits) == 1006


async def test_metrics_that_were_answered_are_not_sent_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    server.faults.drop_before_execution(nth=3, method="storeMetricEvent")
    await edge_fault(target.sync(full_job(), journal))
    assert journal.steps["metrics"] == "0 1"
    await target.sync(full_job(), journal)
    assert len(server.metrics) == len(full_job().metrics)


async def test_metrics_that_were_all_answered_are_not_sent_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    # that of the read-back
    server.faults.drop_before_answer(method="computeModelAncestry")
    await edge_fault(target.sync(full_job(), journal))
    await target.sync(full_job(), journal)
    assert len(server.metrics) == len(full_job().metrics)
    assert len(server.fits) == 1


async def test_a_note_of_long_ago_is_not_followed_without_end(
    server: ModelDbV1StandIn, target: ModelDBV1Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_search, "SEARCHED_MODELS", 320)
    await target.sync(full_job("before"), MemoryJournal())
    journal = MemoryJournal()
    server.faults.drop_before_execution(method="storeFitEvent")
    await edge_fault(target.sync(full_job(), journal))
    add_models(server, 3000)
    server.received.clear()
    assert (await target.sync(full_job(), journal)).ids["model_id"] == "3002"
    _, tried = reads(server)
    assert tried < 500


async def test_a_database_with_fewer_models_than_were_known(
    server: ModelDbV1StandIn, target: ModelDBV1Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_search, "SEARCHED_MODELS", 100)
    await target.sync(full_job("before"), MemoryJournal())
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    journal.steps = {**journal.steps, "fit_after": "50000"}
    assert (await target.sync(full_job(), journal)).ids["model_id"] == "2"
    assert len(server.fits) == 2

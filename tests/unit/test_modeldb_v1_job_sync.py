"""What another attempt at a job finds and adds: runs by their marks, models, metadata, data frames, metrics."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from daemon.demo.modeldb_v1 import ModelDbV1StandIn
from daemon.faults import EdgeFault, JobFault
from daemon.outcome import Reason
from daemon.targets.modeldb_v1.models import float32
from daemon.training_job.run import Metric
from tests.modeldb_v1_connections import nothing_left_behind, until
from tests.modeldb_v1_target_stage import (
    CHANNELS,
    at_each_call,
    full_job,
    marker,
    only,
    orphan_sets,
    runs_of,
    target_on,
    until_synced,
    wrong,
)
from tests.modeldb_v2_target_stage import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from daemon.training_job.run import TrainingRun

MISSING = "the model's metadata are missing in ModelDB: the server ended while it stored them"


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind() -> AsyncIterator[None]:
    async with nothing_left_behind():
        yield


@pytest.fixture
async def server() -> AsyncIterator[ModelDbV1StandIn]:
    async with ModelDbV1StandIn(mongo_timeout_seconds=0.0) as stand_in:
        yield stand_in


@pytest.fixture
async def target(server: ModelDbV1StandIn) -> AsyncIterator[ModelDBV1Target]:
    async with target_on(server.port, metadata_store=True) as made:
        yield made


@pytest.fixture
async def bare() -> AsyncIterator[ModelDbV1StandIn]:
    """A server without a metadata store."""
    async with ModelDbV1StandIn(metadata_store=False, mongo_timeout_seconds=0.0) as stand_in:
        yield stand_in


@pytest.fixture
async def bare_target(bare: ModelDbV1StandIn) -> AsyncIterator[ModelDBV1Target]:
    async with target_on(bare.port, metadata_store=False) as made:
        yield made


async def edge_fault(work: Awaitable[object]) -> EdgeFault:
    with pytest.raises(EdgeFault) as caught:
        await work
    return caught.value


async def lose(target: ModelDBV1Target, server: ModelDbV1StandIn, method: str, journal: MemoryJournal) -> None:
    """An attempt at the job in which the answer to the method's first call is lost."""
    server.faults.drop_before_answer(method=method)
    assert (await edge_fault(target.sync(full_job(), journal))).reason is Reason.UNREACHABLE


async def cancel_in(target: ModelDBV1Target, server: ModelDbV1StandIn, method: str, journal: MemoryJournal) -> Any:
    """An attempt at the job that is cancelled while the method's first call is under way. Gives what keeps that call."""
    hold = server.faults.hold_before_execution(method=method)
    syncing = asyncio.create_task(target.sync(full_job(), journal))
    await hold.reached.wait()
    syncing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await syncing
    return hold


# The run by its mark ---------------------------------------------------------------------------------------------------------------

DOUBTS = [{"look_up_first": True}, {"unanswered_writes": 1}]


@pytest.mark.parametrize("doubt", DOUBTS)
async def test_in_doubt_a_run_is_found_in_any_project(server: ModelDbV1StandIn, doubt: dict[str, Any]) -> None:
    before = full_job(project_name="before", project_user="somebody")
    async with target_on(server.port, metadata_store=True) as target:
        await target.sync(before, MemoryJournal())
    async with target_on(server.port, metadata_store=True) as target:
        synced = await target.sync(full_job(), MemoryJournal(**doubt))
    assert not synced.created
    assert [each["name"] for each in server.projects] == ["before"]
    assert wrong(server, [before], metadata_store=True) == []


@pytest.mark.parametrize("doubt", DOUBTS)
async def test_in_doubt_a_run_that_is_nowhere_is_made(server: ModelDbV1StandIn, target: ModelDBV1Target, doubt: dict[str, Any]) -> None:
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


async def test_without_a_row_of_the_job_its_run_is_found_in_its_project(server: ModelDbV1StandIn) -> None:
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
    assert {each.connection for each in server.received} == {1}
    assert wrong(server, [full_job("before"), full_job()], metadata_store=True) == []


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize(
    "method",
    ["storeProjectEvent", "storeExperimentEvent", "storeExperimentRunEvent", "storeFitEvent", "storeDataFrame", "storeMetricEvent"],
)
async def test_whatever_call_a_cancelled_attempt_was_in(method: str, *, metadata_store: bool) -> None:
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=metadata_store) as target,
    ):
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
    look_up = asyncio.create_task(target.sync(full_job("other", project_name="other"), MemoryJournal(look_up_first=True)))
    read = server.faults.hold_before_answer(method="getRunsAndExperimentsInProject")
    experiment.release()
    await read.reached.wait()  # that of the look-up, in the project that has no run so far
    syncing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await syncing
    again = asyncio.create_task(target.sync(full_job(), journal))
    read.release()
    await asyncio.gather(look_up, again)
    assert wrong(server, [full_job(), full_job("other", project_name="other")], metadata_store=True) == []


# The model and its metadata --------------------------------------------------------------------------------------------------------


async def test_the_metadata_store_is_down_in_the_middle(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    """The model is there all the same: sent again with its number, it gets its metadata, and nothing else happens."""
    journal = MemoryJournal()
    server.faults.mongo_down = True
    for _ in range(3):
        fault = await edge_fault(target.sync(full_job(), journal))
        assert (fault.reason, fault.curable) == (Reason.UNAVAILABLE, True)
    assert (len(server.fits), server.documents) == (1, [])
    server.faults.mongo_down = False
    synced = await target.sync(full_job(), journal)
    assert synced.notes == ()
    assert wrong(server, [full_job()], metadata_store=True) == []
    assert orphan_sets(server) <= 1, "the answers to the other data frames' calls went with that of the fit"


async def test_several_jobs_while_the_metadata_store_is_down(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    jobs = {name: (full_job(name), MemoryJournal()) for name in "abcde"}
    server.faults.mongo_down = True
    await asyncio.gather(*(edge_fault(target.sync(*each)) for each in jobs.values()))
    server.faults.mongo_down = False
    await asyncio.gather(*(target.sync(*each) for each in jobs.values()))
    assert wrong(server, [run for run, _ in jobs.values()], metadata_store=True) == []


async def test_the_answer_that_the_metadata_were_added_is_lost(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    journal = MemoryJournal()
    server.faults.mongo_down = True
    await edge_fault(target.sync(full_job(), journal))
    server.faults.mongo_down = False
    await lose(target, server, "storeFitEvent", journal)
    await target.sync(full_job(), journal)
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_metadata_that_a_dying_server_did_not_store_are_left_out(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    """Sent again, the fit could become two, which no read of the run would survive."""
    journal = MemoryJournal()
    server.faults.die_after_row("Event")  # that of the fit, which comes before its document
    await edge_fault(target.sync(full_job(), journal))
    await server.restart()
    synced = await target.sync(full_job(), journal)
    assert synced.notes == (MISSING,)
    assert server.calls.count("storeFitEvent") == 1
    assert wrong(server, [full_job()], metadata_store=True) == ["churn-1: documents [] instead of ['churn-xgb']"]


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


async def test_metadata_that_a_metadata_store_forgot_are_added_again(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    """It was killed right after it had taken them."""
    at_each_call(server, "storeMetricEvent", server.stored_documents._documents.clear)
    synced = await target.sync(full_job(), MemoryJournal())
    assert synced.notes == ()
    assert len(server.fits) == 1
    assert len(server.documents) == 1


async def test_a_server_that_died_between_fit_and_its_event(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
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
    server.faults.mongo_down = True
    await edge_fault(target.sync(full_job(), journal))
    assert journal.steps["fit"] == "without document"
    async with ModelDbV1StandIn() as new, target_on(new.port, metadata_store=True) as target_of_new:
        new.faults.die_after_row("FitEvent")
        await edge_fault(target_of_new.sync(full_job(), journal))
        await new.restart()
        assert (await target_of_new.sync(full_job(), journal)).notes == (MISSING,)
        assert len(new.fits) == 1


# Without a metadata store ----------------------------------------------------------------------------------------------------------


def add_models(server: ModelDbV1StandIn, count: int) -> None:
    """Of other jobs, each in a run of its own."""
    store = server.store
    for _ in range(count):
        run = store.runs.insert({"experiment": 1, "description": "another job's", "created": 1})["id"]
        frame = store.data_frames.insert({"tag": "train", "numRows": -1, "experimentRun": run, "filepath": "s3://data/other/train"})
        spec = store.specs.insert({"transformerType": "XGBoost", "tag": "churn-xgb", "experimentRun": run})
        model = store.models.insert({"transformerType": "XGBoost", "tag": "churn-xgb", "experimentRun": run})
        store.fits.insert(
            {
                "transformerSpec": spec["id"],
                "transformer": model["id"],
                "df": frame["id"],
                "predictionColumns": "",
                "labelColumns": "",
                "experimentRun": run,
                "problemType": "undefined",
            }
        )


@pytest.mark.parametrize(("before", "after"), [(0, 0), (500, 500), (31, 0), (32, 1), (1, 33)])
async def test_a_model_without_an_answer_is_found_by_its_number(
    bare: ModelDbV1StandIn, bare_target: ModelDBV1Target, before: int, after: int
) -> None:
    add_models(bare, before)
    journal = MemoryJournal()
    await lose(bare_target, bare, "storeFitEvent", journal)
    add_models(bare, after)
    synced = await bare_target.sync(full_job(), journal)
    assert synced.ids["model_id"] == str(before + 1)
    assert len(bare.fits) == before + 1 + after
    assert len(runs_of(bare, full_job())) == 1
    assert len(bare.metrics) == 4


async def test_a_model_among_numbers_without_a_fit(bare: ModelDbV1StandIn, bare_target: ModelDBV1Target) -> None:
    journal = MemoryJournal()
    await lose(bare_target, bare, "storeFitEvent", journal)
    for _ in range(20):
        bare.store.models.insert({"transformerType": "", "tag": "", "experimentRun": 1})
    assert (await bare_target.sync(full_job(), journal)).ids["model_id"] == "1"


async def test_a_model_that_cannot_be_found_is_not_stored_again(bare: ModelDbV1StandIn, bare_target: ModelDBV1Target) -> None:
    journal = MemoryJournal()
    await lose(bare_target, bare, "storeFitEvent", journal)
    for row in bare.store.specs:
        row["tag"] = "changed by somebody"
    with pytest.raises(JobFault) as caught:
        await bare_target.sync(full_job(), journal)
    assert caught.value.reason is Reason.TARGET_FAULT
    assert "run 1 has a model that is not among the newest 10000" in caught.value.detail
    assert len(bare.fits) == 1


async def test_a_noted_model_is_used_without_a_search(bare: ModelDbV1StandIn, bare_target: ModelDBV1Target) -> None:
    add_models(bare, 40)
    journal = MemoryJournal()
    await lose(bare_target, bare, "storeMetricEvent", journal)
    assert journal.steps["model_id"] == "41"
    bare.received.clear()
    await bare_target.sync(full_job(), journal)
    assert bare.calls.count("computeModelAncestry") == 2
    assert bare.calls.count("getExperimentRunDetails") == 0
    assert len(bare.fits) == 41


async def test_a_noted_model_that_is_no_longer_there(bare: ModelDbV1StandIn, bare_target: ModelDBV1Target) -> None:
    """The database is a copy of before the model."""
    journal = MemoryJournal()
    await lose(bare_target, bare, "storeMetricEvent", journal)
    for table in (bare.store.fits, bare.store.models, bare.store.metrics, bare.store.data_frames):
        for row in list(table):
            table.delete(row["id"])
    await bare_target.sync(full_job(), journal)
    assert len(bare.fits) == 1
    assert wrong(bare, [full_job()], metadata_store=False) == []


async def test_a_noted_model_that_is_anothers_now(bare: ModelDbV1StandIn, bare_target: ModelDBV1Target) -> None:
    journal = MemoryJournal()
    await lose(bare_target, bare, "storeMetricEvent", journal)
    move_models(bare)
    await bare_target.sync(full_job(), journal)
    assert [each["experimentRun"] for each in bare.fits] == [2, 1]


def move_models(server: ModelDbV1StandIn) -> None:
    """To another job's run."""
    other = server.store.runs.insert({"experiment": 1, "description": "another job's", "created": 1})["id"]
    for table in (server.store.models, server.store.fits):
        for row in list(table):
            table.delete(row["id"])
            table.insert(row | {"experimentRun": other})


async def test_a_run_is_read_over_a_connection_of_its_own(bare: ModelDbV1StandIn, bare_target: ModelDBV1Target) -> None:
    """It may take 30 s, in which no other job would get an answer."""
    journal = MemoryJournal()
    await lose(bare_target, bare, "storeFitEvent", journal)
    bare.received.clear()
    await bare_target.sync(full_job(), journal)
    reading = {each.connection for each in bare.received if each.method == "getExperimentRunDetails"}
    writing = {each.connection for each in bare.received if each.method.startswith("store")}
    assert (len(reading), len(writing), reading & writing) == (1, 1, set())
    await until(lambda: bare.open_connections == 1)


# Another writer --------------------------------------------------------------------------------------------------------------------


async def mixed_up(server: ModelDbV1StandIn, target: ModelDBV1Target, journal: MemoryJournal) -> None:
    fault = await edge_fault(target.sync(full_job(), journal))
    assert (fault.reason, fault.curable) == (Reason.OTHER_WRITER, True)
    assert "switch off every other writer" in fault.detail
    await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize("their_id", [True, False])
async def test_a_run_that_got_mixed_up(*, metadata_store: bool, their_id: bool) -> None:
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=metadata_store) as target,
    ):
        await target.sync(full_job("before"), MemoryJournal())
        server.faults.foreign_writer("ExperimentRun", their_id=their_id)
        journal = MemoryJournal()
        await mixed_up(server, target, journal)
        assert len(server.fits) == 1, "nothing is written into another's run"
        await target.sync(full_job(), journal)
        problems = wrong(server, [full_job("before"), full_job()], metadata_store=metadata_store)
        assert problems == (["a run that nobody wanted: another writer's run"] if their_id else [])


@pytest.mark.parametrize("metadata_store", [True, False])
@pytest.mark.parametrize("table", ["DataFrame", "Transformer", "TransformerSpec"])
async def test_a_fit_that_got_mixed_up(table: str, *, metadata_store: bool) -> None:
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=metadata_store) as target,
    ):
        journal = MemoryJournal()
        server.faults.foreign_writer(table)
        await mixed_up(server, target, journal)
        await target.sync(full_job(), journal)
        assert len(runs_of(server, full_job())) == 1
        assert len(server.fits) == 1
        assert {each["metricValue"] for each in server.metrics} == {float32(each.value) for each in full_job().metrics}


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_a_model_that_never_reads_back_is_taken_as_it_is_after_two_fits(*, metadata_store: bool) -> None:
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=metadata_store) as target,
    ):
        at_each_call(server, "storeMetricEvent", lambda: list(server.store.specs)[-1].update(tag="somebody else's"))
        journal = MemoryJournal()
        synced = await until_synced(target, full_job(), journal, attempts=4)
        assert len(server.fits) == 2
        note = "ModelDB shows model 2 otherwise than it was written: somebody else writes to the server"
        assert synced.notes == (note,)
        assert synced.ids["model_id"] == "2"
        assert journal.steps["fits"] == "2"
        await target.sync(full_job(), journal)
        assert len(server.fits) == 2


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_a_model_that_is_shown_in_another_run_is_not_stored_a_third_time(*, metadata_store: bool) -> None:
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=metadata_store) as target,
    ):
        at_each_call(server, "storeMetricEvent", lambda: move_models(server))
        synced = await until_synced(target, full_job(), MemoryJournal(), attempts=4)
        assert len(server.fits) == 2
        assert "otherwise than it was written" in synced.notes[0]


async def test_a_metric_that_got_lost_is_noticed(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
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


# Data frames and metrics -----------------------------------------------------------------------------------------------------------


async def test_only_missing_metrics_are_sent(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
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
async def test_metrics_are_compared_as_the_server_keeps_them(server: ModelDbV1StandIn, target: ModelDBV1Target, value: float) -> None:
    run = full_job(metrics=(Metric("train:x", value),))
    journal = MemoryJournal()
    await target.sync(run, journal)
    await target.sync(run, journal)
    assert len(server.metrics) == 1


async def test_a_metric_on_another_data_frame_is_missing(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    journal = MemoryJournal()
    await target.sync(full_job(), journal)
    row = next(each for each in server.store.metrics if each["metricType"] == "validation:auc")
    row["df"] = 1
    await target.sync(full_job(), journal)
    frames = {each["df"] for each in server.metrics if each["metricType"] == "validation:auc"}
    assert frames == {1, 2}


async def test_noted_data_frames_are_used_again(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    journal = MemoryJournal()
    server.faults.drop_before_execution(method="storeMetricEvent")
    await edge_fault(target.sync(full_job(), journal))
    await target.sync(full_job(), journal)
    assert len(server.data_frames) == len(CHANNELS)
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_data_frames_without_an_answer_are_stored_once_more(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    journal = MemoryJournal()
    await lose(target, server, "storeFitEvent", journal)
    await target.sync(full_job(), journal)
    assert orphan_sets(server) <= 1
    assert len(server.fits) == 1
    assert wrong(server, [full_job()], metadata_store=True) == []


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_notes_of_a_run_that_is_no_longer_there_are_dropped(*, metadata_store: bool) -> None:
    """The database was replaced: the numbers that were noted are other jobs' now."""
    journal = MemoryJournal()
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=metadata_store) as target,
    ):
        await target.sync(full_job("before"), MemoryJournal())
        await lose(target, server, "storeMetricEvent", journal)
        assert journal.steps["run_id"] == "2"
    others: list[TrainingRun] = [full_job("a"), full_job("b"), full_job("c")]
    async with (
        ModelDbV1StandIn(metadata_store=metadata_store, mongo_timeout_seconds=0.0) as server,
        target_on(server.port, metadata_store=metadata_store) as target,
    ):
        for each in others:
            await target.sync(each, MemoryJournal())
        await lose(target, server, "storeExperimentRunEvent", journal)  # the run is there, and nothing in it
        assert not (await target.sync(full_job(), journal)).created
        assert wrong(server, [*others, full_job()], metadata_store=metadata_store) == []
        assert journal.steps["run_id"] == "4"

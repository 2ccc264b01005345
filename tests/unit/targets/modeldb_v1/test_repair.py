"""A run is brought up to date with its job, as far as ModelDB V1 has calls for it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import EdgeFault, JobFault
from daemon.reasons import Reason
from daemon.training_job.training_run import Hyperparameter, Metric
from tests.support.modeldb_v1_target import (
    full_job,
    marker,
    only,
    runs_of,
    writing_connections,
    wrong,
)
from tests.support.modeldb_v2_target import MemoryJournal, job

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from daemon.targets.ports import Repair
    from daemon.training_job.training_run import TrainingRun
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
    from tests.support.modeldb_v1_target import Permit

TAGGED: dict[str, Any] = {"all_tags": {"team": "growth"}}


async def repaired(target: ModelDBV1Target, run: TrainingRun) -> Repair:
    """What a repair did; `compare` has said the same before, and finds nothing after it."""
    before = await target.compare(run)
    done = await target.repair(run, MemoryJournal(look_up_first=True))
    after = await target.compare(run)
    assert before is not None
    assert after is not None
    assert (before.changed, before.unchangeable) == (done.changed, done.unchangeable)
    assert (after.changed, after.unchangeable) == ((), done.unchangeable)
    return done


def document(server: ModelDbV1StandIn) -> dict[str, Any]:
    return only(server.documents)


async def test_what_is_up_to_date_is_left_alone(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    synced = await target.sync(full_job(), MemoryJournal())
    count = len(server.calls)
    done = await repaired(target, full_job())
    assert (done.changed, done.unchangeable) == ((), ())
    assert (done.target_run.created, done.target_run.ids) == (False, synced.ids)
    assert not [each for each in server.calls[count:] if each.startswith(("store", "create"))]


async def test_changed_tags_and_new_metrics_are_added_to_the_one_model(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    old = full_job(**TAGGED, metrics=(Metric("train:auc", 0.5), Metric("loss", 0.125)))
    await target.sync(old, MemoryJournal())
    new = full_job(all_tags={"team": "risk", "cost.centre": "7"}, failure_reason="late news")
    done = await repaired(target, new)
    assert done.unchangeable == ()
    assert done.changed == (
        "metric 'train:auc': 0.99 instead of 0.5",
        "metric 'validation:auc': 0.95",
        "metric 'test:auc': 0.94",
        "metadata JOB 'failure_reason': 'late news'",
        "metadata TAGS 'team': 'risk' instead of 'growth'",
        "metadata TAGS 'cost%2Ecentre': '7'",
    )
    assert document(server)["TAGS"] == {"team": "risk", "cost%2Ecentre": "7"}
    assert document(server)["JOB"]["failure_reason"] == "late news"
    assert len(server.fits) == len(server.models) == len(server.runs) == 1
    assert len(writing_connections(server)) == 1


async def test_metrics_of_a_repair_read_as_those_of_a_new_run(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """On the data frames that are there; only a channel that none leads to is stored again."""
    await target.sync(full_job(metrics=(Metric("test:auc", 0.94),)), MemoryJournal())
    await repaired(target, full_job())
    frames = [row["tag"] for row in server.data_frames]
    assert sorted(frames) == ["test", "train", "validation", "validation"]
    tags = {row["id"]: row["tag"] for row in server.data_frames}
    assert {(row["metricType"], tags[row["df"]]) for row in server.metrics} == {
        ("train:auc", "train"),
        ("validation:auc", "validation"),
        ("test:auc", "test"),
        ("loss", "test"),
    }


async def test_what_no_call_changes_is_said_and_left(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job(**TAGGED), MemoryJournal())
    new = full_job(
        model_type="LightGBM",
        hyperparameters=(Hyperparameter("eta", "[redacted]", "[redacted]"),),
        project_description="Why they leave",
    )
    done = await repaired(target, new)
    once = "; ModelDB V1 stores it once, with the model"
    description = "description of the project: 'Who leaves next month' stays"
    assert done.unchangeable == (
        f"{description}; the project's jobs and people share it",
        f"model type: 'XGBoost' stays instead of 'LightGBM'{once}",
        f"hyperparameter 'eta': '0.2' stays instead of '[redacted]'{once}",
        f"hyperparameter 'optimizer': '\"adam\"' stays instead of none{once}",
        "metadata TAGS 'team': 'growth' stays; no call removes it",
    )
    assert done.changed == (
        "metadata TYPE: 'LightGBM' instead of 'XGBoost'",
        "metadata CONFIG 'eta': '[redacted]' instead of '0.2'",
    )
    assert (len(server.fits), len(server.models)) == (1, 1), "never a second model"


async def test_a_run_stays_in_its_project(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job(), MemoryJournal())
    done = await repaired(target, full_job(project_name="other"))
    there = "the run is in 'customer-churn' of 'amara'; no call moves a run"
    assert done.unchangeable == (f"project 'other' of 'amara': {there}",)
    assert len(server.projects) == len(server.runs) == 1


async def test_a_project_without_a_description_gets_it(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job(project_description=""), MemoryJournal())
    done = await repaired(target, full_job())
    assert done.changed == ("description of the project: 'Who leaves next month'",)
    assert only(server.projects)["description"] == "Who leaves next month"


async def test_what_people_added_stays(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    synced = await target.sync(full_job(**TAGGED), MemoryJournal())
    model_id = int(synced.ids["model_id"])
    server.stored_documents.set_field(model_id, "REVIEWED_BY", "kim")
    done = await repaired(target, full_job(all_tags={"team": "risk"}))
    assert done.changed == ("metadata TAGS 'team': 'risk' instead of 'growth'",)
    assert document(server)["REVIEWED_BY"] == "kim"


async def test_another_version_of_this_program_alone_is_no_difference(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    synced = await target.sync(full_job(**TAGGED), MemoryJournal())
    server.stored_documents.set_field(int(synced.ids["model_id"]), "JOB.sync_version", "0.0.1")
    assert (await repaired(target, full_job(**TAGGED))).changed == ()
    done = await repaired(target, full_job(all_tags={"team": "risk"}))
    assert len(done.changed) == 2
    assert document(server)["JOB"]["sync_version"] != "0.0.1"


async def test_a_job_that_the_server_does_not_have_is_synced(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    assert await target.compare(full_job()) is None
    done = await target.repair(full_job(), MemoryJournal(look_up_first=True))
    assert (done.target_run.created, done.changed, done.unchangeable) == (True, (), ())
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_an_interrupted_write_is_completed_then_repaired(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    server.faults.drop_before_execution(method="storeMetricEvent")
    with pytest.raises(EdgeFault):
        await target.sync(full_job(**TAGGED), journal)
    done = await target.repair(full_job(all_tags={"team": "risk"}), journal)
    assert done.changed == ("metadata TAGS 'team': 'risk' instead of 'growth'",)
    assert journal.unanswered_writes == 0
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_a_run_without_its_model_gets_one(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    """The checkpoint that knew of the interrupted write is lost."""
    server.faults.drop_before_execution(method="storeFitEvent")
    with pytest.raises(EdgeFault):
        await target.sync(full_job(), MemoryJournal())
    await target.repair(full_job(), MemoryJournal(look_up_first=True))
    assert wrong(server, [full_job()], metadata_store=True) == []


@pytest.mark.parametrize("method", ["storeMetricEvent", "createOrUpdateScalarField"])
async def test_an_interrupted_repair_is_done_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target, method: str
) -> None:
    await target.sync(full_job(**TAGGED, metrics=(Metric("train:auc", 0.5),)), MemoryJournal())
    new, journal = full_job(all_tags={"team": "risk"}), MemoryJournal(look_up_first=True)
    server.faults.drop_before_answer(method=method)
    with pytest.raises(EdgeFault) as caught:
        await target.repair(new, journal)
    assert caught.value.reason is Reason.UNREACHABLE
    assert (journal.begun, journal.steps) == ([], {}), "the job stays synced in the checkpoint"
    done = await target.repair(new, journal)
    assert done.unchangeable == ()
    assert (await repaired(target, new)).changed == ()
    assert document(server)["TAGS"] == {"team": "risk"}
    assert len(server.fits) == 1


async def test_a_cancelled_repair_is_done_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job(**TAGGED), MemoryJournal())
    new = full_job(all_tags={"team": "risk"})
    hold = server.faults.hold_before_execution(method="createOrUpdateScalarField")
    repairing = asyncio.create_task(target.repair(new, MemoryJournal()))
    await hold.reached.wait()
    repairing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await repairing
    hold.release()
    assert (await target.repair(new, MemoryJournal())).unchangeable == ()
    assert document(server)["TAGS"] == {"team": "risk"}


async def test_only_the_writer_repairs_and_anybody_compares(
    server: ModelDbV1StandIn, target: ModelDBV1Target, permit: Permit
) -> None:
    await target.sync(full_job(**TAGGED), MemoryJournal())
    permit.end()
    new = full_job(all_tags={"team": "risk"})
    with pytest.raises(JobFault) as caught:
        await target.repair(new, MemoryJournal())
    assert caught.value.reason is Reason.STANDING_BY
    found = await target.compare(new)
    assert found is not None
    assert found.changed == ("metadata TAGS 'team': 'risk' instead of 'growth'",)
    assert document(server)["TAGS"] == {"team": "growth"}


async def test_a_model_without_metadata_is_said_and_left(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job(), MemoryJournal())
    server.stored_documents.clear()
    done = await repaired(target, full_job())
    assert done.unchangeable == (
        "metadata of the model: it has none; to add them now could store the model twice",
    )
    assert len(server.fits) == 1


async def test_metadata_of_another_job_hold_a_repair(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    synced = await target.sync(full_job(), MemoryJournal())
    server.stored_documents.set_field(int(synced.ids["model_id"]), "JOB.arn", "arn:of:another")
    with pytest.raises(EdgeFault) as caught:
        await target.repair(full_job(all_tags={"a": "b"}), MemoryJournal())
    assert "MongoDB is of another database" in caught.value.detail


async def test_what_does_not_read_back_is_said(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job(**TAGGED), MemoryJournal())
    server.stored_documents.set_field = lambda *_: True  # type: ignore[method-assign]
    done = await target.repair(full_job(all_tags={"team": "risk"}), MemoryJournal())
    assert done.changed == ()
    assert done.unchangeable == (
        "metadata TAGS 'team': 'risk' instead of 'growth': ModelDB did not keep it",
    )


@pytest.mark.parametrize("metadata_store", [False])
async def test_without_a_metadata_store_nothing_is_sent_again(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job(), MemoryJournal())
    count = len(server.calls)
    done = await repaired(target, full_job(metrics=(Metric("train:auc", 0.1),)))
    assert done.changed == ()
    assert "without a metadata store" in only(done.unchangeable)  # type: ignore[arg-type]
    assert not [each for each in server.calls[count:] if each.startswith("store")]


async def test_every_type_of_member_is_set_as_it_was_first_written(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    first, second = (
        job("types"),
        job(
            "types",
            training_seconds=2**40,
            billable_seconds=7,
            managed_spot=True,
            network_isolation=False,
            non_finite_metrics={"loss": "nan"},
        ),
    )
    await target.sync(first, MemoryJournal())
    await repaired(target, second)
    repaired_document = json.loads(json.dumps(document(server)))
    server.stored_documents.clear()
    await target.sync(replace(second, mark=job("again").mark, name="types"), MemoryJournal())
    written = only(server.documents)
    for each in (repaired_document, written):
        for key in ("_id", "MODELDB_model_id"):
            each.pop(key)
        each["JOB"].pop("arn")
    assert repaired_document == written
    assert len(runs_of(server, first)) == 1
    assert marker(first) == marker(second)

"""A repair on real ModelDB V1 servers: what its calls do is what the stand-in does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.readback import float32
from daemon.training_job.training_run import Hyperparameter, Metric
from tests.real.modeldb_v1_lab import LAB, lab_server
from tests.support.modeldb_v1_target import full_job, target_on
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.targets.ports import Repair
    from daemon.training_job.training_run import TrainingRun
    from tests.real.modeldb_v1_lab import LabServer

pytestmark = [
    pytest.mark.slow,  # real servers
    pytest.mark.skipif(
        not LAB, reason="MODELDB_V1_LAB names no control script of ModelDB V1 servers"
    ),
    pytest.mark.timeout(900),
]

OLD = {"team": "growth", "count": "1"}
NEW = {"team": "risk", "cost.centre": "7", "$ref": "x", "naïve": "Ünïcode"}


@pytest.fixture
async def server() -> AsyncIterator[LabServer]:
    async with lab_server(mongo=True) as made:
        yield made


async def model_of(server: LabServer, repair: Repair) -> Any:
    """The one model of a run, as the server returns it."""
    connection = await Connection.open("127.0.0.1", server.port)
    try:
        details = await connection.call(
            "getExperimentRunDetails", experimentRunId=int(repair.target_run.ids["run_id"])
        )
    finally:
        await connection.aclose()
    (model,) = details.modelResponses
    return model


async def synced_then_repaired(
    server: LabServer, old: TrainingRun, new: TrainingRun
) -> tuple[Repair, Repair]:
    """The first repair, and a second one of the same."""
    async with target_on(server.port, metadata_store=True) as target:
        await target.sync(old, MemoryJournal())
        said = await target.compare(new)
        first = await target.repair(new, MemoryJournal(look_up_first=True))
        assert said is not None
        assert (said.changed, said.unchangeable) == (first.changed, first.unchangeable)
        return first, await target.repair(new, MemoryJournal(look_up_first=True))


async def test_tags_and_metrics_are_brought_up_to_date_on_the_one_model(
    server: LabServer,
) -> None:
    old = full_job(all_tags=OLD, metrics=(Metric("train:auc", 0.5), Metric("loss", 0.125)))
    first, second = await synced_then_repaired(server, old, full_job(all_tags=NEW))
    assert first.changed == (
        "metric 'train:auc': 0.99 instead of 0.5",
        "metric 'validation:auc': 0.95",
        "metric 'test:auc': 0.94",
        "metadata TAGS 'team': 'risk' instead of 'growth'",
        "metadata TAGS 'cost%2Ecentre': '7'",
        "metadata TAGS '%24ref': 'x'",
        "metadata TAGS 'naïve': 'Ünïcode'",
    )
    assert first.unchangeable == ("metadata TAGS 'count': '1' stays; no call removes it",)
    assert (second.changed, second.unchangeable) == ((), first.unchangeable)
    model = await model_of(server, first)
    assert json.loads(model.metadata)["TAGS"] == {
        "team": "risk",
        "count": "1",
        "cost%2Ecentre": "7",
        "%24ref": "x",
        "naïve": "Ünïcode",
    }
    values = {name: set(by_frame.values()) for name, by_frame in model.metrics.items()}
    assert {name: len(each) for name, each in values.items()} == dict.fromkeys(values, 1)
    assert values["train:auc"] == {float32(0.99)}
    assert {name: server.counts()[name] for name in ("ExperimentRun", "FitEvent")} == {
        "ExperimentRun": 1,
        "FitEvent": 1,
    }


async def test_members_of_every_type_read_back_as_they_were_set(server: LabServer) -> None:
    new = full_job(
        training_seconds=2**40,
        billable_seconds=7,
        managed_spot=True,
        network_isolation=False,
        non_finite_metrics={"loss.log": "nan"},
        failure_reason='quotes " and \\ and\nlines',
    )
    first, second = await synced_then_repaired(server, full_job(), new)
    assert (first.unchangeable, second.changed, second.unchangeable) == ((), (), ())
    job = json.loads((await model_of(server, first)).metadata)["JOB"]
    assert (job["training_time_s"], job["billable_time_s"]) == (2**40, 7)
    assert (job["managed_spot"], job["network_isolation"]) == (True, False)
    assert job["metrics_not_stored"] == {"loss%2Elog": "nan"}
    assert job["failure_reason"] == 'quotes " and \\ and\nlines'


async def test_what_no_call_changes_stays_and_is_said(server: LabServer) -> None:
    new = full_job(
        model_type="LightGBM", hyperparameters=(Hyperparameter("eta", "[redacted]", "[redacted]"),)
    )
    first, second = await synced_then_repaired(server, full_job(), new)
    assert len(first.unchangeable) == 3
    assert (second.changed, second.unchangeable) == ((), first.unchangeable)
    model = await model_of(server, first)
    assert model.specification.transformerType == "XGBoost"
    assert json.loads(model.metadata)["TYPE"] == "LightGBM"
    assert server.counts()["FitEvent"] == 1


async def test_a_project_without_a_description_gets_it(server: LabServer) -> None:
    first, second = await synced_then_repaired(server, full_job(project_description=""), full_job())
    assert first.changed == ("description of the project: 'Who leaves next month'",)
    assert second.changed == ()


async def test_without_a_metadata_store_a_repair_is_quick_and_changes_nothing() -> None:
    async with (
        lab_server(mongo=False) as server,
        target_on(server.port, metadata_store=False) as target,
    ):
        await target.sync(full_job(), MemoryJournal())
        before = server.counts()
        done = await target.repair(full_job(all_tags=NEW), MemoryJournal(look_up_first=True))
        assert (done.changed, len(done.unchangeable)) == ((), 1)
        assert server.counts() == before

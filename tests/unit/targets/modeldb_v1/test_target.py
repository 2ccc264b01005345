"""The target against the stand-in: what a job becomes, who may write, and faults."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import DaemonError, EdgeFault, JobFault, JobRefused, SetupFault
from daemon.reasons import Edge, Reason
from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
from daemon.targets.modeldb_v1.target import fault_of, open_modeldb_v1
from daemon.targets.ports import NoPermit
from daemon.training_job.training_run import Metric
from tests.support.modeldb_v1_connections import until
from tests.support.modeldb_v1_target import (
    CHANNELS,
    Permit,
    cancel_in,
    full_job,
    marker,
    only,
    target_on,
    writing_connections,
    wrong,
)
from tests.support.modeldb_v2_target import MemoryJournal, job

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn


def add_project(server: ModelDbV1StandIn, description: str = "") -> int:
    """One of the jobs' name and author, with its experiment, as another program would have made
    it.
    """
    project = server.store.projects.insert(
        {"name": "customer-churn", "author": "amara", "description": description, "created": 1}
    )
    experiment = {
        "project": project["id"],
        "name": "Default_Experiment",
        "description": "",
        "created": 1,
    }
    server.store.experiments.insert(experiment)
    return int(project["id"])


# What a job becomes
# ---


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_a_job_is_a_run_with_its_mark_model_data_and_metrics(
    server: ModelDbV1StandIn, target: ModelDBV1Target, *, metadata_store: bool
) -> None:
    journal = MemoryJournal()
    synced = await target.sync(full_job(), journal)
    assert synced.created
    assert synced.ids == {
        "project_id": "1",
        "experiment_id": "1",
        "run_id": "1",
        "model_id": "1",
    }
    assert wrong(server, [full_job()], metadata_store=metadata_store) == []
    assert only(server.runs)["description"] == marker(full_job())
    assert [(each["name"], each["author"], each["description"]) for each in server.projects] == [
        ("customer-churn", "amara", "Who leaves next month")
    ]
    assert [each["tag"] for each in server.data_frames] == list(CHANNELS)
    assert len(server.metrics) == 4
    assert len(server.documents) == metadata_store
    assert journal.unanswered_writes == 0
    assert journal.begun == [f"modeldb-v1/run/test/{full_job().mark.short_hash}/churn-1"]
    frames = {"data_frame_0": "1", "data_frame_1": "2", "data_frame_2": "3"}
    metrics = {} if metadata_store else {"metrics": "0 1 2 3"}  # which cannot be read there
    assert journal.steps == {**synced.ids, "fits": "1", **frames, **metrics}


async def test_a_job_without_channels_and_metrics(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    bare = job(channels=(), metrics=(), hyperparameters=())
    synced = await target.sync(bare, MemoryJournal())
    assert wrong(server, [bare], metadata_store=True) == []
    assert "no metric is stored" in synced.notes[0]


async def test_a_job_that_is_there_is_read_and_not_written(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job(), MemoryJournal())
    server.received.clear()
    again = await target.sync(full_job(), MemoryJournal())
    assert not again.created
    assert again.ids == {"project_id": "1", "experiment_id": "1", "run_id": "1", "model_id": "1"}
    assert [each for each in server.calls if not each.startswith("get")] == []
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_the_second_job_of_a_project_makes_no_second_one(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job("a"), MemoryJournal())
    await target.sync(full_job("b"), MemoryJournal())
    await target.sync(full_job("c", project_user="other"), MemoryJournal())
    assert [each["author"] for each in server.projects] == ["amara", "other"]
    assert server.calls.count("storeProjectEvent") == 2
    assert len(server.experiments) == 2
    assert (
        wrong(
            server,
            [full_job("a"), full_job("b"), full_job("c", project_user="other")],
            metadata_store=True,
        )
        == []
    )


@pytest.mark.parametrize("latency", [0.0, 0.002])
async def test_project_experiment_and_first_run_are_made_back_to_back(
    server: ModelDbV1StandIn, latency: float
) -> None:
    """A project without a run breaks the start page of the server's web pages."""
    server.latency_seconds = latency
    jobs = [full_job(f"churn-{number}") for number in range(20)]
    async with target_on(server.port, metadata_store=True) as target:
        await asyncio.gather(*(target.sync(each, MemoryJournal()) for each in jobs))
    made = server.calls.index("storeProjectEvent")
    assert server.calls[made : made + 3] == [
        "storeProjectEvent",
        "storeExperimentEvent",
        "storeExperimentRunEvent",
    ]
    assert server.calls.count("storeProjectEvent") == 1
    assert server.calls.count("storeExperimentEvent") == 1
    assert wrong(server, jobs, metadata_store=True) == []


async def test_of_twin_projects_the_oldest_is_used(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    add_project(server)
    add_project(server)
    synced = await target.sync(full_job(), MemoryJournal())
    assert synced.ids["project_id"] == "1"
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_twin_projects_that_come_while_the_project_is_made(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    hold = server.faults.hold_before_execution(method="storeProjectEvent")
    syncing = asyncio.create_task(target.sync(full_job(), MemoryJournal()))
    await hold.reached.wait()
    add_project(server)
    add_project(server)
    hold.release()
    assert (await syncing).ids["project_id"] == "1"
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_a_project_without_an_experiment_gets_one(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    add_project(server)
    server.store.experiments.delete(1)
    await target.sync(full_job(), MemoryJournal())
    assert only(server.experiments)["name"] == "Default_Experiment"
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_a_project_without_a_description_gets_one(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    add_project(server, "")
    await target.sync(full_job(), MemoryJournal())
    assert only(server.projects)["description"] == "Who leaves next month"
    await target.sync(full_job("b"), MemoryJournal())
    assert server.calls.count("updateProject") == 1


async def test_a_description_that_is_there_stays(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await target.sync(full_job("a"), MemoryJournal())
    only(server.store.projects)["description"] = "as somebody has edited it"
    for name in ("b", "c"):
        job = full_job(name, project_description=f"as the tag of {name} has it")
        await target.sync(job, MemoryJournal())
    assert only(server.projects)["description"] == "as somebody has edited it"
    assert server.calls.count("updateProject") == 0


@pytest.mark.parametrize("size", [16_400_000])
async def test_a_job_that_is_too_large_is_refused_before_anything_is_written(
    server: ModelDbV1StandIn, target: ModelDBV1Target, size: int
) -> None:
    for large in (
        full_job(project_description="x" * size),
        full_job(metrics=(Metric("x" * size, 1.0),)),
    ):
        journal = MemoryJournal()
        with pytest.raises(JobRefused) as caught:
            await target.sync(large, journal)
        assert caught.value.reason is Reason.TARGET_REFUSED
        assert "ModelDB V1 takes at most 16384000" in caught.value.detail
        assert journal.begun == []
    assert writing_connections(server) == set()


async def test_a_value_that_cannot_be_sent_is_refused_before_anything_is_written(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    with pytest.raises(JobRefused) as caught:
        await target.sync(full_job(metrics=(Metric("\ud800", 1.0),)), MemoryJournal())
    assert caught.value.reason is Reason.TARGET_REFUSED
    assert writing_connections(server) == set()


# Who may write
# ---


async def test_without_the_permit_nothing_is_sent_and_no_connection_made(
    server: ModelDbV1StandIn,
) -> None:
    permit = Permit()
    permit.holds = False
    async with target_on(server.port, metadata_store=True, permit=permit) as target:
        with pytest.raises(JobFault) as caught:
            await target.sync(full_job(), MemoryJournal())
    assert caught.value.reason is Reason.STANDING_BY
    assert caught.value.delay_seconds == 5.0
    assert (server.calls, server.open_connections) == ([], 0)


async def test_no_frame_leaves_that_the_permit_does_not_outlive(server: ModelDbV1StandIn) -> None:
    permit = Permit()
    async with target_on(server.port, metadata_store=True, permit=permit) as target:
        hold = server.faults.hold_before_answer(method="storeExperimentRunEvent")
        syncing = asyncio.create_task(target.sync(full_job(), MemoryJournal()))
        await hold.reached.wait()
        before = server.calls
        permit.lasts = False
        hold.release()
        with pytest.raises(JobFault) as caught:
            await syncing
    assert caught.value.reason is Reason.STANDING_BY
    assert server.calls == before


async def test_the_connection_is_cut_when_the_permit_ends(server: ModelDbV1StandIn) -> None:
    permit = Permit()
    async with target_on(server.port, metadata_store=True, permit=permit) as target:
        hold = server.faults.hold_before_answer(method="storeFitEvent")
        syncing = asyncio.create_task(target.sync(full_job(), MemoryJournal()))
        await hold.reached.wait()
        permit.end()
        with pytest.raises(EdgeFault) as caught:
            await syncing
        assert caught.value.reason is Reason.UNREACHABLE
        hold.release()
        await until(lambda: server.open_connections == 0)


async def test_the_permit_is_given_back_when_nothing_is_unanswered(
    server: ModelDbV1StandIn,
) -> None:
    permit = Permit()
    async with target_on(server.port, metadata_store=True, permit=permit) as target:
        await target.sync(full_job(), MemoryJournal())
    assert permit.released == 1


async def test_all_jobs_go_over_one_connection(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await asyncio.gather(
        *(target.sync(full_job(f"churn-{number}"), MemoryJournal()) for number in range(10))
    )
    assert len(writing_connections(server)) == 1


async def test_a_call_without_an_answer_in_time_ends_the_connection(
    server: ModelDbV1StandIn,
) -> None:
    async with target_on(server.port, metadata_store=True, call_seconds=0.8) as target:
        await target.sync(full_job("before"), MemoryJournal())
        server.faults.freeze()
        with pytest.raises(EdgeFault) as caught:
            await target.sync(full_job(), MemoryJournal())
        assert "no answer within 0.8 s" in caught.value.detail
        server.faults.thaw()
        await target.sync(full_job(), MemoryJournal())
    assert wrong(server, [full_job("before"), full_job()], metadata_store=True) == []


# Whose fault an error is
# ---

FAULTS: dict[CallErrorKind, DaemonError] = {
    CallErrorKind.UNREACHABLE: EdgeFault(Edge.TARGET, Reason.UNREACHABLE, ""),
    CallErrorKind.STORAGE: EdgeFault(Edge.TARGET, Reason.UNAVAILABLE, ""),
    CallErrorKind.METADATA_STORE_DOWN: EdgeFault(
        Edge.TARGET, Reason.UNAVAILABLE, "set target.metadata_store to false"
    ),
    CallErrorKind.UNKNOWN_RUN: EdgeFault(
        Edge.TARGET, Reason.UNAVAILABLE, "has its database been replaced?"
    ),
    CallErrorKind.OTHER_DATABASE: EdgeFault(Edge.TARGET, Reason.UNAVAILABLE, ""),
    CallErrorKind.OTHER_WRITER: EdgeFault(
        Edge.TARGET, Reason.OTHER_WRITER, "switch off every other writer"
    ),
    CallErrorKind.NOT_THE_API: EdgeFault(Edge.TARGET, Reason.NOT_THE_API, "", curable=False),
    CallErrorKind.SCHEMA_MISSING: EdgeFault(
        Edge.TARGET, Reason.NOT_THE_API, "createDb.sql", curable=False
    ),
    CallErrorKind.NOT_FOUND: JobFault(Reason.TARGET_FAULT, ""),
    CallErrorKind.TWIN_ROWS: JobFault(Reason.TARGET_FAULT, ""),
    CallErrorKind.UNKNOWN: JobFault(Reason.TARGET_FAULT, ""),
    CallErrorKind.NOT_WRITER: JobFault(Reason.STANDING_BY, "", delay_seconds=5.0),
    CallErrorKind.BAD_VALUE: JobRefused(Reason.TARGET_REFUSED, ""),
    CallErrorKind.TOO_LARGE: JobRefused(Reason.TARGET_REFUSED, ""),
}


@pytest.mark.parametrize("kind", list(CallErrorKind))
def test_whose_fault(kind: CallErrorKind) -> None:
    due: Any = FAULTS[kind]
    fault: Any = fault_of(CallFailed(kind, "storeFitEvent", "the server's words"))
    assert type(fault) is type(due)
    assert fault.reason is due.reason
    says_itself = kind is CallErrorKind.OTHER_DATABASE
    method = "" if says_itself else "storeFitEvent: "
    assert fault.detail.startswith(f"{method}the server's words")
    assert due.detail in fault.detail
    assert getattr(fault, "curable", None) == getattr(due, "curable", None)
    assert getattr(fault, "delay_seconds", None) == getattr(due, "delay_seconds", None)


def test_a_method_is_not_named_twice() -> None:
    assert fault_of(CallFailed(CallErrorKind.UNKNOWN, "getModel", "no getModel here")).args == (
        "target_fault: no getModel here",
    )


async def test_a_busy_database_holds(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    server.faults.storage_busy_seconds = 0.0
    server.faults.storage_busy = True
    journal = MemoryJournal()
    with pytest.raises(EdgeFault) as caught:
        await target.sync(full_job(), journal)
    assert (caught.value.reason, caught.value.curable) == (Reason.UNAVAILABLE, True)
    assert "SQLITE_BUSY" in caught.value.detail
    server.faults.storage_busy = False
    await target.sync(full_job(), journal)
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_a_database_that_was_replaced_under_a_living_connection(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    server.faults.refuse(
        INTERFACE.InvalidExperimentRunException("Can't find experiment run ID 1"),
        method="storeFitEvent",
    )
    with pytest.raises(EdgeFault) as caught:
        await target.sync(full_job(), journal)
    assert caught.value.reason is Reason.UNAVAILABLE
    server.store.runs.delete(1)
    assert (await target.sync(full_job(), journal)).created
    assert len(writing_connections(server)) == 2, "what was read of the old one must not count"
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_a_failure_of_one_job_is_its_own(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    server.faults.refuse(
        INTERFACE.ServerLogicException("FooException: bar"), method="storeFitEvent"
    )
    with pytest.raises(JobFault) as caught:
        await target.sync(full_job(), journal)
    assert caught.value.reason is Reason.TARGET_FAULT
    await target.sync(full_job(), journal)
    assert len(writing_connections(server)) == 1
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_the_journal_can_forbid_the_write(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    journal = MemoryJournal()
    journal.refusal = EdgeFault(Edge.CHECKPOINT, Reason.STORAGE, "disk full")
    with pytest.raises(EdgeFault, match="disk full"):
        await target.sync(full_job(), journal)
    assert [each for each in server.calls if each.startswith("store")] == []


# Look-ups and how a target is made
# ---


async def test_find_needs_no_permit(server: ModelDbV1StandIn, target: ModelDBV1Target) -> None:
    await target.sync(full_job("a", project_name="another"), MemoryJournal())
    await target.sync(full_job(), MemoryJournal())
    standing_by = Permit()
    standing_by.holds = False
    async with target_on(server.port, metadata_store=True, permit=standing_by) as other:
        found = await other.find(full_job().mark)
        assert found is not None
        assert not found.created
        assert not found.complete  # as far as a mark can prove
        assert found.ids == {"project_id": "2", "experiment_id": "2", "run_id": "2"}
        assert await other.find(full_job("unknown").mark) is None
        await until(lambda: server.open_connections == 1)
        await server.aclose()
        with pytest.raises(EdgeFault) as caught:
            await other.find(full_job().mark)
        assert caught.value.reason is Reason.UNREACHABLE


async def test_find_comes_after_the_writes_that_are_under_way(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    # The connection lives on after its caller was cancelled, and the server still works on what was
    # sent.
    hold = await cancel_in(target, server, "storeExperimentRunEvent", MemoryJournal())
    finding = asyncio.create_task(target.find(full_job().mark, unanswered_writes=1))
    await until(lambda: server.open_connections == 1)
    hold.release()
    found = await finding
    assert found is not None
    assert found.ids["run_id"] == "1"
    assert server.open_connections == 1


async def test_find_with_unanswered_writes_is_the_writers(server: ModelDbV1StandIn) -> None:
    standing_by = Permit()
    standing_by.holds = False
    async with target_on(server.port, metadata_store=True, permit=standing_by) as other:
        with pytest.raises(JobFault) as caught:
            await other.find(full_job().mark, unanswered_writes=1)
    assert caught.value.reason is Reason.STANDING_BY
    assert server.calls == []


async def test_find_with_unanswered_writes_holds_when_the_server_is_gone(
    server: ModelDbV1StandIn, target: ModelDBV1Target
) -> None:
    await server.aclose()
    with pytest.raises(EdgeFault) as caught:
        await target.find(full_job().mark, unanswered_writes=1)
    assert caught.value.reason is Reason.UNREACHABLE


async def test_a_target_as_configured(server: ModelDbV1StandIn) -> None:
    seen: list[tuple[str, str]] = []
    settings = ModelDbV1Settings(kind="modeldb-v1", host="127.0.0.1", port=server.port)
    target = open_modeldb_v1(
        settings, lambda method, result: seen.append((method, result)), NoPermit()
    )
    assert target.kind == "modeldb-v1"
    await target.probe()
    assert await target.find(full_job().mark) is None
    with pytest.raises(JobFault, match="standing_by"):
        await target.sync(full_job(), MemoryJournal())
    await target.aclose()
    assert seen == [
        ("getProjectIds", "ok"),
        ("getModelIds", "ok"),
        *[("computeModelAncestry", "not_found")] * 2,
        ("createOrUpdateScalarField", "ok"),
        ("getProjectIds", "ok"),
    ]


async def test_a_ca_file_that_is_none(target: ModelDBV1Target, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    settings = ModelDbV1Settings(
        kind="modeldb-v1", host="127.0.0.1", port=1, tls=True, ca_file=file
    )
    with pytest.raises(SetupFault, match=r"target\.ca_file: no certificate authorities .*ca\.pem"):
        open_modeldb_v1(settings, lambda _method, _result: None, NoPermit())

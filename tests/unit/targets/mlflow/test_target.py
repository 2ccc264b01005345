"""The MLflow target: what its faults mean, `find`, `probe`, and runs of SageMaker's own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from aiohttp import encode_basic_auth

from daemon.errors import JobRefused
from daemon.reasons import Reason
from daemon.targets.kind import TargetContext
from daemon.targets.mlflow import target as target_module
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from daemon.targets.mlflow.settings import MlflowSettings
from daemon.targets.mlflow.target import fault_of, open_mlflow
from daemon.training_job.training_run import Channel
from tests.support.mlflow_stand_in import MlflowStandIn
from tests.support.mlflow_target import InterruptedClient, active, deleted, scene_of, writes
from tests.support.target_jobs import MemoryJournal, edge_fault, job, job_fault

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun
    from tests.support.mlflow_target import TargetScene

MODEL = "s3://models/churn/output/model.tar.gz"
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/Team"
DENIED = "Permission denied"


# As configured
# ---


async def test_the_configured_target_syncs_a_job(server: MlflowStandIn) -> None:
    seen = []
    settings = MlflowSettings(kind="mlflow", tracking_uri=server.url, experiment_prefix="team/")
    context = TargetContext(observe=lambda operation, result: seen.append((operation, result)))
    async with contextlib.aclosing(open_mlflow(settings, context)) as target:
        done = await target.sync(job(model_location=MODEL), MemoryJournal())

    assert target.kind == "mlflow"
    assert done.ids["project"] == "team/customer-churn"
    assert done.ids["run_url"].startswith(f"{server.url}/#/experiments/")
    assert ("runs/create", "ok") in seen


async def test_what_the_server_says_of_a_workspace_is_quoted(server: MlflowStandIn) -> None:
    said = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Workspace 'fraud-team' not found"}
    server.faults.refuse_next(1, 404, said, operation="experiments/search")
    settings = MlflowSettings.model_validate(
        {
            "kind": "mlflow",
            "tracking_uri": server.url,
            "workspace": "fraud-team",
            "headers": {"X-Key": "fraud-team-key"},
        }
    )
    async with contextlib.aclosing(open_mlflow(settings, TargetContext())) as target:
        fault = await edge_fault(target.probe())

    assert "Workspace 'fraud-team' not found" in fault.detail
    assert server.headers[0]["X-MLFLOW-WORKSPACE"] == "fraud-team"
    assert server.headers[0]["X-Key"] == "fraud-team-key"


async def test_a_preview_is_what_is_written(scene: TargetScene) -> None:
    run = job(model_location=MODEL)
    shown = scene.target.preview(run).document
    await scene.sync(run=run)

    [stored] = active(scene.server)
    wanted = {tag["key"]: tag["value"] for tag in shown["run"]["data"]["tags"]}
    assert wanted.items() <= stored["tags"].items()
    assert set(stored["tags"]) - set(wanted) == {"sagemaker_sync_written", "mlflow.runName"}
    assert shown["experiment"]["name"] == "customer-churn"
    [version] = scene.server.model.model_versions()
    assert shown["model_version"]["source"] == version["source"]


# Faults
# ---


@pytest.mark.parametrize(
    ("kind", "reason", "curable"),
    [
        (ApiErrorKind.DATABASE_DOWN, Reason.UNAVAILABLE, True),
        (ApiErrorKind.UNAVAILABLE, Reason.UNAVAILABLE, True),
        (ApiErrorKind.THROTTLED, Reason.THROTTLED, True),
        (ApiErrorKind.TIMEOUT, Reason.UNREACHABLE, True),
        (ApiErrorKind.CONNECTION, Reason.UNREACHABLE, True),
        (ApiErrorKind.UNAUTHENTICATED, Reason.CREDENTIALS, True),
        (ApiErrorKind.HOST_REFUSED, Reason.NOT_THE_API, True),
        (ApiErrorKind.NOT_THE_API, Reason.NOT_THE_API, False),
    ],
)
async def test_faults_of_the_server_are_the_edges(
    kind: ApiErrorKind, reason: Reason, *, curable: bool
) -> None:
    async def fails() -> None:
        raise fault_of(ApiError(kind, "runs/create", "what was seen"))

    fault = await edge_fault(fails())
    assert (fault.reason, fault.curable, fault.detail) == (
        reason,
        curable,
        "runs/create: what was seen",
    )


@pytest.mark.parametrize(
    "kind",
    [
        ApiErrorKind.ABSENT,
        ApiErrorKind.EXISTS,
        ApiErrorKind.DATABASE_REFUSED,
        ApiErrorKind.INTERNAL,
    ],
)
async def test_other_faults_are_the_jobs_for_now(kind: ApiErrorKind) -> None:
    async def fails() -> None:
        raise fault_of(ApiError(kind, "runs/create", "what was seen"))

    assert (await job_fault(fails())).detail == "runs/create: what was seen"


def test_a_write_that_is_refused_is_the_jobs_verdict() -> None:
    invalid = ApiError(ApiErrorKind.INVALID, "runs/create", "no such name")
    assert isinstance(fault_of(invalid), JobRefused)


def test_a_search_that_is_refused_is_never_the_jobs_verdict() -> None:
    invalid = ApiError(ApiErrorKind.INVALID, "runs/search", "no such filter")
    assert not isinstance(fault_of(invalid), JobRefused)


async def test_a_body_limit_of_a_proxy_is_no_verdict_on_the_job(scene: TargetScene) -> None:
    page = "<html>413 Request Entity Too Large</html>"
    scene.server.faults.refuse_next(1, 413, page, operation="runs/log-batch")

    fault = await job_fault(scene.sync())
    assert "raise the body limit of what stands before MLflow" in fault.detail


async def test_a_database_outage_holds(scene: TargetScene, journal: MemoryJournal) -> None:
    scene.server.faults.database_down = True
    fault = await edge_fault(scene.sync(journal=journal))
    assert fault.reason == Reason.UNAVAILABLE
    probed = await edge_fault(scene.target.probe())
    assert probed.reason == Reason.UNAVAILABLE

    scene.server.faults.clear()
    await scene.target.probe()
    await scene.sync(journal=journal)
    assert len(active(scene.server)) == 1


async def test_a_run_that_is_deleted_while_it_is_written_is_not_completed(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    create = scene.client.create_run

    async def deleted_at_once(*given: object, **members: object) -> object:
        run = await create(*given, **members)  # type: ignore[arg-type] # as given
        await scene.client.delete_run(run.id)
        return run

    scene.client.create_run = deleted_at_once  # type: ignore[method-assign, assignment] # a person
    with pytest.raises(JobRefused) as caught:
        await scene.sync(journal=journal)

    assert "deleted in MLflow while the job was written" in caught.value.detail
    assert active(scene.server) == []


async def test_creates_wait_for_a_slot_before_they_are_begun(server: MlflowStandIn) -> None:
    async with scene_of(server, max_concurrency=1) as scene:
        await scene.sync("first")
        server.faults.frozen = True
        journals = [MemoryJournal() for _ in range(5)]
        tasks = [
            asyncio.create_task(scene.sync(f"churn-{n}", journal=journal))
            for n, journal in enumerate(journals)
        ]
        server.faults.frozen = False
        await asyncio.gather(*tasks)

    assert len(active(server)) == 6


# Permissions
# ---


async def test_a_permission_that_no_job_has_is_the_edges(scene: TargetScene) -> None:
    scene.server.faults.refuse_next(1, 403, DENIED_PAGE, operation="runs/create")
    fault = await edge_fault(scene.sync())

    assert fault.reason == Reason.ACCESS_DENIED
    assert fault.may_be_the_jobs


async def test_a_permission_that_other_jobs_have_is_the_jobs(
    scene: TargetScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(target_module, "monotonic", lambda: now)
    await scene.sync()
    journal = MemoryJournal()
    scene.server.faults.refuse_next(1, 403, DENIED_PAGE, operation="runs/create")
    denied = await job_fault(scene.sync("churn-2", project_name="of-others", journal=journal))
    assert denied.detail.endswith(": experiment 'of-others'")
    assert journal.unanswered_writes == 0

    now += target_module.PERMITTED_SECONDS + 1
    scene.server.faults.refuse_next(1, 403, DENIED_PAGE, operation="runs/create")
    fault = await edge_fault(scene.sync("churn-2", project_name="of-others"))
    assert fault.reason == Reason.ACCESS_DENIED


async def test_an_experiment_of_others_defers_its_own_jobs_only(no_pauses: None) -> None:
    """As MLflow's basic auth answers."""
    logins = {"admin": "a-password", "bea": "b-password"}
    async with (
        MlflowStandIn(logins=logins) as server,
        scene_of(server, headers=basic("admin", "a-password")) as admin,
        scene_of(server, headers=basic("bea", "b-password")) as bea,
    ):
        await admin.sync("churn-1")
        held = await edge_fault(bea.sync("churn-2"))
        await bea.sync("own-1", project_name="beas")
        deferred = await job_fault(bea.sync("churn-2"))
        await bea.sync("own-2", project_name="beas")

        assert held.reason == Reason.ACCESS_DENIED
        assert "EDIT on this experiment or model" in deferred.detail
        assert [run["info"]["run_name"] for run in active(server)] == ["churn-1", "own-1", "own-2"]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": encode_basic_auth(user, password)}


DENIED_PAGE = {"error_code": "PERMISSION_DENIED", "message": DENIED}


# find
# ---


async def test_find_needs_two_calls_for_a_run_with_a_version(scene: TargetScene) -> None:
    first = await scene.sync(model_location=MODEL)
    scene.server.requests.clear()
    found = await scene.target.find(job().mark)

    assert found is not None
    assert (found.ids, found.created, found.complete) == (first.ids, False, True)
    assert scene.server.requests["runs/search"] == 0


async def test_find_searches_all_experiments_for_a_run_without_one(scene: TargetScene) -> None:
    first = await scene.sync()
    found = await scene.target.find(job().mark)

    assert found is not None
    assert found.ids == first.ids
    assert await scene.target.find(job("other").mark) is None


async def test_find_says_that_a_run_is_incomplete(scene: TargetScene) -> None:
    first = await scene.sync()
    await scene.client.update_run(first.ids["run_id"], status="RUNNING")
    found = await scene.target.find(job().mark, unanswered_writes=1)

    assert found is not None
    assert not found.complete
    assert scene.settling.slept == [30.0]


async def test_find_says_that_a_person_deleted_the_run(scene: TargetScene) -> None:
    first = await scene.sync()
    await scene.client.delete_run(first.ids["run_id"])
    found = await scene.target.find(job().mark)

    assert found is not None
    assert found.ids["run_id"] == first.ids["run_id"]
    assert "was deleted in MLflow" in found.detail


async def test_find_heals_what_arrived_while_it_waited(
    scene: TargetScene, other: TargetScene
) -> None:
    scene.server.faults.overlap_next(2, operation="runs/create")
    await asyncio.gather(scene.sync(model_location=MODEL), other.sync(model_location=MODEL))
    found = await scene.target.find(job().mark, unanswered_writes=2)

    assert found is not None
    assert found.healed == 1
    assert len(active(scene.server)) == len(deleted(scene.server)) == 1
    [version] = scene.server.model.model_versions()
    assert version["run_id"] == found.ids["run_id"]


# The probe
# ---


async def test_the_probe_asks_the_registry_only_if_it_is_used(server: MlflowStandIn) -> None:
    async with scene_of(server) as scene:
        await scene.target.probe()
    assert dict(server.requests) == {"experiments/search": 1, "model-versions/search": 1}
    server.requests.clear()
    async with scene_of(server, register_models=False) as scene:
        await scene.target.probe()
    assert dict(server.requests) == {"experiments/search": 1}


@pytest.mark.parametrize(
    ("status", "code", "reason", "curable"),
    [
        (500, "INTERNAL_ERROR", Reason.UNAVAILABLE, True),
        (400, "BAD_REQUEST", Reason.UNAVAILABLE, True),
        (400, "INVALID_PARAMETER_VALUE", Reason.NOT_THE_API, False),
        (403, "PERMISSION_DENIED", Reason.ACCESS_DENIED, True),
        (429, "REQUEST_LIMIT_EXCEEDED", Reason.THROTTLED, True),
    ],
)
async def test_what_refuses_the_probe_is_the_edges(
    scene: TargetScene, status: int, code: str, reason: Reason, *, curable: bool
) -> None:
    answer = {"error_code": code, "message": "no"}
    scene.server.faults.refuse_next(1, status, answer, operation="experiments/search")
    fault = await edge_fault(scene.target.probe())

    assert (fault.reason, fault.curable) == (reason, curable)


async def test_without_models_no_version_is_registered(server: MlflowStandIn) -> None:
    async with scene_of(server, register_models=False) as scene:
        done = await scene.sync(model_location=MODEL)

    assert done.created
    assert server.model.registered_models() == []


# Runs of SageMaker's own
# ---


async def sagemakers_run(scene: TargetScene, *, status: str = "FINISHED") -> str:
    """Makes a run as SageMaker's integration does."""
    experiment_id = await scene.client.create_experiment("sagemakers", {})
    run = await scene.client.create_run(
        experiment_id, run_name="own", start_time=1, tags={"mlflow.user": "sagemaker"}
    )
    await scene.client.log_batch(run.id, metrics=(), params={"eta": "own"}, tags={})
    if status != "RUNNING":
        await scene.client.update_run(run.id, status=status, end_time=2)
    return run.id


def adopted_job(run_id: str) -> TrainingRun:
    return job(
        mlflow_resource_arn=ARN,
        mlflow_run_id=run_id,
        model_location=MODEL,
        channels=(Channel("train", "s3://data/train", "S3Prefix"),),
    )


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "RUNNING"])
async def test_sagemakers_own_run_gets_the_mark_and_no_second_run_is_made(
    server: MlflowStandIn, status: str
) -> None:
    async with scene_of(server, managed_arn=ARN.lower()) as scene:
        run_id = await sagemakers_run(scene, status=status)
        done = await scene.sync(run=adopted_job(run_id))
        before = writes(server)
        again = await scene.sync(run=adopted_job(run_id), journal=MemoryJournal(look_up_first=True))
        found = await scene.target.find(job().mark)

    [run] = active(server)
    assert not done.created
    assert done.ids["run_id"] == run_id
    assert again.ids == done.ids
    assert found is not None
    assert found.ids == done.ids
    assert writes(server) == before
    assert run["tags"]["sagemaker_training_job_arn"] == job().mark.arn
    assert run["tags"]["mlflow.user"] == "sagemaker"
    assert run["tags"]["sagemaker_sync_adopted"] == "true"
    assert run["params"] == {"eta": "own"}
    assert len(run["inputs"]["dataset_inputs"]) == 1
    assert run["info"]["status"] == ("FINISHED" if status == "RUNNING" else status)
    assert [each["run_id"] for each in server.model.model_versions()] == [run_id]
    assert [each["name"] for each in server.model.experiments()] == ["sagemakers"]


@pytest.mark.parametrize("end", ["lost before", "lost after", "cancelled after"])
async def test_an_adoption_may_end_at_every_call(server: MlflowStandIn, end: str) -> None:
    async with scene_of(server, managed_arn=ARN.lower(), client=InterruptedClient) as scene:
        client = scene.client
        assert isinstance(client, InterruptedClient)
        run_id = await sagemakers_run(scene, status="RUNNING")
        for number in range(1, 12):
            client.calls.clear()
            client.at, client.end = number, end
            journal = MemoryJournal()
            try:
                await scene.sync(run=adopted_job(run_id), journal=journal)
            except (Exception, asyncio.CancelledError):  # noqa: BLE001 - whatever it ends with
                client.at = 0
                await scene.sync(run=adopted_job(run_id), journal=journal)
            client.at = 0
            [run] = active(server)
            assert run["info"]["status"] == "FINISHED"
            assert run["tags"]["sagemaker_training_job_arn"] == job().mark.arn
            [version] = server.model.model_versions()
            # as it was before
            await client.update_run(run_id, status="RUNNING")
            for tag in ("sagemaker_training_job_arn", "sagemaker_sync_adopted"):
                await client.delete_tag(run_id, tag)
            await client.delete_model_version(version["name"], version["version"])
    assert deleted(server) == []


async def test_a_run_of_sagemakers_that_is_gone_is_replaced(server: MlflowStandIn) -> None:
    async with scene_of(server, managed_arn=ARN.lower()) as scene:
        done = await scene.sync(run=adopted_job("0" * 32))

    assert done.created
    assert len(active(server)) == 1


async def test_on_another_server_the_job_gets_a_run_of_its_own(scene: TargetScene) -> None:
    run_id = await sagemakers_run(scene)
    done = await scene.sync(run=adopted_job(run_id))

    assert done.created
    assert len(active(scene.server)) == 2


async def test_an_adopted_run_is_never_deleted_as_a_duplicate(server: MlflowStandIn) -> None:
    async with scene_of(server, managed_arn=ARN.lower()) as scene:
        own = await scene.sync()
        run_id = await sagemakers_run(scene)
        mark = {
            "sagemaker_training_job_arn": job().mark.arn,
            "sagemaker_creation_time": job().mark.creation_time,
            "sagemaker_sync_adopted": "true",
        }
        await scene.client.log_batch(run_id, metrics=(), params={}, tags=mark)
        done = await scene.sync(run=adopted_job(run_id), journal=MemoryJournal(look_up_first=True))

    assert done.ids["run_id"] == run_id
    assert [each["info"]["run_id"] for each in deleted(server)] == [own.ids["run_id"]]

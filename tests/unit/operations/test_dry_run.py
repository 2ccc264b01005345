"""What `sync --dry-run` says is what `sync` does, and it changes nothing."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from daemon.errors import JobRefused
from daemon.operations.dry_run import DryRun, dry_run
from daemon.operations.sync_one import JobName, SyncOne
from daemon.reasons import Edge, Reason
from tests.support.flow_scene import CREATED, TAGS, arn_of, edge_fault, flow_scene, mark_of, without
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.modeldb_v2_target import target_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.flow_scene import FlowScene

CHURN = JobName("churn-1")
READING = {"findExperimentRuns", "getExperimentRunById", "getProjectById", "getExperimentById"}


@pytest.fixture
async def server() -> AsyncIterator[ModelDbV2StandIn]:
    async with ModelDbV2StandIn() as stand_in:
        yield stand_in


@pytest.fixture
async def scene(server: ModelDbV2StandIn, tmp_path: Path) -> AsyncIterator[FlowScene]:
    async with (
        target_of(server.url) as target,
        flow_scene(tmp_path / "checkpoint.db", target=target) as made,
    ):
        yield made


async def dry(
    scene: FlowScene, wanted: JobName = CHURN, *, force: bool = False, recorded: bool = True
) -> DryRun:
    """A dry run, of which the checkpoint and the server see nothing but reads."""
    rows = await scene.rows()
    assert scene.real_target is not None
    async with asyncio.timeout(5):
        answer = await dry_run(
            wanted,
            scene.jobs,
            scene.real_target,
            scene.rules,
            rows if recorded else (),
            force=force,
        )
    assert await scene.rows() == rows
    assert json.loads(json.dumps(answer.as_document()))["text"] == answer.text
    return answer


async def sync(scene: FlowScene, *, force: bool = False) -> str:
    one = SyncOne(scene.flow, scene.jobs, scene.checkpoint, scene.in_flight, patience_seconds=0.05)
    return (await one.sync(CHURN, force=force)).outcome


async def test_what_would_be_written_is_what_is_written(
    scene: FlowScene, server: ModelDbV2StandIn
) -> None:
    scene.jobs.put("churn-1", tags={**TAGS, "team": "growth"})
    answer = await dry(scene)

    assert answer.text == "churn-1 would become a run in ModelDB V2"
    assert (answer.outcome, answer.reason) == ("synced", "created")
    assert set(server.requests) <= READING
    assert await sync(scene) == "synced"
    [run], [project] = server.runs(), server.projects()
    written = answer.as_document()["would_write"]
    assert written["project"].items() <= project.items()
    assert written["experiment_run"]["tags"] == run["tags"]
    assert written["experiment_run"]["attributes"] == run["attributes"]
    assert written["experiment_run"]["description"] == run["description"]


async def test_a_synced_job_would_be_left_alone(scene: FlowScene, server: ModelDbV2StandIn) -> None:
    await sync(scene)
    scene.jobs.put("churn-1", tags={**TAGS, "MODEL_DB_MODEL_TYPE": "LightGBM"})
    run_id = server.runs()[0]["id"]
    answer = await dry(scene)

    assert (answer.outcome, answer.reason) == ("duplicate", "already_synced")
    assert answer.text == (
        f"churn-1 is there already as run {run_id}: nothing would be written; `--force` would "
        "repair it"
    )
    assert answer.as_document()["would_write"] is None
    # without its row, too, because the target is asked
    unrecorded = await dry(scene, recorded=False)
    assert (unrecorded.outcome, unrecorded.reason) == ("synced", "found_in_target")


async def test_what_force_would_repair_is_what_it_repairs(
    scene: FlowScene, server: ModelDbV2StandIn
) -> None:
    await sync(scene)
    same = await dry(scene, force=True)
    assert same.text.endswith("as it should be: nothing would be written")
    scene.jobs.put("churn-1", tags={**TAGS, "MODEL_DB_MODEL_TYPE": "LightGBM"})
    before = json.dumps(server.runs())
    answer = await dry(scene, force=True)

    assert answer.text.endswith("what differs would be repaired")
    assert "tag 'LightGBM' (missing)" in answer.as_document()["differs"]
    assert json.dumps(server.runs()) == before
    one = SyncOne(scene.flow, scene.jobs, scene.checkpoint, scene.in_flight)
    repaired = await one.sync(CHURN, force=True)
    assert list(repaired.changed) == answer.as_document()["differs"]


async def test_a_run_that_people_deleted(scene: FlowScene, server: ModelDbV2StandIn) -> None:
    await sync(scene)
    [run] = server.store.runs.all_live()
    server.store.runs.delete(run)

    assert (await dry(scene)).outcome == "duplicate"
    forced = await dry(scene, force=True)
    assert forced.text.endswith("it was synced before, but its run is not there any more")
    assert await sync(scene, force=True) == "synced"
    assert len(server.runs()) == 1


@pytest.mark.parametrize(
    ("tags", "status", "outcome", "said"),
    [
        ({}, "Completed", "skipped", "would be skipped: it has no tag MODEL_DB_SYNC"),
        (
            without("MODEL_DB_MODEL_NAME"),
            "Completed",
            "rejected",
            "would be rejected: it lacks the tags MODEL_DB_MODEL_NAME",
        ),
        (TAGS, "InProgress", "deferred", "would be deferred: it is InProgress"),
        (TAGS, "Failed", "skipped", "would be skipped: it is Failed"),
    ],
)
async def test_what_would_not_be_synced(
    scene: FlowScene, tags: dict[str, str], status: str, outcome: str, said: str
) -> None:
    scene.jobs.put("churn-1", tags=tags, TrainingJobStatus=status)
    answer = await dry(scene)

    assert (answer.outcome, answer.preview) == (outcome, None)
    assert said in answer.text
    assert answer.next_step
    assert await sync(scene) == outcome


async def test_an_unknown_job(scene: FlowScene) -> None:
    scene.jobs.faults["describe"] = deque([JobRefused(Reason.JOB_GONE, "not found")])
    answer = await dry(scene)

    assert (answer.outcome, answer.reason) == ("unknown_job", "job_gone")
    assert answer.next_step.startswith("check its name")


async def test_a_foreign_job(scene: FlowScene) -> None:
    answer = await dry(scene, JobName.parse(arn_of("churn-1", account="999999999999")))

    assert (answer.outcome, answer.reason) == ("rejected", "foreign_account")


async def test_a_target_that_does_not_answer_leaves_the_question_open(
    scene: FlowScene, server: ModelDbV2StandIn
) -> None:
    server.faults.backend_down = True
    answer = await dry(scene)

    assert answer.preview is not None
    assert answer.fault.startswith("whether there is a run of this job is not known: ")


async def test_sagemaker_that_does_not_answer(scene: FlowScene) -> None:
    scene.jobs.faults["describe"] = deque([edge_fault(Edge.SAGEMAKER)])
    answer = await dry(scene)

    assert (answer.outcome, answer.preview) == ("held", None)
    assert "the sagemaker does not work" in answer.text


async def test_another_job_of_the_same_name_does_not_count(scene: FlowScene) -> None:
    await sync(scene)
    [row] = await scene.rows()
    assert row.creation_time == mark_of("churn-1").creation_time
    scene.jobs.put("churn-1", CreationTime=CREATED + timedelta(days=1))

    assert (await dry(scene)).text == "churn-1 would become a run in ModelDB V2"

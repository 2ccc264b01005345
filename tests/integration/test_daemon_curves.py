"""Metric curves and tuning jobs through the whole daemon, as a process."""

from __future__ import annotations

import os
import uuid
from time import monotonic
from typing import TYPE_CHECKING, Any

import pytest

from daemon.aws.tuning_jobs import RUNNING_SECONDS
from tests.support.daemon_process import DaemonScene, Job, daemon_scene
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.sagemaker_stub import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

CHILD = Job("churn-hpo-251120-0840-007", description_file="hpo-child.json")
PARENT = {
    "HyperParameterTuningJobName": "churn-hpo-251120-0840",
    "HyperParameterTuningJobStatus": "InProgress",
    "HyperParameterTuningJobConfig": {
        "Strategy": "Bayesian",
        "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": "validation:auc"},
    },
    "BestTrainingJob": {"TrainingJobName": CHILD.name},
}


CHILDREN = int(os.environ.get("TUNING_JOB_CHILDREN", "200"))


@pytest.fixture
async def modeldb() -> AsyncIterator[ModelDbV2StandIn]:
    async with ModelDbV2StandIn() as server:
        yield server


@pytest.fixture
async def scene(
    moto_endpoint: str, modeldb: ModelDbV2StandIn, tmp_path: Path
) -> AsyncIterator[DaemonScene]:
    async with daemon_scene(moto_endpoint, modeldb.url, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        made.finish_jobs([CHILD])
        made.sagemaker.put_tuning_job(PARENT)
        auc = [(step, 0.5 + step / 1000) for step in range(300)]
        made.sagemaker.put_series(CHILD.arn, "validation:auc", auc)
        yield made


async def run_of(
    scene: DaemonScene, port: int, *, metric_series: bool = True, **sections: Mapping[str, Any]
) -> dict[str, Any]:
    """Syncs the job. Returns the line of its outcome."""
    daemon = scene.daemon(
        port,
        aws={"sagemaker_metrics_endpoint_url": scene.sagemaker.url},
        jobs={"metric_series": metric_series},
        **sections,
    )
    await daemon.start()
    await scene.send([CHILD.event])
    [line] = await daemon.outcomes(1, outcome="synced")
    assert await daemon.stop() == 0
    return dict(line)


def attributes(run: Mapping[str, Any]) -> dict[str, Any]:
    return {entry["key"]: entry["value"] for entry in run["attributes"]}


async def test_curves_and_parent_are_in_the_one_create(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    await run_of(scene, free_port())
    [run] = modeldb.runs()
    drawn = run["observations"]
    assert [entry["epoch_number"] for entry in drawn] == list(range(300))
    assert {entry["attribute"]["key"] for entry in drawn} == {"validation/auc"}
    metrics = {entry["key"]: entry["value"] for entry in run["metrics"]}
    assert metrics["validation/auc/best"] == pytest.approx(0.799)
    found = attributes(run)
    assert found["metric_validation_auc_best_step"] == 299
    assert found["tuning_strategy"] == "Bayesian"
    assert found["tuning_best_so_far"] == "true"
    assert "tuning:churn-hpo-251120-0840" in run["tags"]
    assert scene.sagemaker.count("BatchGetMetrics") == 1
    assert scene.sagemaker.count("DescribeHyperParameterTuningJob") == 1


async def test_without_the_switch_nothing_is_asked(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    await run_of(scene, free_port(), metric_series=False)
    [run] = modeldb.runs()
    assert "observations" not in run
    assert scene.sagemaker.count("BatchGetMetrics") == 0


async def test_denied_permissions_cost_nothing_but_notes(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    denied = Answer(400, b'{"__type": "AccessDeniedException", "message": "no"}')
    with (
        scene.sagemaker.failing("BatchGetMetrics", denied),
        scene.sagemaker.failing("DescribeHyperParameterTuningJob", denied),
    ):
        line = await run_of(scene, free_port())
    [run] = modeldb.runs()
    assert "observations" not in run
    assert "tuning:churn-hpo-251120-0840" in run["tags"]
    for words in ("metric series not read: ", "tuning job churn-hpo-251120-0840 not read: "):
        assert words in attributes(run)["sync_notes"]
        assert any(words in note for note in line["notes"])


@pytest.mark.slow  # a daemon waits before it first writes to ModelDB V1
async def test_a_target_without_a_place_for_curves_asks_for_none(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    async with ModelDbV1StandIn() as server:
        target = {"kind": "modeldb-v1", "host": server.host, "port": server.port}
        scene.target = target
        await run_of(scene, free_port())
    assert scene.sagemaker.count("BatchGetMetrics") == 0
    assert scene.sagemaker.count("DescribeHyperParameterTuningJob") == 1


@pytest.mark.slow  # many jobs
@pytest.mark.timeout(60 + CHILDREN)
async def test_the_children_of_a_tuning_job_ask_about_it_once_a_minute(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    """They end together, while their parent goes on."""
    children = [
        Job(f"churn-hpo-251120-0840-{number:04d}", description_file="hpo-child.json")
        for number in range(CHILDREN)
    ]
    scene.finish_jobs(children)
    daemon = scene.daemon(free_port())
    await daemon.start()
    begun = monotonic()
    await scene.send(child.event for child in children)
    await daemon.outcomes(len(children), outcome="synced", seconds=CHILDREN)
    minutes = (monotonic() - begun) / RUNNING_SECONDS
    assert await daemon.stop() == 0

    runs = modeldb.runs()
    assert sorted(run["name"] for run in runs) == [child.name for child in children]
    assert all("tuning:churn-hpo-251120-0840" in run["tags"] for run in runs)
    assert all(attributes(run)["tuning_strategy"] == "Bayesian" for run in runs)
    assert scene.sagemaker.count("DescribeHyperParameterTuningJob") <= 1 + minutes
    assert len({run["experiment_id"] for run in runs}) == 1

"""MLflow in the demo: what it reads of the runs, and its outage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from daemon.demo.mlflow.demo_target import running
from daemon.training_job.identity import JobMark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.demo.mlflow.demo_target import DemoMlflow

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn"
CREATED = "2026-11-29T08:00:00.000Z"


class Scene:
    def __init__(self, demo: DemoMlflow, http: aiohttp.ClientSession) -> None:
        self.demo = demo
        self.http = http

    async def post(self, operation: str, **body: Any) -> Any:
        url = f"{self.demo.settings['tracking_uri']}/api/2.0/mlflow/{operation}"
        async with self.http.post(url, json=body) as answer:
            return await answer.json()

    async def create_run(self) -> str:
        tags = {
            "sagemaker_training_job_arn": ARN,
            "sagemaker_creation_time": CREATED,
            "model_name": "churn-xgb",
            "sagemaker.objective_metric": "validation:auc",
        }
        pairs = [{"key": key, "value": value} for key, value in tags.items()]
        created = await self.post("runs/create", experiment_id="1", run_name="churn", tags=pairs)
        return str(created["run"]["info"]["run_id"])


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    # whatever is installed here
    monkeypatch.setattr("daemon.demo.mlflow.demo_target.find_spec", lambda _name: None)
    async with aiohttp.ClientSession() as http, running(http, tmp_path) as demo:
        yield Scene(demo, http)


async def test_a_run_is_read_with_all_that_the_demo_compares(scene: Scene) -> None:
    await scene.post("experiments/create", name="Churn")
    run_id = await scene.create_run()
    metrics = [
        {"key": "validation/auc", "value": 0.9, "timestamp": 5, "step": 0},
        {"key": "train/loss", "value": "NaN", "timestamp": 5, "step": 0},
    ]
    await scene.post("runs/log-batch", run_id=run_id, metrics=metrics)
    dataset = {
        "name": "train",
        "digest": "d",
        "source_type": "s3",
        "source": '{"uri": "s3://bucket/train"}',
    }
    await scene.post("runs/log-inputs", run_id=run_id, datasets=[{"dataset": dataset}])
    await scene.post("registered-models/create", name="churn-xgb")
    await scene.post(
        "model-versions/create", name="churn-xgb", source="s3://bucket/model", run_id=run_id
    )
    [found] = await scene.demo.runs()
    assert (found.project, found.experiment, found.name) == ("Churn", "churn-xgb", "churn")
    assert (found.run_id, found.mark) == (run_id, JobMark(ARN, CREATED))
    assert found.metrics == [("validation:auc", 0.9), ("ObjectiveMetric", 0.9)]
    assert found.inputs == [("train", "s3://bucket/train")]
    assert found.models == 1
    assert "s3://bucket/model" in found.content
    assert scene.demo.run_count == 1


async def test_the_outage_ends_with_an_answer_that_is_lost(scene: Scene) -> None:
    await scene.post("experiments/create", name="Churn")
    scene.demo.go_down()
    answer = await scene.post("experiments/search", max_results=1)
    assert answer["error_code"] == "TEMPORARILY_UNAVAILABLE"
    scene.demo.come_back()
    assert "experiments" in await scene.post("experiments/search", max_results=1)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await scene.create_run()
    assert scene.demo.run_count == 1
    assert await scene.create_run()


async def test_it_says_where_it_is(scene: Scene) -> None:
    url = scene.demo.settings["tracking_uri"]
    assert scene.demo.title == f"MLflow, a stand-in for the real server: {url}"
    assert scene.demo.places[0] == ("MLflow (REST)", url)

"""The daemon as a real process against a real ModelDB V2, named by MODELDB_V2_URL.

The tests that take parts of the server down need its control script, too (MODELDB_V2_LAB: `SCRIPT
stop|start|freeze|thaw PART`), and a server that nobody else uses. OUTAGE_SECONDS says how long each
outage lasts.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from daemon.targets.modeldb_v2.mapping import map_run
from daemon.training_job.channels import Channel
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.metric_series import MetricSeries
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from daemon.training_job.training_run import Hyperparameter, Metric
from tests.support.aws_vectors import completed_without_parent, parsed_description
from tests.support.daemon_process import FULL_TAGS, DaemonScene, Job, daemon_scene, mark_of
from tests.support.lost_checkpoint import come_again_after_a_lost_checkpoint
from tests.support.modeldb_v2_exchanges import Replayer, load
from tests.support.modeldb_v2_target import MemoryJournal, target_of
from tests.support.modeldb_v2_target import job as made_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

URL = os.environ.get("MODELDB_V2_URL", "")
LAB = os.environ.get("MODELDB_V2_LAB", "")
OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "5"))

pytestmark = [
    pytest.mark.slow,  # real servers
    pytest.mark.skipif(not URL, reason="MODELDB_V2_URL names no ModelDB V2 server"),
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("modeldb-v2"),  # some of them stop the server that all share
]
needs_lab = pytest.mark.skipif(
    not LAB, reason="MODELDB_V2_LAB names no control script of the server"
)

COMPLETED = completed_without_parent()
LISTS = ("tags", "attributes", "hyperparameters", "metrics", "datasets", "artifacts")


@pytest.fixture
async def scene(moto_endpoint: str, tmp_path: Path) -> AsyncIterator[DaemonScene]:
    async with daemon_scene(moto_endpoint, URL, tmp_path) as made:
        await made.make_queues(f"real-{uuid.uuid4().hex[:8]}")
        yield made


class ModelDB:
    """Reads the real server."""

    async def runs(self, project: str) -> list[dict[str, Any]]:
        found = await self._ask("GET", "/project/getProjectByName", params={"name": project})
        project_id = found["project_by_user"]["id"]
        answer = await self._ask(
            "POST", "/experiment-run/findExperimentRuns", json={"project_id": project_id}
        )
        runs: list[dict[str, Any]] = answer.get("experiment_runs", [])
        return runs

    async def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, URL + path, **more) as answer,
        ):
            assert answer.status == 200, await answer.text()
            parsed: dict[str, Any] = await answer.json()
            return parsed


def real_jobs(count: int) -> tuple[str, Sequence[Job]]:
    """A project that no other test uses, and jobs of every recorded description in it."""
    project = f"real-{uuid.uuid4().hex[:8]}"
    tags = FULL_TAGS | {"MODEL_DB_PROJECT_NAME": project}
    return project, [
        Job(
            f"{project}-{number:03d}",
            tags | {"MODEL_DB_MODEL_NAME": f"model-{number % 5}"},
            description_file=COMPLETED[number % len(COMPLETED)],
        )
        for number in range(count)
    ]


def expected(job: Job) -> dict[str, Any]:
    """What the mapping makes of a job."""
    tags = read_tags(job.tags, TagKeys())
    assert isinstance(tags, JobTags)
    description = parsed_description(json.dumps(job.description).encode())
    return map_run(training_run(DescribedJob.of(description), tags, job.tags, ())).body


def differences(job: Job, run: Mapping[str, Any]) -> list[str]:
    """The members of a run that are not as the mapping makes them."""
    wanted = expected(job)
    found = [name for name in ("name", "description") if run.get(name) != wanted[name]]
    found += [
        name
        for name in ("start_time", "end_time")
        if name in wanted and int(run[name]) != int(wanted[name])
    ]
    return found + [name for name in LISTS if run.get(name, []) != wanted.get(name, [])]


async def lab(*arguments: str) -> None:
    """Runs the control script, retrying: it can take a part that it has just started for
    ended (see .ci/run).
    """
    for _ in range(5):
        process = await asyncio.create_subprocess_exec(
            LAB, *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await process.communicate()
        if process.returncode == 0:
            return
    raise AssertionError(errors.decode())


async def test_200_jobs_three_events_each_in_any_order_are_200_runs_with_all_their_fields(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    project, jobs = real_jobs(200)
    scene.finish_jobs(jobs)
    events = [job.event for job in jobs] * 3
    random.Random(200).shuffle(events)
    daemon = scene.daemon(free_port(), jobs={"redact": []})
    await daemon.start()
    await scene.send(events)
    lines = await daemon.outcomes(600, seconds=600)
    await scene.drained()
    runs = {run["name"]: run for run in await ModelDB().runs(project)}
    assert len(runs) == 200
    assert {
        name: wrong for job in jobs if (wrong := differences(job, runs[name := job.name]))
    } == {}
    assert len({mark_of(run) for run in runs.values()}) == 200
    assert sum(line["outcome"] == "synced" for line in lines) == 200
    assert max(line["receive_count"] for line in lines) == 1
    assert await scene.dead_letters() == []
    if path := os.environ.get("SHOW_ONE_RUN"):
        with open(path, "w", encoding="utf-8") as out:  # noqa: ASYNC230, PTH123 - a by-product for people
            json.dump(runs[jobs[0].name], out, indent=1, ensure_ascii=False)
    assert await daemon.stop() == 0


async def test_a_run_with_three_curves_and_a_parent_reads_back_as_written(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    project = f"curves-{uuid.uuid4().hex[:8]}"
    tags = FULL_TAGS | {"MODEL_DB_PROJECT_NAME": project}
    job = Job(f"{project}-001", tags, description_file="hpo-child.json")
    scene.finish_jobs([job])
    name = job.description["TuningJobArn"].rpartition("/")[2]
    objective = {"Type": "Maximize", "MetricName": "validation:auc"}
    scene.sagemaker.put_tuning_job(
        {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Bayesian",
                "HyperParameterTuningJobObjective": objective,
            },
            "BestTrainingJob": {"TrainingJobName": job.name},
        }
    )
    curves: dict[str, list[tuple[object, object]]] = {
        "train:auc": [(step, step / 1000) for step in range(1000)],
        "validation:auc": [(step, 0.9 - abs(step - 70) / 200) for step in range(0, 150, 10)],
        "extra.loss (ü)": [(1, "NaN"), (2, 5e-324), (3, 1.7976931348623157e308)],
    }
    for metric, points in curves.items():
        scene.sagemaker.put_series(job.arn, metric, points)
    scene.sagemaker.put_job(with_metric(job.description, "extra.loss (ü)"), job.tags)
    daemon = scene.daemon(
        free_port(),
        aws={"sagemaker_metrics_endpoint_url": scene.sagemaker.url},
        jobs={"metric_series": True},
    )
    await daemon.start()
    await scene.send([job.event] * 3)
    await daemon.outcomes(3)
    assert await daemon.stop() == 0
    [run] = await ModelDB().runs(project)
    drawn: dict[str, list[tuple[int, float]]] = {}
    for entry in run["observations"]:
        attribute = entry["attribute"]
        point = (entry["epoch_number"], attribute["value"])
        drawn.setdefault(attribute["key"], []).append(point)
    assert drawn["validation/auc"] == curves["validation:auc"]
    thinned = drawn.pop("train/auc")
    assert {(0, 0), (999, 0.999)} < set(thinned) < set(curves["train:auc"])
    assert 160 < len(thinned) <= 166
    drawn.pop("validation/auc")
    assert list(drawn.values()) == [[(2, 5e-324), (3, 1.7976931348623157e308)]]
    begin, end = int(run["start_time"]), int(run["end_time"])
    assert all(begin <= int(entry["timestamp"]) <= end for entry in run["observations"])
    metrics = {entry["key"]: entry["value"] for entry in run["metrics"]}
    assert (metrics["validation/auc/best"], metrics["train/auc/max"]) == (0.9, 0.999)
    attributes = {entry["key"]: entry["value"] for entry in run["attributes"]}
    assert attributes["metric_validation_auc_best_step"] == 70
    assert attributes["tuning_best_so_far"] == "true"
    assert f"tuning:{name}" in run["tags"]
    assert f"'train:auc' to {len(thinned)} of 1000 points" in attributes["sync_notes"]
    assert "values that are not finite left out: 1" in attributes["sync_notes"]


def with_metric(description: dict[str, Any], name: str) -> dict[str, Any]:
    """The description with one metric more."""
    final = [*description["FinalMetricDataList"], {"MetricName": name, "Value": 1.0}]
    return description | {"FinalMetricDataList": final}


@needs_lab
@pytest.mark.parametrize(
    ("down", "up"),
    [
        (("stop", "backend"), ("start", "backend")),
        (("stop", "db"), ("start", "db")),
        (("freeze", "proxy"), ("thaw", "proxy")),
    ],
    ids=["backend", "database", "proxy-frozen"],
)
async def test_an_outage_in_the_middle_loses_nothing_and_burns_no_receive(
    down: tuple[str, str], up: tuple[str, str], scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    project, jobs = real_jobs(60)
    scene.finish_jobs(jobs)
    events = [job.event for job in jobs] * 3
    random.Random(60).shuffle(events)
    daemon = scene.daemon(
        free_port(), target={"url": URL, "timeout_seconds": 10, "settle_seconds": 5}
    )
    await daemon.start()
    await scene.send(events[:90])
    await daemon.outcomes(20, outcome="synced")
    await lab(*down)
    health = []
    try:
        await scene.send(events[90:])
        async with asyncio.timeout(OUTAGE_SECONDS + 30):
            await daemon.logged(lambda line: line["event"] == "breaker opened")
        end = asyncio.get_running_loop().time() + OUTAGE_SECONDS
        while asyncio.get_running_loop().time() < end:
            health.append((await daemon.get("/healthz"))[0])
            await asyncio.sleep(0.5)
    finally:
        await lab(*up)
    lines = await daemon.outcomes(180, seconds=400)
    await scene.drained()
    runs = await ModelDB().runs(project)
    assert sorted(run["name"] for run in runs) == sorted(job.name for job in jobs)
    assert len({mark_of(run) for run in runs}) == 60
    assert max(line["receive_count"] for line in lines) <= 2
    assert await scene.dead_letters() == []
    assert set(health) == {200}
    assert await daemon.stop() == 0


async def test_killed_again_and_again_no_job_is_lost_or_doubled(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    project, jobs = real_jobs(100)
    scene.finish_jobs(jobs)
    await scene.send([job.event for job in jobs])
    luck = random.Random(10)
    sections: dict[str, dict[str, Any]] = {
        "queue": {"url": scene.queue_url, "wait_seconds": 1, "visibility_seconds": 30},
        "target": {"url": URL, "settle_seconds": 5},
    }
    for _ in range(int(os.environ.get("KILLS", "3"))):
        daemon = scene.daemon(free_port(), **sections)
        await daemon.start()
        await daemon.outcomes(luck.randint(1, 6))
        await daemon.kill()
        # what the killed one had received comes back when its visibility timeout ends
        async with asyncio.timeout(60):
            while (await scene.depth())["visible"] == 0 and (await scene.depth())["in_flight"]:
                await asyncio.sleep(0.2)
    last = scene.daemon(free_port(), **sections)
    await last.start()
    await scene.drained(180)
    runs = await ModelDB().runs(project)
    assert sorted(run["name"] for run in runs) == sorted(job.name for job in jobs)
    assert await last.stop() == 0


async def test_after_a_lost_checkpoint_a_message_that_comes_again_makes_no_second_run(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    project = f"lost-{uuid.uuid4().hex[:8]}"
    jobs, outcomes = await come_again_after_a_lost_checkpoint(scene, free_port, project)
    runs = await ModelDB().runs(project)
    assert sorted(run["name"] for run in runs) == sorted(job.name for job in jobs)
    assert {line["reason"] for line in outcomes} == {"found_in_target"}
    assert {line["run_id"] for line in outcomes} == {run["id"] for run in runs}


async def test_a_run_is_repaired_and_what_people_added_stays() -> None:
    project = f"repair-{uuid.uuid4().hex[:8]}"
    before = made_run(
        f"{project}-job",
        project_name=project,
        all_tags={"team": "growth"},
        channels=(Channel("train", "s3://b/train", "s3"),),
        model_location="s3://b/model.tar.gz",
        metric_series=(MetricSeries("auc", (0, 1, 2), (0.5, 0.7, 0.6)),),
    )
    now = replace(
        before,
        model_type="LightGBM",
        project_description="Who stays",
        all_tags={"stage": "prod"},
        channels=(Channel("train", "s3://b/train2", "s3"), Channel("val", "s3://b/val", "s3")),
        model_location="s3://b/model2.tar.gz",
        hyperparameters=(Hyperparameter("eta", "0.3", 0.3), Hyperparameter("note", "<b>&'", None)),
        metrics=(Metric("train:auc", 0.98), Metric("test:auc", 0.97)),
        metric_series=(MetricSeries("auc", (0, 1, 2), (0.5, 0.8, 0.6)),),
    )
    async with target_of(URL) as target:
        synced = await target.sync(before, MemoryJournal())
        run_id = synced.ids["run_id"]
        assert (await target.repair(before, MemoryJournal())).changed == ()
        mine = [{"key": "mine", "value": 7}]
        for member in ("metrics", "hyperparameters", "attributes"):
            await target._client.log_run_entries(run_id, member, mine)
        await target._client.add_run_tags(run_id, ["mine"])
        announced = await target.compare(now)
        repaired = await target.repair(now, MemoryJournal())
        again = await target.repair(now, MemoryJournal())
        content = await target._client.get_run_content(run_id)

    assert announced is not None
    assert announced.changed == repaired.changed != ()
    assert (again.changed, again.unchangeable) == ((), ())
    assert set(content.tags) == {"sagemaker", "LightGBM", "mine"}
    for entries in (content.metrics, content.hyperparameters, content.attributes):
        assert entries["mine"] == mine
    assert "aws_tag_team" not in content.attributes
    curve = [each["attribute"]["value"] for each in content.observations["auc"]]
    assert sorted(curve) == [0.5, 0.6, 0.8]
    [run] = await ModelDB().runs(project)
    assert run["id"] == run_id


@pytest.mark.parametrize(
    "file", sorted({exchange.file for exchange in load()} - {"outages", "races"})
)
async def test_the_recorded_exchanges_still_hold(file: str) -> None:
    """The recordings that the stand-in is measured by are what this server answers. Races are
    chance; outages have their own test.
    """
    replayed = await Replayer(URL).replay(file)
    assert replayed.differences == []
    assert replayed.passed or replayed.left_out

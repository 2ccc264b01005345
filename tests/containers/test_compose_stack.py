"""``docker compose --env-file deploy/compose/demo.env up``: the daemon beside ModelDB, from an
event on the bus to a run in ModelDB.

It uses free ports, so it can run beside other stacks. Everything is one story, because the first
start of ModelDB takes most of a minute.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiobotocore.session import AioSession
from prometheus_client.parser import text_string_to_metric_families

from tests.containers.engine import COMPOSE, ENGINE, NO_ENGINE, TOP, engine, logs, run, state, stop
from tests.support.json_lines import json_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,  # containers
    pytest.mark.skipif(not (ENGINE and COMPOSE), reason=NO_ENGINE),
    pytest.mark.timeout(900),
]

PROJECT = "modeldb-sync-test"
DEMO = dict(
    line.split("=", 1)
    for line in (TOP / "deploy/compose/demo.env").read_text().splitlines()
    if "=" in line[1:] and line[0] != "#"
)
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or ""
"""Without one, ModelDB's pages are asked through their REST API alone."""
UP_SECONDS = 420.0
"""A first start of ModelDB: half a minute of migrations, and then up to two minutes until its proxy
asks its backend again."""


@dataclass(frozen=True)
class Stack:
    """A running compose project."""

    ports: dict[str, int]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **DEMO,
            **{name: str(port) for name, port in self.ports.items()},
            "COMPOSE_PROJECT_NAME": PROJECT,
        }

    async def compose(self, *arguments: str, seconds: float = 300) -> str:
        return await run(
            *COMPOSE,
            "--env-file",
            "deploy/compose/demo.env",
            "-p",
            PROJECT,
            *arguments,
            environment=self.environment,
            seconds=seconds,
        )

    @property
    def modeldb(self) -> str:
        return f"http://127.0.0.1:{self.ports['MODELDB_PORT']}/v1"

    @property
    def pages(self) -> str:
        return f"http://127.0.0.1:{self.ports['MODELDB_UI_PORT']}"

    @property
    def aws(self) -> str:
        return f"http://127.0.0.1:{self.ports['DEMO_AWS_PORT']}"

    async def container(self, service: str) -> str:
        """The id of a service's container."""
        names = await engine("ps", "--all", "--format", "{{.Names}}")
        [name] = [
            name for name in names.split() if name.replace("_", "-") == f"{PROJECT}-{service}-1"
        ]
        return name

    async def runs(self, base: str | None = None) -> dict[str, dict[str, Any]]:
        """Every run in ModelDB, by name."""
        url = f"{base or self.modeldb}/experiment-run/findExperimentRuns"
        async with aiohttp.ClientSession() as session, session.post(url, json={}) as answer:
            assert answer.status == 200
            return {
                found["name"]: found for found in (await answer.json()).get("experiment_runs", [])
            }

    async def metrics(self) -> dict[tuple[str, str], float]:
        """``jobs_total`` by outcome and reason."""
        url = f"http://127.0.0.1:{self.ports['DAEMON_PORT']}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            text = await answer.text()
        samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]
        return {
            (sample.labels["outcome"], sample.labels["reason"]): sample.value
            for sample in samples
            if sample.name == "modeldb_sync_jobs_total" and sample.value
        }


async def until(look: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Polls once a second; an error counts as false."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                if await look():
                    return
            except (aiohttp.ClientError, AssertionError):
                pass
            await asyncio.sleep(1)


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    names = ("DAEMON_PORT", "MODELDB_PORT", "MODELDB_UI_PORT", "DEMO_AWS_PORT")
    held = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    ports = dict(zip(names, (each.getsockname()[1] for each in held), strict=True))
    for each in held:
        each.close()
    made = Stack(ports)
    await made.compose("down", "--volumes")
    yield made
    await made.compose("down", "--volumes")


async def page(url: str, profile: Path) -> str:
    """A browser's view of one of ModelDB's pages, after its scripts have run."""
    quiet = (
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
        "--no-first-run",
    )
    return await run(
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        *quiet,
        f"--user-data-dir={profile}",
        "--virtual-time-budget=15000",
        "--dump-dom",
        url,
    )


async def put_event(aws: str, name: str) -> None:
    """A training job ends, and EventBridge tells of it."""
    tags = {
        "MODEL_DB_SYNC": "true",
        "MODEL_DB_PROJECT_NAME": "from-the-bus",
        "MODEL_DB_PROJECT_USER": "amara.okafor",
        "MODEL_DB_PROJECT_DESC": "An event put on the bus by hand",
        "MODEL_DB_MODEL_NAME": "bus",
        "MODEL_DB_MODEL_TYPE": "XGBoost",
    }
    session = AioSession()
    session.set_credentials("testing", "testing")
    async with (
        session.create_client("sagemaker", region_name="eu-west-1", endpoint_url=aws) as sagemaker,
        session.create_client("events", region_name="eu-west-1", endpoint_url=aws) as events,
    ):
        await sagemaker.create_training_job(
            TrainingJobName=name,
            AlgorithmSpecification={
                "TrainingImage": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/x:1",
                "TrainingInputMode": "File",
            },
            OutputDataConfig={"S3OutputPath": "s3://acme/out"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            RoleArn="arn:aws:iam::123456789012:role/training",
            StoppingCondition={"MaxRuntimeInSeconds": 60},
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        )
        arn = (await sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobArn"]
        detail = {
            "TrainingJobName": name,
            "TrainingJobArn": arn,
            "TrainingJobStatus": "Completed",
            "Tags": tags,
        }
        answer = await events.put_events(
            Entries=[
                {
                    "Source": "aws.sagemaker",
                    "DetailType": "SageMaker Training Job State Change",
                    "Detail": json.dumps(detail),
                    "Resources": [arn],
                }
            ]
        )
        assert answer["FailedEntryCount"] == 0


async def test_an_event_on_the_bus_ends_as_a_run_that_outlives_the_containers(
    stack: Stack, tmp_path: Path
) -> None:
    await stack.compose("up", "-d")

    async def demo_is_done() -> bool:
        done = await stack.metrics()
        return (
            done.get(("synced", "created")) == 2
            and done.get(("rejected", "tags_incomplete"), 0) >= 1
        )

    await until(demo_is_done, UP_SECONDS)
    first = await stack.runs()
    assert sorted(name.rsplit("-", 6)[0] for name in first) == ["churn-catboost", "churn-xgboost"]
    for found in first.values():  # the server's feature flag is on: a run is as old as its training
        assert found["date_created"] == found["end_time"]
    assert (await state(await stack.container("demo-jobs")))["ExitCode"] == 0

    daemon = await stack.container("daemon")
    loud = [
        line["event"]
        for line in await logs(daemon)
        if line["level"] == "warning" and line["event"] != "job outcome"
    ]
    assert len(loud) <= 6, "waiting for ModelDB makes no noise"
    assert not [line for line in await logs(daemon) if line["level"] == "error"]

    await put_event(stack.aws, "put-on-the-bus-1")

    async def has_arrived() -> bool:
        return "put-on-the-bus-1" in await stack.runs(f"{stack.pages}/api/v1/modeldb")

    await until(has_arrived, 30)
    before = await stack.runs()

    if BROWSER:
        by_hand = before["put-on-the-bus-1"]
        shown = await page(
            f"{stack.pages}/personal/projects/{by_hand['project_id']}/exp-runs/{by_hand['id']}",
            tmp_path,
        )
        assert "put-on-the-bus-1" in shown
        assert "s3://acme/out/put-on-the-bus-1/output/model.tar.gz" in shown

    assert await stop(daemon) < 20
    assert (await state(daemon))["ExitCode"] == 0
    await stack.compose("down")
    await stack.compose("up", "-d")

    async def modeldb_is_back() -> bool:
        return before.items() <= (await stack.runs()).items()

    await until(modeldb_is_back, UP_SECONDS)
    given = await engine(
        "exec",
        await stack.container("daemon"),
        "sagemaker-modeldb-sync",
        "history",
        "--outcome",
        "synced",
        "--json",
    )
    assert {entry["job_name"] for entry in json_lines(given)} >= set(before)

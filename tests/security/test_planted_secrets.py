"""Secrets planted in every possible place, and the real daemon taken through success and failures:
none of its outputs contains one.

The dead-letter queue gets a rejected body as it was received, as SQS's own redrive would put it
there: it may contain what the event contained. All other outputs are the daemon's own.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import sys
import uuid
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from daemon.demo.modeldb_v1.store import Table
from tests.security.planted import Planted, files_in
from tests.security.test_far_side_echoes import ANSWERS
from tests.support.daemon_process import FULL_TAGS, DaemonProcess, DaemonScene, Job, daemon_scene
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.modeldb_v2_scripted import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

ROOT = Path(__file__).parent.parent.parent
PATHS = [
    "/metrics",
    "/healthz",
    "/readyz",
    "/",
    "/?outcome=rejected&job=1",
    "/api/status",
    "/api/jobs?limit=200",
    "/jobs/x",
    "/config",
    "/env",
    "/debug",
    "/metrics/x",
    "/healthz?secrets=1",
    "/..%2f..%2fproc/self/environ",
]
SECRET_KEYS = ["DB_PASSWORD", "api_key", "hf_token", "aws_secret_access_key", "private_key_pem"]

FAILING = """\
import sys
sys.path.insert(0, {root!r})
import daemon.pipeline.flow

def failing(described, *others, real=daemon.pipeline.flow.training_run, password={password!r}):
    if described.name == "broken-1":
        raise RuntimeError(f"Invalid header value {{password!r}} " + {encoded!r})
    return real(described, *others)

daemon.pipeline.flow.training_run = failing
"""
"""A bug whose exception quotes the configuration, as those of HTTP libraries do, in a frame with
secrets in its variables."""


@dataclasses.dataclass(frozen=True)
class SecretJob(Job):
    """A job with secrets in its hyperparameters, its container's environment, its tags and its
    failure reason; so has its event.
    """

    secrets: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def make(
        cls,
        name: str,
        planted: Planted,
        *,
        tags: Mapping[str, str] = FULL_TAGS,
        status: str = "Completed",
    ) -> SecretJob:
        secrets = {
            key: planted.word(f"hyperparameter {key}", odd=key == "DB_PASSWORD")
            for key in SECRET_KEYS
        }
        return cls(
            name,
            tags={**tags, "ci-token": planted.word("tag")},
            description_file="hyperparameters-secret.json",
            status=status,
            secrets=secrets
            | {
                "environment": planted.word("environment"),
                "plain": planted.word("environment under a plain name"),
            },
        )

    @property
    def members(self) -> dict[str, Any]:
        parameters = {
            key: json.dumps(self.secrets[key]) if key == "hf_token" else self.secrets[key]
            for key in SECRET_KEYS
        }
        quoted = " ".join(f"--{key} {value}" for key, value in parameters.items())
        return {
            "HyperParameters": {"eta": "0.1", **parameters},
            "Environment": {
                "WANDB_API_KEY": self.secrets["environment"],
                "LANG": self.secrets["plain"],
            },
            "FailureReason": f"AlgorithmError: WANDB_API_KEY={self.secrets['environment']} python "
            f"train.py {quoted}",
        }


class WatchedDaemon(DaemonProcess):
    """A daemon process whose standard output is kept too."""

    stdout: Path

    async def start(self) -> None:
        with self.stdout.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "daemon",
                "run",
                "--config",
                str(self.config),
                env=dict(self.environment),
                stdout=output,
                stderr=asyncio.subprocess.PIPE,
                limit=2**22,
            )
        self._reading = asyncio.create_task(self._read())


class Front:
    """A proxy before ModelDB: forwards each request, or answers itself and echoes the request."""

    def __init__(self, modeldb: ModelDbV2StandIn, session: aiohttp.ClientSession) -> None:
        self.answer = ""
        self.only = ""
        """Part of the path of what is answered so; empty: everything."""
        self.url = ""
        self._modeldb = modeldb
        self._session = session

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if self.answer and self.only in request.path:
            return ANSWERS[self.answer](request)
        url = self._modeldb.url.removesuffix("/v1") + request.raw_path
        kept = {"Content-Type", "Accept", "Grpc-Timeout"}
        headers = {name: value for name, value in request.headers.items() if name in kept}
        async with self._session.request(
            request.method, url, data=await request.read(), headers=headers
        ) as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type
            )


@pytest.fixture
async def front(modeldb: ModelDbV2StandIn) -> AsyncIterator[Front]:
    async with aiohttp.ClientSession() as session:
        made = Front(modeldb, session)
        async with serving(made.serve) as made.url:
            yield made


@asynccontextmanager
async def planted_daemon(
    scene: DaemonScene,
    port: int,
    planted: Planted,
    target: Mapping[str, Any],
    environment: Mapping[str, str],
    **sections: Mapping[str, Any],
) -> AsyncIterator[WatchedDaemon]:
    """A daemon with planted AWS credentials. It is killed at the end."""
    made = scene.daemon(
        port,
        target=target,
        log={"level": "debug", "format": "json"},
        jobs={"statuses": ["Completed", "Failed"]},
        queue={
            "url": scene.queue_url,
            "wait_seconds": 1,
            "retry": {"initial_seconds": 1, "max_seconds": 1},
        },
        **sections,
    )
    credentials = {
        "AWS_ACCESS_KEY_ID": f"ASIA{planted.word('access key')}",
        "AWS_SECRET_ACCESS_KEY": planted.word("secret key"),
        "AWS_SESSION_TOKEN": planted.word("session token"),
    }
    daemon = WatchedDaemon(made.config, port, {**made.environment, **credentials, **environment})
    daemon.stdout = scene.home.parent / f"{scene.home.name}-stdout"
    await daemon.start()
    try:
        yield daemon
    finally:
        await daemon.kill()


async def pages(daemon: WatchedDaemon, when: str) -> dict[str, str]:
    found = {}
    async with aiohttp.ClientSession() as session:
        for path in PATHS:
            async with session.get(daemon.url + path) as answer:
                found[f"{path} {when}"] = (
                    f"{answer.status} {dict(answer.headers)} {await answer.text()}"
                )
        async with session.post(daemon.url + "/metrics", data=b"x") as answer:
            found[f"POST {when}"] = await answer.text()
    return found


async def verb(daemon: WatchedDaemon, *arguments: str) -> dict[str, bytes]:
    """The output of a verb with the daemon's configuration."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon",
        *arguments,
        "--config",
        str(daemon.config),
        env=dict(daemon.environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await process.communicate()
    assert stdout
    return {f"stdout of {arguments}": stdout, f"stderr of {arguments}": stderr}


def of_job(job: Job) -> Callable[[dict[str, Any]], bool]:
    return lambda line: line["event"] == "job outcome" and line["job"] == job.name


def log_of(daemon: WatchedDaemon) -> dict[str, str | bytes]:
    return {
        "log": "\n".join(json.dumps(line, ensure_ascii=False) for line in daemon.log),
        "stdout": daemon.stdout.read_bytes(),
    }


def checkpoint_of(home: Path) -> dict[str, bytes]:
    found = {
        name: data for name, data in files_in(home).items() if name.startswith("file checkpoint.db")
    }
    assert found
    return found


@pytest.mark.slow  # waits for a back-off after each failure; the tests below plant secrets, too
async def test_v2_through_success_and_every_failure(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, front: Front, free_port: Callable[[], int]
) -> None:
    planted = Planted()
    password = planted.word("password", odd=True)
    planted.login("password", "ml")
    headers = {
        "X-Gateway-Key": planted.word("header"),
        "Cookie": f"session={planted.word('cookie')}; lang=en",
    }
    target = {
        "url": front.url,
        "auth": {"kind": "basic", "username": "ml"},
        "headers": headers,
        "settle_seconds": 1,
    }
    patches = scene.home.parent / f"{scene.home.name}-patches"
    patches.mkdir()
    encoded = base64.b64encode(f"ml:{password}".encode()).decode()
    (patches / "sitecustomize.py").write_text(
        FAILING.format(root=str(ROOT), password=password, encoded=encoded)
    )
    environment = {"MODELDB_SYNC_TARGET__AUTH__PASSWORD": password, "PYTHONPATH": str(patches)}
    outputs: dict[str, str | bytes] = {}

    good, failed = (
        SecretJob.make("good-1", planted),
        SecretJob.make("failed-1", planted, status="Failed"),
    )
    half, broken = (
        SecretJob.make("half-1", planted, tags={"MODEL_DB_SYNC": "true"}),
        SecretJob.make("broken-1", planted),
    )
    scene.finish_jobs([good, failed, half, broken])
    no_json = good.event[: good.event.index('"eta"')] + json.dumps(
        planted.word("hyperparameter api_key")
    )
    # a quotation of its beginning would reach it
    short = '{"HyperParameters": {"api_key": "' + planted.word("hyperparameter api_key")
    await scene.send([good.event, failed.event, half.event, broken.event, no_json, short])
    async with planted_daemon(scene, free_port(), planted, target, environment) as daemon:
        await daemon.outcomes(2, outcome="synced")
        await daemon.outcomes(3, outcome="rejected")
        [internal, *_] = await daemon.logged(lambda line: line["event"] == "internal error")
        assert "RuntimeError: Invalid header value" in internal["exception"]
        outputs |= await pages(daemon, "in peace")
        for number, answer in enumerate(
            ["401 the API's word", "500 page", "200 page", "redirect", "500 the API's word"]
        ):
            job = SecretJob.make(f"echo-{number}", planted)
            scene.finish_jobs([job])
            front.answer = answer
            await scene.send([job.event])
            await daemon.logged(of_job(job))
            outputs |= await pages(daemon, f"while ModelDB answers {answer}")
            if number == 0:
                outputs |= await verb(daemon, "check")
            front.answer = ""
            await daemon.outcomes(1, outcome="synced", job=job.name)
        # which is about the job
        front.answer, front.only = "400 the API's word", "createExperimentRun"
        refused = SecretJob.make("refused-1", planted)
        scene.finish_jobs([refused])
        await scene.send([refused.event])
        await daemon.outcomes(1, outcome="rejected", job="refused-1")
        assert await daemon.stop() == 0
        outputs |= await verb(daemon, "history") | await verb(daemon, "history", "--json")
        outputs |= log_of(daemon) | checkpoint_of(scene.home)
    outputs["ModelDB"] = json.dumps(
        [modeldb.projects(), modeldb.experiments(), modeldb.runs()], ensure_ascii=False
    )
    letters = await scene.dead_letters()
    outputs["attributes of dead letters"] = json.dumps(
        [letter["MessageAttributes"] for letter in letters], ensure_ascii=False
    )
    assert len(letters) == 4
    # as they came, and only there
    assert {half.event, no_json, short, refused.event} == {letter["Body"] for letter in letters}
    assert len(modeldb.runs()) == 7
    assert "[redacted]" in outputs["ModelDB"]
    assert "401 code 16" in str(outputs["/readyz while ModelDB answers 401 the API's word"])
    assert planted.leaks(outputs) == []


async def test_v2_where_the_checkpoint_keeps_rejected_bodies(
    moto_endpoint: str,
    modeldb: ModelDbV2StandIn,
    front: Front,
    tmp_path: Path,
    free_port: Callable[[], int],
) -> None:
    planted = Planted()
    target = {
        "url": front.url,
        "auth": {"kind": "bearer", "token": planted.word("token")},
        "settle_seconds": 1,
    }
    async with daemon_scene(moto_endpoint, target, tmp_path / "stage") as scene:
        (tmp_path / "stage").mkdir()
        await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}", max_receive_count=None)
        # The event's own tags are kept.
        half = SecretJob.make("half-1", planted, tags={"MODEL_DB_SYNC": "true"})
        scene.finish_jobs([half])
        envelope = json.loads(half.event)
        envelope["detail"]["Tags"] = {"MODEL_DB_SYNC": "true"}
        in_sns = json.dumps(
            {"Type": "Notification", "TopicArn": "arn:x", "Message": json.dumps(envelope)}
        )
        not_ours = json.dumps(
            {"source": ["x"], "detail-type": 1, "detail": {"nested": [half.members]}}
        )
        await scene.send([json.dumps(envelope), in_sns, not_ours])
        async with planted_daemon(scene, free_port(), planted, target, {}) as daemon:
            await daemon.outcomes(3, outcome="rejected")
            await scene.drained()
            front.answer = "401 page"
            outputs: dict[str, str | bytes] = {}
            outputs |= await verb(daemon, "history", "--json")
            outputs |= await pages(daemon, "after rejections")
            running = checkpoint_of(scene.home)  # with the write-ahead log
            assert any(name.endswith("-wal") for name in running)
            outputs |= running
            assert await daemon.stop() == 0
            outputs |= {
                f"{name} at the end": data for name, data in checkpoint_of(scene.home).items()
            } | log_of(daemon)
    assert b"half-1" in outputs["file checkpoint.db at the end"]
    assert modeldb.runs() == []
    assert planted.leaks(outputs) == []


async def test_v1(moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]) -> None:
    planted = Planted()
    async with ModelDbV1StandIn() as server:
        target = {
            "kind": "modeldb-v1",
            "host": "127.0.0.1",
            "port": server.port,
            "settle_seconds": 1,
        }
        async with daemon_scene(moto_endpoint, target, tmp_path / "stage") as scene:
            (tmp_path / "stage").mkdir()
            await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}")
            jobs = [
                SecretJob.make("good-1", planted),
                SecretJob.make("failed-1", planted, status="Failed"),
            ]
            half = SecretJob.make("half-1", planted, tags={"MODEL_DB_SYNC": "true"})
            scene.finish_jobs([*jobs, half])
            await scene.send([job.event for job in [*jobs, half]])
            async with planted_daemon(scene, free_port(), planted, target, {}) as daemon:
                await daemon.outcomes(2, outcome="synced")
                await daemon.outcomes(1, outcome="rejected")
                outputs: dict[str, str | bytes] = {}
                outputs |= await pages(daemon, "in peace")
                outputs |= await verb(daemon, "check")
                assert await daemon.stop() == 0
                outputs |= await verb(daemon, "history", "--json")
                outputs |= log_of(daemon) | checkpoint_of(scene.home)
        tables = [table for table in vars(server.store).values() if isinstance(table, Table)]
        assert len(server.fits) == 2
        outputs["ModelDB V1"] = json.dumps(
            [list(table) for table in tables] + server.documents, default=str, ensure_ascii=False
        )
    assert "[redacted]" in str(outputs["ModelDB V1"])
    assert planted.leaks(outputs) == []


def test_the_search_finds_what_it_is_to_find() -> None:
    planted = Planted()
    word = planted.word("a place", odd=True)
    planted.login("a place", "ml")
    login = base64.b64encode(f"ml:{word}".encode()).decode()
    for text in (
        word,
        word[: len(word) // 2],
        json.dumps([word]),
        repr([word]),
        login,
        json.dumps({"a": json.dumps(word)}),
    ):
        assert planted.leaks({"x": text}), text
        assert planted.leaks({"x": text.encode()}), text
    assert planted.leaks({"x": os.urandom(1000), "y": "[redacted]"}) == []

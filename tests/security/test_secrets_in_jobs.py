"""Secrets that people leave in their jobs, in every way that is recognised: nothing that leaves the
daemon contains one.

Every secret contains `LEAK`. The exception is the body of a dead letter, which is the message as it
was received.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from daemon.demo.modeldb_v1.store import Table
from tests.security.planted import Planted
from tests.security.test_planted_secrets import (
    checkpoint_of,
    log_of,
    pages,
    planted_daemon,
    verb,
)
from tests.support.daemon_process import FULL_TAGS, DaemonScene, Job, daemon_scene
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

GITHUB = "gh" + "p_LEAK0123456789abcdefghijklmnop"
AWS = "AKI" + "ALEAK1234567890AB"
JWT = "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JMRUFLIjoxfQLEAK.c2lnLEAKLEAK"
PEM = "-----BEGIN PRI" + "VATE KEY-----\nLEAKIIEpAIBAAKCAQEA\n-----END PRI" + "VATE KEY-----"
WEBHOOK = "https://hooks.slack.com/services/" + "T00000000/B00000000/LEAKxXxXxXxX"
LOGIN = "https://me:LEAK-tr0ub4dor@git.example.org/x.git"
SIGNED = "https://b.s3.amazonaws.com/x?X-Amz-Credential=LEAK%2Fx&X-Amz-Signature=LEAK0123"
ODD = "LEAK'quo\"te&<x>/y+z;\\ü"

HYPERPARAMETERS: dict[str, str] = {
    "lr": "0.1",
    "wandb-api-key": '"LEAK-wandb"',
    "openaiKey": "LEAK-openai",
    "db-pwd": ODD,
    "note": GITHUB,
    "aws": AWS,
    "jwt-less": JWT,
    "pem-less": PEM,
    "hook": WEBHOOK,
    "repo": LOGIN,
    "data_url": SIGNED,
    "config": json.dumps(
        {"lr": 1, "wandb": {"key": "LEAKx9Kq2mZ9vB4nT6wL"}, "auth": ["a", "LEAK"]}
    ),
    "nested": json.dumps(json.dumps({"client_secret": "LEAK-nested"})),
    "python": "{'api_key': 'LEAK-python', 'lr': 1}",
    "command": "train.py --hf-token LEAK-flag --lr 0.1",
    "yaml": "lr: 1\npassword: LEAK in yaml\n",
    "encoded": base64.b64encode(b'{"api_key": "LEAK-encoded"}').decode(),
    "escaped": quote('{"api_key": "LEAK-escaped"}'),
    "repeats": f"as given: {ODD}",
}
TAGS: Mapping[str, str] = {
    **FULL_TAGS,
    "MODEL_DB_PROJECT_DESC": f"Clone {LOGIN} with {GITHUB}",
    "ci-token": "LEAK-tag",
    "source": SIGNED,
}
REASON = (
    f"AlgorithmError: {ODD} {json.dumps(ODD)} {quote(ODD, safe='')} {ODD!r} {GITHUB} "
    f"password=LEAK-reason PGPASSWORD={ODD} token {base64.b64encode(ODD.encode()).decode()} "
)


@dataclasses.dataclass(frozen=True)
class LeakyJob(Job):
    description_file: str = "hyperparameters-secret.json"
    tags: Mapping[str, str] = dataclasses.field(default_factory=lambda: dict(TAGS))

    @property
    def members(self) -> dict[str, Any]:
        return {
            "HyperParameters": HYPERPARAMETERS,
            "Environment": {"PGPASSWORD": ODD, "DATABASE_URL": LOGIN},
            # cut off within a secret, as SageMaker does
            "FailureReason": f"{REASON}{'.' * 2000}"[:1012] + " LEAK'quo",
            "CheckpointConfig": {"S3Uri": f"s3://me:{GITHUB}@bucket/x"},
        }


MALFORMED = [
    json.dumps({"TrainingJobName": GITHUB}),
    json.dumps({"name": "a", "arn": f"arn:aws:x:training-job/{GITHUB}"}),
    json.dumps({"TrainingJobName": "a", "TrainingJobArn": LOGIN}),
    json.dumps({GITHUB: 1, "api_key": "LEAK"}),
    f"not JSON: {GITHUB}",
    f"wandb-api-key: LEAK-x, repo {LOGIN}",
]


def leaks(outputs: Mapping[str, str | bytes]) -> list[str]:
    found = []
    for where, output in outputs.items():
        text = output if isinstance(output, str) else output.decode("latin-1")
        for word in ("LEAK", "TEVBS", base64.b64encode(ODD.encode()).decode()[:12]):
            at = text.find(word)
            if at >= 0:
                found.append(f"{word} in {where}: {text[max(0, at - 60) : at + 60]!r}")
    return found


async def test_v2(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    good, failed = LeakyJob("good-1"), LeakyJob("failed-1", status="Failed")
    half = LeakyJob("half-1", tags={"MODEL_DB_SYNC": "true", "ci-token": "LEAK", "x": LOGIN})
    scene.finish_jobs([good, failed, half])
    await scene.send([good.event, failed.event, half.event, *MALFORMED])
    target = {"url": modeldb.url, "settle_seconds": 1}
    async with planted_daemon(scene, free_port(), Planted(), target, {}) as daemon:
        await daemon.outcomes(2, outcome="synced")
        await daemon.outcomes(1 + len(MALFORMED), outcome="rejected")
        await scene.drained()
        outputs: dict[str, str | bytes] = {}
        outputs |= await pages(daemon, "in peace")
        outputs |= checkpoint_of(scene.home)
        assert await daemon.stop() == 0
        outputs |= await verb(daemon, "history", "--json")
        outputs |= log_of(daemon)
    runs = modeldb.runs()
    assert len(runs) == 2
    outputs["ModelDB"] = json.dumps(
        [modeldb.projects(), modeldb.experiments(), runs], ensure_ascii=False
    )
    letters = await scene.dead_letters()
    outputs["attributes of dead letters"] = json.dumps(
        [letter["MessageAttributes"] for letter in letters], ensure_ascii=False
    )
    assert {half.event, *MALFORMED} == {letter["Body"] for letter in letters}
    assert leaks(outputs) == []
    for shown in ("[redacted]", "[redacted: a login]", "[redacted: a GitHub token]", "db-pwd"):
        assert shown in str(outputs["ModelDB"])
    assert "hyperparameter 'wandb-api-key' redacted" in str(outputs["ModelDB"])
    assert "LEAK" in json.dumps(HYPERPARAMETERS)


async def test_v2_where_the_checkpoint_keeps_rejected_bodies(
    moto_endpoint: str, modeldb: ModelDbV2StandIn, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    target = {"url": modeldb.url, "settle_seconds": 1}
    async with daemon_scene(moto_endpoint, target, tmp_path / "stage") as scene:
        (tmp_path / "stage").mkdir()
        await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}", max_receive_count=None)
        half = LeakyJob("half-1", tags={"MODEL_DB_SYNC": "true", "ci-token": "LEAK", "x": LOGIN})
        scene.finish_jobs([half])
        bodies = [
            half.event,
            json.dumps({"Type": "Notification", "TopicArn": "arn:x", "Message": half.event}),
            *MALFORMED,
        ]
        await scene.send(bodies)
        async with planted_daemon(scene, free_port(), Planted(), target, {}) as daemon:
            await daemon.outcomes(len(bodies), outcome="rejected")
            await scene.drained()
            outputs: dict[str, str | bytes] = {}
            outputs |= await pages(daemon, "after rejections")
            outputs |= checkpoint_of(scene.home)
            assert await daemon.stop() == 0
            outputs |= await verb(daemon, "history", "--json")
            outputs |= log_of(daemon)
            outputs |= {
                f"{name} at the end": data for name, data in checkpoint_of(scene.home).items()
            }
    assert b"half-1" in outputs["file checkpoint.db at the end"]
    assert leaks(outputs) == []


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_v1(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int], *, metadata_store: bool
) -> None:
    async with ModelDbV1StandIn(metadata_store=metadata_store) as server:
        target = {
            "kind": "modeldb-v1",
            "host": "127.0.0.1",
            "port": server.port,
            "settle_seconds": 1,
            "metadata_store": metadata_store,
        }
        async with daemon_scene(moto_endpoint, target, tmp_path / "stage") as scene:
            (tmp_path / "stage").mkdir()
            await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}")
            jobs = [LeakyJob("good-1"), LeakyJob("failed-1", status="Failed")]
            scene.finish_jobs(jobs)
            await scene.send([job.event for job in jobs])
            async with planted_daemon(scene, free_port(), Planted(), target, {}) as daemon:
                await daemon.outcomes(2, outcome="synced")
                outputs: dict[str, str | bytes] = {}
                outputs |= await pages(daemon, "in peace")
                assert await daemon.stop() == 0
                outputs |= log_of(daemon) | checkpoint_of(scene.home)
        tables = [table for table in vars(server.store).values() if isinstance(table, Table)]
        outputs["ModelDB V1"] = json.dumps(
            [list(table) for table in tables] + server.documents, default=str, ensure_ascii=False
        )
    assert leaks(outputs) == []
    assert "[redacted: a GitHub token]" in str(outputs["ModelDB V1"])

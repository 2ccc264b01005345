"""Bad input and bad times: every verb says one clear sentence and ends with the right status."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.clock import wall
from daemon.targets.place import ANY_TARGET
from tests.integration.test_cli import Done, clean_environment, config_of, verb, verb_process
from tests.support.aws_gate import AwsGate
from tests.support.daemon_process import ACCOUNT, REGION, DaemonScene, Job

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow  # a real process for each line

FOREIGN = f"arn:aws:sagemaker:{REGION}:210987654321:training-job/churn"
WITH_CHECKPOINT = ("history", "sync x", "backfill --since 1d", "dead-letters list")
"""A command of each verb that opens the checkpoint."""


def aws_of(scene: DaemonScene, **endpoints: str) -> dict[str, Any]:
    return {
        "region": REGION,
        "account_id": ACCOUNT,
        "sqs_endpoint_url": scene.sqs_endpoint,
        "sagemaker_endpoint_url": scene.sagemaker.url,
        "sts_endpoint_url": scene.sagemaker.url,
        **endpoints,
    }


def says_one_thing(done: Done, status: int, words: Sequence[str]) -> None:
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    assert "Traceback" not in said
    for each in words:
        assert each in said
    if status:
        assert said.strip(), "nothing says what is wrong"


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("fly", 2, ["invalid choice"]),
        ("sync", 2, ["required"]),
        ("history --limit 0", 2, ["--limit"]),
        ("history --reason bad_luck", 2, ["--reason", "tags_incomplete"]),
        ("history --since yesterday", 2, ["--since", "give one of 7d"]),
        ("history --since 1d --until 2d", 2, ["is not after --since"]),
        ("backfill", 2, ["--since"]),
        ("backfill --since soon", 2, ["give one of 7d"]),
        ("backfill --since 1d --until 2d", 2, ["is not after --since"]),
        ("dead-letters redrive", 2, ["--all"]),
        ("sync no-such-job", 1, ["no-such-job"]),
        (f"sync {FOREIGN}", 1, ["210987654321"]),
        ("sync not/a/job", 2, ["not/a/job"]),
        ("dead-letters show no-such-letter", 1, ["no-such-letter"]),
        ("dead-letters list", 0, ["0 dead letters"]),
        ("explain no-such-job", 1, ["SageMaker has no training job no-such-job"]),
    ],
)
async def test_bad_input(scene: DaemonScene, command: str, status: int, words: list[str]) -> None:
    config = config_of(scene)
    assert (await verb("check", "--config", config)).returncode == 0  # makes the checkpoint
    done = await verb_process(*command.split(), "--config", config)
    says_one_thing(done, status, words)
    assert sum((await scene.depth()).values()) == 0


@pytest.mark.parametrize("command", WITH_CHECKPOINT)
async def test_a_checkpoint_of_a_newer_version_is_exit_2_and_stays_as_it_is(
    scene: DaemonScene, command: str
) -> None:
    config = config_of(scene)
    assert (await verb("check", "--config", config)).returncode == 0
    path = scene.home / "checkpoint.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    done = await verb_process(*command.split(), "--config", config)
    says_one_thing(done, 2, ["newer version of this program"])
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("command", "denied", "words"),
    [
        ("backfill --since 1d", "ListTrainingJobs", ["sagemaker:ListTrainingJobs"]),
        ("backfill --since 1d", "SendMessageBatch", ["sqs:SendMessage"]),
        ("sync perm --wait 0", "DescribeTrainingJob", ["sagemaker:DescribeTrainingJob"]),
        ("sync perm --wait 0 --dry-run", "ListTags", ["sagemaker:ListTags"]),
        ("dead-letters list", "ReceiveMessage", ["sqs:ReceiveMessage"]),
        ("dead-letters redrive --all", "ReceiveMessage", ["sqs:ReceiveMessage"]),
    ],
)
async def test_a_verb_that_lacks_a_permission_names_it(
    scene: DaemonScene, command: str, denied: str, words: list[str]
) -> None:
    scene.finish_jobs([Job("perm", created=wall() - 600)])
    made = await open_sqlite_checkpoint(scene.home / "checkpoint.db", ANY_TARGET)
    await made.aclose()
    async with (
        AwsGate(scene.sqs_endpoint, {denied}) as sqs,
        AwsGate(scene.sagemaker.url, {denied}) as sagemaker,
    ):
        aws = aws_of(scene, sqs_endpoint_url=sqs.url, sagemaker_endpoint_url=sagemaker.url)
        done = await verb_process(*command.split(), "--config", config_of(scene, aws=aws))
    says_one_thing(done, 1, words)


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "daemon", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment() | {"PYTHONUNBUFFERED": "1"},
    )


async def test_ctrl_c_ends_what_follows_with_130_and_no_word(
    scene: DaemonScene, tmp_path: Path
) -> None:
    config = config_of(scene)
    assert (await verb("check", "--config", config)).returncode == 0
    process = await start("history", "--follow", "--config", config)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = await process.communicate()
    assert (process.returncode, said) == (130, b"")


async def test_a_reader_that_leaves_ends_a_verb_quietly(scene: DaemonScene) -> None:
    config = config_of(scene)
    assert (await verb("check", "--config", config)).returncode == 0
    process = await start("history", "--follow", "--json", "--config", config)
    assert process.stdout is not None
    process.stdout._transport.close()  # type: ignore[attr-defined] # closes the reading end of the pipe
    scene.finish_jobs([Job("written")])
    synced = await verb_process("sync", "written", "--config", config)
    async with asyncio.timeout(60):
        _, said = await process.communicate()
    assert synced.returncode == 0, synced.stderr
    assert (process.returncode, said) == (128 + signal.SIGPIPE, b"")

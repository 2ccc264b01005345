"""The verbs of the command line: exit status and output."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import logging
import os
import signal
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
import structlog
import yaml

from daemon.cli import main
from tests.support.daemon_process import (
    ACCOUNT,
    CREDENTIALS,
    FULL_TAGS,
    REGION,
    DaemonScene,
    Job,
    daemon_scene,
)
from tests.support.json_lines import json_lines
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.sagemaker_stub import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn


ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Done:
    """How a verb ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def clean_environment() -> dict[str, str]:
    return CREDENTIALS | {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "MODELDB_SYNC_"))
    }


async def verb(*arguments: str, environment: Mapping[str, str] | None = None) -> Done:
    """Runs a verb in this process, on a thread with an event loop of its own."""

    def run() -> int:
        try:
            return main(arguments)
        except SystemExit as end:  # argparse's
            return end.code if isinstance(end.code, int) else 1

    with (
        patch.dict(os.environ, clean_environment() | dict(environment or {}), clear=True),
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        contextlib.redirect_stderr(io.StringIO()) as stderr,
    ):
        status = await asyncio.to_thread(run)
    return Done(status, stdout.getvalue(), stderr.getvalue())


async def verb_process(*arguments: str) -> Done:
    """Runs a verb as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


def config_of(scene: DaemonScene, **sections: Mapping[str, Any]) -> str:
    """Writes a configuration file for the scene; returns its path."""
    settings: dict[str, Mapping[str, Any]] = {
        "aws": {
            "region": REGION,
            "account_id": ACCOUNT,
            "sqs_endpoint_url": scene.sqs_endpoint,
            "sagemaker_endpoint_url": scene.sagemaker.url,
            "sts_endpoint_url": scene.sagemaker.url,
        },
        "queue": {"url": scene.queue_url},
        "target": scene.target,
        "checkpoint": {"path": str(scene.home / "checkpoint.db")},
        **sections,
    }
    path = scene.home / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


async def test_a_stop_before_anything_has_begun_ends_the_program_at_once(tmp_path: Path) -> None:
    # as process 1 of a container the program gets no default action for SIGTERM: it must have a
    # handler from the first instant
    config = tmp_path / "config.yaml"
    os.mkfifo(config)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "daemon", "run", "--config", config
    )

    # opens when the program has begun to read its settings
    with await asyncio.to_thread(config.open, "w"):
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 128 + signal.SIGTERM


class TestCheck:
    async def test_every_edge_answers_and_nothing_is_received(self, scene: DaemonScene) -> None:
        await scene.send([Job("x-1").event])
        done = await verb_process("check", "--config", config_of(scene))
        assert (await scene.depth())["visible"] == 1  # nothing was received
        assert done.returncode == 0, done.stdout + done.stderr
        subjects = [line[6:].partition(":")[0] for line in done.stdout.splitlines()]
        assert list(dict.fromkeys(subjects)) == [
            "configuration",
            "queue",
            "dead-letter queue",
            "clock",
            "SageMaker",
            "checkpoint",
            "target modeldb-v2",
            "http",
        ]
        assert "ok    clock: this machine and AWS agree on the time" in done.stdout
        assert "ok    clock: this machine and ModelDB agree on the time" in done.stdout

    async def test_every_failure_is_one_line_with_what_to_do(
        self, scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
    ) -> None:
        modeldb.faults.web_page = True
        with scene.sagemaker.failing(None, "describe-access-denied.json"):
            path = config_of(scene, queue={"url": scene.queue_url + "-gone"})
            (scene.home / "checkpoint.db").write_text("no database " * 100)
            done = await verb("check", "--config", path)
        assert done.returncode == 1
        failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
        assert len(failures) == 4
        for said in ("queue.url", "sagemaker:DescribeTrainingJob", "checkpoint.db", "target.url"):
            assert any(said in line for line in failures), said

    async def test_an_account_that_is_not_that_of_the_credentials_fails(
        self, scene: DaemonScene
    ) -> None:
        scene.sagemaker.account = "210987654321"
        done = await verb("check", "--config", config_of(scene))
        assert done.returncode == 1
        [line] = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
        assert line.startswith(f"FAIL  SageMaker: aws.account_id is {ACCOUNT}")
        assert "210987654321" in line

    async def test_a_queue_of_another_account_and_a_silent_sts_are_told(
        self, scene: DaemonScene, free_port: Callable[[], int]
    ) -> None:
        aws = {
            "region": REGION,
            "account_id": "210987654321",
            "sqs_endpoint_url": scene.sqs_endpoint,
            "sagemaker_endpoint_url": scene.sagemaker.url,
            "sts_endpoint_url": f"http://127.0.0.1:{free_port()}",
        }
        done = await verb("check", "--config", config_of(scene, aws=aws))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARN  SageMaker: STS does not confirm aws.account_id" in done.stdout
        assert f"WARN  SageMaker: the queue belongs to account {ACCOUNT}" in done.stdout

    @pytest.mark.parametrize(
        ("operation", "words"),
        [
            ("BatchGetMetrics", "runs are written without metric series: BatchGetMetrics: permiss"),
            (
                "DescribeHyperParameterTuningJob",
                "runs do not say what their tuning job is after: DescribeHyperParameterTuningJob: ",
            ),
            (None, ""),
        ],
    )
    async def test_what_a_richer_record_lacks_is_a_warning(
        self, scene: DaemonScene, operation: str | None, words: str
    ) -> None:
        aws = {
            "region": REGION,
            "account_id": ACCOUNT,
            "sqs_endpoint_url": scene.sqs_endpoint,
            "sagemaker_endpoint_url": scene.sagemaker.url,
            "sagemaker_metrics_endpoint_url": scene.sagemaker.url,
            "sts_endpoint_url": scene.sagemaker.url,
        }
        config = config_of(scene, aws=aws, jobs={"metric_series": True})
        if operation is not None:
            denied = Answer(400, b'{"__type": "AccessDeniedException", "message": "no"}')
            scene.sagemaker.fail_next(operation, denied)
        done = await verb("check", "--config", config)
        assert done.returncode == 0, done.stdout + done.stderr
        assert words in done.stdout
        assert done.stdout.count(" without metric series") == (operation == "BatchGetMetrics")
        assert done.stdout.count("tuning job") == (operation == "DescribeHyperParameterTuningJob")
        assert scene.sagemaker.count("BatchGetMetrics") == 1

    async def test_an_unreachable_target_is_told(
        self, scene: DaemonScene, free_port: Callable[[], int]
    ) -> None:
        done = await verb(
            "check",
            "--config",
            config_of(scene, target={"url": f"http://127.0.0.1:{free_port()}/v1"}),
        )
        assert done.returncode == 1
        assert "FAIL  target modeldb-v2" in done.stdout

    async def test_a_modeldb_v1_is_asked_without_a_change_and_its_other_writers_are_warned_of(
        self, scene: DaemonScene
    ) -> None:
        async with ModelDbV1StandIn() as server:
            target = {"kind": "modeldb-v1", "host": server.host, "port": server.port}
            done = await verb("check", "--config", config_of(scene, target=target))
            methods = {call.method for call in server.received}
            assert server.documents == []
        assert done.returncode == 0, done.stdout + done.stderr
        *_, finding, others, lease, _http = done.stdout.splitlines()
        assert finding.startswith(f"ok    target modeldb-v1: 127.0.0.1:{server.port} (it tells")
        assert others.startswith(
            "note  target modeldb-v1: switch off every other program that writes to this server"
        )
        assert f"the writer lease 127.0.0.1:{server.port} in the checkpoint" in lease
        # the last one says whether there is a document, and changes nothing of it
        questions = {"getProjectIds", "getModelIds", "computeModelAncestry"}
        assert methods == questions | {"createOrUpdateScalarField"}

    async def test_metric_series_that_the_target_has_no_place_for_are_told(
        self, scene: DaemonScene
    ) -> None:
        async with ModelDbV1StandIn() as server:
            target = {"kind": "modeldb-v1", "host": server.host, "port": server.port}
            config = config_of(scene, target=target, jobs={"metric_series": True})
            done = await verb("check", "--config", config)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "note  SageMaker: jobs.metric_series has no effect: target modeldb-v1" in done.stdout
        assert scene.sagemaker.count("BatchGetMetrics") == 0

    async def test_a_modeldb_v2_where_v1_is_configured_is_reported(
        self, scene: DaemonScene, modeldb: ModelDbV2StandIn
    ) -> None:
        target = {"kind": "modeldb-v1", "host": modeldb.host, "port": modeldb.port}
        done = await verb("check", "--config", config_of(scene, target=target))
        assert done.returncode == 1
        *_, finding, note, _http = done.stdout.splitlines()
        assert finding.startswith("FAIL  target modeldb-v1: ")
        assert note.endswith(f"set target.kind: modeldb-v2, target.url: {modeldb.url}")

    async def test_a_modeldb_v1_where_v2_is_configured_is_reported(
        self, scene: DaemonScene
    ) -> None:
        async with ModelDbV1StandIn() as server:
            done = await verb(
                "check",
                "--config",
                config_of(scene, target={"url": f"http://{server.host}:{server.port}/v1"}),
            )
        assert done.returncode == 1
        *_, finding, note, _http = done.stdout.splitlines()
        assert finding.startswith("FAIL  target modeldb-v2: ")
        assert (
            f"set target.kind: modeldb-v1, target.host: {server.host}, target.port: {server.port}"
            in note
        )

    async def test_a_missing_redrive_policy_is_advised(
        self, moto_endpoint: str, modeldb: ModelDbV2StandIn, tmp_path: Path
    ) -> None:
        async with daemon_scene(moto_endpoint, modeldb.url, tmp_path) as scene:
            await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}", max_receive_count=None)
            done = await verb("check", "--config", config_of(scene))
        assert done.returncode == 0
        assert "redrive policy" in done.stdout

    async def test_offline_asks_nobody(self, tmp_path: Path) -> None:
        environment = {
            "MODELDB_SYNC_QUEUE__URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/"
            "modeldb-sync",
            "MODELDB_SYNC_TARGET__URL": "http://modeldb.invalid:8080/v1",
        }
        done = await verb("check", "--offline", environment=environment)
        assert (done.returncode, done.stdout) == (0, "ok    configuration\n")


class TestConfigurationErrors:
    @pytest.mark.parametrize("name", ["run", "check", "history"])
    async def test_exit_2_with_one_line_for_each_problem(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_text("queue: {pollers: 11}\ntarget: {url: ftp://x, timeout_seconds: 1}\n")
        done = await verb(name, "--config", str(path))
        assert done.returncode == 2
        for key in ("queue.url", "queue.pollers", "target.url", "target.timeout_seconds"):
            assert sum(key in line for line in done.stderr.splitlines()) >= 1, done.stderr
        assert "Traceback" not in done.stderr

    async def test_an_unknown_verb_is_exit_2(self) -> None:
        done = await verb("fly")
        assert done.returncode == 2
        assert "invalid choice" in done.stderr

    async def test_version(self) -> None:
        done = await verb("--version")
        assert done.returncode == 0
        assert done.stdout.startswith("sagemaker-modeldb-sync ")


class TestHistory:
    async def test_what_the_checkpoint_knows_also_beside_a_running_daemon(
        self, scene: DaemonScene, free_port: Callable[[], int]
    ) -> None:
        synced, half, plain = (
            Job("h-synced"),
            Job("h-half", {"MODEL_DB_SYNC": "x"}),
            Job("h-plain", {"team": "ml"}),
        )
        scene.finish_jobs([synced, half, plain])
        scene.sagemaker.fail_job("h-gone", Answer.error("describe-not-found.json"))
        await scene.send([job.event for job in (synced, half, plain, Job("h-gone"))])
        await scene.send(["no event"])
        daemon = scene.daemon(free_port())
        await daemon.start()
        await daemon.outcomes(5)
        path = config_of(scene)
        table = (await verb("history", "--config", path)).stdout
        rows = json_lines((await verb("history", "--config", path, "--json")).stdout)
        only = (
            await verb(
                "history", "--config", path, "--json", "--outcome", "synced", "--job", "H-SYN"
            )
        ).stdout
        assert await daemon.stop() == 0
        by_state = {
            row["job_name"]: (row["state"], row["reason"]) for row in rows if row["kind"] == "job"
        }
        assert by_state["h-synced"] == ("synced", "created")
        assert by_state["h-half"] == ("rejected", "tags_incomplete")
        assert by_state["h-plain"] == ("skipped", "not_tagged")
        assert by_state["h-gone"] == ("rejected", "job_gone")
        assert [row["reason"] for row in rows if row["kind"] == "message"] == ["malformed_body"]
        assert [row["job_name"] for row in json_lines(only)] == ["h-synced"]
        assert "h-synced" in table
        assert (
            next(row for row in rows if row.get("job_name") == "h-synced")["target_ids"]["run_id"]
            in table
        )

        assert set(by_state) == {"h-synced", "h-half", "h-plain", "h-gone"}
        # the documented members, in docs/operations.md
        documented = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
        for row in rows:
            assert [name for name in row if f"`{name}`" not in documented] == []

    async def test_a_period_that_ends_before_it_begins_is_exit_2(self, scene: DaemonScene) -> None:
        done = await verb("history", "--config", config_of(scene), "--since", "1d", "--until", "2d")
        assert (done.returncode, done.stdout) == (2, "")
        assert "is not after --since" in done.stderr

    async def test_no_checkpoint_is_told(self, scene: DaemonScene) -> None:
        done = await verb("history", "--config", config_of(scene))
        assert done.returncode == 2
        assert "there is no checkpoint at" in done.stderr


async def test_a_dead_letter_queue_that_is_not_there_defers_and_does_not_stop_the_queue(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    half, good = Job("d-half", {"MODEL_DB_SYNC": "x"}), Job("d-good", FULL_TAGS)
    scene.finish_jobs([half, good])
    daemon = scene.daemon(
        free_port(),
        queue={
            "url": scene.queue_url,
            "wait_seconds": 1,
            "dead_letter_url": scene.queue_url + "-gone",
        },
    )
    await daemon.start()
    await scene.send([half.event])
    await daemon.outcomes(1, outcome="deferred", reason="dead_letter_failed")
    await scene.send([good.event])
    await daemon.outcomes(1, outcome="synced")
    async with asyncio.timeout(10):
        while sum((await scene.depth()).values()) != 1:
            await asyncio.sleep(0.1)
    assert await daemon.stop() == 0


async def test_a_dead_letter_queue_that_was_deleted_keeps_rejected_messages_in_the_queue(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    """The redrive policy still names it; the local checkpoint is no place for the only copy."""
    await scene.delete_dead_letter_queue()
    daemon = scene.daemon(free_port(), queue={"retry": {"initial_seconds": 1, "max_seconds": 1}})
    await daemon.start()
    await scene.send(["no event"])
    await daemon.outcomes(1, outcome="deferred", reason="dead_letter_failed")
    status, text = await daemon.get("/readyz")
    assert (status, "not_found" in json.loads(text)["checks"]["dead_letters"]) == (503, True)
    await daemon.logged(lambda line: line.get("event") == "dead-letter queue cannot be watched")
    await scene.make_dead_letter_queue()
    await daemon.outcomes(1, outcome="rejected")
    await daemon.ready()
    assert [letter["Body"] for letter in await scene.dead_letters()] == ["no event"]
    assert await daemon.stop() == 0


async def test_the_queue_itself_as_its_dead_letter_queue_is_exit_2(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    """Rejected messages would come again and again."""
    alias = scene.queue_url.replace(ACCOUNT, "000000000000")  # only the queue's ARN tells
    await scene.send(["no event"])
    daemon = scene.daemon(free_port(), queue={"dead_letter_url": alias})
    await daemon.start()
    assert await daemon.ended() == 2
    assert any("queue.dead_letter_url" in line["event"] for line in daemon.log)
    assert (await scene.depth())["visible"] == 1
    done = await verb(
        "check",
        "--config",
        config_of(scene, queue={"url": scene.queue_url, "dead_letter_url": alias}),
    )
    assert done.returncode == 1
    assert "FAIL  dead-letter queue: queue.dead_letter_url names the queue itself" in done.stdout

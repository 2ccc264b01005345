"""`sync` with ModelDB V1, whose only writer is the daemon: another process hands the job over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.operations.hand_over import TAKE_SECONDS
from daemon.targets.modeldb_v1.mapping import mark_in
from daemon.targets.place import ANY_TARGET, TargetPlace
from tests.support.daemon_process import FULL_TAGS, Job, daemon_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.support.daemon_process import DaemonProcess, DaemonScene
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

pytestmark = pytest.mark.slow  # each has processes of its own

JOB = Job("handed-over")


@pytest.fixture
async def scene(
    moto_endpoint: str, modeldb_v1: ModelDbV1StandIn, tmp_path: Path
) -> AsyncIterator[DaemonScene]:
    target = {
        "kind": "modeldb-v1",
        "host": "127.0.0.1",
        "port": modeldb_v1.port,
        "settle_seconds": 1,
        "timeout_seconds": 31,
    }
    async with daemon_scene(moto_endpoint, target, tmp_path) as made:
        await made.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        yield made


class Cli:
    """``python -m daemon sync …`` beside a daemon, with its configuration."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said = ""
        self._errors: list[str] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, daemon: DaemonProcess, *arguments: str) -> Cli:
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "daemon",
                "sync",
                *arguments,
                "--config",
                str(daemon.config),
                env=dict(daemon.environment),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        )

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            async with self._news:
                self._errors.append(line.decode())
                self._news.notify_all()

    @property
    def errors(self) -> str:
        return "".join(self._errors)

    async def says(self, words: str, seconds: float = 30) -> None:
        """Waits until it has said something on standard error."""
        async with asyncio.timeout(seconds), self._news:
            while words not in self.errors:
                await self._news.wait()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def ended(self, seconds: float = 60) -> tuple[int, str]:
        """Exit status and standard output."""
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            said = (await self._process.stdout.read()).decode()
            await self._reading
            status = await self._process.wait()
        return status, said


async def synced(daemon: DaemonProcess, *arguments: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the JSON of ``sync … --json``."""
    status, said = await (await Cli.start(daemon, *arguments, "--json")).ended()
    return status, json.loads(said)


async def became_writer(daemon: DaemonProcess, seconds: float = 30) -> None:
    await daemon.logged(lambda line: line["event"] == "this process is the writer", seconds=seconds)


async def taken(daemon: DaemonProcess, seconds: float = 30) -> None:
    await daemon.logged(lambda line: line["event"] == "a job was handed over", seconds=seconds)


async def writer(scene: DaemonScene, port: int) -> DaemonProcess:
    """A daemon that is the writer, and whose edges work."""
    daemon = scene.daemon(port)
    await daemon.start()
    await daemon.ready()
    await became_writer(daemon)
    return daemon


@contextlib.asynccontextmanager
async def requests(scene: DaemonScene, server: ModelDbV1StandIn) -> AsyncIterator[Any]:
    """The scene's checkpoint."""
    place = TargetPlace("modeldb-v1", f"127.0.0.1:{server.port}")
    checkpoint = await open_sqlite_checkpoint(scene.home / "checkpoint.db", place)
    try:
        yield checkpoint
    finally:
        await checkpoint.aclose()


async def left_of(scene: DaemonScene, server: ModelDbV1StandIn, job: Job) -> Sequence[Any]:
    """The requests about a job that have no answer."""
    async with requests(scene, server) as checkpoint:
        return [each for each in await checkpoint.requests_about(job.name) if not each.answer]


def marks(server: ModelDbV1StandIn) -> list[str | None]:
    return [mark_in(run["description"]) for run in server.runs]


async def test_a_job_is_handed_over_and_its_outcome_printed(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    daemon = await writer(scene, free_port())
    status, result = await synced(daemon, JOB.name)
    assert (status, result["outcome"], result["reason"]) == (0, "synced", "created")
    assert result["target_ids"]["model_id"] == str(modeldb_v1.models[0]["id"])
    assert len(modeldb_v1.runs) == 1

    status, result = await synced(daemon, JOB.arn)
    assert (status, result["outcome"], result["reason"]) == (0, "duplicate", "already_synced")
    assert await left_of(scene, modeldb_v1, JOB) == []
    assert await scene.dead_letters() == []
    assert await daemon.stop() == 0


async def test_a_job_that_cannot_be_synced_says_why_and_makes_no_dead_letter(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    untagged = Job("untagged", {})
    half = Job("half", {"MODEL_DB_SYNC": ""})
    scene.finish_jobs([untagged, half])
    daemon = await writer(scene, free_port())
    status, result = await synced(daemon, untagged.name)
    assert (status, result["reason"]) == (1, "not_tagged")
    status, result = await synced(daemon, half.name)
    assert (status, result["reason"]) == (1, "tags_incomplete")
    status, result = await synced(daemon, "unknown-job")
    assert (status, result["outcome"]) == (1, "unknown_job")
    assert modeldb_v1.runs == []
    assert await scene.dead_letters() == []


async def test_without_a_daemon_it_says_so_and_leaves_nothing_behind(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    checkpoint = await open_sqlite_checkpoint(scene.home / "checkpoint.db", ANY_TARGET)
    await checkpoint.aclose()  # one has run before
    cli = await Cli.start(scene.daemon(free_port()), JOB.name)
    status, said = await cli.ended()
    assert (status, said) == (1, "")
    assert f"within {TAKE_SECONDS:.0f} s" in cli.errors
    assert "start it (`run`)" in cli.errors
    assert await left_of(scene, modeldb_v1, JOB) == []
    assert modeldb_v1.runs == []


async def test_a_daemon_that_stands_by_takes_nothing(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    first = await writer(scene, free_port())
    second = scene.daemon(free_port())
    await second.start()
    await second.ready()
    status, _ = await synced(second, JOB.name)
    assert status == 0
    await taken(first)
    assert not [line for line in second.log if line["event"] == "a job was handed over"]
    assert len(modeldb_v1.runs) == 1
    assert await first.stop() == 0
    await became_writer(second)
    status, result = await synced(second, JOB.name)
    assert (status, result["outcome"]) == (0, "duplicate")
    await taken(second)


async def test_ctrl_c_withdraws_what_nobody_has_begun(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    daemon = await writer(scene, free_port())
    await modeldb_v1.aclose()
    # the outage is noticed at the first job; the second one waits for its end
    first = await Cli.start(daemon, JOB.name)
    await first.says("ModelDB is unreachable since")
    other = Job("withdrawn")
    scene.finish_jobs([other])
    cli = await Cli.start(daemon, other.name)
    await cli.says("ModelDB is unreachable since")
    cli.signal(signal.SIGINT)
    status, said = await cli.ended()
    assert (status, said) == (130, "")
    assert await left_of(scene, modeldb_v1, other) == []

    first.signal(signal.SIGINT)
    status, _ = await first.ended()
    assert status == 130
    assert f"the daemon has begun with {JOB.name} and finishes it" in first.errors
    await modeldb_v1.start("127.0.0.1")
    await daemon.outcomes(1, outcome="synced")
    assert [mark.split("/")[1].split()[0] for mark in marks(modeldb_v1) if mark] == [JOB.name]


async def test_an_outage_of_modeldb_is_said_and_waited_for(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    daemon = await writer(scene, free_port())
    await modeldb_v1.aclose()
    cli = await Cli.start(daemon, JOB.name)
    await cli.says("ModelDB is unreachable since")
    assert ": waiting" in cli.errors
    await modeldb_v1.start("127.0.0.1")
    status, said = await cli.ended()
    assert status == 0
    assert "is synced" in said
    assert len(modeldb_v1.runs) == 1


async def test_a_daemon_killed_in_the_middle_is_followed_by_the_next(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    daemon = await writer(scene, free_port())
    hold = modeldb_v1.faults.hold_before_answer(method="storeFitEvent")
    cli = await Cli.start(daemon, JOB.name)
    await hold.reached.wait()
    await daemon.kill()
    hold.release()
    following = scene.daemon(free_port())
    await following.start()
    await cli.says("the daemon that had begun with the job has ended")
    await became_writer(following, seconds=90)
    status, said = await cli.ended(seconds=90)
    assert status == 0
    assert "is synced" in said
    assert (len(modeldb_v1.runs), len(modeldb_v1.fits)) == (1, 1)
    assert await left_of(scene, modeldb_v1, JOB) == []


async def test_a_stop_gives_the_request_back(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    daemon = await writer(scene, free_port())
    await modeldb_v1.aclose()
    cli = await Cli.start(daemon, JOB.name)
    await cli.says("ModelDB is unreachable since")
    assert await daemon.stop() == 0
    [request] = await left_of(scene, modeldb_v1, JOB)
    assert request.taken_by == ""
    await modeldb_v1.start("127.0.0.1")
    following = scene.daemon(free_port())
    await following.start()
    status, _ = await cli.ended(seconds=90)
    assert status == 0
    assert len(modeldb_v1.runs) == 1


async def test_a_write_under_way_is_finished_and_answered_at_the_stop(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    daemon = await writer(scene, free_port())
    hold = modeldb_v1.faults.hold_before_answer(method="storeFitEvent")
    cli = await Cli.start(daemon, JOB.name)
    await hold.reached.wait()
    daemon.signal(signal.SIGTERM)
    await daemon.logged(lambda line: line["event"] == "stopping")
    hold.release()
    status, said = await cli.ended()
    assert (status, await daemon.ended()) == (0, 0)
    assert "is synced" in said
    assert len(modeldb_v1.runs) == 1


async def test_a_message_and_a_request_about_one_job_are_one_run(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    daemon = await writer(scene, free_port())
    hold = modeldb_v1.faults.hold_before_answer(method="storeFitEvent")
    await scene.send([JOB.event])
    await hold.reached.wait()
    cli = await Cli.start(daemon, JOB.name)
    await taken(daemon)
    hold.release()
    status, said = await cli.ended()
    assert status == 0
    assert "already" in said
    assert (len(modeldb_v1.runs), len(modeldb_v1.fits)) == (1, 1)


async def test_a_dry_run_needs_no_daemon_and_writes_nothing(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    status, result = await synced(scene.daemon(free_port()), JOB.name, "--dry-run")
    assert (status, result["outcome"]) == (0, "synced")
    methods = [call["method"] for call in result["would_write"]["calls"]]
    assert methods[:3] == [
        "storeProjectEvent",
        "storeExperimentEvent",
        "storeExperimentRunEvent",
    ]
    assert not [each for each in modeldb_v1.calls if each.startswith("store")]
    assert not (scene.home / "checkpoint.db").exists()


async def test_force_brings_the_run_up_to_date(
    scene: DaemonScene, modeldb_v1: ModelDbV1StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([JOB])
    daemon = await writer(scene, free_port())
    assert (await synced(daemon, JOB.name))[0] == 0
    scene.finish_jobs([Job(JOB.name, {**FULL_TAGS, "team": "risk"})])
    status, result = await synced(daemon, JOB.name, "--dry-run", "--force")
    assert (status, result["differs"]) == (0, ["metadata TAGS 'team': 'risk'"])
    assert "team" not in modeldb_v1.documents[0]["TAGS"]
    status, result = await synced(daemon, JOB.name, "--force")
    assert (status, result["changed"]) == (0, ["metadata TAGS 'team': 'risk'"])
    assert modeldb_v1.documents[0]["TAGS"]["team"] == "risk"
    assert (len(modeldb_v1.runs), len(modeldb_v1.fits)) == (1, 1)

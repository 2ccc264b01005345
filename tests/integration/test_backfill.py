"""The verb `backfill` beside a real daemon process: SQS (moto), a SageMaker that throttles, a
ModelDB.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.targets.place import TargetPlace
from tests.integration.test_cli import clean_environment, config_of, verb, verb_process
from tests.support.daemon_process import CREATED, DaemonScene, Job, daemon_scene, mark_of
from tests.support.json_lines import json_lines
from tests.support.sagemaker_stub import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

SINCE = "2025-11-20T08:00"
UNTIL = "2025-11-20T10:00"
PERIOD = ("--since", SINCE, "--until", UNTIL)


@pytest.fixture
async def scene(
    moto_endpoint: str, modeldb: ModelDbV2StandIn, tmp_path: Path
) -> AsyncIterator[DaemonScene]:
    async with daemon_scene(moto_endpoint, modeldb.url, tmp_path) as made:
        await made.make_queues(f"b-{uuid.uuid4().hex[:8]}")
        made.sagemaker.lists.rate = None
        yield made


async def open_checkpoint(scene: DaemonScene) -> Any:
    place = TargetPlace("modeldb-v2", scene.target["url"])
    return await open_sqlite_checkpoint(scene.home / "checkpoint.db", place)


@pytest.fixture
async def checkpoint(scene: DaemonScene) -> None:
    """There is one, as after the daemon's first run."""
    made = await open_checkpoint(scene)
    await made.aclose()


def jobs(count: int, prefix: str = "job") -> list[Job]:
    return [Job(f"{prefix}-{number:03d}", created=CREATED + number) for number in range(count)]


@pytest.mark.slow  # a real daemon
async def test_jobs_that_no_event_announced_are_synced_and_the_others_left_alone(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    announced, lost = jobs(3, "announced"), jobs(12, "lost")
    untagged = Job("untagged", tags={}, created=CREATED + 50)
    running = Job("running", status="InProgress", created=CREATED + 60)
    failed = Job("failed", status="Failed", created=CREATED + 70)
    outside = Job("outside", created=CREATED + 86_400)
    scene.finish_jobs([*announced, *lost, untagged, running, failed, outside])
    daemon = scene.daemon(free_port())
    await daemon.start()
    await scene.send([job.event for job in announced])
    await daemon.outcomes(3, outcome="synced")
    config = str(daemon.config)

    looked = await verb("backfill", *PERIOD, "--dry-run", "--config", config)
    assert looked.returncode == 0, looked.stderr
    assert "18 jobs listed: 13 would be sent, 3 already synced, 1 unfinished" in looked.stdout
    assert "lost-007" in looked.stdout
    assert "announced-001" not in looked.stdout
    assert (await scene.depth())["visible"] == 0

    done = await verb("backfill", *PERIOD, "--wait", "--config", config)

    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "18 jobs listed: 13 sent to the queue, 3 already synced, 1 unfinished (they announce "
        "themselves), 1 of another status" in done.stdout
    )
    assert "12  synced  created" in done.stdout
    assert "1  skipped  not_tagged" in done.stdout
    assert {mark_of(run)[0] for run in modeldb.runs()} == {job.arn for job in announced + lost}
    lines = await daemon.outcomes(12, outcome="synced", origin="backfill")
    assert all("event_to_sync_seconds" not in line for line in lines)
    assert await daemon.stop() == 0


@pytest.mark.usefixtures("checkpoint")
async def test_a_dry_run_for_programs_lists_jobs_and_counts(scene: DaemonScene) -> None:
    scene.finish_jobs(jobs(2))
    done = await verb("backfill", *PERIOD, "--dry-run", "--json", "--config", config_of(scene))
    *listed, summary = json_lines(done.stdout)
    assert [job["job_name"] for job in listed] == ["job-000", "job-001"]
    assert listed[0]["state"] is None
    assert (summary["kind"], summary["listed"], summary["to_send"]) == ("summary", 2, 2)
    assert (await scene.depth())["visible"] == 0


USAGE_ERRORS = [
    (("--since", "yesterday"), "'yesterday' is no date"),
    (("--since", "2025-11-20", "--until", "2025-11-19"), "--until"),
    (("--since", "2999-01-01"), "--since is in the future"),
    (("--since", "7d", "--status", "Failed"), "jobs.statuses is Completed"),
    (("--since", "7d", "--status", "Finished"), "invalid choice: 'Finished'"),
    (("--since", "7d", "--dry-run", "--wait"), "--wait: --dry-run sends nothing"),
    ((), "required: --since"),
    (PERIOD, "there is no checkpoint"),
]


async def test_what_cannot_be_meant_is_a_usage_error_and_calls_nobody(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    settings = {
        "queue": {"url": "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"},
        "target": {"url": "http://127.0.0.1:1"},
        "checkpoint": {"path": str(tmp_path / "none.db")},
    }
    config.write_text(yaml.safe_dump(settings))
    for arguments, words in USAGE_ERRORS:
        done = await verb("backfill", *arguments, "--config", str(config))
        assert done.returncode == 2, arguments
        assert words in done.stderr
        assert done.stdout == ""


LIST_DENIED = Answer(
    400,
    b'{"__type": "AccessDeniedException", "Message": "User: arn:aws:sts::123456789012:'
    b"assumed-role/ops/me is not authorized to perform: sagemaker:ListTrainingJobs on resource: "
    b'arn:aws:sagemaker:eu-west-1:123456789012:training-job/*"}',
)


@pytest.mark.slow  # three runs
@pytest.mark.usefixtures("checkpoint")
async def test_a_fault_in_the_middle_says_where_the_same_command_goes_on(
    scene: DaemonScene,
) -> None:
    scene.finish_jobs(jobs(110))
    config = config_of(scene)
    with scene.sagemaker.failing("ListTrainingJobs", LIST_DENIED):
        denied = await verb("backfill", *PERIOD, "--config", config)
    assert denied.returncode == 1
    assert "sagemaker:ListTrainingJobs" in denied.stderr
    assert "then run the same command again: it goes on at 2025-11-20 08:00:00Z" in denied.stderr
    assert (await scene.depth())["visible"] == 0

    gone = scene.queue_url + "-gone"
    lost = await verb("backfill", *PERIOD, "--config", config_of(scene, queue={"url": gone}))
    assert lost.returncode == 1
    assert "check queue.url" in lost.stderr
    assert "it goes on at 2025-11-20 08:00:00Z (0 jobs listed, 0 sent so far)" in lost.stderr

    done = await verb("backfill", *PERIOD, "--json", "--config", config_of(scene))
    assert done.returncode == 0, done.stderr
    assert "going on with the backfill begun" in done.stderr
    [summary] = json_lines(done.stdout)
    assert (summary["listed"], summary["sent"], summary["requests"]) == (110, 110, 2)
    assert (await scene.depth())["visible"] == 110


async def test_without_the_daemons_checkpoint_all_jobs_of_the_period_are_sent(
    scene: DaemonScene,
) -> None:
    scene.finish_jobs(jobs(3))
    config = config_of(scene)
    with scene.sagemaker.failing("ListTrainingJobs", LIST_DENIED):
        denied = await verb("backfill", *PERIOD, "--no-checkpoint", "--config", config)
    assert "then give --since 2025-11-20T08:00:00Z to go on there" in denied.stderr

    done = await verb("backfill", *PERIOD, "--no-checkpoint", "--config", config)
    assert (done.returncode, (await scene.depth())["visible"]) == (0, 3), done.stderr
    assert not (scene.home / "checkpoint.db").exists()

    waiting = await verb("backfill", *PERIOD, "--no-checkpoint", "--wait", "--config", config)
    assert waiting.returncode == 2
    assert "--wait: the outcomes are in the checkpoint" in waiting.stderr


@pytest.mark.usefixtures("checkpoint")
async def test_a_second_one_at_the_same_time_is_refused(scene: DaemonScene) -> None:
    other = await open_checkpoint(scene)
    claim = await other.claim("operation:backfill", 300)
    try:
        done = await verb("backfill", *PERIOD, "--config", config_of(scene))
    finally:
        await other.aclose()
    assert done.returncode == 1
    assert f"a backfill of this target runs already, in process {claim.owner}" in done.stderr


async def process_of(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon",
        "backfill",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
    )


@pytest.mark.slow  # a page a second
@pytest.mark.usefixtures("checkpoint")
async def test_ctrl_c_ends_after_the_step_under_way_and_the_same_command_goes_on(
    scene: DaemonScene,
) -> None:
    scene.finish_jobs(jobs(350))
    config = config_of(scene)
    process = await process_of("--since", SINCE, "--until", UNTIL, "--config", config)
    async with asyncio.timeout(60):
        while scene.sagemaker.count("ListTrainingJobs") < 2:
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(30):
        _, err = await process.communicate()
    assert process.returncode == 130
    assert b"interrupted: run the same command again: it goes on at 2025-11-20 08:4" in err

    done = await verb_process("backfill", *PERIOD, "--config", config)

    assert done.returncode == 0, done.stderr
    assert "350 jobs listed: 350 sent" in done.stdout
    assert (await scene.depth())["visible"] == 350


@pytest.mark.slow  # ten processes, a page a second
@pytest.mark.timeout(300)
async def test_killed_ten_times_every_job_is_in_modeldb_once(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    chance = random.Random(14)
    scene.sagemaker.lists.rate = 2.0
    # many were created in the same second
    wanted = [Job(f"job-{number:03d}", created=CREATED + number // 40) for number in range(240)]
    scene.finish_jobs(wanted)
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.ready()
    config = str(daemon.config)
    killed = 0
    again: tuple[str, ...] = ()
    while killed < 10:
        process = await process_of(*PERIOD, *again, "--config", config)
        before = scene.sagemaker.count("ListTrainingJobs")
        async with asyncio.timeout(60):
            while scene.sagemaker.count("ListTrainingJobs") == before:
                await asyncio.sleep(0.01)
        await asyncio.sleep(chance.uniform(0, 0.6))
        again = ()
        if process.returncode is None:
            process.kill()
            killed += 1
        else:  # it came to its end; another one begins from the start
            again = ("--restart",)
        await process.communicate()

    done = await verb_process("backfill", *PERIOD, "--wait", "--json", "--config", config)

    assert done.returncode == 0, done.stderr
    [summary] = json_lines(done.stdout)
    assert summary["listed"] == 240
    assert summary["outcomes"]["left"] == 0
    marks = [mark_of(run) for run in modeldb.runs()]
    assert len(marks) == len(set(marks)) == 240
    assert await daemon.stop() == 0
    print(json.dumps({"messages": len(await daemon.outcomes(240)), **summary}))

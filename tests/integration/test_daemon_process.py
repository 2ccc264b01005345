"""The whole daemon as a real process: SQS (moto's server), SageMaker's stub and the ModelDB
stand-in on real sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sqlite3
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.support.daemon_process import (
    FULL_TAGS,
    DaemonScene,
    Job,
    daemon_scene,
    jobs_named,
    mark_of,
)
from tests.support.sagemaker_stub import Answer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn


def marks(modeldb: ModelDbV2StandIn) -> list[tuple[str, str]]:
    return sorted(mark_of(run) for run in modeldb.runs())


async def test_a_finished_job_becomes_a_run_with_everything_in_it(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    job = Job("churn-1")
    scene.finish_jobs([job])
    await scene.send([job.event])
    daemon = scene.daemon(free_port())
    await daemon.start()
    [line] = await daemon.outcomes(1)
    await scene.drained()

    [run] = modeldb.runs()
    assert run["name"] == "churn-1"
    assert {item["key"]: item["value"] for item in run["hyperparameters"]}["num_round"] == 200
    assert {item["key"]: item["value"] for item in run["metrics"]}["validation/auc"] == 0.9107
    assert {item["key"]: item["path"] for item in run["datasets"]} == {
        "train": "s3://acme-ml-eu-west-1/churn/train/",
        "validation": "s3://acme-ml-eu-west-1/churn/validation/",
    }
    [model] = [item for item in run["artifacts"] if item["key"] == "model_artifact"]
    assert model["path"].endswith("/output/model.tar.gz")
    assert mark_of(run) == (job.arn, "2025-11-20T08:40:00.050Z")
    assert [project["name"] for project in modeldb.projects()] == ["churn"]
    assert [experiment["name"] for experiment in modeldb.experiments()] == ["churn-xgb"]

    assert line["outcome"] == "synced"
    assert line["run_id"] == run["id"]
    assert {
        "message_id",
        "job",
        "sync_seconds",
        "describe_seconds",
        "event_to_sync_seconds",
    } <= set(line)
    samples = await daemon.metrics()
    assert samples["modeldb_sync_jobs_total{outcome=synced,reason=created}"] == 1
    assert samples["modeldb_sync_messages_received_total"] == 1
    _, page = await daemon.get("/")
    assert "<h1>Running</h1>" in page
    assert f'href="/jobs/{job.arn}"' in page
    _, story = await daemon.get(f"/jobs/{job.arn}")
    told = ("Message received", "Described by SageMaker", "Tags read", "synced (created)")
    assert [words for words in told if words not in story] == []
    _, listed = await daemon.get("/api/jobs?project=churn")
    [found] = json.loads(listed)["jobs"]
    assert (found["outcome"], found["target_ids"]["run_id"]) == ("synced", run["id"])
    _, status_text = await daemon.get("/api/status")
    minutes = json.loads(status_text)["last_hour"]["minutes"]
    assert sum(minute["outcomes"].get("synced", 0) for minute in minutes) == 1
    assert await daemon.stop() == 0
    assert [entry for entry in daemon.log if entry["level"] in {"error", "text"}] == []


async def test_every_event_three_times_in_any_order_is_one_run_each(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = jobs_named("thrice", 30)
    scene.finish_jobs(jobs)
    events = [job.event for job in jobs] * 3
    random.Random(3).shuffle(events)
    await scene.send(events)
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.outcomes(90)
    await scene.drained()
    assert [arn for arn, _ in marks(modeldb)] == sorted(job.arn for job in jobs)
    assert await scene.dead_letters() == []
    assert max(line["receive_count"] for line in await daemon.outcomes(90)) == 1
    assert await daemon.stop() == 0


async def test_what_can_never_work_is_in_the_dead_letter_queue_with_its_reason(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    half = Job(
        "half-1",
        tags={key: value for key, value in FULL_TAGS.items() if key != "MODEL_DB_MODEL_TYPE"},
    )
    scene.finish_jobs([half])
    huge = json.dumps({"padding": "x" * 1_048_300, "detail": None})
    await scene.send([half.event])
    await scene.send(["this is no event"])
    await scene.send([huge])
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.outcomes(3, outcome="rejected")
    await scene.drained()
    letters = {
        letter["Body"][:40]: letter.get("MessageAttributes", {})
        for letter in await scene.dead_letters()
    }
    assert len(letters) == 3
    by_reason = {
        attributes["reason"]["StringValue"]: attributes["detail"]["StringValue"]
        for attributes in letters.values()
        if attributes
    }
    assert "MODEL_DB_MODEL_TYPE" in by_reason["tags_incomplete"]
    assert by_reason["malformed_body"]
    # no room for attributes beside a body at the limit
    assert letters[huge[:40]] != {} or len(huge) > 1_048_000
    assert await daemon.stop() == 0


async def test_a_redriven_message_takes_its_tags_from_list_tags(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    job = Job("fixed-1")
    half = Job("fixed-1", tags={"MODEL_DB_SYNC": "true"})
    scene.finish_jobs([half])
    await scene.send([half.event])
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.outcomes(1, outcome="rejected")
    scene.finish_jobs([job])
    await scene.send([half.event])
    await daemon.outcomes(1, outcome="synced")
    assert len(modeldb.runs()) == 1
    assert await daemon.stop() == 0


async def test_without_a_dead_letter_queue_the_body_is_kept_without_hyperparameters(
    moto_endpoint: str, modeldb: ModelDbV2StandIn, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with daemon_scene(moto_endpoint, modeldb.url, tmp_path) as scene:
        await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}", max_receive_count=None)
        half = Job("half-2", tags={"MODEL_DB_SYNC": "true"})
        scene.finish_jobs([half])
        await scene.send([half.event])
        daemon = scene.daemon(free_port())
        await daemon.start()
        await daemon.outcomes(1, outcome="rejected")
        await scene.drained()
        assert await daemon.stop() == 0
        with contextlib.closing(sqlite3.connect(tmp_path / "checkpoint.db")) as database:
            [(body,)] = database.execute("SELECT body FROM rejected_messages").fetchall()
        assert "half-2" in body
        assert "num_round" not in body
        assert (tmp_path / "checkpoint.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "outage",
    [
        "database_down",
        "backend_down",
        # each probe takes the shortest deadline that can be configured, 10 s
        pytest.param("frozen", marks=pytest.mark.slow),
    ],
)
async def test_an_outage_holds_messages_and_burns_no_receive(
    outage: str, scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = jobs_named("outage", 20)
    scene.finish_jobs(jobs)
    daemon = scene.daemon(
        free_port(),
        target={"url": modeldb.url, "timeout_seconds": 10, "settle_seconds": 1},
        # at other levels a failed probe that says nothing new is no line
        log={"level": "debug", "format": "json"},
    )
    await daemon.start()
    await daemon.ready()
    setattr(modeldb.faults, outage, True)
    await scene.send([job.event for job in jobs])
    await daemon.logged(lambda line: line["event"] == "breaker opened" and line["edge"] == "target")
    await daemon.logged(lambda line: line["event"] == "probe failed", seconds=150)
    assert (await daemon.get("/healthz"))[0] == 200
    status, body = await daemon.get("/readyz")
    assert status == 200
    assert json.loads(body)["state"] == "paused"
    assert "<h1>Paused: ModelDB (" in (await daemon.get("/"))[1]
    assert (await daemon.metrics())["modeldb_sync_breaker_open{edge=target}"] == 1
    setattr(modeldb.faults, outage, False)
    lines = await daemon.outcomes(20, outcome="synced")
    assert [arn for arn, _ in marks(modeldb)] == sorted(job.arn for job in jobs)
    assert max(line["receive_count"] for line in lines) == 1
    await scene.drained()
    assert await scene.dead_letters() == []
    if outage != "frozen":  # what is frozen still counts where its client has gone
        assert modeldb.max_concurrent <= 4
    assert await daemon.stop() == 0


async def test_lost_answers_make_no_second_run(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = jobs_named("lost", 12)
    scene.finish_jobs(jobs)
    modeldb.faults.lose_next_answers(6, operation="createExperimentRun")
    await scene.send([job.event for job in jobs])
    daemon = scene.daemon(free_port(), target={"url": modeldb.url, "settle_seconds": 1})
    await daemon.start()
    lines = await daemon.outcomes(12, outcome="synced")
    assert [arn for arn, _ in marks(modeldb)] == sorted(job.arn for job in jobs)
    assert "found_in_target" in {line["reason"] for line in lines}
    assert await daemon.stop() == 0


async def test_sigterm_under_load_ends_in_time_and_leaves_nothing_invisible(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    modeldb.latency_seconds = 0.1
    jobs = jobs_named("term", 24)
    scene.finish_jobs(jobs)
    await scene.send([job.event for job in jobs])
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.outcomes(5)
    begun = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert await daemon.ended() == 0
    assert time.monotonic() - begun < 10
    # what had not begun to write was given back, not finished
    assert any(line.get("reason") == "stopping" for line in daemon.log)
    depth = await scene.depth()
    assert depth["in_flight"] == 0
    assert depth["visible"] == len(jobs) - len(modeldb.runs())
    again = scene.daemon(free_port())
    await again.start()
    await scene.drained()
    assert [arn for arn, _ in marks(modeldb)] == sorted(job.arn for job in jobs)
    assert await again.stop() == 0


async def test_a_write_without_an_answer_stays_hidden_for_the_settle_time_only(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    job = Job("unanswered-1")
    scene.finish_jobs([job])
    daemon = scene.daemon(
        free_port(),
        target={"url": modeldb.url, "settle_seconds": 2},
        queue={"url": scene.queue_url, "wait_seconds": 0},
        shutdown={"grace_seconds": 6},
    )
    await daemon.start()
    await daemon.ready()
    modeldb.faults.delay_next(60, operation="createExperimentRun")
    await scene.send([job.event])
    await modeldb.wait_for_requests("createExperimentRun")
    daemon.signal(signal.SIGTERM)
    assert await daemon.ended() == 0
    assert (await scene.depth())["in_flight"] == 1
    async with asyncio.timeout(10):
        while (await scene.depth())["visible"] != 1:
            await asyncio.sleep(0.1)


async def test_a_second_signal_ends_at_once(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    scene.finish_jobs([job := Job("twice-1")])
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.ready()
    modeldb.faults.frozen = True
    await scene.send([job.event])
    await modeldb.wait_for_requests("findExperimentRuns")
    daemon.signal(signal.SIGTERM)
    await daemon.logged(lambda line: line["event"] == "stopping")
    daemon.signal(signal.SIGTERM)
    assert await daemon.ended(5) in {0, 128 + signal.SIGTERM}


# each kill leaves messages hidden for 10 s; the simulation kills at every step, in virtual time
@pytest.mark.slow
async def test_killed_again_and_again_no_job_is_lost_or_doubled(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    # what a killed one held comes back soon
    await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}", visibility=10)
    modeldb.latency_seconds = 0.05
    jobs = jobs_named("killed", 40)
    scene.finish_jobs(jobs)
    await scene.send([job.event for job in jobs for _ in range(2)])
    luck = random.Random(9)
    for _ in range(3):
        daemon = scene.daemon(free_port(), target={"url": modeldb.url, "settle_seconds": 1})
        await daemon.start()
        await daemon.ready()
        before = modeldb.requests["createExperimentRun"]
        async with asyncio.timeout(30):
            await modeldb.wait_for_requests("createExperimentRun", before + luck.randint(1, 6))
        await daemon.kill()
    last = scene.daemon(free_port(), target={"url": modeldb.url, "settle_seconds": 1})
    await last.start()
    await scene.drained(90)
    assert [arn for arn, _ in marks(modeldb)] == sorted(job.arn for job in jobs)
    assert await last.stop() == 0


async def test_a_lost_checkpoint_makes_no_second_run(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    moved = Job("moved-1", tags=FULL_TAGS | {"MODEL_DB_PROJECT_NAME": "churn-2026"})
    for job, path in [(Job("moved-1"), "one.db"), (moved, "two.db")]:
        scene.finish_jobs([job])
        await scene.send([job.event])
        daemon = scene.daemon(free_port(), checkpoint={"path": str(tmp_path / path)})
        await daemon.start()
        await daemon.outcomes(1, outcome="synced")
        assert await daemon.stop() == 0
    assert len(modeldb.runs()) == 1


async def test_throttling_holds_and_goes_on(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = jobs_named("throttled", 8)
    scene.finish_jobs(jobs)
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.ready()
    with scene.sagemaker.failing("DescribeTrainingJob", "describe-throttled.json"):
        await scene.send([job.event for job in jobs])
        await daemon.outcomes(1, outcome="held", reason="throttled")
        await daemon.logged(
            lambda line: line["event"] == "breaker opened" and line["edge"] == "sagemaker"
        )
    lines = await daemon.outcomes(8, outcome="synced")
    assert max(line["receive_count"] for line in lines) == 1
    assert await daemon.stop() == 0


async def test_a_job_whose_description_cannot_be_parsed_is_deferred_and_holds_no_other(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    odd, good = Job("odd-1"), jobs_named("parsed", 3)
    scene.finish_jobs([odd, *good])
    body = json.dumps(odd.description | {"TrainingEndTime": "yesterday"}).encode()
    scene.sagemaker.fail_job(odd.name, Answer(200, body))
    daemon = scene.daemon(free_port())
    await daemon.start()
    await daemon.ready()
    await scene.send([odd.event, *(job.event for job in good)])
    [deferred] = await daemon.outcomes(1, outcome="deferred")
    assert (deferred["job"], deferred["reason"]) == ("odd-1", "sagemaker_fault")
    await daemon.outcomes(3, outcome="synced")
    assert not [line for line in daemon.log if line.get("level") in {"error", "text"}]
    assert not [line for line in daemon.log if line["event"] == "breaker opened"]
    assert await daemon.stop() == 0


# waits for the breaker's back-off, twice
@pytest.mark.slow
async def test_one_job_that_always_fails_does_not_hold_the_others(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    bad, good = Job("bad-1"), jobs_named("good", 3)
    scene.finish_jobs([bad, *good])
    scene.sagemaker.fail_job("bad-1", Answer.error("describe-internal.json"))
    daemon = scene.daemon(free_port())
    await daemon.start()
    await scene.send([bad.event])
    for times, job in enumerate(good, start=1):
        await daemon.outcomes(times, outcome="held")
        await scene.send([job.event])
        await daemon.outcomes(1, outcome="synced", job=job.name)
    [deferred] = await daemon.outcomes(1, outcome="deferred")
    assert (deferred["job"], deferred["reason"]) == ("bad-1", "sagemaker_fault")
    assert len(modeldb.runs()) == len(good)
    assert await daemon.stop() == 0


class TestWhatCannotWork:
    """Faults found before the first receive: exit status 2 if the configuration is wrong, otherwise
    not ready.
    """

    async def test_a_web_page_instead_of_modeldb_is_exit_2(
        self, scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
    ) -> None:
        modeldb.faults.web_page = True
        await scene.send([Job("x-1").event])
        daemon = scene.daemon(free_port())
        await daemon.start()
        assert await daemon.ended() == 2
        assert "target.url" in daemon.log[-1]["event"]
        assert (await scene.depth())["visible"] == 1

    async def test_a_queue_that_does_not_exist_is_exit_2(
        self, scene: DaemonScene, free_port: Callable[[], int]
    ) -> None:
        daemon = scene.daemon(free_port(), queue={"url": scene.queue_url + "-gone"})
        await daemon.start()
        assert await daemon.ended() == 2
        assert "queue.url" in daemon.log[-1]["event"]

    async def test_a_wrong_port_is_waited_for(
        self, scene: DaemonScene, free_port: Callable[[], int]
    ) -> None:
        target = {"url": f"http://127.0.0.1:{free_port()}/v1"}
        daemon = scene.daemon(free_port(), target=target, log={"level": "debug", "format": "json"})
        await daemon.start()
        await scene.send([Job("x-2").event])
        reported = await daemon.logged(lambda line: line["event"] == "probe failed", times=3)
        # waiting makes no noise
        assert [line["level"] for line in reported[:3]] == ["warning", "debug", "debug"]
        status, body = await daemon.get("/readyz")
        assert (status, json.loads(body)["state"]) == (200, "paused")
        assert (await daemon.get("/healthz"))[0] == 200
        assert (await scene.depth())["visible"] == 1
        assert await daemon.stop() == 0

    async def test_expired_credentials_are_waited_for_and_not_ready(
        self, scene: DaemonScene, free_port: Callable[[], int]
    ) -> None:
        job = Job("expired-1")
        scene.finish_jobs([job])
        daemon = scene.daemon(free_port())
        await daemon.start()
        await daemon.ready()
        with scene.sagemaker.failing(None, "describe-expired-token.json"):
            await scene.send([job.event])
            await daemon.outcomes(1, outcome="held", reason="credentials")
            assert (await daemon.get("/readyz"))[0] == 503
        await daemon.outcomes(1, outcome="synced")
        assert (await daemon.get("/readyz"))[0] == 200
        assert await daemon.stop() == 0

    async def test_a_corrupt_checkpoint_is_exit_2(
        self, scene: DaemonScene, tmp_path: Path, free_port: Callable[[], int]
    ) -> None:
        (tmp_path / "checkpoint.db").write_text("this is no database" * 1000)
        daemon = scene.daemon(free_port())
        await daemon.start()
        assert await daemon.ended() == 2
        assert "checkpoint" in daemon.log[-1]["event"]


async def test_the_account_is_asked_of_sts_and_foreign_jobs_are_rejected(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    foreign = Job("abroad-1").event.replace("123456789012", "210987654321")
    aws = {"account_id": None, "sts_endpoint_url": scene.sagemaker.url}
    daemon = scene.daemon(free_port(), aws=aws)
    await daemon.start()
    await scene.send([foreign])
    await daemon.outcomes(1, outcome="rejected", reason="foreign_account")
    assert scene.sagemaker.count("GetCallerIdentity") == 1
    assert scene.sagemaker.count("DescribeTrainingJob") == 1  # the probe's
    assert await daemon.stop() == 0


async def test_a_wrong_account_is_exit_2_before_the_first_receive(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    scene.sagemaker.account = "210987654321"
    await scene.send([Job("wrong-1").event])
    daemon = scene.daemon(free_port())
    await daemon.start()
    assert await daemon.ended() == 2
    assert any("aws.account_id" in line["event"] for line in daemon.log)
    assert (await scene.depth())["visible"] == 1


async def test_a_wrong_account_without_sts_holds_the_messages_and_does_not_empty_the_queue(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    aws = {
        "account_id": "210987654321",
        "sts_endpoint_url": f"http://127.0.0.1:{free_port()}",
    }
    await scene.send([job.event for job in jobs_named("wrong", 30)])
    daemon = scene.daemon(free_port(), aws=aws)
    await daemon.start()
    await daemon.outcomes(28, outcome="held", reason="access_denied")
    [opened, *_] = await daemon.logged(lambda line: line.get("event") == "breaker opened")
    assert "aws.account_id" in opened["detail"]
    async with asyncio.timeout(10):
        while (await daemon.get("/readyz"))[0] != 503:
            await asyncio.sleep(0.05)
    assert len(await scene.dead_letters()) == 2
    assert await daemon.stop() == 0
    assert sum((await scene.depth()).values()) == 28


async def test_secrets_of_the_configuration_are_not_in_the_log(
    scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    seen: list[str] = []

    async def echo(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization", ""))
        return web.json_response(
            {"error": f"who is {seen[-1]}?", "code": 16, "message": "no"}, status=401
        )

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
    token = "tok-en-EXAMPLE-seven"
    auth: dict[str, Any] = {"kind": "bearer", "token": token}
    daemon = scene.daemon(
        free_port(),
        target={"url": f"http://127.0.0.1:{port}/v1", "auth": auth},
        log={"level": "debug", "format": "json"},
    )
    await daemon.start()
    await daemon.logged(lambda line: line["event"] == "probe failed")
    _, ready = await daemon.get("/readyz")
    await daemon.stop()
    await runner.cleanup()
    assert f"Bearer {token}" in seen
    assert token.removeprefix("tok-en") not in json.dumps(daemon.log) + ready

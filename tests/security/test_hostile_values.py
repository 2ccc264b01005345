"""Hostile values through the real daemon on real sockets: they stay text everywhere."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import unicodedata
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from daemon.observability.metrics import Metrics
from daemon.targets.modeldb_v1.mapping import mark_in
from daemon.text import cleaned, one_line
from tests.security.hostile import NO_JOBS, TEXTS, TOO_LONG, HostileJob
from tests.support.daemon_process import Job, daemon_scene, mark_of
from tests.support.json_lines import json_lines
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.modeldb_v2_scripted import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.support.daemon_process import DaemonProcess, DaemonScene
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

FILES = {"checkpoint.db", "checkpoint.db-shm", "checkpoint.db-wal"}
ESCAPES = TEXTS["escapes"] + TEXTS["bidi"] + TEXTS["line-ends"]
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def hostile_jobs() -> list[HostileJob]:
    return [*map(HostileJob.make, TEXTS), HostileJob.once("megabyte")]


async def send_each(scene: DaemonScene, bodies: Sequence[str]) -> None:
    """Sends large bodies one by one: together they do not fit into one request."""
    large = [body for body in bodies if len(body) > 20_000]
    await scene.send([body for body in bodies if len(body) <= 20_000])
    for body in large:
        await scene.send([body])


async def sent_through(
    scene: DaemonScene, daemon: DaemonProcess, jobs: list[HostileJob]
) -> list[dict[str, Any]]:
    """Sends jobs and other bodies, and waits for all outcomes. Returns the log lines of those that
    are final.
    """
    scene.finish_jobs(jobs)
    await send_each(scene, [*(job.event for job in jobs), *NO_JOBS.values()])
    await daemon.start()
    lines = await daemon.logged(is_final, len(jobs) + len(NO_JOBS), seconds=90)
    await scene.drained()
    return lines


def is_final(line: dict[str, Any]) -> bool:
    """Whether a line of the log is the outcome that ends its message. On a busy machine, a job may
    be held or joined by a second receive before that.
    """
    return line.get("event") == "job outcome" and line["outcome"] in {
        "synced",
        "skipped",
        "rejected",
    }


async def labels_of(daemon: DaemonProcess) -> dict[str, set[str]]:
    """The values of each label of our own metrics. Fails if the text cannot be parsed."""
    return labels_in((await daemon.get("/metrics"))[1])


def labels_in(text: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for name, value in sample.labels.items():
                found.setdefault(f"{family.name} {name}", set()).add(value)
    return found


async def printed(daemon: DaemonProcess, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon",
        *arguments,
        "--config",
        str(daemon.config),
        env=dict(daemon.environment),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    assert b"Traceback" not in output
    return output.decode()


def unsafe_on_a_terminal(text: str) -> set[str]:
    """Control characters, and invisible or reordering ones."""
    return {
        f"{ord(each):04x}"
        for each in text
        if each != "\n" and unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    }


@pytest.mark.slow  # hundreds of bodies; the mapping's own tests and properties see such values, too
async def test_v2(
    scene: DaemonScene, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = hostile_jobs()
    daemon = scene.daemon(free_port(), jobs={"statuses": ["Completed", "Failed"]})
    bounded = labels_in(Metrics(version="1", target="modeldb-v2").render("")[0].decode())
    lines = await sent_through(scene, daemon, jobs)
    outcomes = {line["job"]: (line["outcome"], line["reason"]) for line in lines}
    too_long = f"hostile-{TOO_LONG}"
    assert outcomes[too_long] == ("rejected", "target_refused")
    assert {outcomes[job.name] for job in jobs if job.name != too_long} == {("synced", "created")}
    of_no_job = {
        (line["outcome"], line["reason"])
        for line in lines
        if not (line["job"] or "").startswith("hostile")
    }
    assert of_no_job == {
        ("rejected", "malformed_body"),
        ("rejected", "job_gone"),
        ("skipped", "other_event"),
    }
    refused = Job("refused-1")
    scene.finish_jobs([refused])
    modeldb.faults.refuse_next(
        1, 400, {"code": 3, "message": ESCAPES}, operation="createExperimentRun"
    )
    await scene.send([refused.event])
    await daemon.outcomes(1, outcome="rejected", job="refused-1")
    after = await labels_of(daemon)
    assert {
        name for name, values in after.items() if len(values - bounded.get(name, set())) > 15
    } == set()
    assert {
        value
        for values in after.values()
        for value in values
        if "hostile" in value or len(value) > 40
    } == set()
    assert (await daemon.get("/healthz"))[0] == 200
    assert await daemon.stop() == 0

    assert [
        line
        for line in daemon.log
        if line["level"] in {"error", "text"} or line["event"] == "forged"
    ] == []
    assert max(len(json.dumps(line)) for line in daemon.log) < 20_000
    runs = {run["name"]: run for run in modeldb.runs()}
    assert {mark_of(run)[0] for run in runs.values()} == {
        job.arn for job in jobs if job.name != too_long
    }
    for job in jobs:
        if len(job.text) < 1000:
            stored = {item["key"]: item["value"] for item in runs[job.name]["hyperparameters"]}
            assert stored["quoted"] == cleaned(job.text)
    assert {
        path.name for path in scene.home.iterdir() if not path.name.startswith("config-")
    } <= FILES
    await dead_letters_are_valid(scene)
    table, as_json = await printed(daemon, "history"), await printed(daemon, "history", "--json")
    assert unsafe_on_a_terminal(table) == set()
    assert unsafe_on_a_terminal(as_json) == set()
    entries = json_lines(as_json)
    details = {entry.get("job_name"): entry["detail"] for entry in entries}
    assert set(details) >= {job.name for job in jobs}
    assert "red" in details["refused-1"]
    assert len(table.splitlines()) == len(entries) + 1


async def dead_letters_are_valid(scene: DaemonScene) -> None:
    letters = await scene.dead_letters()
    assert letters
    for letter in letters:
        attributes = {
            name: value["StringValue"]
            for name, value in letter.get("MessageAttributes", {}).items()
        }
        assert set(attributes) in ({"reason", "detail"}, set())
        assert all(
            0 < len(value) <= 1000 and not NOT_XML.search(value) for value in attributes.values()
        )
        assert re.fullmatch("[a-z_]+", attributes.get("reason", "x"))


@pytest.mark.slow  # hundreds of bodies, as in test_v2
async def test_v1_and_a_log_for_people(
    moto_endpoint: str, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    async with ModelDbV1StandIn() as server:
        target = {
            "kind": "modeldb-v1",
            "host": "127.0.0.1",
            "port": server.port,
            "settle_seconds": 1,
        }
        async with daemon_scene(moto_endpoint, target, tmp_path) as scene:
            await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}")
            jobs = hostile_jobs()
            scene.finish_jobs(jobs)
            daemon = scene.daemon(
                free_port(),
                jobs={"statuses": ["Completed", "Failed"]},
                log={"format": "console", "level": "debug"},
            )
            await send_each(scene, [*(job.event for job in jobs), *list(NO_JOBS.values())[::4]])
            await daemon.start()
            await scene.drained(90)
            assert (await daemon.get("/healthz"))[0] == 200
            await labels_of(daemon)
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
            text = "\n".join(line["event"] for line in daemon.log)
            assert unsafe_on_a_terminal(text) == set()
            # whatever the values hold, a line begins with its time
            assert [
                line for line in text.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT", line)
            ] == []
            assert len(re.findall(r"job outcome .*outcome=synced", text)) == len(jobs)
            assert "internal_error" not in text
            marks = [mark_in(run["description"]) for run in server.runs]
            assert len(marks) == len(set(marks)) == len(jobs)
            assert {
                path.name for path in scene.home.iterdir() if not path.name.startswith("config-")
            } <= FILES
            await dead_letters_are_valid(scene)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 401, "text": ESCAPES, "content_type": "text/html"},
        {
            "status": 400,
            "text": json.dumps({"code": 3, "message": ESCAPES}),
            "content_type": "application/json",
        },
    ],
    ids=lambda answer: str(answer["status"]),
)
async def test_what_a_far_side_says_is_safe_on_a_terminal(
    answer: Mapping[str, Any], scene: DaemonScene, free_port: Callable[[], int]
) -> None:
    async def serve(_request: web.Request) -> web.Response:
        return web.Response(**answer)

    async with serving(serve) as url:
        output = await printed(scene.daemon(free_port(), target={"url": url}), "check")
    assert "FAIL  target modeldb-v2: " in output
    assert unsafe_on_a_terminal(output) == set()
    assert "forged" not in [line.strip('{}"')[:6] for line in output.splitlines()]


def test_the_texts_do_what_they_are_to_do() -> None:
    assert unsafe_on_a_terminal(TEXTS["escapes"]) >= {"001b", "0007", "009b"}
    assert unsafe_on_a_terminal(TEXTS["bidi"]) >= {"202e", "200b"}
    assert one_line(TEXTS["controls"]) != TEXTS["controls"]
    assert len(NO_JOBS) > 80

"""``dead-letters`` on moto's server and, where ELASTICMQ_URL names one, on ElasticMQ."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from daemon.checkpoint.registry import open_checkpoint
from daemon.config.settings import SqliteSettings
from daemon.operations import letter_reader
from daemon.reasons import Reason
from daemon.targets.place import TargetPlace
from tests.integration.test_cli import clean_environment, config_of, verb
from tests.support.daemon_process import FULL_TAGS, DaemonScene, Job, daemon_scene
from tests.support.json_lines import json_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from daemon.checkpoint.ports import Checkpoint
    from tests.integration.test_cli import Done
    from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

HALF_TAGS = {key: value for key, value in FULL_TAGS.items() if key != "MODEL_DB_MODEL_TYPE"}
HALF = {"reason": "tags_incomplete", "detail": "missing or blank tags: MODEL_DB_MODEL_TYPE"}
EVENTBRIDGE = {"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "no permission to send"}


class Letters:
    """The dead letters of a scene, and the verb on them."""

    def __init__(self, scene: DaemonScene) -> None:
        self.scene = scene
        self.config = config_of(scene)

    async def put(self, body: str, attributes: Mapping[str, str] = HALF, **other: Any) -> str:
        """Puts a letter into the dead-letter queue. Returns its id."""
        texts = {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        }
        sent = await self.scene._sqs.send_message(
            QueueUrl=self.scene.dead_letter_url, MessageBody=body, MessageAttributes=texts | other
        )
        return str(sent["MessageId"])

    async def verb(self, *arguments: str) -> Done:
        return await verb("dead-letters", *arguments, "--config", self.config)

    async def process(self, *arguments: str) -> asyncio.subprocess.Process:
        """The verb as a process of its own."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "daemon",
            "dead-letters",
            *arguments,
            "--config",
            self.config,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment(),
        )

    async def waiting(self) -> dict[str, int]:
        """Visible and in-flight messages in the dead-letter queue."""
        return await self.scene.depth(self.scene.dead_letter_url)

    async def listed(self, *arguments: str) -> dict[str, dict[str, Any]]:
        """The listed letters by id."""
        done = await self.verb("list", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        return {line["message_id"]: line for line in json_lines(done.stdout)}

    async def queued(self) -> list[tuple[str, dict[str, str]]]:
        """Bodies and attributes in the queue, which is emptied."""
        found = []
        while messages := (
            await self.scene._sqs.receive_message(
                QueueUrl=self.scene.queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
            )
        ).get("Messages"):
            for message in messages:
                attributes = message.get("MessageAttributes") or {}
                texts = {name: value["StringValue"] for name, value in attributes.items()}
                found.append((message["Body"], texts))
        return found


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of these servers, also a short poll finds everything."""
    monkeypatch.setattr(letter_reader, "WAIT_SECONDS", 0)


@pytest.fixture(params=["moto", "elasticmq"])
async def letters(
    request: pytest.FixtureRequest, modeldb: ModelDbV2StandIn, tmp_path: Path
) -> AsyncIterator[Letters]:
    if request.param == "moto":
        endpoint = request.getfixturevalue("moto_endpoint")
    elif "ELASTICMQ_URL" in os.environ:
        endpoint = os.environ["ELASTICMQ_URL"]
    else:
        pytest.skip("ELASTICMQ_URL names no ElasticMQ")
    async with daemon_scene(endpoint, modeldb.url, tmp_path) as scene:
        await scene.make_queues(f"q-{uuid.uuid4().hex[:8]}")
        yield Letters(scene)


@pytest.fixture
async def checkpoint(letters: Letters) -> AsyncIterator[Checkpoint]:
    settings = SqliteSettings(path=letters.scene.home / "checkpoint.db")
    place = TargetPlace("modeldb-v2", letters.scene.target["url"])
    checkpoint = await open_checkpoint(settings, place)
    yield checkpoint
    await checkpoint.aclose()


async def test_a_listing_says_what_each_letter_is_and_changes_nothing(letters: Letters) -> None:
    fixed, half, gone = Job("fixed"), Job("half", tags=HALF_TAGS), Job("gone")
    letters.scene.finish_jobs([fixed, half])
    ids = {name: await letters.put(job.event) for name, job in [("fixed", fixed), ("half", half)]}
    ids["gone"] = await letters.put(gone.event, {"reason": "job_gone", "detail": "no such job"})
    ids["event"] = await letters.put(fixed.event, EVENTBRIDGE)
    ids["text"] = await letters.put("a backup has ended", {})
    ids["broken"] = await letters.put("{", {"reason": "malformed_body", "detail": "not JSON"})

    listed = await letters.listed()

    assert set(listed) == set(ids.values())
    said = {
        name: (listed[each]["about"], listed[each]["reason"], listed[each]["now"]["advice"])
        for name, each in ids.items()
    }
    assert said == {
        "fixed": ("job", "tags_incomplete", "redrive"),
        "half": ("job", "tags_incomplete", "fix"),
        "gone": ("job", "job_gone", "delete"),
        "event": ("job", "not_delivered", "redrive"),
        "text": ("other", "no_reason", "look"),
        "broken": ("unreadable", "malformed_body", "look"),
    }
    done = await letters.verb("list")
    assert "6 dead letters" in done.stdout
    assert "tags_incomplete: 2 letters of 2 jobs" in done.stdout
    assert "now: its tags are complete now: redrive it" in done.stdout
    assert "now: it still lacks MODEL_DB_MODEL_TYPE" in done.stdout
    assert "EventBridge could not deliver it; ERROR_CODE: NO_PERMISSIONS" in done.stdout
    depth = await letters.waiting()
    assert (depth["visible"], depth["in_flight"]) == (6, 0)
    assert len(await letters.listed("--job", "HALF", "--offline")) == 1


@pytest.mark.slow
async def test_a_letter_is_shown_without_its_secrets(letters: Letters) -> None:
    job = Job("secret")
    letters.scene.finish_jobs([job])
    event = json.loads(job.event)
    event["detail"]["HyperParameters"] = {"db_password": "hunter2"}
    message_id = await letters.put(json.dumps(event))

    done = await letters.verb("show", message_id)

    assert done.returncode == 0
    assert "now:            its tags are complete now: redrive it" in done.stdout
    assert '"TrainingJobName": "secret"' in done.stdout
    assert "hunter2" not in done.stdout
    missing = await letters.verb("show", "0000")
    assert missing.returncode == 1
    assert "there is no dead letter 0000" in missing.stderr


async def test_what_is_chosen_goes_back_with_its_attributes_and_the_rest_stays(
    letters: Letters,
) -> None:
    half, other = Job("half"), Job("other")
    await letters.put(half.event)
    stays = await letters.put(other.event, {"reason": "target_refused", "detail": "no"})

    done = await letters.verb("redrive", "--reason", "tags_incomplete")

    assert (done.returncode, done.stdout) == (0, "1 letter sent back to the queue\n")
    assert await letters.queued() == [(half.event, HALF | {"origin": "redrive"})]
    assert set(await letters.listed("--offline")) == {stays}
    again = await letters.verb("redrive", "--job", "half")
    assert (again.returncode, again.stdout) == (0, "0 letters sent back to the queue\n")


@pytest.mark.slow
async def test_messages_of_others_go_back_only_by_their_ids(letters: Letters) -> None:
    job = Job("ours")
    await letters.put(job.event)
    foreign = await letters.put("a backup has ended", {})
    number = {"tries": {"DataType": "Number", "StringValue": "3"}}
    typed = await letters.put("no strings", {}, **number)

    done = await letters.verb("redrive", "--all")
    assert "copied, not moved by SQS: SQS would move 2 messages" in done.stdout
    assert "1 letter sent back" in done.stdout
    assert [body for body, _ in await letters.queued()] == [job.event]

    done = await letters.verb("redrive", foreign, typed)
    assert done.returncode == 1
    assert f"not sent: {typed}: its attributes tries are no strings" in done.stdout
    assert [body for body, _ in await letters.queued()] == ["a backup has ended"]
    assert set(await letters.listed("--offline")) == {typed}


@pytest.mark.slow
async def test_all_go_back_by_the_service_or_else_by_copy(
    letters: Letters, no_backoff: None, request: pytest.FixtureRequest
) -> None:
    jobs = [Job(f"all-{number}") for number in range(12)]
    for job in jobs:
        await letters.put(job.event)

    done = await letters.verb("redrive", "--all")

    assert done.returncode == 0, done.stderr
    if "elasticmq" in request.node.name:
        assert "SQS has moved 12 letters back to the queue" in done.stdout
    else:
        assert "copied, not moved by SQS: ListMessageMoveTasks does not work here" in done.stdout
        assert "12 letters sent back to the queue" in done.stdout
    queued = await letters.queued()
    assert sorted(body for body, _ in queued) == sorted(job.event for job in jobs)
    assert all(attributes["reason"] == "tags_incomplete" for _, attributes in queued)
    assert await letters.listed("--offline") == {}


@pytest.mark.slow
async def test_a_purge_deletes_what_was_listed_and_nothing_else(letters: Letters) -> None:
    gone = await letters.put(Job("gone").event, {"reason": "job_gone", "detail": "no such job"})
    stays = await letters.put(Job("half").event)

    refused = await letters.verb("purge", "--reason", "job_gone")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert set(await letters.listed("--offline")) == {gone, stays}

    done = await letters.verb("purge", "--reason", "job_gone", "--yes")
    assert (done.returncode, done.stdout) == (0, "1 dead letter deleted\n")
    assert set(await letters.listed("--offline")) == {stays}
    assert (await letters.verb("purge", gone, "--yes")).returncode == 1


@pytest.mark.parametrize("arguments", [(), ("id", "--all"), ("--all", "--reason", "x")])
async def test_it_must_be_said_which_letters(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = await verb("dead-letters", "redrive", *arguments)
    assert done.returncode == 2
    assert "say which letters" in done.stderr


@pytest.mark.slow
async def test_a_dead_letter_queue_that_counts_receives_is_not_read(letters: Letters) -> None:
    message_id = await letters.put(Job("half").event)
    sqs = letters.scene._sqs
    other = await sqs.create_queue(QueueName=f"last-{uuid.uuid4().hex[:8]}")
    answer = await sqs.get_queue_attributes(QueueUrl=other["QueueUrl"], AttributeNames=["QueueArn"])
    policy = {"deadLetterTargetArn": answer["Attributes"]["QueueArn"], "maxReceiveCount": "1"}
    await sqs.set_queue_attributes(
        QueueUrl=letters.scene.dead_letter_url, Attributes={"RedrivePolicy": json.dumps(policy)}
    )
    for arguments in (["list"], ["show", message_id], ["redrive", message_id], ["purge", "--all"]):
        yes = ["--yes"] if "purge" in arguments else []
        done = await letters.verb(*arguments, *yes)
        assert done.returncode == 1
        assert "has a redrive policy of its own (maxReceiveCount 1)" in done.stderr
    depth = await letters.waiting()
    assert (depth["visible"], depth["in_flight"]) == (1, 0)


@pytest.mark.slow
async def test_bodies_kept_in_the_checkpoint_are_dead_letters_too(
    letters: Letters, checkpoint: Checkpoint
) -> None:
    job = Job("kept")
    letters.scene.finish_jobs([job])
    await letters.scene.make_queues(f"alone-{uuid.uuid4().hex[:8]}", max_receive_count=None)
    letters.config = config_of(letters.scene)
    for message_id, body in (("m-1", job.event), ("m-2", "{"), ("m-3", None)):
        reason = Reason.TAGS_INCOMPLETE if message_id == "m-1" else Reason.MALFORMED_BODY
        await checkpoint.record_rejected(
            None,
            None,
            "",
            job_arn=job.arn.lower() if message_id == "m-1" else "",
            reason=reason,
            detail="why",
            message_id=message_id,
        )
        if body is not None:
            await checkpoint.keep_body(message_id, body)

    done = await letters.verb("list")
    assert "the queue has no dead-letter queue; 2 messages kept in the checkpoint" in done.stdout
    assert "its tags are complete now" in done.stdout
    assert '"TrainingJobName": "kept"' in (await letters.verb("show", "m-1")).stdout

    done = await letters.verb("redrive", "--job", "kept")
    assert (done.returncode, done.stdout) == (0, "1 letter sent back to the queue\n")
    expected = {"reason": "tags_incomplete", "detail": "why", "origin": "redrive"}
    assert await letters.queued() == [(job.event, expected)]
    assert [entry.what for entry in await checkpoint.story(job.arn.lower())] == ["redriven"]
    assert (await letters.verb("purge", "--all", "--yes")).stdout == "1 dead letter deleted\n"
    assert await letters.listed("--offline") == {}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_makes_visible_what_was_looked_at(
    letters: Letters, number: signal.Signals
) -> None:
    for each in range(30):
        await letters.put(Job(f"many-{each}").event)
    process = await letters.process("list", "--offline")
    async with asyncio.timeout(30):
        while (await letters.waiting())["in_flight"] < 30:
            await asyncio.sleep(0.02)
        process.send_signal(number)
        _, said = await process.communicate()
    assert process.returncode == 128 + number, said
    depth = await letters.waiting()
    assert (depth["visible"], depth["in_flight"]) == (30, 0)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_redrive_that_is_killed_loses_no_letter(
    letters: Letters, modeldb: ModelDbV2StandIn, free_port: Callable[[], int]
) -> None:
    jobs = [Job(f"killed-{each}") for each in range(60)]
    letters.scene.finish_jobs(jobs)
    for job in jobs:
        await letters.put(job.event)
    kills = 0
    for sent in (1, 12, 25, 41):
        process = await letters.process("redrive", "--all", "--method", "copy")
        async with asyncio.timeout(60):
            while process.returncode is None and (await letters.scene.depth())["visible"] < sent:
                await asyncio.sleep(0)
            if process.returncode is None:
                process.kill()
                kills += 1
            await process.wait()
    assert kills >= 2
    async with asyncio.timeout(60):  # what the killed ones held
        while (await letters.waiting())["in_flight"]:
            await asyncio.sleep(0.5)
    assert (await letters.verb("redrive", "--all", "--method", "copy")).returncode == 0
    depth = await letters.waiting()
    assert (depth["visible"], depth["in_flight"]) == (0, 0)
    queued = (await letters.scene.depth())["visible"]
    assert queued >= len(jobs)

    daemon = letters.scene.daemon(free_port())
    await daemon.start()
    outcomes = await daemon.outcomes(queued)
    assert await daemon.stop() == 0
    kinds = Counter(outcome["outcome"] for outcome in outcomes)
    assert kinds == Counter({"synced": 60, "duplicate": queued - 60})
    names = Counter(run["name"] for run in modeldb.runs())
    assert names == Counter(job.name for job in jobs)

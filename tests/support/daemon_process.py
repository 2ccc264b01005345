"""The scene for tests of the whole daemon: an SQS server, SageMaker (a stub on a socket), a ModelDB
URL, real daemon processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml
from aiobotocore.session import get_session
from prometheus_client.parser import text_string_to_metric_families

from tests.support.sagemaker_stub import SageMakerStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

DATA = Path(__file__).parents[1] / "data" / "aws"
REGION = "eu-west-1"
ACCOUNT = "123456789012"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
CREATED = 1763628000.05

FULL_TAGS = {
    "MODEL_DB_SYNC": "true",
    "MODEL_DB_PROJECT_NAME": "churn",
    "MODEL_DB_PROJECT_USER": "amara.okafor",
    "MODEL_DB_PROJECT_DESC": "Predicts which subscribers leave next month",
    "MODEL_DB_MODEL_NAME": "churn-xgb",
    "MODEL_DB_MODEL_TYPE": "XGBoost",
}


@dataclass(frozen=True)
class Job:
    """A finished training job: its description, its tags, and its event."""

    name: str
    tags: Mapping[str, str] = field(default_factory=lambda: dict(FULL_TAGS))
    created: float = CREATED
    description_file: str = "xgboost-builtin.json"
    status: str = "Completed"

    @property
    def arn(self) -> str:
        return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{self.name}"

    @property
    def members(self) -> dict[str, Any]:
        """What a kind of job has of its own, in its description and its event."""
        return {}

    @property
    def description(self) -> dict[str, Any]:
        description: dict[str, Any] = json.loads(
            (DATA / "describe" / self.description_file).read_text()
        )
        return (
            description
            | {
                "TrainingJobName": self.name,
                "TrainingJobArn": self.arn,
                "CreationTime": self.created,
                "TrainingJobStatus": self.status,
            }
            | self.members
        )

    @property
    def event(self) -> str:
        envelope = copy.deepcopy(_EVENT)
        envelope["resources"] = [self.arn]
        envelope["detail"] |= {
            "TrainingJobName": self.name,
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": self.status,
            "CreationTime": round(self.created * 1000),
            "Tags": dict(self.tags),
            **self.members,
        }
        return json.dumps(envelope)


_EVENT: dict[str, Any] = json.loads((DATA / "events" / "tags-map.json").read_text())


_READY = {"ready", "standing by"}


class DaemonProcess:
    """``python -m daemon run`` as a process of its own, with its log."""

    def __init__(
        self, config: Path, port: int, environment: Mapping[str, str], program: str = "daemon"
    ) -> None:
        self.config = config
        self.environment = environment
        self._program = program
        self.url = f"http://127.0.0.1:{port}"
        self.log: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._program,
            "run",
            "--config",
            str(self.config),
            env=dict(self.environment),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=2**22,
        )
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode()
            try:
                entry = json.loads(text)
            except ValueError:
                entry = {"event": text.rstrip(), "level": "text"}
            async with self._news:
                self.log.append(entry)
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def logged(
        self, wanted: Callable[[dict[str, Any]], bool], times: int = 1, seconds: float = 30
    ) -> list[dict[str, Any]]:
        """Waits until the log has a number of matching lines, and returns them."""
        async with asyncio.timeout(seconds), self._news:
            while len(found := [line for line in self.log if wanted(line)]) < times:
                await self._news.wait()
        return found

    async def outcomes(
        self, times: int, seconds: float = 60, **fields: str
    ) -> list[dict[str, Any]]:
        """Waits for a number of outcome lines with the given fields. Held ones count only if asked
        for.
        """

        def wanted(line: dict[str, Any]) -> bool:
            if line.get("event") != "job outcome" or any(
                line.get(name) != value for name, value in fields.items()
            ):
                return False
            return "outcome" in fields or line["outcome"] != "held"

        return await self.logged(wanted, times, seconds)

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def metrics(self) -> dict[str, float]:
        """Samples by name and labels, as
        ``modeldb_sync_jobs_total{outcome=synced,reason=created}``.
        """
        _, text = await self.get("/metrics")
        samples: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(
                    f"{name}={value}" for name, value in sorted(sample.labels.items())
                )
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples

    async def ready(self, seconds: float = 30) -> None:
        """Waits until every edge works."""
        await self.logged(lambda line: line.get("event") == "started", seconds=seconds)
        async with asyncio.timeout(seconds):
            while json.loads((await self.get("/readyz"))[1])["state"] not in _READY:
                await asyncio.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def ended(self, seconds: float = 40) -> int:
        """Waits for the end; returns the exit status."""
        assert self._process is not None
        assert self._reading is not None
        async with asyncio.timeout(seconds):
            await self._reading
            status = await self._process.wait()
        if status == 1:  # pytest shows it beside the failed assertion
            print(*map(json.dumps, self.log[-10:]), sep="\n")
        return status

    async def stop(self) -> int:
        await self.logged(lambda line: line.get("event") == "started")
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self.ended()


class DaemonScene:
    """A queue with its dead-letter queue, a SageMaker stub and a folder for checkpoints."""

    def __init__(
        self,
        sqs_endpoint: str,
        sagemaker: SageMakerStub,
        target: Mapping[str, Any],
        home: Path,
        sqs: Any,
    ) -> None:
        self.sqs_endpoint = sqs_endpoint
        self.sagemaker = sagemaker
        self.target = target
        self.home = home
        self._sqs = sqs
        self.program = "daemon"
        """The module that `python -m` runs."""
        self.queue_url = ""
        self.dead_letter_url = ""
        self._dead_letter_name = ""
        self._processes: list[DaemonProcess] = []

    async def make_queues(
        self, name: str, *, visibility: int = 30, max_receive_count: int | None = 10
    ) -> None:
        attributes = {"VisibilityTimeout": str(visibility)}
        if max_receive_count is not None:
            self._dead_letter_name = f"{name}-dlq"
            await self.make_dead_letter_queue()
            arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}-dlq"
            attributes["RedrivePolicy"] = json.dumps(
                {"deadLetterTargetArn": arn, "maxReceiveCount": max_receive_count}
            )
        self.queue_url = (await self._sqs.create_queue(QueueName=name, Attributes=attributes))[
            "QueueUrl"
        ]

    async def make_dead_letter_queue(self) -> None:
        made = await self._sqs.create_queue(QueueName=self._dead_letter_name)
        self.dead_letter_url = made["QueueUrl"]

    async def delete_dead_letter_queue(self) -> None:
        """The queue's redrive policy goes on to name it."""
        await self._sqs.delete_queue(QueueUrl=self.dead_letter_url)

    async def send(self, bodies: Iterable[str], **attributes: str) -> None:
        """Sends messages; keywords are their message attributes."""
        bodies = list(bodies)
        sent: Any = {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        }
        for start in range(0, len(bodies), 10):
            batch = [
                {"Id": str(number), "MessageBody": body, "MessageAttributes": sent}
                for number, body in enumerate(bodies[start : start + 10])
            ]
            answer = await self._sqs.send_message_batch(QueueUrl=self.queue_url, Entries=batch)
            assert not answer.get("Failed")

    def finish_jobs(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self.sagemaker.put_job(job.description, job.tags)

    async def depth(self, url: str | None = None) -> dict[str, int]:
        """Visible, in-flight and delayed messages."""
        answer = await self._sqs.get_queue_attributes(
            QueueUrl=url or self.queue_url, AttributeNames=["All"]
        )
        attributes = answer["Attributes"]
        names = {"visible": "", "in_flight": "NotVisible", "delayed": "Delayed"}
        return {
            ours: int(attributes[f"ApproximateNumberOfMessages{theirs}"])
            for ours, theirs in names.items()
        }

    async def dead_letters(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            answer = await self._sqs.receive_message(
                QueueUrl=self.dead_letter_url,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
                VisibilityTimeout=600,
            )
            messages = answer.get("Messages") or []
            if not messages:
                return found
            found += messages

    async def drained(self, seconds: float = 60) -> None:
        """Waits until the queue has no message in any state."""
        async with asyncio.timeout(seconds):
            while any((await self.depth()).values()):
                await asyncio.sleep(0.1)

    def daemon(self, free_port: int, **sections: Any) -> DaemonProcess:
        """A daemon process for this scene; keyword arguments override sections of its
        configuration.
        """
        settings: dict[str, Any] = {
            "aws": {
                "region": REGION,
                "account_id": ACCOUNT,
                "sqs_endpoint_url": self.sqs_endpoint,
                "sagemaker_endpoint_url": self.sagemaker.url,
                "sts_endpoint_url": self.sagemaker.url,
            },
            "queue": {"url": self.queue_url, "wait_seconds": 1},
            "target": dict(self.target),
            "checkpoint": {"path": str(self.home / "checkpoint.db")},
            "reconcile": {"every_seconds": 0},  # jobs without an event are left alone
            "http": {"host": "127.0.0.1", "port": free_port},
            "log": {"format": "json"},
        }
        for section, values in sections.items():
            if isinstance(values, dict) and values.get("kind") == "dynamodb":
                settings[section] = {}  # the default is a file
            settings[section] = (
                settings.get(section, {}) | dict(values) if isinstance(values, dict) else values
            )
        config = self.home / f"config-{free_port}.yaml"
        config.write_text(yaml.safe_dump(settings))
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "MODELDB_SYNC_"))
        }
        process = DaemonProcess(config, free_port, environment | CREDENTIALS, self.program)
        self._processes.append(process)
        return process

    async def end(self) -> None:
        for process in self._processes:
            await process.kill()


@contextlib.asynccontextmanager
async def daemon_scene(
    sqs_endpoint: str, target: str | Mapping[str, Any], home: Path
) -> AsyncIterator[DaemonScene]:
    """A scene without queues; call `make_queues`.

    Args:
        target: the section of the configuration, or the URL of a ModelDB V2.
    """
    async with contextlib.AsyncExitStack() as parts:
        sagemaker = await parts.enter_async_context(SageMakerStub())
        sqs = await parts.enter_async_context(
            get_session().create_client(
                "sqs",
                endpoint_url=sqs_endpoint,
                region_name=REGION,
                aws_access_key_id="testing",
                aws_secret_access_key="testing-secret",
            )
        )
        made = DaemonScene(
            sqs_endpoint,
            sagemaker,
            {"url": target} if isinstance(target, str) else target,
            home,
            sqs,
        )
        parts.push_async_callback(made.end)
        yield made


def mark_of(run: Mapping[str, Any]) -> tuple[str, str]:
    """The ownership mark of a run as ModelDB V2 returns it."""
    attributes = {item["key"]: item["value"] for item in run.get("attributes", ())}
    return attributes["sagemaker_training_job_arn"], attributes["sagemaker_creation_time"]


def jobs_named(prefix: str, count: int) -> Sequence[Job]:
    return [Job(f"{prefix}-{number:03d}") for number in range(count)]

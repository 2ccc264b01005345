"""The participants: how each is started, and what is asked of it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import yaml

from benchmarks.bench.environments import HERE, ROOT, NodeEnvironment, PythonEnvironment
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.targets.place import TargetPlace, normal_address
from tests.support.checkpoint_calls import FakeClock, checkpoints_at
from tests.support.daemon_process import ACCOUNT, CREDENTIALS, REGION

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.bench.environments import Environment

PARTICIPANTS = HERE / "participants"
AGE_SECONDS = 30 * 86400.0
_OTHER_PLACE = TargetPlace("modeldb-v2", "http://another.example:8080/v1")
LOCKS = ROOT / "benchmarks" / "requirements"
RUNTIME = ROOT / "requirements" / "runtime.txt"
IMAGE_VARIABLES = ("MALLOC_ARENA_MAX=1",)
"""Those of the Dockerfile that matter here."""


@dataclass(frozen=True)
class Assignment:
    """What a participant works on in one round.

    Attributes:
        aws: endpoint of SageMaker and STS.
        sqs: endpoint of SQS.
        queue_url: of its queue.
        target_url: base URL of ModelDB V2, or MLflow's.
        v1_port: of ModelDB V1, on this machine.
        project: the name of the project that all jobs belong to.
        project_id: of it in ModelDB V2, if it was made.
        experiment_id: of its experiment.
        home: a folder of the round's own, kept over a new start within the round.
        kind: of the target.
        concurrency: requests to the target at once.
        pollers: long polls at once, where a participant lets one choose.
        wait_seconds: of a long poll.
        port: free, on this machine.
        dynamodb: endpoint of DynamoDB; empty: there is none.
    """

    aws: str
    sqs: str
    queue_url: str
    target_url: str
    v1_port: int
    project: str
    project_id: str
    experiment_id: str
    home: Path
    kind: str
    concurrency: int
    pollers: int
    wait_seconds: int
    port: int
    dynamodb: str

    @property
    def place(self) -> TargetPlace:
        """As the daemon names its target."""
        if self.kind == "modeldb-v1":
            return TargetPlace(self.kind, f"127.0.0.1:{self.v1_port}")
        return TargetPlace(self.kind, normal_address(self.target_url))

    @property
    def variables(self) -> dict[str, str]:
        """For a participant that reads environment variables."""
        return {
            "SQS_ENDPOINT": self.sqs,
            "SAGEMAKER_ENDPOINT": self.aws,
            "QUEUE_URL": self.queue_url,
            "MODELDB_URL": self.target_url,
            "MODELDB_V1_PORT": str(self.v1_port),
            "PROJECT_ID": self.project_id,
            "EXPERIMENT_ID": self.experiment_id,
            "CONCURRENCY": str(self.concurrency),
            "POLLERS": str(self.pollers),
            "WAIT_SECONDS": str(self.wait_seconds),
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            **CREDENTIALS,
        }


class Contestant(Protocol):
    """A participant.

    Attributes:
        key: in the results.
        label: in the tables.
        kind: of the target that it writes to, in the comparisons on stand-ins.
        environment: where it runs.
    """

    @property
    def key(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def environment(self) -> Environment: ...

    async def command(self, assignment: Assignment) -> list[str]:
        """What starts it; makes the files that it needs first."""
        ...


class BareLoop:
    """The floor."""

    key = "floor"
    label = "bare aiobotocore + aiohttp loop"
    kind = "modeldb-v2"
    environment = PythonEnvironment("floor", RUNTIME)

    async def command(self, _assignment: Assignment) -> list[str]:
        """See `Contestant`."""
        return [str(self.environment.python), "-m", "benchmarks.bench.participants.bare_loop"]


class Daemon:
    """This project's daemon, with a checkpoint as old as on its second day: a new job needs no
    look-up.
    """

    key = "daemon-sqlite"
    label = "this daemon, SQLite"
    kind = "modeldb-v2"
    environment = PythonEnvironment("daemon", RUNTIME)

    async def command(self, assignment: Assignment) -> list[str]:
        """See `Contestant`."""
        config = assignment.home / "config.yaml"
        if not config.is_file():
            checkpoint = await self._checkpoint(assignment)
            config.write_text(yaml.safe_dump(settings(assignment, checkpoint)))
        return [
            *("env", *IMAGE_VARIABLES),
            *(str(self.environment.python), "-m", "daemon", "run", "--config", str(config)),
        ]

    async def _checkpoint(self, assignment: Assignment) -> dict[str, object]:
        path = assignment.home / "checkpoint.db"
        now = time.time()
        # In use for a month: it has known the target for so long, and has been used lately.
        for moment, place in ((now - AGE_SECONDS, assignment.place), (now - 60, _OTHER_PLACE)):
            with checkpoints_at(FakeClock(moment)):
                made = await open_sqlite_checkpoint(path, place)
                await made.aclose()
        return {"path": str(path)}


def settings(assignment: Assignment, checkpoint: dict[str, object]) -> dict[str, object]:
    """The daemon's configuration: its defaults, but for where things are."""
    if assignment.kind == "modeldb-v1":
        target: dict[str, object] = {"host": "127.0.0.1", "port": assignment.v1_port}
    elif assignment.kind == "mlflow":
        target = {"tracking_uri": assignment.target_url}
    else:
        target = {"url": assignment.target_url, "max_concurrency": assignment.concurrency}
    return {
        "aws": {
            "region": REGION,
            "account_id": ACCOUNT,
            "sqs_endpoint_url": assignment.sqs,
            "sagemaker_endpoint_url": assignment.aws,
            "sts_endpoint_url": assignment.aws,
        },
        "queue": {
            "url": assignment.queue_url,
            "wait_seconds": assignment.wait_seconds,
            "pollers": assignment.pollers,
        },
        "target": {"kind": assignment.kind, **target},
        "checkpoint": checkpoint,
        "http": {"host": "127.0.0.1", "port": assignment.port},
        "log": {"format": "json"},
    }


class SampleSteps:
    """The original sample's steps in one process, with its own client of ModelDB V1."""

    key = "sample"
    label = "the sample's steps, one by one"
    kind = "modeldb-v1"
    environment = PythonEnvironment("sample", LOCKS / "sample.txt")

    async def command(self, _assignment: Assignment) -> list[str]:
        """See `Contestant`."""
        return [str(self.environment.python), str(PARTICIPANTS / "sample_steps.py")]


class SqsConsumer:
    """The npm package."""

    key = "sqs-consumer"
    label = "sqs-consumer, AWS SDK v3"
    kind = "modeldb-v2"
    environment = NodeEnvironment("sqs-consumer", PARTICIPANTS / "sqs_consumer")

    async def command(self, _assignment: Assignment) -> list[str]:
        """See `Contestant`."""
        return ["node", str(self.environment.folder / "consumer.mjs")]


class Taskiq:
    """taskiq with taskiq-aio-sqs: one worker process beside its parent."""

    key = "taskiq-aio-sqs"
    label = "taskiq-aio-sqs"
    kind = "modeldb-v2"
    environment = PythonEnvironment("taskiq", LOCKS / "taskiq.txt")

    async def command(self, _assignment: Assignment) -> list[str]:
        """See `Contestant`."""
        return [
            str(self.environment.python.parent / "taskiq"),
            "worker",
            "--app-dir",
            str(PARTICIPANTS),
            "--workers",
            "1",
            "taskiq_worker:broker",
        ]


CONTESTANTS: tuple[Contestant, ...] = (
    BareLoop(),
    SampleSteps(),
    SqsConsumer(),
    Taskiq(),
    Daemon(),
)

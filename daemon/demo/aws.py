"""The AWS emulator of the demo: moto's server with SQS, EventBridge, SageMaker and STS.

The queue is wired as in production:

    EventBridge rule ──> SQS queue ── redrive policy ──> dead-letter queue

Unlike AWS, training jobs complete at once (the demo puts their descriptions into moto's state) and
emit no events (the demo puts them, which AWS refuses for the source ``aws.sagemaker``); events lack
the member ``account``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from moto.core.utils import camelcase_to_underscores
from moto.sagemaker.models import sagemaker_backends
from moto.server import ThreadedMotoServer

from daemon.aws.dead_letter import DETAIL, REASON
from daemon.demo.moto_fixes import make_deletes_atomic, make_jobs_listable
from daemon.demo.sample_jobs import ACCOUNT, REGION
from daemon.training_job.event import DETAIL_TYPE, SOURCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from types_aiobotocore_sagemaker import SageMakerClient
    from types_aiobotocore_sqs import SQSClient

    from daemon.demo.sample_jobs import SampleJob

QUEUE = "modeldb-sync"
DEAD_LETTER_QUEUE = "modeldb-sync-dead-letters"
RULE = "sagemaker-training-jobs"
MAX_RECEIVE_COUNT = 5
VISIBILITY_SECONDS = 30
EVENTS_PER_CALL = 10
"""EventBridge: entries of PutEvents."""

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIADEMOONLYNOTREAL0",
    "AWS_SECRET_ACCESS_KEY": "made-up-for-the-demo",
}

_CREATE_MEMBERS = frozenset(
    {
        "TrainingJobName",
        "HyperParameters",
        "AlgorithmSpecification",
        "RoleArn",
        "InputDataConfig",
        "OutputDataConfig",
        "ResourceConfig",
        "StoppingCondition",
        "EnableManagedSpotTraining",
        "CheckpointConfig",
        "Environment",
    }
)
"""What CreateTrainingJob takes of a description."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter queue."""

    body: str
    reason: str
    """"" when SQS itself moved the message here."""
    detail: str


def leave_the_real_aws_alone() -> None:
    """Keeps this process away from any real AWS account: made-up credentials, no profile, no
    metadata service, no proxy.
    """
    for variable in list(os.environ):
        if variable.startswith("AWS_") or variable.lower().endswith("_proxy"):
            del os.environ[variable]
    os.environ.update(
        CREDENTIALS,
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        AWS_EC2_METADATA_DISABLED="true",
    )


class EmbeddedAws:
    """The running server, and what the demo does with it. Made by `embedded_aws`."""

    def __init__(self, url: str, sqs: SQSClient, events: Any, sagemaker: SageMakerClient) -> None:  # noqa: ANN401 - no types published
        self.url = url
        """The endpoint of every service."""
        self.queue_url = ""
        self.dead_letter_url = ""
        self._sqs = sqs
        self._events = events
        self._sagemaker = sagemaker

    async def wire(self) -> None:
        """Creates the queues, the rule and its target."""
        dead = await self._sqs.create_queue(
            QueueName=DEAD_LETTER_QUEUE, Attributes={"MessageRetentionPeriod": "1209600"}
        )
        self.dead_letter_url = dead["QueueUrl"]
        redrive = {
            "deadLetterTargetArn": _queue_arn(DEAD_LETTER_QUEUE),
            "maxReceiveCount": MAX_RECEIVE_COUNT,
        }
        queue = await self._sqs.create_queue(
            QueueName=QUEUE,
            Attributes={
                "VisibilityTimeout": str(VISIBILITY_SECONDS),
                "RedrivePolicy": json.dumps(redrive),
            },
        )
        self.queue_url = queue["QueueUrl"]
        pattern = {"source": [SOURCE], "detail-type": [DETAIL_TYPE]}
        await self._events.put_rule(Name=RULE, EventPattern=json.dumps(pattern))
        await self._events.put_targets(Rule=RULE, Targets=[{"Id": QUEUE, "Arn": _queue_arn(QUEUE)}])

    async def put_job(self, job: SampleJob) -> None:
        """Creates a training job that has ended, with the tuning job it belongs to; replaces one of
        the same name.
        """
        request: Any = {
            member: value for member, value in job.description.items() if member in _CREATE_MEMBERS
        }
        await self._sagemaker.create_training_job(
            **request, Tags=[{"Key": key, "Value": job.tags[key]} for key in job.tags]
        )
        ended = sagemaker_backends[ACCOUNT][REGION].training_jobs[job.name]
        for member, value in job.description.items():
            if member != "TrainingJobArn":
                setattr(ended, camelcase_to_underscores(member), value)
        if (tuning_job := job.description.get("TuningJobArn")) is not None:
            await self._put_tuning_job(tuning_job.rpartition("/")[2], job)

    async def _put_tuning_job(self, name: str, best: SampleJob) -> None:
        objective = best.description["HyperParameters"]["_tuning_objective_metric"]
        config: Any = {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": {"Type": "Maximize", "MetricName": objective},
            "ResourceLimits": {"MaxParallelTrainingJobs": 2},
        }
        await self._sagemaker.create_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name, HyperParameterTuningJobConfig=config
        )
        made = sagemaker_backends[ACCOUNT][REGION].hyper_parameter_tuning_jobs[name]
        made.best_training_job = {"TrainingJobName": best.name, "TrainingJobArn": best.arn}

    async def put_events(self, events: Sequence[tuple[SampleJob, str]]) -> None:
        """Sends events of state changes to EventBridge.

        Args:
            events: each a job and its secondary status.

        Raises:
            RuntimeError: EventBridge refused one.
        """
        entries = [
            {
                "Source": SOURCE,
                "DetailType": DETAIL_TYPE,
                "Detail": json.dumps(job.event_detail(secondary_status)),
                "Resources": [job.arn],
            }
            for job, secondary_status in events
        ]
        for start in range(0, len(entries), EVENTS_PER_CALL):
            answer = await self._events.put_events(Entries=entries[start : start + EVENTS_PER_CALL])
            if answer["FailedEntryCount"]:
                raise RuntimeError(f"EventBridge refuses an event: {answer['Entries']}")

    async def send(self, body: str) -> None:
        """Sends a message to the queue directly."""
        await self._sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)

    async def waiting(self) -> int:
        """The number of visible messages in the queue."""
        answer = await self._sqs.get_queue_attributes(
            QueueUrl=self.queue_url, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    async def dead_letters(self) -> Sequence[DeadLetter]:
        """The first ten messages of the dead-letter queue; they stay there."""
        answer = await self._sqs.receive_message(
            QueueUrl=self.dead_letter_url,
            MaxNumberOfMessages=10,
            VisibilityTimeout=0,
            MessageAttributeNames=["All"],
        )
        letters = []
        for message in answer.get("Messages") or []:
            attributes = {
                name: value.get("StringValue", "")
                for name, value in message.get("MessageAttributes", {}).items()
            }
            letters.append(
                DeadLetter(message["Body"], attributes.get(REASON, ""), attributes.get(DETAIL, ""))
            )
        return letters


@asynccontextmanager
async def embedded_aws() -> AsyncIterator[EmbeddedAws]:
    """Runs the emulator in a thread, on a free port of the loopback interface."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # otherwise a line for each request
    make_deletes_atomic()
    make_jobs_listable()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    await asyncio.to_thread(server.start)
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        session = AioSession()
        config = AioConfig(
            retries={"mode": "standard", "total_max_attempts": 1}, warm_up_loader_caches=True
        )
        async with AsyncExitStack() as clients:
            opened: list[Any] = [
                await clients.enter_async_context(
                    session.create_client(
                        service, region_name=REGION, endpoint_url=url, config=config
                    )
                )
                for service in ("sqs", "events", "sagemaker")
            ]
            aws = EmbeddedAws(url, *opened)
            await aws.wire()
            yield aws
    finally:
        await asyncio.to_thread(server.stop)


def _queue_arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"

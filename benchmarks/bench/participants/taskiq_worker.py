"""taskiq with the broker taskiq-aio-sqs: DescribeTrainingJob and the run's creation as a task.

taskiq's broker expects messages that taskiq itself has sent. A formatter takes EventBridge's plain
events for such: each becomes a call of the one task, with the event as its argument. What is not
JSON cannot be read, and taskiq drops it.

The library has its defaults, but for ten messages a receive and the retries of its own middleware:
a failed task is sent to the queue again, three times. Imported by `taskiq worker`.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from http import HTTPStatus
from typing import Any

import aiohttp
from aiobotocore.session import get_session
from taskiq import SimpleRetryMiddleware, TaskiqEvents, TaskiqState  # type: ignore[import-not-found] # in an environment of its own
from taskiq.formatters.proxy_formatter import ProxyFormatter  # type: ignore[import-not-found] # as above
from taskiq.message import TaskiqMessage  # type: ignore[import-not-found] # as above
from taskiq_aio_sqs import SQSBroker  # type: ignore[import-not-found] # as above

PLACES = {name.lower(): os.environ[name] for name in ("PROJECT_ID", "EXPERIMENT_ID")}


class PlainEvents(ProxyFormatter):  # type: ignore[misc] # its base is not known here
    """Reads a plain event as a call of the task; taskiq's own messages are its retries."""

    def loads(self, message: bytes) -> Any:  # noqa: ANN401 - taskiq is not known here
        """See `TaskiqFormatter.loads`."""
        event = json.loads(message)
        if "task_name" in event:
            return super().loads(message)
        return TaskiqMessage(
            task_id=uuid.uuid4().hex, task_name="sync", labels={}, args=[event], kwargs={}
        )


broker = SQSBroker(
    sqs_queue_name=os.environ["QUEUE_URL"].rpartition("/")[2],
    endpoint_url=os.environ["SQS_ENDPOINT"],
    region_name=os.environ["AWS_REGION"],
    aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
    aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
    wait_time_seconds=int(os.environ["WAIT_SECONDS"]),
    max_number_of_messages=10,
)
broker = broker.with_formatter(PlainEvents(broker)).with_middlewares(
    SimpleRetryMiddleware(default_retry_count=3, default_retry_label=True)
)


class _Clients:
    """Opened with the worker."""

    sagemaker: Any
    http: aiohttp.ClientSession
    creates: asyncio.Semaphore


@broker.on_event(TaskiqEvents.WORKER_STARTUP)  # type: ignore[untyped-decorator] # taskiq is not known here
async def open_clients(_state: TaskiqState) -> None:
    """Before the first message."""
    client = get_session().create_client("sagemaker", endpoint_url=os.environ["SAGEMAKER_ENDPOINT"])
    _Clients.sagemaker = await client.__aenter__()
    _Clients.http = aiohttp.ClientSession()
    _Clients.creates = asyncio.Semaphore(int(os.environ["CONCURRENCY"]))


@broker.task(task_name="sync")  # type: ignore[untyped-decorator] # taskiq is not known here
async def sync(event: dict[str, Any]) -> None:
    """One event."""
    detail = event["detail"]
    job = await _Clients.sagemaker.describe_training_job(TrainingJobName=detail["TrainingJobName"])
    url = f"{os.environ['MODELDB_URL']}/experiment-run/createExperimentRun"
    async with (
        _Clients.creates,
        _Clients.http.post(url, json=run_of(job, detail["Tags"])) as answer,
    ):
        if answer.status not in {HTTPStatus.OK, HTTPStatus.CONFLICT}:  # 409: it is there
            raise RuntimeError(await answer.text())
        await answer.read()


def run_of(job: dict[str, Any], tags: dict[str, str]) -> dict[str, Any]:
    """The run of a job, as the handler of sqs-consumer makes it."""
    end = str(round(job["TrainingEndTime"].timestamp() * 1000))
    return PLACES | {
        "name": job["TrainingJobName"],
        "start_time": str(round(job["TrainingStartTime"].timestamp() * 1000)),
        "end_time": end,
        "date_created": end,
        "tags": ["sagemaker", tags["MODEL_DB_MODEL_TYPE"]],
        "hyperparameters": [
            {"key": key, "value": value} for key, value in job.get("HyperParameters", {}).items()
        ],
        "metrics": [
            {"key": metric["MetricName"].replace(":", "/"), "value": metric["Value"]}
            for metric in job.get("FinalMetricDataList", ())
        ],
        "datasets": [
            {
                "key": channel["ChannelName"],
                "path": channel["DataSource"]["S3DataSource"]["S3Uri"],
                "path_only": True,
                "artifact_type": "DATA",
            }
            for channel in job.get("InputDataConfig", ())
        ],
        "artifacts": [
            {
                "key": "model_artifact",
                "path": job["ModelArtifacts"]["S3ModelArtifacts"],
                "path_only": True,
                "artifact_type": "MODEL",
            }
        ],
        "attributes": [
            {"key": "sagemaker_training_job_arn", "value": job["TrainingJobArn"]},
            {"key": "sagemaker_creation_time", "value": job["CreationTime"].isoformat()},
            {"key": "model_name", "value": tags["MODEL_DB_MODEL_NAME"]},
            {"key": "model_type", "value": tags["MODEL_DB_MODEL_TYPE"]},
            {"key": "project_user", "value": tags["MODEL_DB_PROJECT_USER"]},
        ],
    }

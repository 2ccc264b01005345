"""The floor: the same calls as the daemon's, without anything that makes them safe.

Receive ten, describe each, create its run, delete what worked: aiobotocore and aiohttp, as many at
once as the daemon has, no checkpoint, no heartbeat, no breaker, no look-up, no metrics, one log
line a job. What failed is left for SQS to deliver again. Runs until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from http import HTTPStatus
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from daemon.targets.modeldb_v2.mapping import map_run
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.event import TrainingJobEvent, parse_event
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags

WORKERS = 6
"""One poller cannot keep the target busy: it waits for the slowest of its ten."""


class BareLoop:
    """One process's worth of work. What it needs to know stands in environment variables."""

    def __init__(self) -> None:
        self._queue_url = os.environ["QUEUE_URL"]
        self._modeldb = os.environ["MODELDB_URL"]
        self._places = {
            "project_id": os.environ["PROJECT_ID"],
            "experiment_id": os.environ["EXPERIMENT_ID"],
        }
        self._creates = asyncio.Semaphore(int(os.environ["CONCURRENCY"]))
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Returns after SIGTERM, when what was received is done."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stopping.set)
        session = get_session()
        known: Any = {"config": AioConfig(max_pool_connections=16)}
        async with (
            session.create_client(
                "sqs", endpoint_url=os.environ["SQS_ENDPOINT"], **known
            ) as self._sqs,
            session.create_client(
                "sagemaker", endpoint_url=os.environ["SAGEMAKER_ENDPOINT"], **known
            ) as self._sagemaker,
            aiohttp.ClientSession() as self._http,
        ):
            await asyncio.gather(*(self._worker() for _ in range(WORKERS)))

    async def _worker(self) -> None:
        while not self._stopping.is_set():
            answer = await self._sqs.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=int(os.environ["WAIT_SECONDS"]),
                MessageSystemAttributeNames=["All"],
            )
            messages = answer.get("Messages") or []
            done = await asyncio.gather(
                *(self._sync(message["Body"]) for message in messages), return_exceptions=True
            )
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, (message, error) in enumerate(zip(messages, done, strict=True))
                if error is None
            ]
            if entries:
                await self._sqs.delete_message_batch(QueueUrl=self._queue_url, Entries=entries)

    async def _sync(self, body: str) -> None:
        event = parse_event(body)
        if not isinstance(event, TrainingJobEvent):
            raise TypeError(body)
        description = await self._sagemaker.describe_training_job(TrainingJobName=event.name)
        tags = read_tags(event.tags or {}, TagKeys())
        if not isinstance(tags, JobTags):
            raise TypeError(body)
        mapped = map_run(training_run(DescribedJob.of(description), tags, event.tags or {}, ()))
        async with self._creates:
            status = await self._create(mapped.body | self._places)
        print(json.dumps({"job": event.name, "status": status}), file=sys.stderr)

    async def _create(self, body: dict[str, Any]) -> int:
        url = f"{self._modeldb}/experiment-run/createExperimentRun"
        async with self._http.post(url, json=body) as answer:
            if answer.status not in {HTTPStatus.OK, HTTPStatus.CONFLICT}:  # 409: it is there
                raise RuntimeError(await answer.text())
            await answer.read()
            return answer.status


if __name__ == "__main__":
    asyncio.run(BareLoop().run())

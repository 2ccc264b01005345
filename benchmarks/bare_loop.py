"""The floor: the same calls as the daemon's, without anything that makes them safe.

Receive ten, describe each, create its run, delete ten: aiobotocore and aiohttp, as many at once as
the daemon has, no checkpoint, no heartbeat, no breaker, no look-up, no metrics, one log line a job.
Prints one JSON object when the queue is empty.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from daemon.targets.modeldb_v2.mapping import map_run
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.event import TrainingJobEvent, parse_event
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags

if TYPE_CHECKING:
    from collections.abc import Mapping


class BareLoop:
    """One process's worth of work.

    Args:
        arguments: addresses and concurrency.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.done: list[float] = []
        self._creates = asyncio.Semaphore(arguments.concurrency)

    async def run(self) -> None:
        arguments = self.arguments
        session = get_session()
        known: dict[str, Any] = {
            "region_name": "eu-west-1",
            "aws_access_key_id": "x",
            "aws_secret_access_key": "x",
        }
        config = AioConfig(max_pool_connections=16)
        async with (
            session.create_client(
                "sqs", endpoint_url=arguments.sqs, config=config, **known
            ) as self.sqs,
            session.create_client(
                "sagemaker", endpoint_url=arguments.sagemaker, config=config, **known
            ) as self.sagemaker,
            aiohttp.ClientSession() as self.http,
        ):
            self.project_id, self.experiment_ids = await self._places()
            workers = [self._worker() for _ in range(arguments.workers)]
            await asyncio.gather(*workers)

    async def _places(self) -> tuple[str, dict[str, str]]:
        """The project and its experiments, made beforehand so that every job costs the one call
        that it must.
        """
        project = await self._post("/project/createProject", {"name": self.arguments.project})
        project_id: str = project["project"]["id"]
        experiment = {"project_id": project_id, "name": "churn-xgb"}
        made = await self._post("/experiment/createExperiment", experiment)
        return project_id, {"churn-xgb": made["experiment"]["id"]}

    async def _worker(self) -> None:
        while len(self.done) < self.arguments.jobs:
            answer = await self.sqs.receive_message(
                QueueUrl=self.arguments.queue,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["All"],
            )
            messages = answer.get("Messages") or []
            if messages:
                await asyncio.gather(*(self._sync(message["Body"]) for message in messages))
                entries = [
                    {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]}
                    for number, each in enumerate(messages)
                ]
                await self.sqs.delete_message_batch(QueueUrl=self.arguments.queue, Entries=entries)
                self.done += [time.time()] * len(messages)

    async def _sync(self, body: str) -> None:
        event = parse_event(body)
        assert isinstance(event, TrainingJobEvent)
        description = await self.sagemaker.describe_training_job(TrainingJobName=event.name)
        tags = read_tags(event.tags or {}, TagKeys())
        assert isinstance(tags, JobTags)
        mapped = map_run(training_run(DescribedJob.of(description), tags, event.tags or {}, ()))
        places = {
            "project_id": self.project_id,
            "experiment_id": self.experiment_ids[mapped.experiment_name],
        }
        async with self._creates:
            created = await self._post("/experiment-run/createExperimentRun", mapped.body | places)
        print(
            json.dumps({"job": event.name, "run_id": created["experiment_run"]["id"]}),
            file=sys.stderr,
        )

    async def _post(self, path: str, body: Mapping[str, object]) -> dict[str, dict[str, str]]:
        async with self.http.post(self.arguments.modeldb + path, json=body) as answer:
            assert answer.status == HTTPStatus.OK, await answer.text()
            parsed: dict[str, dict[str, str]] = await answer.json()
            return parsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("sqs", "queue", "sagemaker", "modeldb", "project"):
        parser.add_argument(f"--{name}", required=True)
    for name, default in (("jobs", 0), ("workers", 6), ("concurrency", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    loop = BareLoop(parser.parse_args())
    asyncio.run(loop.run())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "first": loop.done[0],
                "last": loop.done[-1],
                "jobs": len(loop.done),
                "peak_rss_mb": round(peak, 1),
            }
        )
    )


if __name__ == "__main__":
    main()

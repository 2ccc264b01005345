"""Calls per second that a real MLflow takes from a bare loop over aiohttp: keep-alive, a connection
for each call, and keep-alive with prompt acknowledgements, in one run.

    MLFLOW_LAB=.../control-script .venv/bin/python -m benchmarks.mlflow_calls

The control script starts and ends the servers, see tests/real/mlflow_lab.py. A job is six calls:
search, create (31 tags), batch (25 entries), inputs, model version, update. The variants take turns
in each round, so that a machine that gets slower meets them all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import statistics
import sys
import time
import uuid
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from daemon.targets.http.prompt_ack import acknowledge_headers
from tests.real.mlflow_lab import LAB, lab_server

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = "churn-xgb"
NOW = 1_763_628_000_000


class Variant(StrEnum):
    """How the loop uses connections."""

    KEPT = "keep-alive"
    CLOSED = "Connection: close"
    PROMPT = "keep-alive, prompt ACK"
    """Asks the kernel to acknowledge the headers of an answer at once (TCP_QUICKACK, Linux)."""


class BareLoop:
    """A client without any safety.

    Args:
        url: of the server.
    """

    def __init__(self, url: str, variant: Variant) -> None:
        self._base = f"{url}/api/2.0/mlflow/"
        self._variant = variant
        self.experiment = ""
        self.call_seconds: list[float] = []

    async def __aenter__(self) -> Self:
        closed = self._variant is Variant.CLOSED
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True)
            if closed
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=4)
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._http.close()

    async def prepare(self) -> None:
        """The experiment and the model."""
        made = await self.call("experiments/create", {"name": uuid.uuid4().hex})
        self.experiment = made["experiment_id"]
        with contextlib.suppress(AssertionError):  # it is there
            await self.call("registered-models/create", {"name": MODEL})
        self.call_seconds.clear()

    async def jobs(self, count: int, at_once: int) -> float:
        """Jobs per second."""
        left = iter(range(count))

        async def worker() -> None:
            for _ in left:
                await self._job()

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
        return count / (time.perf_counter() - begun)

    async def _job(self) -> None:
        name = f"xgboost-{uuid.uuid4().hex[:12]}"
        arn = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}"
        location = f"s3://acme-ml/{name}"
        await self.call(
            "runs/search",
            {
                "experiment_ids": [self.experiment],
                "filter": f"tags.`sagemaker_training_job_arn` = '{arn}'",
                "run_view_type": "ALL",
            },
        )
        tags = [{"key": "sagemaker_training_job_arn", "value": arn}]
        tags += [{"key": f"fact_{number}", "value": "x" * 40} for number in range(30)]
        made = await self.call(
            "runs/create",
            {
                "experiment_id": self.experiment,
                "run_name": name,
                "start_time": NOW,
                "tags": tags,
            },
        )
        run = made["run"]["info"]["run_id"]
        metrics = [
            {"key": f"train/{number}", "value": 0.25, "timestamp": NOW, "step": 0}
            for number in range(5)
        ]
        params = [{"key": f"p{number}", "value": str(number)} for number in range(20)]
        await self.call("runs/log-batch", {"run_id": run, "metrics": metrics, "params": params})
        await self.call(
            "runs/log-inputs",
            {"run_id": run, "datasets": [_data_set(f"{location}/{name}") for name in CHANNELS]},
        )
        await self.call(
            "model-versions/create",
            {"name": MODEL, "source": f"{location}/model.tar.gz", "run_id": run},
        )
        await self.call(
            "runs/update", {"run_id": run, "status": "FINISHED", "end_time": NOW + 60_000}
        )

    async def call(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        begun = time.perf_counter()
        async with self._http.post(
            self._base + path,
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        ) as answer:
            if self._variant is Variant.PROMPT:
                acknowledge_headers(answer)
            text = await answer.text()
        self.call_seconds.append(time.perf_counter() - begun)
        assert answer.status == HTTPStatus.OK, text
        parsed: dict[str, Any] = json.loads(text)
        return parsed


CHANNELS = ("train", "validation")


def _data_set(uri: str) -> dict[str, object]:
    name = uri.rpartition("/")[2]
    return {
        "dataset": {
            "name": name,
            "digest": hashlib.sha256(uri.encode()).hexdigest()[:16],
            "source_type": "s3",
            "source": json.dumps({"uri": uri}),
        },
        "tags": [{"key": "mlflow.data.context", "value": name}],
    }


async def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=24, help="in a round of a variant")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 4, 8])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 4], help="of the servers")
    arguments = parser.parse_args()
    if not LAB:
        parser.error("MLFLOW_LAB names no control script")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start")
    print("| workers | at once | connections | jobs/s: min | median | max | ms a call, median |")
    print("|---|---|---|---|---|---|---|")
    for workers in arguments.workers:
        async with lab_server(workers=workers) as server:
            for at_once in arguments.at_once:
                await measured(server.url, workers, at_once, arguments)
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 0


async def measured(url: str, workers: int, at_once: int, arguments: argparse.Namespace) -> None:
    """Prints the rows of one server and one number of jobs at once."""
    figures: dict[Variant, list[float]] = {variant: [] for variant in Variant}
    seconds: dict[Variant, list[float]] = {variant: [] for variant in Variant}
    for number in range(-1, arguments.rounds):
        for variant in Variant:
            async with BareLoop(url, variant) as loop:
                await loop.prepare()
                figure = await loop.jobs(arguments.jobs, at_once)
                if number >= 0:  # the first round warms the server up
                    figures[variant].append(figure)
                    seconds[variant] += loop.call_seconds
    for variant, each in figures.items():
        values = (min(each), statistics.median(each), max(each))
        numbers = " | ".join(f"{value:.1f}" for value in values)
        milliseconds = statistics.median(seconds[variant]) * 1000
        print(f"| {workers} | {at_once} | {variant} | {numbers} | {milliseconds:.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

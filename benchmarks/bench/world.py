"""What stands around the participants: broker, SageMaker, ModelDB; and a round in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiobotocore.session import get_session

from benchmarks.bench.contestants import Assignment
from benchmarks.bench.environments import ROOT
from benchmarks.bench.machine import cpu_seconds, family, rss_mb
from benchmarks.bench.stand_ins.sagemaker import bench_events
from benchmarks.bench.targets import StandIn
from tests.support.daemon_process import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from benchmarks.bench.contestants import Contestant
    from benchmarks.bench.machine import Cores
    from benchmarks.bench.targets import Target

_STOP_SECONDS = 40
_BATCH = 10
POLLERS = 2
"""Long polls at once, unless a scenario says otherwise."""


class StuckError(Exception):
    """A participant makes no progress."""


@dataclass(frozen=True)
class Usage:
    """What a participant has used so far."""

    cpu_seconds: float
    at: float


class Running:
    """A participant's process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.started = time.time()

    def usage(self) -> Usage:
        """Processor time of it and what it has started."""
        return Usage(cpu_seconds(family(self._process.pid)), time.time())

    def rss_mb(self, *, most: bool = False) -> float:
        """Resident memory of it and what it has started, now or at its most."""
        return rss_mb(family(self._process.pid), "VmHWM" if most else "VmRSS")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.returncode is None

    async def stop(self) -> int:
        """Sends SIGTERM and waits for the end; returns the status. What is too slow is killed."""
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                for pid in family(self._process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await self._process.wait()
        assert self._process.returncode is not None
        return self._process.returncode

    def log(self) -> str:
        """The end of what it has printed."""
        return self._log.read_text(errors="replace")[-3000:]

    def lines(self) -> Iterable[str]:
        """All that it has printed."""
        return self._log.read_text(errors="replace").splitlines()


class World:
    """Addresses, and what the harness itself does with them.

    Attributes:
        addresses: as the stand-ins print them.
        sqs: endpoint of the broker.
        broker: what it is, for the results.
        cores: who runs where.
        dynamodb: endpoint of DynamoDB; empty: there is none.
    """

    def __init__(
        self, addresses: dict[str, Any], sqs: str | None, cores: Cores, http: aiohttp.ClientSession
    ) -> None:
        self.dynamodb = ""
        self.addresses = addresses
        self.sqs = sqs or addresses["aws"]
        self.broker = f"the SQS at {sqs}" if sqs else "the simulation's SQS over HTTP, in memory"
        self.cores = cores
        self._http = http
        self.client: Any = None

    async def ask(self, what: str, **asked: object) -> Any:  # noqa: ANN401 - JSON
        """A request of the harness to the stand-ins."""
        url = f"{self.addresses['aws']}/bench/{what}"
        async with self._http.post(url, json=asked) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def get(self, url: str) -> Any:  # noqa: ANN401 - JSON
        """A request of the harness to a server."""
        async with self._http.get(url) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def post(self, url: str, body: object) -> Any:  # noqa: ANN401 - JSON
        """A request of the harness to a server."""
        async with self._http.post(url, json=body) as answer:
            answer.raise_for_status()
            return await answer.json()


@contextlib.asynccontextmanager
async def open_world(cores: Cores, sqs: str | None = None) -> AsyncIterator[World]:
    """Starts the stand-ins in a process of their own.

    Args:
        cores: who runs where; this process is on that of the rest already.
        sqs: endpoint of another broker.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.bench.stand_ins",
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        addresses = json.loads(await process.stdout.readline())
        async with aiohttp.ClientSession() as http:
            world = World(addresses, sqs, cores, http)
            async with get_session().create_client(
                "sqs",
                endpoint_url=world.sqs,
                region_name=REGION,
                aws_access_key_id="bench",
                aws_secret_access_key="bench",  # noqa: S106 - no stand-in checks it
            ) as world.client:
                yield world
    finally:
        process.terminate()
        await process.wait()


class Round:
    """One participant and a queue of its own."""

    def __init__(
        self, world: World, contestant: Contestant, target: Target, assignment: Assignment
    ) -> None:
        self.world = world
        self.contestant = contestant
        self.target = target
        self.assignment = assignment
        self.dead_letter_url = ""
        self.jobs: list[str] = []
        self._running: Running | None = None
        self._starts = 0

    # --- the queue

    async def send(self, bodies: Sequence[str]) -> None:
        """Sends messages, ten at a time."""
        for start in range(0, len(bodies), _BATCH):
            entries = [
                {"Id": str(number), "MessageBody": body}
                for number, body in enumerate(bodies[start : start + _BATCH])
            ]
            answer = await self.world.client.send_message_batch(
                QueueUrl=self.assignment.queue_url, Entries=entries
            )
            assert not answer.get("Failed")

    def events(self, count: int, first: int = 0) -> list[str]:
        """The events of so many jobs, which belong to the round's account from now on."""
        events = bench_events(self.assignment.project, first, count)
        self.jobs += events
        return list(events.values())

    async def depth(self, url: str | None = None) -> int:
        """Messages in any state."""
        answer = await self.world.client.get_queue_attributes(
            QueueUrl=url or self.assignment.queue_url, AttributeNames=["All"]
        )
        return sum(
            int(answer["Attributes"].get(f"ApproximateNumberOfMessages{state}", 0))
            for state in ("", "NotVisible", "Delayed")
        )

    # --- the participant

    @property
    def running(self) -> Running:
        """The participant's process."""
        assert self._running is not None
        return self._running

    async def start(self) -> Running:
        """Starts the participant on its core."""
        command = await self.contestant.command(self.assignment)
        self._starts += 1
        log = self.assignment.home / f"log-{self._starts}"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env=self.assignment.variables,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
        self.world.cores.give_participant(process.pid)
        self._running = Running(process, log)
        return self._running

    async def stop(self) -> None:
        """Ends the participant, if it runs."""
        if self._running is not None:
            await self._running.stop()

    # --- the target

    async def count(self) -> int:
        """Runs that are there."""
        return await self.target.count(self.assignment.project)

    async def runs(self) -> list[tuple[str, float]]:
        """For each run that is there, its job and when it was created, in order of creation; 0
        where the server does not tell.
        """
        found = await self.target.runs(self.assignment.project)
        return [(job, created or 0.0) for job, created in found]

    async def until_runs(self, wanted: int, quiet_seconds: float) -> int:
        """Waits for a number of runs; returns how many there are.

        Args:
            wanted: so many, or more.
            quiet_seconds: longest time without a new run.

        Raises:
            StuckError: no new run has come for so long, or the participant has ended.
        """
        seen, since = await self.count(), time.monotonic()
        while seen < wanted:
            await asyncio.sleep(self.target.look_seconds)
            counted = await self.count()
            if counted > seen:
                seen, since = counted, time.monotonic()
            elif time.monotonic() - since > quiet_seconds or not self.running.alive:
                raise StuckError(
                    f"{self.contestant.key}: {seen} of {wanted} runs\n{self.running.log()}"
                )
        return seen

    async def until_empty(self, quiet_seconds: float) -> None:
        """Waits until the queue has no message in any state.

        Args:
            quiet_seconds: longest time without a message less or a new run.

        Raises:
            StuckError: nothing has happened for so long.
        """
        seen, since = (-1, -1), time.monotonic()
        while depth := await self.depth():
            if (depth, await self.count()) != seen:
                seen, since = (depth, await self.count()), time.monotonic()
            elif time.monotonic() - since > quiet_seconds:
                raise StuckError(
                    f"{self.contestant.key}: {depth} messages are left\n{self.running.log()}"
                )
            await asyncio.sleep(self.target.look_seconds)


@contextlib.asynccontextmanager
async def open_round(
    world: World,
    contestant: Contestant,
    *,
    target: Target | None = None,
    visibility_seconds: int = 120,
    max_receive_count: int = 10,
    wait_seconds: int = 1,
    concurrency: int = 4,
    pollers: int = POLLERS,
) -> AsyncIterator[Round]:
    """A queue with its dead-letter queue, a project, a folder; the participant is not started.

    Args:
        world: where.
        contestant: who.
        target: where runs go; None: the stand-in of the kind that the participant writes to.
        visibility_seconds: of the queue.
        max_receive_count: of the queue's redrive policy.
        wait_seconds: of a long poll.
        concurrency: requests to the target at once.
        pollers: long polls at once.
    """
    project = f"bench-{uuid.uuid4().hex[:8]}"
    target = target or StandIn(world, contestant.kind)
    dead = (await world.client.create_queue(QueueName=f"{project}-dlq"))["QueueUrl"]
    policy = {
        "deadLetterTargetArn": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{project}-dlq",
        "maxReceiveCount": max_receive_count,
    }
    attributes = {
        "VisibilityTimeout": str(visibility_seconds),
        "RedrivePolicy": json.dumps(policy),
    }
    queue = (await world.client.create_queue(QueueName=project, Attributes=attributes))["QueueUrl"]
    with tempfile.TemporaryDirectory() as home:
        assignment = Assignment(
            aws=world.addresses["aws"],
            sqs=world.sqs,
            queue_url=queue,
            target_url=target.url,
            v1_port=target.v1_port,
            project=project,
            project_id="",
            experiment_id="",
            home=Path(home),
            kind=target.kind,
            concurrency=concurrency,
            pollers=pollers,
            wait_seconds=wait_seconds,
            port=free_port(),
            dynamodb=world.dynamodb,
        )
        if assignment.kind == "modeldb-v2":
            assignment = await _with_places(world, assignment)
        made = Round(world, contestant, target, assignment)
        made.dead_letter_url = dead
        try:
            yield made
        finally:
            await made.stop()


async def _with_places(world: World, assignment: Assignment) -> Assignment:
    """Project and experiment are there before anybody begins: a job costs the one call that it
    must.
    """
    url, name = assignment.target_url, assignment.project
    project = await world.post(f"{url}/project/createProject", {"name": name})
    project_id = project["project"]["id"]
    experiment = await world.post(
        f"{url}/experiment/createExperiment", {"project_id": project_id, "name": "churn-xgb"}
    )
    return replace(assignment, project_id=project_id, experiment_id=experiment["experiment"]["id"])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

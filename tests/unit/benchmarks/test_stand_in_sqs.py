"""The benchmark's SQS behaves as the simulation's model, and so as SQS's other doubles."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from benchmarks.bench.stand_ins.sqs_queue import DeepQueue
from benchmarks.bench.stand_ins.sqs_server import SqsServer
from tests.simulation.aws_calls import PlainNetwork
from tests.simulation.sqs import SimulatedSqs, SimulatedSqsClient
from tests.simulation.sqs_behaviours import BEHAVIOURS
from tests.simulation.sqs_places import (
    AWS,
    MAX_RECEIVES,
    VISIBILITY_SECONDS,
    Place,
    VirtualTimeLoop,
    server_place,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Behaviour = Callable[[Place], Awaitable[None]]

every_behaviour = pytest.mark.parametrize(
    "behaviour", BEHAVIOURS, ids=[check.__name__ for check in BEHAVIOURS]
)


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[str]:
    server = SqsServer()

    async def handle(request: web.BaseRequest) -> web.Response:
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        return await server.handle(operation, request)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server.url
    finally:
        await runner.cleanup()


def deep_place() -> Place:
    dead = DeepQueue("jobs-dead", "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs-dead")
    queue = DeepQueue(
        "jobs",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
        visibility_seconds=VISIBILITY_SECONDS,
        max_receive_count=MAX_RECEIVES,
        dead_letters=dead,
    )
    sqs = SimulatedSqs(random.Random(0), queue, dead)
    client, polling = (
        SimulatedSqsClient(sqs, PlainNetwork(), asyncio.ensure_future, read_seconds=30)
        for _ in range(2)
    )
    return Place(AWS, client, polling, queue.url, dead.url, queue)


@every_behaviour
def test_the_queue(behaviour: Behaviour) -> None:
    async def check() -> None:
        await behaviour(deep_place())

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(check())


# real seconds; the queue itself is tested in virtual time
@pytest.mark.slow
@every_behaviour
@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_the_server(behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")

    async with served() as url, server_place(url, AWS) as place:
        await behaviour(place)


async def test_a_receive_does_not_slow_down_with_depth() -> None:
    def seconds_of_a_receive(depth: int) -> float:
        queue = DeepQueue("jobs", "https://sqs.example/jobs")
        for number in range(depth):
            queue.send(str(number))
        begun = time.process_time()
        for _ in range(20):
            assert len(queue.take(10, 60)) == 10
        return time.process_time() - begun

    seconds_of_a_receive(200)
    assert seconds_of_a_receive(5_000) < 10 * seconds_of_a_receive(200) + 0.01


async def test_messages_come_in_order_of_arrival_and_once() -> None:
    queue = DeepQueue("jobs", "https://sqs.example/jobs")
    for number in range(25):
        queue.send(str(number))

    bodies: list[Any] = []
    while taken := queue.take(10, 60):
        bodies += [copy.message.body for copy, _ in taken]
        for _, handle in taken:
            queue.hide(handle, 60)

    assert bodies == [str(number) for number in range(25)]

"""The model of SQS behaves as servers do: one set of behaviours, run on the model, on moto and on
ElasticMQ.

After them come behaviours that only the model has, because AWS shows them rarely and its emulators
never.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from botocore.exceptions import ClientError

from daemon.aws.queue import SqsQueue
from daemon.errors import EdgeFault
from daemon.reasons import Reason
from tests.simulation.sqs import SimulatedQueue, SimulatedSqs, SimulatedSqsClient
from tests.simulation.sqs_behaviours import BEHAVIOURS
from tests.simulation.sqs_message import CopyState
from tests.simulation.sqs_places import (
    ELASTICMQ,
    MAX_RECEIVES,
    MOTO,
    VirtualTimeLoop,
    model_place,
    server_place,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from tests.simulation.sqs_places import Place

    Behaviour = Callable[[Place], Awaitable[None]]

T = TypeVar("T")

every_behaviour = pytest.mark.parametrize(
    "behaviour", BEHAVIOURS, ids=[check.__name__ for check in BEHAVIOURS]
)
# aiohttp's, for more than 1 MiB
large_bodies = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


def in_virtual_time(check: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test of the model alone."""

    def test() -> None:
        run(check())

    return test


@every_behaviour
def test_the_model(behaviour: Behaviour) -> None:
    async def check(seed: int) -> None:
        await behaviour(model_place(random.Random(seed), old_handle_hides=0.5))

    for seed in range(5):
        run(check(seed))


# real seconds, which show what the model is modelled on; the model itself is tested in virtual time
@pytest.mark.slow
@every_behaviour
@large_bodies
async def test_moto(behaviour: Behaviour, moto_endpoint: str) -> None:
    async with server_place(moto_endpoint, MOTO) as place:
        await behaviour(place)


@pytest.mark.slow  # as with moto
@pytest.mark.skipif("ELASTICMQ_URL" not in os.environ, reason="ELASTICMQ_URL names no ElasticMQ")
@every_behaviour
@large_bodies
async def test_elasticmq(behaviour: Behaviour) -> None:
    async with server_place(os.environ["ELASTICMQ_URL"], ELASTICMQ) as place:
        await behaviour(place)


class FaultyNetwork:
    """Carries out the next calls with scripted faults: for each, a delay or an error before and
    after the work of the service.
    """

    def __init__(self, *fates: tuple[float | Exception, float | Exception]) -> None:
        self.fates = list(fates)
        self.names: list[str] = []

    async def call(self, name: str, carry_out: Callable[[], T]) -> T:
        self.names.append(name)
        before, after = self.fates.pop(0) if self.fates else (0.0, 0.0)
        await self._suffer(before)
        answer = carry_out()
        await self._suffer(after)
        return answer

    @staticmethod
    async def _suffer(fate: float | Exception) -> None:
        if isinstance(fate, Exception):
            raise fate
        await asyncio.sleep(fate)


def model_of(place: Place) -> SimulatedQueue:
    assert place.model is not None
    return place.model


def behind(
    network: FaultyNetwork, *queues: SimulatedQueue, attempts: int = 3, read_seconds: float = 15
) -> tuple[SimulatedSqs, SqsQueue]:
    sqs = SimulatedSqs(random.Random(1), *queues)
    client: Any = SimulatedSqsClient(
        sqs, network, asyncio.ensure_future, attempts=attempts, read_seconds=read_seconds
    )
    return sqs, SqsQueue(client, client, queues[0].url)


def lost() -> ConnectionResetError:
    return ConnectionResetError("lost")


def seen(queue: SimulatedQueue) -> list[str]:
    """The history of its only message."""
    (message,) = queue.messages
    return [what for _, what in message.life]


@in_virtual_time
async def test_the_life_of_a_message_can_be_read() -> None:
    place = model_place(random.Random(1))
    await place.send("a")
    await asyncio.sleep(1)
    first = await place.receive_one(visibility=10)
    await asyncio.sleep(1)
    await place.queue.hide([(first.receipt_handle, 20)])
    await asyncio.sleep(30)
    second = await place.receive_one(visibility=10)
    await place.queue.hide([(second.receipt_handle, 0)])
    third = await place.receive_one(visibility=10)
    await place.queue.send_dead_letter(place.dead_letter_url, "a", {"reason": "malformed_body"})
    await place.queue.delete([third.receipt_handle])

    (message,) = model_of(place).messages
    began = message.life[0][0]
    assert [(round(time - began), what) for time, what in message.life] == [
        (0, "sent to jobs"),
        (1, "received 1, hidden 10 s"),
        (2, "hidden 20 s"),
        (22, "visible again"),
        (32, "received 2, hidden 10 s"),
        (32, "visible again"),
        (32, "received 3, hidden 10 s"),
        (32, "dead-lettered by us as jobs-dead-1: malformed_body"),
        (32, "deleted"),
    ]
    assert message.history().splitlines()[-1].split() == [f"{began + 32:.3f}", "jobs-1", "deleted"]
    assert [copy.state(asyncio.get_running_loop().time()) for copy in message.copies] == [
        CopyState.DELETED
    ]


@in_virtual_time
async def test_the_life_of_a_redriven_message_goes_on_in_the_dead_letter_queue() -> None:
    place = model_place(random.Random(1))
    queue = model_of(place)
    await place.send("a")
    for _ in range(MAX_RECEIVES):
        await place.receive_one(visibility=0)
    await place.receive()

    assert queue.dead_letters is not None
    assert queue.dead_letters.contents() == queue.messages
    assert queue.contents() == []
    assert seen(queue)[-1] == "redriven to jobs-dead after 3 receives"

    (moved,) = queue.dead_letters.move_all(queue)
    (message,) = await place.receive()
    assert (message.message_id, message.receive_count) == (moved.message_id, 1)
    assert moved is not queue.messages[0]


@in_virtual_time
async def test_what_comes_first_is_chance() -> None:
    firsts = Counter[str]()
    for seed in range(60):
        place = model_place(random.Random(seed), fewer_than_asked=0.5)
        await place.send("a", "b", "c")
        bodies = "".join([message.body for message in await place.receive()])
        firsts[bodies] += 1

    assert {len(bodies) for bodies in firsts} == {1, 2, 3}
    assert {bodies[0] for bodies in firsts} == {"a", "b", "c"}


@in_virtual_time
async def test_a_message_may_be_stored_twice() -> None:
    place = model_place(random.Random(1), stored_twice=1)
    await place.send("a")

    one, other = await place.receive()
    assert one.message_id == other.message_id
    assert one.receipt_handle != other.receipt_handle

    await place.queue.delete([one.receipt_handle])
    await asyncio.sleep(61)
    (again,) = await place.receive()
    assert (again.message_id, again.receive_count) == (one.message_id, 2)


@in_virtual_time
async def test_a_message_may_come_although_it_is_in_flight() -> None:
    place = model_place(random.Random(1), delivered_in_flight=1)
    await place.send("a")
    await place.receive_one()

    second = await place.receive_one()
    assert second.receive_count == 2
    third = await place.receive_one()
    assert third.receive_count == MAX_RECEIVES
    # nor does chance take it to the dead-letter queue
    assert await place.receive() == []
    assert "delivered although in flight" in seen(model_of(place))


@in_virtual_time
async def test_a_deleted_message_may_come_back() -> None:
    place = model_place(random.Random(1), deleted_comes_back=1)
    await place.send("a")
    message = await place.receive_one(visibility=5)

    assert await place.queue.delete([message.receipt_handle]) == [None]
    assert await place.receive() == []
    await asyncio.sleep(6)
    assert (await place.receive_one()).receive_count == 2


@pytest.mark.parametrize("hides", [False, True])
def test_an_old_handle_may_hide(hides: bool) -> None:  # noqa: FBT001 - the case
    async def check() -> None:
        place = model_place(random.Random(1), old_handle_hides=float(hides))
        await place.send("a")
        old = await place.receive_one(visibility=0)
        await place.receive_one(visibility=60)

        (failed,) = await place.queue.hide([(old.receipt_handle, 0)])

        assert (failed is None) == hides
        assert failed is None or failed.stale
        assert bool(await place.receive()) == hides
        assert ("an old handle hides" in seen(model_of(place))) == hides

    run(check())


@pytest.mark.parametrize("deletes", [False, True])
def test_an_old_handle_may_delete(deletes: bool) -> None:  # noqa: FBT001 - the case
    async def check() -> None:
        place = model_place(random.Random(1), old_handle_deletes=float(deletes))
        await place.send("a")
        old = await place.receive_one(visibility=0)
        await place.receive_one(visibility=60)

        assert await place.queue.delete([old.receipt_handle]) == [None]

        assert bool(model_of(place).contents()) != deletes

    run(check())


@in_virtual_time
async def test_a_queue_of_another_account_is_not_found() -> None:
    place = model_place(random.Random(1))
    ours = await place.client.get_queue_url(QueueName="jobs", QueueOwnerAWSAccountId="123456789012")
    assert ours["QueueUrl"] == place.url

    with pytest.raises(ClientError, match="does not exist"):
        await place.client.get_queue_url(QueueName="jobs", QueueOwnerAWSAccountId="000000000042")


@in_virtual_time
async def test_a_short_poll_may_miss_and_a_long_one_never() -> None:
    place = model_place(random.Random(1), short_poll_misses=1)
    await place.send("a")

    assert await place.receive(wait=0) == []
    assert len(await place.receive(wait=1)) == 1


@pytest.mark.parametrize(("chance", "left"), [("entry_fails", 1), ("entry_fails_after", 0)])
def test_an_entry_may_fail_and_be_carried_out_all_the_same(chance: str, left: int) -> None:
    async def check() -> None:
        place = model_place(random.Random(1), **{chance: 1})
        await place.send("a")
        message = await place.receive_one(visibility=5)

        (failed,) = await place.queue.delete([message.receipt_handle])

        assert failed is not None
        assert (failed.code, failed.stale) == ("InternalError", False)
        assert len(model_of(place).contents()) == left

    run(check())


@in_virtual_time
async def test_an_acknowledgement_may_take_effect_late() -> None:
    place = model_place(random.Random(1), acknowledged_late=1)
    await place.send("a")
    message = await place.receive_one(visibility=60)

    assert await place.queue.hide([(message.receipt_handle, 0)]) == [None]
    assert await place.receive() == []
    await asyncio.sleep(2.1)
    message = await place.receive_one(visibility=60)
    assert await place.queue.delete([message.receipt_handle]) == [None]
    assert len(model_of(place).contents()) == 1
    await asyncio.sleep(2.1)
    assert model_of(place).contents() == []


@in_virtual_time
async def test_the_faults_of_the_service_are_what_the_edge_tells_apart() -> None:
    queue = SimulatedQueue("jobs", random.Random(1))
    sqs, edge = behind(FaultyNetwork(), queue)

    async def fault() -> tuple[Reason, bool]:
        found = set()
        for call in (
            edge.receive(limit=1, wait_seconds=0, visibility_seconds=1),
            edge.state(),
            edge.delete(["h"]),
            edge.hide([("h", 1)]),
        ):
            with pytest.raises(EdgeFault) as caught:
                await call
            found.add((caught.value.reason, caught.value.curable))
        (only,) = found
        return only

    sqs.faults.down = True
    assert await fault() == (Reason.UNREACHABLE, True)
    sqs.faults.down, sqs.faults.throttled = False, 1.0
    assert await fault() == (Reason.THROTTLED, True)
    sqs.faults.throttled, sqs.faults.failing = 0.0, 1.0
    assert await fault() == (Reason.UNAVAILABLE, True)
    sqs.faults.failing, sqs.faults.credentials_expired = 0.0, True
    assert await fault() == (Reason.CREDENTIALS, True)
    sqs.faults.credentials_expired = False
    sqs.faults.denied |= {
        "ReceiveMessage",
        "GetQueueAttributes",
        "DeleteMessageBatch",
        "ChangeMessageVisibilityBatch",
    }
    assert await fault() == (Reason.ACCESS_DENIED, True)
    sqs.faults.denied.clear()
    assert (await edge.state()).visible == 0


@in_virtual_time
async def test_the_client_repeats_what_was_lost_so_that_a_message_can_be_sent_twice() -> None:
    queue, dead = SimulatedQueue("jobs", random.Random(1)), SimulatedQueue("dead", random.Random(1))
    network = FaultyNetwork((0, lost()), (lost(), 0), (0, 0))
    _, edge = behind(network, queue, dead)

    await edge.send_dead_letter(dead.url, "a", {})

    assert network.names == ["SendMessage"] * 3
    assert [message.body for message in dead.messages] == ["a", "a"]


@in_virtual_time
async def test_the_client_gives_up_after_its_last_try() -> None:
    queue = SimulatedQueue("jobs", random.Random(1))
    network = FaultyNetwork(*[(lost(), 0)] * 3)
    _, edge = behind(network, queue)

    with pytest.raises(EdgeFault) as caught:
        await edge.delete(["h"])

    assert caught.value.reason is Reason.UNREACHABLE
    assert not network.fates


@in_virtual_time
async def test_an_answer_later_than_the_read_time_out_is_none() -> None:
    queue = SimulatedQueue("jobs", random.Random(1))
    queue.send("a")
    loop = asyncio.get_running_loop()
    _, edge = behind(FaultyNetwork((0, 100)), queue, attempts=1, read_seconds=10)
    began = loop.time()

    with pytest.raises(EdgeFault) as caught:
        await edge.receive(limit=1, wait_seconds=0, visibility_seconds=60)

    assert caught.value.reason is Reason.UNREACHABLE
    assert loop.time() - began == pytest.approx(10)
    assert seen(queue)[-1] == "received 1, hidden 60 s"  # nobody has it
    await asyncio.sleep(60)
    assert queue.messages[0].history(loop.time()).endswith("visible again")


@in_virtual_time
async def test_a_long_poll_whose_answer_is_lost_has_hidden_its_message() -> None:
    queue = SimulatedQueue("jobs", random.Random(1))
    _, edge = behind(FaultyNetwork((0, 0), (lost(), 0)), queue, attempts=1)
    polling = asyncio.ensure_future(edge.receive(limit=1, wait_seconds=10, visibility_seconds=60))
    await asyncio.sleep(1)
    queue.send("a")

    with pytest.raises(EdgeFault):
        await polling

    assert seen(queue)[-1] == "received 1, hidden 60 s"


@in_virtual_time
async def test_the_same_seed_gives_the_same_history() -> None:
    async def history(seed: int) -> list[str]:
        rng = random.Random(seed)
        chances = (
            "stored_twice",
            "delivered_in_flight",
            "fewer_than_asked",
            "deleted_comes_back",
            "entry_fails",
            "acknowledged_late",
        )
        place = model_place(rng, **dict.fromkeys(chances, 0.2))
        model = model_of(place)
        began = asyncio.get_running_loop().time()
        for number in range(20):
            await place.send(f"body {number}")
            for message in await place.receive(limit=5, visibility=5):
                if rng.random() < 0.5:
                    await place.queue.delete([message.receipt_handle])
                else:
                    await place.queue.hide([(message.receipt_handle, rng.randrange(10))])
            await asyncio.sleep(rng.random() * 3)
        return [
            f"{time - began:.6f} {what}"
            for message in model.messages
            for time, what in message.life
        ]

    assert await history(7) == await history(7) != await history(8)

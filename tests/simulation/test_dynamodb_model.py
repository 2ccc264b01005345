"""The simulated DynamoDB against independent implementations of its API: the same calls of the
checkpoint's table, the same answers.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from daemon.aws.dynamodb import DynamoDbPlace
from daemon.checkpoint.dynamodb.aws_table import AwsTable, open_aws_table
from daemon.checkpoint.dynamodb.table import WRITE_ID, ConditionFailed, Index
from daemon.errors import EdgeFault
from daemon.reasons import Reason
from tests.simulation.dynamodb import SimulatedDynamoDb, SimulatedDynamoDbClient
from tests.simulation.loop import START, Process, VirtualLoop, virtual
from tests.simulation.network import SimulatedNetwork
from tests.support.dynamodb_tables import SERVERS, aws_credentials, make_table, place_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from daemon.checkpoint.dynamodb.table import Item, Table

__all__ = ["aws_credentials"]

LAG_SECONDS = 5.0
"""After so long the indexes show everything."""


async def _answers(table: Table, settle: Callable[[], Coroutine[Any, Any, None]]) -> list[Any]:
    """What a table answers to a script of calls. Ids of writes differ."""
    answers: list[Any] = []

    async def note(call: Coroutine[Any, Any, Any]) -> None:
        try:
            answer = await call
        except ConditionFailed:
            answers.append("condition failed")
        else:
            answers.append(_plain(answer))

    for call in (
        table.get("job#a", "none"),
        table.partition("job#a"),
        table.delete("job#a", "none", expected=1),
        table.put(_item("a", "v2 p", 1, outcome="synced#1", changed_at=30.25), expected=None),
        table.put(_item("a", "v2 p", 1), expected=None),
        table.put(_item("a", "v2 p", 3), expected=2),
        table.put(_item("a", "v2 p", 2, outcome="synced#1", changed_at=30.25), expected=1),
        table.put(_item("a", "v2 p", 2, detail="late"), expected=1),
        table.get("job#a", "v2 p"),
        table.put(_item("a", "v2 é", 1, group="project#ü", changed_at=10), expected=None),
        table.put(_item("a", "v2 Z", 1, group="project#ü", changed_at=20.5), expected=None),
        table.put(_item("b", "v2 p", 1, outcome="synced#1", changed_at=5.125), expected=None),
        table.put(_item("c", "v2 p", 1, outcome="synced#2", changed_at=6), expected=None),
        table.put(_item("d", "no range key", 1, outcome="synced#1"), expected=None),
        table.partition("job#a"),
        table.partition("job#a", consistent=False),
        table.delete("job#c", "v2 p", expected=2),
        table.delete("job#c", "v2 p", expected=1),
        table.get("job#c", "v2 p"),
        table.put(_item("c", "v2 p", 2), expected=1),
        table.put(_item("e", "v2 p", 1, expires_at=1), expected=None),
    ):
        await note(call)
    for number in range(40):
        item = _item(f"n{number}", "v2 p", 1, outcome="writing#0", changed_at=100 + number / 8)
        await table.put(item, expected=None)
    await settle()
    outcome, group = Index.BY_OUTCOME, Index.BY_GROUP
    more: dict[str, Any]
    for index, key, more in (
        (outcome, "synced#1", {}),
        (outcome, "synced#1", {"newest_first": False}),
        (outcome, "synced#1", {"after": 5.125, "before": 30.25}),
        (outcome, "synced#1", {"after": 5.2}),
        (outcome, "synced#2", {}),
        (outcome, "writing#0", {"limit": 7}),
        (outcome, "writing#0", {"newest_first": False, "limit": 9}),
        (group, "project#ü", {}),
        (group, "project#none", {}),
    ):
        answers.append(await _all_of(table, index, key, **more))
        answers.append(await table.count(index, key))
    return answers


async def _all_of(table: Table, index: Index, key: str, **wanted: Any) -> list[Any]:
    """All pages of an index."""
    found: list[Any] = []
    page = await table.index(index, key, **wanted)
    while True:
        found += [(item["pk"], item["sk"], item["changed_at"]) for item in page.items]
        if page.next is None:
            return found
        page = await table.index(index, key, **wanted, page=page.next)


def _item(job: str, sort: str, version: int, **more: Any) -> Item:
    return {"pk": f"job#{job}", "sk": sort, "version": version, "text": "a 'text', ü", **more}


def _plain(answer: Any) -> Any:
    if isinstance(answer, list):
        return [_plain(each) for each in answer]
    if isinstance(answer, dict):
        return {name: value for name, value in answer.items() if name != WRITE_ID}
    return answer


@pytest.fixture
def loop() -> Any:
    made = VirtualLoop()
    with virtual(made, random.Random(1)):
        yield made
        made.end()


def _service(loop: VirtualLoop) -> tuple[SimulatedDynamoDb, SimulatedNetwork, AwsTable]:
    seeded = random.Random(2)
    service = SimulatedDynamoDb(loop, seeded, loop.true_wall)
    network = SimulatedNetwork(loop, seeded, lambda _line: None)
    client: Any = SimulatedDynamoDbClient(service, network, seeded)
    return service, network, AwsTable(client, DynamoDbPlace("checkpoint"), AsyncExitStack())


@asynccontextmanager
async def _real_table(server: str, moto_endpoint: str) -> AsyncIterator[AwsTable]:
    place = place_on(server, moto_endpoint)
    await make_table(place)
    table = await open_aws_table(place)
    try:
        yield table
    finally:
        await table.aclose()


@pytest.mark.usefixtures("aws_credentials")
@pytest.mark.parametrize("server", SERVERS)
def test_the_model_answers_as_real_implementations_do(server: str, moto_endpoint: str) -> None:
    async def nothing() -> None: ...

    async def of_a_server() -> list[Any]:
        async with _real_table(server, moto_endpoint) as table:
            return await _answers(table, nothing)

    real = asyncio.run(of_a_server())
    loop = VirtualLoop()
    with virtual(loop, random.Random(1)):
        _, _, table = _service(loop)
        model = loop.run_until_complete(_answers(table, lambda: asyncio.sleep(LAG_SECONDS)))
        loop.end()
    assert model == real


def test_an_index_shows_a_write_a_moment_later(loop: VirtualLoop) -> None:
    _, _, table = _service(loop)

    async def script() -> list[int]:
        item = _item("a", "v2 p", 1, outcome="synced#1", changed_at=1)
        await table.put(item, expected=None)
        at_once = await table.count(Index.BY_OUTCOME, "synced#1")
        await asyncio.sleep(LAG_SECONDS)
        return [at_once, await table.count(Index.BY_OUTCOME, "synced#1")]

    assert loop.run_until_complete(script()) == [0, 1]


def test_an_expired_item_goes_within_two_days(loop: VirtualLoop) -> None:
    _, _, table = _service(loop)

    async def script() -> list[bool]:
        item = _item("a", "v2 p", 1, expires_at=START + 60)
        await table.put(item, expected=None)
        await asyncio.sleep(61)
        there = [await table.get("job#a", "v2 p") is not None]
        await asyncio.sleep(2 * 86400)
        return [*there, await table.get("job#a", "v2 p") is not None]

    assert loop.run_until_complete(script()) == [True, False]


@pytest.mark.parametrize("fate", ["answer lost", "no answer", "late"])
def test_a_write_whose_answer_is_lost_is_carried_out_once(loop: VirtualLoop, fate: str) -> None:
    service, network, table = _service(loop)
    written: list[object] = []
    service.watchers.append(lambda _before, after: written.append(after))

    async def script() -> None:
        network.chances = {fate: 1.0}
        loop.call_later(0.5, network.chances.clear)
        await table.put(_item("a", "v2 p", 1), expected=None)
        await asyncio.sleep(60)

    loop.run_until_complete(script())
    assert len(written) == 1


def test_what_a_killed_process_has_sent_is_carried_out(loop: VirtualLoop) -> None:
    service, _, table = _service(loop)
    process = Process("daemon")
    loop.start(process, table.put(_item("a", "v2 p", 1), expected=None), name="daemon")
    process.before_step = 2, process.crash
    loop.run_until_complete(asyncio.sleep(5))
    assert process.dead
    assert len(service.items) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"down": True}, Reason.UNREACHABLE),
        ({"throttled": 1.0}, Reason.THROTTLED),
        ({"failing": 1.0}, Reason.UNAVAILABLE),
        ({"credentials_expired": True}, Reason.CREDENTIALS),
    ],
)
def test_faults_of_the_service_are_those_of_the_edge(
    loop: VirtualLoop, fault: dict[str, Any], reason: Reason
) -> None:
    service, _, table = _service(loop)
    for name, value in fault.items():
        setattr(service.faults, name, value)
    with pytest.raises(EdgeFault) as raised:
        loop.run_until_complete(table.get("job#a", "v2 p"))
    assert raised.value.reason is reason


def test_a_slow_partition_is_slow_and_others_are_not(loop: VirtualLoop) -> None:
    service, _, table = _service(loop)
    service.table_faults.slow, service.table_faults.slow_seconds = 0.5, 2.0

    async def seconds(partition: str) -> float:
        begun = loop.time()
        await table.get(partition, "v2 p")
        return loop.time() - begun

    took = [loop.run_until_complete(seconds(f"job#{each}")) for each in range(20)]
    assert any(each > 0.2 for each in took)
    assert any(each < 0.1 for each in took)

"""Whether a server works, including its database and metadata store."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest

from daemon.demo.modeldb_v1.store import ServerError
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.probe import Probe
from tests.support.modeldb_v1_connections import (
    failure_of,
    until,
)
from tests.support.modeldb_v1_target import Permit, target_on
from tests.support.scripted_addresses import listening, silence

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn


async def fault_on(
    port: int, *, metadata_store: bool = True, call_seconds: float = 45.0
) -> EdgeFault:
    """The target's, to whom nobody has given the right to write."""
    permit = Permit()
    permit.holds = False
    async with target_on(
        port, metadata_store=metadata_store, permit=permit, call_seconds=call_seconds
    ) as target:
        with pytest.raises(EdgeFault) as caught:
            await target.probe()
    assert caught.value.edge is Edge.TARGET
    return caught.value


@pytest.mark.parametrize("metadata_store", [True, False])
async def test_a_server_that_works(server: ModelDbV1StandIn, *, metadata_store: bool) -> None:
    permit = Permit()
    permit.holds = False
    async with target_on(server.port, metadata_store=metadata_store, permit=permit) as target:
        await target.probe()
        await target.probe()
        await until(lambda: server.open_connections == 0)
    compared = ["computeModelAncestry"] * 2 + ["createOrUpdateScalarField"]
    assert (
        server.calls
        == ["getProjectIds", *(["getModelIds", *compared] if metadata_store else [])] * 2
    )


async def test_a_database_that_is_busy(server: ModelDbV1StandIn) -> None:
    server.faults.storage_busy = True
    fault = await fault_on(server.port)
    assert (fault.reason, fault.curable) == (Reason.UNAVAILABLE, True)
    assert "SQLITE_BUSY" in fault.detail


async def test_a_metadata_store_that_is_down(server: ModelDbV1StandIn) -> None:
    server.faults.mongo_down = True
    for _ in range(2):
        fault = await fault_on(server.port)
        assert (fault.reason, fault.curable) == (Reason.UNAVAILABLE, True)
        assert "set target.metadata_store to false" in fault.detail
    async with target_on(server.port, metadata_store=False) as target:
        await target.probe()


async def test_nobody_listens(server: ModelDbV1StandIn) -> None:
    await server.aclose()
    fault = await fault_on(server.port)
    assert (fault.reason, fault.curable) == (Reason.UNREACHABLE, True)
    assert "Connection refused" in fault.detail


async def test_an_http_server_on_the_port(server: ModelDbV1StandIn) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await silence(reader, writer)

    async with listening(answer) as port:
        fault = await fault_on(port)
    assert (fault.reason, fault.curable) == (Reason.NOT_THE_API, False)
    assert "an HTTP server answers" in fault.detail


async def test_a_database_without_tables(server: ModelDbV1StandIn) -> None:
    error = ServerError(
        "DataAccessException: SQL [select 1]; [SQLITE_ERROR] SQL error (no such table: Project)"
    )
    server.faults.refuse(INTERFACE.ServerLogicException(str(error)), method="getProjectIds")
    fault = await fault_on(server.port)
    assert (fault.reason, fault.curable) == (Reason.NOT_THE_API, False)
    assert "createDb.sql" in fault.detail


async def test_what_nobody_knows_holds_too(server: ModelDbV1StandIn) -> None:
    server.faults.refuse(
        INTERFACE.ServerLogicException("FooException: bar"), method="getProjectIds"
    )
    fault = await fault_on(server.port)
    assert (fault.reason, fault.curable, fault.detail) == (
        Reason.UNAVAILABLE,
        True,
        "FooException: bar",
    )


@pytest.mark.parametrize(
    ("metadata_store", "method"), [(True, "getModelIds"), (False, "getProjectIds")]
)
async def test_no_answer_in_time(
    server: ModelDbV1StandIn, method: str, *, metadata_store: bool
) -> None:
    server.faults.freeze()
    fault = await fault_on(server.port, metadata_store=metadata_store, call_seconds=0.05)
    assert (fault.reason, fault.curable) == (Reason.UNREACHABLE, True)
    assert method in fault.detail
    server.faults.thaw()


class Opened(list[Connection]):
    """Connections to a server, as they are asked for."""

    def __init__(self, server: ModelDbV1StandIn) -> None:
        self._open: Callable[[], Awaitable[Connection]] = partial(
            Connection.open, "127.0.0.1", server.port, call_seconds=900.0
        )

    async def __call__(self) -> Connection:
        self.append(await self._open())
        return self[-1]


async def test_probes_of_a_frozen_metadata_store_wait_on_one_connection(
    server: ModelDbV1StandIn,
) -> None:
    """Each connection that waits for it binds one of the server's 100 threads for good."""
    server.faults.mongo_frozen = True
    opened = Opened(server)
    probe = Probe(opened, call_seconds=0.05, metadata_store=True)
    for _ in range(3):
        failed = await failure_of(probe.ask())
        assert (failed.kind, failed.sent) == (CallErrorKind.UNREACHABLE, True)
    assert len(opened) == 1
    assert server.open_connections == 1
    server.faults.mongo_frozen = False
    probe._call_seconds = 10
    await Probe.ask(probe)
    await until(lambda: server.open_connections == 0)
    await probe.ask()
    assert len(opened) == 2
    await probe.aclose()


async def test_the_targets_probes_wait_on_one_connection(server: ModelDbV1StandIn) -> None:
    server.faults.mongo_frozen = True
    async with target_on(server.port, metadata_store=True, call_seconds=0.05) as target:
        for _ in range(3):
            with pytest.raises(EdgeFault):
                await target.probe()
    assert {each.connection for each in server.received} == {1}
    server.faults.mongo_frozen = False


async def test_a_connection_that_was_lost_meanwhile_is_made_anew(server: ModelDbV1StandIn) -> None:
    server.faults.mongo_frozen = True
    opened = Opened(server)
    probe = Probe(opened, call_seconds=0.05, metadata_store=True)
    await failure_of(probe.ask())
    await server.restart()
    server.faults.mongo_frozen = False
    await until(lambda: opened[0].closed)
    probe._call_seconds = 10
    await probe.ask()
    assert len(opened) == 2


async def test_a_probe_that_waits_is_closed_with_the_target(server: ModelDbV1StandIn) -> None:
    server.faults.mongo_frozen = True
    probe = Probe(Opened(server), call_seconds=0.05, metadata_store=True)
    await failure_of(probe.ask())
    await probe.aclose()
    server.faults.mongo_frozen = False
    await until(lambda: server.open_connections == 0)


async def test_the_next_probe_waits_on_the_connection_of_a_cancelled_one(
    server: ModelDbV1StandIn,
) -> None:
    server.faults.mongo_frozen = True
    opened = Opened(server)
    probe = Probe(opened, call_seconds=45.0, metadata_store=True)
    asking = asyncio.create_task(probe.ask())
    await server.wait_for_calls("getModelIds")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    again = asyncio.create_task(probe.ask())
    server.faults.mongo_frozen = False
    await again
    assert len(opened) == 1
    await until(lambda: server.open_connections == 0)


async def test_two_who_ask_at_once_get_an_answer_each_over_one_connection_at_a_time(
    server: ModelDbV1StandIn,
) -> None:
    server.faults.mongo_frozen = True
    probe = Probe(Opened(server), call_seconds=45.0, metadata_store=True)
    asking = [asyncio.create_task(probe.ask()) for _ in range(2)]
    await server.wait_for_calls("getModelIds")
    assert server.open_connections == 1
    server.faults.mongo_frozen = False
    await asyncio.gather(*asking)
    assert server.calls == ["getProjectIds", "getModelIds"] * 2
    await until(lambda: server.open_connections == 0)


async def test_two_who_ask_while_the_metadata_store_is_frozen_wait_on_one_connection(
    server: ModelDbV1StandIn,
) -> None:
    # Two probes at a time each took the connection of the last one to be theirs alone, and the one
    # that ended first closed it under the other.
    server.faults.mongo_frozen = True
    opened = Opened(server)
    probe = Probe(opened, call_seconds=0.05, metadata_store=True)
    for _ in range(3):
        failures = await asyncio.gather(
            *(failure_of(probe.ask()) for _ in range(3)),
        )
        assert {failed.kind for failed in failures} == {CallErrorKind.UNREACHABLE}
    assert len(opened) == 1
    server.faults.mongo_frozen = False
    probe._call_seconds = 10
    await asyncio.gather(*(probe.ask() for _ in range(3)))
    await until(lambda: server.open_connections == 0)


async def test_a_failed_answer_closes_the_connection(server: ModelDbV1StandIn) -> None:
    server.faults.mongo_down = True
    opened = Opened(server)
    with pytest.raises(CallFailed):
        await Probe(opened, call_seconds=45.0, metadata_store=True).ask()
    assert opened[0].closed

"""The one write connection: connect, settle, read, write, and only for the writer."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING

import pytest

from daemon.errors import JobFault
from daemon.reasons import Reason
from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.errors import CallErrorKind
from daemon.targets.modeldb_v1.job_sync import JobSync
from daemon.targets.modeldb_v1.mapping import map_job
from daemon.targets.modeldb_v1.probe import Probe, read_stores
from daemon.targets.modeldb_v1.write_session import WriteSession
from tests.support.modeldb_v1_connections import failure_of, until
from tests.support.modeldb_v1_target import Permit, full_job, wrong
from tests.support.modeldb_v2_target import MemoryJournal, Settling

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.targets.modeldb_v1.write_session import Term
    from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

PROMPT_SECONDS = 0.5
"""Long enough for the answers of a server on a busy machine."""


@pytest.fixture
def settling() -> Settling:
    return Settling()


@pytest.fixture
async def session(
    server: ModelDbV1StandIn, permit: Permit, settling: Settling
) -> AsyncIterator[WriteSession]:
    async with session_on(server, permit, settling) as made:
        yield made


@contextlib.asynccontextmanager
async def session_on(
    server: ModelDbV1StandIn, permit: Permit, settling: Settling
) -> AsyncIterator[WriteSession]:
    connect = partial(Connection.open, "127.0.0.1", server.port)
    probe = Probe(connect, call_seconds=45.0, metadata_store=True)
    session = WriteSession(
        partial(connect, may_send=permit.may_send),
        permit,
        probe=probe.ask,
        read_stores=partial(read_stores, metadata_store=True),
        settle_seconds=5.0,
        sleep=settling,
    )
    try:
        yield session
    finally:
        await session.aclose()
        await probe.aclose()


async def sync(term: Term) -> None:
    async def no_second_connection() -> Connection:
        raise AssertionError

    journal = MemoryJournal()
    job = map_job(full_job(), metadata_store=True)
    await JobSync("test", term, no_second_connection, job, journal, metadata_store=True).sync()


async def test_probe_connect_settle_read_write_for_each_term(
    server: ModelDbV1StandIn, session: WriteSession, settling: Settling
) -> None:
    order: list[str] = []

    async def note() -> None:
        order.append(f"settling on {server.open_connections} connection")

    settling.during = note
    for runs_known in (False, True):
        server.received.clear()
        order.clear()
        term = await session.term()
        assert order == ["settling on 1 connection"] * 5
        looked = ["getRunsAndExperimentsInProject"] if runs_known else []
        assert server.calls == ["getProjectIds", "getModelIds"] * (1 + 5) + looked, (
            "nothing else leaves before the server has settled"
        )
        await sync(term)
        assert server.calls[12 + runs_known] == "getProjectIds", (
            "nothing is written before it has been read"
        )
        probing, *others = [each.connection for each in server.received[1:]]
        assert set(others) == {probing + 1}, "the probe has its own"
        await server.restart()
        await until(lambda term=term: term.connection.closed)  # type: ignore[misc] # the loop's own
    assert settling.slept == [1.0] * 10
    assert wrong(server, [full_job()], metadata_store=True) == []


async def test_all_get_the_same_connection(
    server: ModelDbV1StandIn, session: WriteSession, settling: Settling
) -> None:
    terms = await asyncio.gather(*(session.term() for _ in range(5)))
    assert {id(each) for each in terms} == {id(terms[0])}
    assert settling.slept == [1.0] * 5
    assert server.open_connections == 1


async def test_a_server_that_was_frozen_meanwhile_settles_again(
    server: ModelDbV1StandIn,
    session: WriteSession,
    settling: Settling,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A daemon was killed with calls on their way to a server that had just frozen (a paused
    # machine, a long garbage collection). Its successor connected, slept its settle time and asked;
    # when the server went on, it carried out both at once: two fits in one run.
    monkeypatch.setattr("daemon.targets.modeldb_v1.write_session.PROMPT_SECONDS", PROMPT_SECONDS)
    asked = server.faults.hold_before_answer(method="getModelIds", nth=1 + 4)
    getting = asyncio.create_task(session.term())
    await asked.reached.wait()
    await asyncio.sleep(2 * PROMPT_SECONDS)  # it is the time itself that counts
    asked.release()
    await getting
    assert settling.slept == [1.0] * (4 + 5)


@pytest.mark.parametrize("after", [0, 3])
async def test_nothing_settles_while_the_metadata_store_is_away(
    server: ModelDbV1StandIn, session: WriteSession, settling: Settling, after: int
) -> None:
    # A thread that waits for MongoDB carries out the next request of its connection up to 30 s
    # after the client has gone, while the server answers all others at once.
    async def go_away() -> None:
        server.faults.mongo_down = len(settling.slept) >= after

    settling.during = go_away
    server.faults.mongo_down = after == 0
    for _ in range(2):
        failed = await failure_of(session.term())
        assert failed.kind is CallErrorKind.METADATA_STORE_DOWN
    assert len(settling.slept) == after
    await until(lambda: server.open_connections == 0)

    settling.during, server.faults.mongo_down = None, False
    await session.term()
    assert len(settling.slept) == after + 5, "what has settled before does not count"


async def test_time_in_which_the_metadata_store_hangs_does_not_count(
    server: ModelDbV1StandIn,
    session: WriteSession,
    settling: Settling,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.targets.modeldb_v1.write_session.PROMPT_SECONDS", PROMPT_SECONDS)

    async def hang() -> None:
        server.faults.mongo_frozen = len(settling.slept) == 4

    settling.during = hang
    getting = asyncio.create_task(session.term())
    await server.wait_for_calls("getModelIds", 1 + 4)
    await asyncio.sleep(2 * PROMPT_SECONDS)  # it is the time itself that counts
    server.faults.mongo_frozen = False
    await getting
    assert settling.slept == [1.0] * (4 + 5)


async def test_all_who_wait_get_the_failure_of_one_attempt(
    server: ModelDbV1StandIn, session: WriteSession
) -> None:
    # With MongoDB away an attempt takes 30 s: those of 64 jobs, one after the other, took half an
    # hour.
    away = INTERFACE.ServerLogicException("MongoTimeoutException: Timed out after 30000 ms")
    server.faults.refuse(away, method="getModelIds")
    failures = await asyncio.gather(*(failure_of(session.term()) for _ in range(5)))
    assert {failed.kind for failed in failures} == {CallErrorKind.METADATA_STORE_DOWN}
    assert server.calls == ["getProjectIds", "getModelIds"]


async def test_a_failure_counts_only_for_those_who_waited(
    server: ModelDbV1StandIn, session: WriteSession
) -> None:
    server.faults.mongo_down = True
    await failure_of(session.term())
    server.faults.mongo_down = False
    await session.term()


async def test_what_was_read_over_a_lost_connection_is_forgotten(session: WriteSession) -> None:
    first = await session.term()
    session.cut()
    second = await session.term()
    assert second.connection is not first.connection
    assert second.run_index is not first.run_index


async def test_only_the_writer_connects(
    server: ModelDbV1StandIn, session: WriteSession, permit: Permit
) -> None:
    permit.holds = False
    with pytest.raises(JobFault) as caught:
        await session.term()
    assert (caught.value.reason, caught.value.delay_seconds) == (Reason.STANDING_BY, 5.0)
    assert server.open_connections == 0


async def test_a_living_connection_is_not_for_those_who_are_no_longer_the_writer(
    session: WriteSession, permit: Permit
) -> None:
    await session.term()
    permit.holds = False
    with pytest.raises(JobFault, match="standing_by"):
        await session.term()


async def test_the_permit_ends_while_the_server_settles(
    server: ModelDbV1StandIn, session: WriteSession, permit: Permit, settling: Settling
) -> None:
    async def end() -> None:
        permit.end()

    settling.during = end
    with pytest.raises(JobFault, match="standing_by"):
        await session.term()
    await until(lambda: server.open_connections == 0)
    settling.during, permit.holds = None, True
    await session.term()
    assert settling.slept == [1.0] * (1 + 5), "another process may have written meanwhile"


async def test_the_end_of_the_permit_cuts_the_connection_with_what_is_under_way(
    server: ModelDbV1StandIn, session: WriteSession, permit: Permit
) -> None:
    connection = (await session.term()).connection
    hold = server.faults.hold_before_answer(method="getProjectIds")
    calling = asyncio.create_task(connection.call("getProjectIds", keyValuePairs={}))
    await hold.reached.wait()
    permit.end()
    assert connection.closed
    failed = await failure_of(calling)
    assert (failed.sent, failed.answered) == (True, False)
    hold.release()


async def test_the_end_of_the_permit_before_there_is_a_connection(
    session: WriteSession, permit: Permit
) -> None:
    permit.end()
    permit.holds = True
    await session.term()


async def test_cancelling_while_the_server_settles_leaves_no_connection(
    server: ModelDbV1StandIn, session: WriteSession, settling: Settling
) -> None:
    reached = asyncio.Event()

    async def for_ever() -> None:
        reached.set()
        await asyncio.Event().wait()

    settling.during = for_ever
    waiting = asyncio.create_task(session.term())
    await reached.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("connected", [True, False])
async def test_the_permit_is_given_back_when_nothing_is_under_way(
    server: ModelDbV1StandIn, permit: Permit, settling: Settling, *, connected: bool
) -> None:
    async with session_on(server, permit, settling) as session:
        if connected:
            term = await session.term()
            await term.connection.call("getProjectIds", keyValuePairs={})
    assert permit.released == 1


async def test_the_permit_is_kept_while_something_is_under_way(
    server: ModelDbV1StandIn, permit: Permit, settling: Settling
) -> None:
    async with session_on(server, permit, settling) as session:
        connection = (await session.term()).connection
        hold = server.faults.hold_before_answer(method="getProjectIds")
        calling = asyncio.create_task(connection.call("getProjectIds", keyValuePairs={}))
        await hold.reached.wait()
        calling.cancel()
    assert permit.released == 0
    hold.release()


async def test_the_permit_is_kept_when_the_connection_was_lost(
    server: ModelDbV1StandIn, permit: Permit, settling: Settling
) -> None:
    async with session_on(server, permit, settling) as session:
        term = await session.term()
        server.faults.drop_before_answer()
        await failure_of(term.connection.call("getProjectIds", keyValuePairs={}))
    assert permit.released == 0

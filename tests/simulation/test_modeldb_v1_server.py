"""The simulated ModelDB V1: the real target works on it, its connections, and its race. Time is
virtual.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.modeldb_v1_server import LONGEST_DELAY_SECONDS, SimulatedModelDbV1
from tests.simulation.modeldb_v1_server_scene import (
    LINGER_SECONDS,
    SEEDS,
    SETTLE_SECONDS,
    new_run,
    now,
    run_scenario,
    target_of,
    until,
)
from tests.support.modeldb_v1_connections import failure_of
from tests.support.modeldb_v1_plain_client import data_frame, fit, project, run
from tests.support.modeldb_v1_replay import replay_counted, stories
from tests.support.modeldb_v1_target import full_job, until_synced, when_it_stores_a_fit
from tests.support.modeldb_v2_target import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.modeldb_v1_replay import Story


async def persist(target: ModelDBV1Target, job: Any, *, known: bool = True) -> None:
    """Attempts until one succeeds."""
    journal = MemoryJournal(look_up_first=not known)
    for _ in range(60):
        with contextlib.suppress(Exception):
            await target.sync(job, journal)
            return
        await asyncio.sleep(1.0)
    raise AssertionError(f"{job.name} was never synced")


class TestTheRealTarget:
    @pytest.mark.parametrize("metadata_store", [True, False])
    def test_syncs_jobs_side_by_side(self, *, metadata_store: bool) -> None:
        jobs = [
            full_job(f"job-{number}", project_name=f"project {number % 3}") for number in range(8)
        ]

        async def sync(server: SimulatedModelDbV1) -> None:
            async with target_of(server) as target:
                await target.probe()
                await asyncio.gather(*(target.sync(each, MemoryJournal()) for each in jobs))
                assert all([await target.find(each.mark) for each in jobs])
            await until(lambda: server.open_connections == 0)

        server, _ = run_scenario(sync, metadata_store=metadata_store)
        assert server.wrong(jobs, documents_needed=True) == []
        assert server.violations == []
        assert server.calls["storeFitEvent"] == len(jobs)

    def test_history_follows_from_the_seed(self) -> None:
        async def sync(server: SimulatedModelDbV1) -> None:
            async with target_of(server) as target:
                await asyncio.gather(
                    *(target.sync(full_job(name), MemoryJournal()) for name in ("a", "b"))
                )

        first, again, other = (run_scenario(sync, seed=seed)[1] for seed in (1, 1, 2))
        assert first == again
        assert first != other

    def test_a_writer_that_takes_over_while_mongodb_is_away_makes_no_second_model(self) -> None:
        """Without any grace. The fit of job-1 fails at once, that of job-2 waits for MongoDB, and
        that of job-3 is behind it: it is carried out when MongoDB is back, or 30 s later.
        """
        jobs = [full_job(f"job-{number}") for number in range(6)]

        async def take_over(server: SimulatedModelDbV1, seed: int) -> None:
            chance, owner = Random(seed), object()
            async with target_of(server, owner=owner) as first:
                await persist(first, jobs[0])
                when_it_stores_a_fit(server.faults, partial(setattr, server, "mongo_down", True))
                writing = [asyncio.create_task(persist(first, each)) for each in jobs[1:]]
                await until(lambda: server.mongo_down)
                await asyncio.sleep(chance.uniform(0.0, 10.0))
                server.crash(owner)
                for each in writing:
                    each.cancel()
                await asyncio.wait(writing)
            asyncio.get_running_loop().call_later(
                chance.uniform(0.0, 60.0), setattr, server, "mongo_down", False
            )
            async with target_of(server) as second:
                rest = [jobs[3], *chance.sample([jobs[1], jobs[2], jobs[4], jobs[5]], k=4)]
                await asyncio.gather(*(persist(second, each, known=False) for each in rest))
            await until(lambda: server.open_connections == 0)

        for_nobody = 0
        for seed in SEEDS:
            server, history = run_scenario(partial(take_over, seed=seed), seed=seed, bounded=False)
            assert (server.wrong(jobs), server.violations) == ([], []), (seed, "\n".join(history))
            for_nobody += server.counts["carried out for nobody"]
        assert for_nobody > 5

    @pytest.mark.parametrize("metadata_store", [True, False])
    def test_recovers_from_everything_at_once(self, *, metadata_store: bool) -> None:
        jobs = [full_job(f"job-{number}") for number in range(3)]

        async def trouble(server: SimulatedModelDbV1, seed: int) -> None:
            faults: list[Callable[[], object]] = [
                server.restart,
                server.lose_next_answer,
                server.reset_connections,
                server.die_in_next_write,
                partial(server.freeze, 2.0),
                lambda: setattr(server, "storage_busy", True),
                lambda: setattr(server, "storage_busy", False),
            ]
            chance = Random(seed)
            for _ in range(20):
                await asyncio.sleep(chance.uniform(0.0, 4.0))
                chance.choice(faults)()
            server.repair()

        async def sync(server: SimulatedModelDbV1, seed: int) -> None:
            server.chance_of_slow_write = 0.02
            async with target_of(server) as target:
                troubling = asyncio.create_task(trouble(server, seed))
                await asyncio.gather(*(persist(target, each) for each in jobs))
                await troubling
            await until(lambda: server.open_connections == 0)

        happened = set[str]()
        for seed in SEEDS:
            server, history = run_scenario(
                partial(sync, seed=seed), seed=seed, metadata_store=metadata_store
            )
            assert (server.wrong(jobs), server.violations) == ([], []), (seed, "\n".join(history))
            happened |= server.counts.keys()
        assert {
            "down",
            "answer lost",
            "connections reset",
            "died in a call",
            "frozen",
            "storage busy",
            "slow write",
        } <= happened


@pytest.mark.parametrize(
    "story", [each for each in stories() if not each.needs_hands], ids=lambda each: each.name
)
def test_recorded_exchanges(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    async def replay(server: SimulatedModelDbV1) -> None:
        async def open_connection(
            _host: str, _port: int
        ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await server.open_streams()

        monkeypatch.setattr(asyncio, "open_connection", open_connection)
        result = await replay_counted("", 0, story.exchanges)
        assert result.differences == []
        assert len(result.replayed) == len(story.exchanges)

    run_scenario(replay, metadata_store=story.metadata_store)


class TestConnections:
    def test_calls_of_one_connection_are_carried_out_in_order(self) -> None:
        async def pipeline(server: SimulatedModelDbV1) -> None:
            connection = await server.connect()
            await new_run(connection)
            answers = await asyncio.gather(
                *(connection.call("storeExperimentRunEvent", er=run(1)) for _ in range(50))
            )
            assert [each.experimentRunId for each in answers] == list(range(2, 52))
            await connection.aclose()

        server, _ = run_scenario(pipeline)
        assert server.violations == []

    def test_deadline_permission_and_observer_are_the_connections(self) -> None:
        async def call(server: SimulatedModelDbV1) -> None:
            seen: list[tuple[str, str]] = []
            connection = await server.connect(
                call_seconds=2.0,
                may_send=lambda: not seen,
                observe=lambda method, result: seen.append((method, result)),
            )
            server.freeze(10.0)
            start = now()
            assert (
                await failure_of(connection.call("testConnection"))
            ).kind is CallErrorKind.UNREACHABLE
            assert now() - start == pytest.approx(2.0)
            assert seen == [("testConnection", CallErrorKind.UNREACHABLE)]
            other = await server.connect(may_send=lambda: False)
            assert (await failure_of(other.call("testConnection"))).kind is CallErrorKind.NOT_WRITER
            await other.aclose()

        run_scenario(call)

    def test_what_a_client_that_has_gone_had_sent_is_carried_out_for_a_while(self) -> None:
        """How much of it is chance; when it ends is not."""
        stored = set()

        async def crash(server: SimulatedModelDbV1) -> None:
            owner = object()
            connection = await server.connect(owner=owner)
            await new_run(connection)
            calling = [
                asyncio.create_task(
                    failure_of(connection.call("storeExperimentRunEvent", er=run(1)))
                )
                for _ in range(10)
            ]
            await asyncio.sleep(0.005)
            server.crash(owner)
            at = now()
            server.freeze(20.0)
            await until(lambda: server.open_connections == 0)
            assert now() - at < LONGEST_DELAY_SECONDS + LINGER_SECONDS + 0.1
            stored.add(len(server.runs) - 1)
            assert not any(each.done() for each in calling), "no caller is left"
            connection.abort()
            for each in calling:
                each.cancel()
            await asyncio.wait(calling)

        for seed in SEEDS:
            run_scenario(crash, seed=seed)
        assert {0, 1, 2} <= stored
        assert max(stored) < 10

    def test_what_was_on_its_way_when_a_process_crashed_arrives(self) -> None:
        """Nothing of the process is run any more; the network is not part of it."""
        stored = set()

        async def client(server: SimulatedModelDbV1, process: Process, sent: list[object]) -> None:
            connection = await server.connect(owner=process)
            await new_run(connection)
            sent.append(asyncio.create_task(connection.call("storeExperimentRunEvent", er=run(1))))
            await asyncio.sleep(0)
            process.crash()

        async def crash(server: SimulatedModelDbV1) -> None:
            process = Process("client", on_crash=lambda: server.crash(process))
            sent: list[object] = []
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            sent.append(loop.start(process, client(server, process, sent), name="client"))
            await until(lambda: process.dead)
            await until(lambda: server.open_connections == 0)
            stored.add(len(server.runs))

        for seed in SEEDS:
            run_scenario(crash, seed=seed)
        assert stored == {1, 2}

    def test_nothing_behind_a_call_that_waits_for_mongo_outlasts_its_client(self) -> None:
        stored = set()

        async def crash(server: SimulatedModelDbV1) -> None:
            owner = object()
            connection = await server.connect(owner=owner)
            await new_run(connection)
            server.mongo_down = True
            await failure_of(connection.call("getModelIds", keyValuePairs={}))
            calls = [
                connection.call("storeFitEvent", fe=fit(1, metadata="{}")),
                connection.call("storeExperimentRunEvent", er=run(1)),
            ]
            calling = asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(10)
            server.crash(owner)
            await until(lambda: server.open_connections == 0)
            assert now() > 30
            stored.add(len(server.runs) - 1)
            connection.abort()
            await calling

        for seed in range(10):
            run_scenario(crash, seed=seed)
        assert stored == {0}
        for seed in range(10):
            run_scenario(crash, seed=seed, bounded=False)
        assert stored == {0, 1}, "the real server knows no such bound"

    def test_the_real_server_has_no_such_bound_when_it_was_frozen(self) -> None:
        late = []

        async def crash(server: SimulatedModelDbV1) -> None:
            owner = object()
            connection = await server.connect(owner=owner)
            await new_run(connection)
            calling = asyncio.create_task(
                failure_of(connection.call("storeExperimentRunEvent", er=run(1)))
            )
            await asyncio.sleep(0.02)
            server.freeze(20.0)
            server.crash(owner)
            await asyncio.sleep(15.0)
            before = len(server.runs)
            await asyncio.sleep(15.0)
            late.append(len(server.runs) - before)
            connection.abort()
            await asyncio.wait([calling])

        for seed in SEEDS:
            run_scenario(crash, seed=seed, bounded=False)
        assert any(late)


class TestTheRace:
    def test_two_writing_connections(self) -> None:
        async def race(server: SimulatedModelDbV1) -> None:
            one, two = await server.connect(), await server.connect()
            await new_run(one)
            work = [
                [each.call("storeFitEvent", fe=fit(1, eta="1")) for _ in range(5)]
                for each in (one, two)
            ]
            answers.extend(await asyncio.gather(*work[0], *work[1], return_exceptions=True))
            for each in (one, two):
                await each.aclose()

        answers: list[Any] = []
        damaged = 0
        for seed in range(10):
            server, history = run_scenario(race, seed=seed)
            damaged += sum(
                number
                for name, number in server.counts.items()
                if name.startswith("rows of two writers mixed")
            )
            assert server.violations
            assert server.violations[0].startswith("two writers at once: connection ")
            assert server.violations[0].count("storeFitEvent(run 1)") == 2
            assert any(server.violations[0] in line for line in history)
        assert damaged > 5
        failures = [each for each in answers if isinstance(each, CallFailed)]
        assert {each.kind for each in failures} == {CallErrorKind.OTHER_WRITER}
        assert len(failures) < len(answers) / 2, (
            "not every collision does harm, and some harm is not reported"
        )

    def test_a_writer_and_readers_do_not_disturb_each_other(self) -> None:
        async def read_and_write(server: SimulatedModelDbV1) -> None:
            one, two = await server.connect(), await server.connect()
            await new_run(one)
            default = INTERFACE.ExperimentEvent(INTERFACE.Experiment(-1, 1, "", "", True))
            writes = [
                one.call("storeDataFrame", df=data_frame(), experimentRunId=1) for _ in range(20)
            ]
            reads = [two.call("getExperimentRunDetails", experimentRunId=1) for _ in range(20)]
            await asyncio.gather(*writes, *reads, two.call("storeExperimentEvent", er=default))
            for each in (one, two):
                await each.aclose()

        assert run_scenario(read_and_write)[0].violations == []

    def test_a_client_that_writes_without_settling_meets_its_crashed_predecessor(self) -> None:
        async def take_over(server: SimulatedModelDbV1, settle_seconds: float) -> None:
            server.chance_of_slow_write = 0.5
            owner = object()
            connection = await server.connect(owner=owner)
            calling = asyncio.gather(
                *(connection.call("storeProjectEvent", pr=project(f"p{n}")) for n in range(4)),
                return_exceptions=True,
            )
            await asyncio.sleep(0.03)
            server.crash(owner)
            server.chance_of_slow_write = 0.0
            async with target_of(server, settle_seconds=settle_seconds) as target:
                with contextlib.suppress(Exception):  # the damage
                    await until_synced(target, full_job(), MemoryJournal())
            connection.abort()
            await calling

        def collisions(settle_seconds: float) -> int:
            return sum(
                bool(
                    run_scenario(partial(take_over, settle_seconds=settle_seconds), seed=seed)[
                        0
                    ].violations
                )
                for seed in SEEDS
            )

        assert collisions(0.0) > 5
        assert collisions(SETTLE_SECONDS) == 0

"""Each fault of the simulated ModelDB V1 has its effect. Time is virtual."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from tests.simulation.modeldb_v1_server import LONGEST_DELAY_SECONDS, SimulatedModelDbV1
from tests.simulation.modeldb_v1_server_scene import (
    LINGER_SECONDS,
    SEEDS,
    new_run,
    now,
    run_scenario,
    until,
)
from tests.support.modeldb_v1_connections import failure_of
from tests.support.modeldb_v1_plain_client import fit, run


class TestFaults:
    def test_down_and_back(self) -> None:
        async def go(server: SimulatedModelDbV1) -> None:
            connection = await server.connect()
            await new_run(connection)
            server.go_down()
            failed = await failure_of(connection.call("testConnection"))
            assert failed.kind is CallErrorKind.UNREACHABLE
            refused = await failure_of(server.connect())
            assert (refused.kind, refused.method, refused.sent) == (
                CallErrorKind.UNREACHABLE,
                "connect",
                False,
            )
            server.come_back()
            connection = await server.connect()
            assert await connection.call("getProjectIds", keyValuePairs={}) == [1], "the rows stay"
            await connection.aclose()

        assert run_scenario(go)[0].counts == {"down": 1, "refused": 1, "back": 1}

    def test_a_server_that_goes_down_leaves_part_of_a_call_behind(self) -> None:
        """Of a fit: nothing, some rows, all of them."""
        left = set()

        async def go(server: SimulatedModelDbV1) -> None:
            connection = await server.connect()
            await new_run(connection)
            calling = asyncio.create_task(
                connection.call("storeFitEvent", fe=fit(1, eta="1", depth="2"))
            )
            await asyncio.sleep(0.01)
            server.restart()
            with contextlib.suppress(CallFailed):  # unless the answer was on its way
                await calling
            await until(lambda: server.up)
            left.add(
                (
                    len(server.store.data_frames),
                    len(server.store.hyperparameters),
                    len(server.store.fits),
                )
            )

        for seed in range(60):
            run_scenario(go, seed=seed)
        assert {(0, 0, 0), (1, 0, 0), (1, 2, 0), (1, 2, 1)} <= left

    def test_dies_in_the_next_write(self) -> None:
        left = set[object]()

        async def go(server: SimulatedModelDbV1) -> None:
            connection = await server.connect()
            await new_run(connection)
            server.die_in_next_write(back_after_seconds=2.0)
            await connection.call("getProjectIds", keyValuePairs={})
            with contextlib.suppress(CallFailed):
                await connection.call("storeFitEvent", fe=fit(1, eta="1", depth="2", metadata="{}"))
                left.add("not at all")
                return
            assert not server.up
            left.add(len(server.store.fits))
            assert server.documents == []
            assert server.without_document == {1}
            at = now()
            await until(lambda: server.up)
            assert now() - at == pytest.approx(2.0, abs=0.5)

        for seed in SEEDS:
            run_scenario(go, seed=seed)
        assert left == {0, 1, "not at all"}, (
            "the last where it was to die after more rows than there are"
        )

    def test_lost_answer(self) -> None:
        async def go(server: SimulatedModelDbV1) -> None:
            connection = await server.connect()
            await new_run(connection)
            server.lose_next_answer()
            assert await connection.call("testConnection") == 200, "no write"
            failed = await failure_of(connection.call("storeExperimentRunEvent", er=run(1)))
            assert (failed.kind, failed.sent, failed.answered) == (
                CallErrorKind.UNREACHABLE,
                True,
                False,
            )
            assert len(server.runs) == 2
            again = await server.connect()
            server.lose_next_answer("getProjectIds")
            assert await again.call("testConnection") == 200
            await failure_of(again.call("getProjectIds", keyValuePairs={}))

        assert run_scenario(go)[0].counts["answer lost"] == 2

    def test_reset(self) -> None:
        async def go(server: SimulatedModelDbV1) -> None:
            connection = await server.connect()
            calling = asyncio.create_task(failure_of(connection.call("testConnection")))
            await asyncio.sleep(0)
            server.reset_connections()
            failed = await calling
            assert failed.kind is CallErrorKind.UNREACHABLE
            assert "the connection was lost" in failed.detail
            await (await server.connect()).aclose()

        assert run_scenario(go)[0].counts == {"connections reset": 1}

    def test_frozen(self) -> None:
        async def go(server: SimulatedModelDbV1) -> None:
            server.freeze(10.0)
            server.freeze(3.0)
            connection = await server.connect()
            assert await connection.call("testConnection") == 200
            assert 10.0 <= now() < 11.0
            await connection.aclose()

        run_scenario(go)

    def test_thaws_also_when_its_timer_is_early(self) -> None:
        """A loop fires what is due within its clock's resolution."""

        async def go(server: SimulatedModelDbV1) -> None:
            server.freeze(3.0)
            asyncio.get_running_loop().call_at(now() + 3.0 - 5e-7, lambda: None)
            connection = await server.connect()
            assert await connection.call("testConnection") == 200
            await connection.aclose()

        run_scenario(go)

    def test_mongo_down(self) -> None:
        async def go(server: SimulatedModelDbV1) -> None:
            connection = await server.connect()
            run_id = await new_run(connection)
            server.mongo_down = True
            failed = await failure_of(
                connection.call("storeFitEvent", fe=fit(run_id, metadata="{}"))
            )
            assert (failed.kind, failed.answered) == (CallErrorKind.METADATA_STORE_DOWN, True)
            at = now()
            failed = await failure_of(
                connection.call("getExperimentRunDetails", experimentRunId=run_id)
            )
            assert failed.kind is CallErrorKind.METADATA_STORE_DOWN
            assert now() - at == pytest.approx(30.0, abs=0.6)
            server.mongo_down = False
            assert await connection.call("getModelIds", keyValuePairs={}) == []
            assert server.without_document == {run_id}
            await connection.aclose()

        run_scenario(go)

    def test_storage_busy(self) -> None:
        async def go(server: SimulatedModelDbV1) -> None:
            connection = await server.connect()
            await new_run(connection)
            server.storage_busy = True
            assert (
                await failure_of(connection.call("storeExperimentRunEvent", er=run(1)))
            ).kind is CallErrorKind.STORAGE
            assert now() > 3.0
            server.storage_busy = False
            assert len(server.runs) == 1
            assert await new_run(connection) == 2
            await connection.aclose()

        run_scenario(go)

    def test_slow_write_ends_after_its_client_has_given_up(self) -> None:
        async def go(server: SimulatedModelDbV1) -> None:
            connection = await server.connect(call_seconds=10.0)
            await new_run(connection)
            server.chance_of_slow_write = 1.0
            at = now()
            failed = await failure_of(connection.call("storeExperimentRunEvent", er=run(1)))
            assert "no answer within 10 s" in failed.detail
            assert now() - at == pytest.approx(10.0)
            given_up_with.add(len(server.runs))
            await until(lambda: server.open_connections == 0)
            assert now() - at < 10.0 + LONGEST_DELAY_SECONDS + LINGER_SECONDS + 0.1
            assert len(server.runs) == 2

        given_up_with: set[int] = set()
        for seed in range(8):
            assert run_scenario(go, seed=seed)[0].counts["slow write"] == 1
        assert given_up_with == {1, 2}, "some are stored before, some after it"

    def test_mend_ends_everything(self) -> None:
        async def go(server: SimulatedModelDbV1) -> None:
            server.mongo_down = server.storage_busy = True
            server.freeze(1000.0)
            server.chance_of_slow_write = 1.0
            server.lose_next_answer()
            server.die_in_next_write()
            server.go_down()
            server.repair()
            connection = await server.connect()
            run_id = await new_run(connection)
            await connection.call("storeFitEvent", fe=fit(run_id, metadata="{}"))
            assert now() < 5.0
            await connection.aclose()

        run_scenario(go)

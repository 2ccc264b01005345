"""The fault switchboard of the ModelDB V1 stand-in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from daemon.targets.modeldb_v1.codec import (
    INTERFACE,
    ApplicationException,
    MalformedMessageError,
    decode_reply,
)
from tests.support.modeldb_v1_exchanges import load
from tests.support.modeldb_v1_plain_client import PlainClient, data_frame, fit, metric, run
from tests.support.modeldb_v1_stand_in import FOREIGN_RUN, ModelDbV1StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.targets.modeldb_v1.codec import Call

NULL = ("ServerLogicException", "NullPointerException: null")
SOCKET = ("ServerLogicException", "MongoSocketReadException: Prematurely reached end of stream")
BUSY = "[SQLITE_BUSY]  The database file is locked (database is locked)"


@pytest.fixture
async def server() -> AsyncIterator[ModelDbV1StandIn]:
    async with ModelDbV1StandIn(mongo_timeout_seconds=0.0, storage_busy_seconds=0.0) as server:
        yield server


@pytest.fixture
async def client(server: ModelDbV1StandIn) -> AsyncIterator[PlainClient]:
    async with PlainClient(server.port) as client:
        yield client


class TestMongo:
    async def test_the_first_call_after_its_death_fails_otherwise_than_the_later_ones(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        run_id = await client.new_run()
        server.faults.mongo_down = True
        assert await client.error("storeFitEvent", fe=fit(run_id, metadata="{}")) == SOCKET
        _, text = await client.error("storeFitEvent", fe=fit(run_id, metadata="{}"))
        assert text.startswith(
            "MongoTimeoutException: Timed out after 30000 ms while waiting for a server that "
            "matches Writable"
        )
        _, text = await client.error("getExperimentRunDetails", experimentRunId=run_id)
        assert "ReadPreferenceServerSelector{readPreference=primary}" in text
        assert (len(server.fits), server.documents) == (2, [])

    async def test_only_calls_that_need_it_fail(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        server.faults.mongo_down = True
        run_id = await client.new_run()
        assert (await client.result("getExperimentRunDetails", experimentRunId=run_id))[
            "modelResponses"
        ] == []
        stored = await client.result("storeFitEvent", fe=fit(run_id))
        await client.result(
            "storeMetricEvent", me=metric(run_id, stored["modelId"], stored["dfId"])
        )
        await client.result("computeModelAncestry", modelId=stored["modelId"])
        assert await client.error("getExperimentRunDetails", experimentRunId=run_id) == SOCKET

    async def test_a_call_that_waits_goes_on_when_it_is_back(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        server.faults.mongo_timeout_seconds = 30.0
        run_id = await client.new_run()
        server.faults.mongo_down = True
        assert await client.error("getModelIds", keyValuePairs={}) == SOCKET
        client.send("storeFitEvent", fe=fit(run_id, metadata="{}"))
        await server.wait_for_calls("storeFitEvent")
        server.faults.mongo_down = False
        assert (await client.receive()).result.modelId == 1
        assert len(server.documents) == 1

    async def test_frozen_it_holds_the_connection(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        run_id = await client.new_run()
        server.faults.mongo_frozen = True
        sent = [
            client.send("storeFitEvent", fe=fit(run_id, metadata="{}")),
            client.send("testConnection"),
        ]
        async with PlainClient(server.port) as other:
            await server.wait_for_calls("storeFitEvent")
            assert await other.result("testConnection") == 200
        assert server.calls.count("testConnection") == 1
        server.faults.mongo_frozen = False
        assert [(await client.receive()).sequence_id for _ in sent] == sent

    async def test_a_server_without_it_has_none_to_come_back(self) -> None:
        async with (
            ModelDbV1StandIn(metadata_store=False, mongo_timeout_seconds=0.0) as server,
            PlainClient(server.port) as client,
        ):
            _, text = await client.error("getModelIds", keyValuePairs={})
            assert text.startswith("MongoTimeoutException")
            with pytest.raises(ValueError, match="no MongoDB"):
                server.faults.mongo_down = False
            server.faults.clear()
            assert (await client.error("getModelIds", keyValuePairs={}))[1].startswith(
                "MongoTimeoutException"
            )


class TestStorage:
    async def test_busy_it_stores_nothing(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        await client.new_run()
        server.faults.storage_busy = True
        for method, arguments in (
            ("storeExperimentRunEvent", {"er": run(1)}),
            ("getExperimentRunDetails", {"experimentRunId": 1}),
        ):
            kind, text = await client.error(method, **arguments)
            assert kind == "ServerLogicException"
            assert text.endswith(BUSY)
        assert await client.result("testConnection") == 200
        assert await client.result("getModelIds", keyValuePairs={}) == []
        server.faults.storage_busy = False
        await client.result("storeExperimentRunEvent", er=run(1))
        assert len(server.runs) == 2


class TestServer:
    async def test_frozen_it_accepts_and_does_nothing(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        await client.new_run()
        server.faults.freeze()
        assert server.faults.frozen
        client.send("storeExperimentRunEvent", er=run(1))
        async with PlainClient(server.port) as other:
            other.send("testConnection")
            await server.wait_for_calls("testConnection")
            await server.wait_for_calls("storeExperimentRunEvent", 2)
            assert len(server.runs) == 1
            server.faults.thaw()
            assert (await other.receive()).result == 200
        assert (await client.receive()).result.experimentRunId == 2

    async def test_refused_connections(self, server: ModelDbV1StandIn, client: PlainClient) -> None:
        assert await client.result("testConnection") == 200
        server.refuse_connections()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", server.port)
        assert await client.result("testConnection") == 200
        await server.accept_connections()
        async with PlainClient(server.port) as other:
            assert await other.result("testConnection") == 200

    async def test_killed_it_leaves_nothing_open(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        hold = server.faults.hold_before_answer(method="testConnection")
        client.send("testConnection")
        await hold.reached.wait()
        async with PlainClient(server.port) as other:
            assert await other.result("testConnection") == 200
            await server.aclose()
            assert await other.is_closed()
        assert await client.is_closed()
        assert server.open_connections == 0


class TestCalls:
    async def test_dropped_before_it_is_carried_out(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        await client.new_run()
        server.faults.drop_before_execution(method="storeExperimentRunEvent")
        client.send("storeExperimentRunEvent", er=run(1))
        assert await client.is_closed()
        assert len(server.runs) == 1

    async def test_dropped_before_it_is_answered(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        await client.new_run()
        server.faults.drop_before_answer(2, method="storeExperimentRunEvent")
        for _ in range(3):
            client.send("storeExperimentRunEvent", er=run(1))
        assert (await client.receive()).result.experimentRunId == 2
        assert await client.is_closed()
        assert len(server.runs) == 3, "the third was behind the lost one on its connection"

    async def test_answers_before_a_dropped_one_arrive(self) -> None:
        async with (
            ModelDbV1StandIn(latency_seconds=0.05) as server,
            PlainClient(server.port) as client,
        ):
            server.faults.drop_before_answer(3)
            sent = [client.send("testConnection") for _ in range(3)]
            assert [(await client.receive()).sequence_id for _ in sent[:2]] == sent[:2]
            assert await client.is_closed()

    async def test_the_call_may_be_chosen_by_what_it_says(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        def is_second(call: Call) -> bool:
            return (
                call.method == "getProjectIds"
                and call.arguments["keyValuePairs"]["name"] == "second"
            )

        server.faults.drop_before_answer(when=is_second)
        assert await client.result("getProjectIds", keyValuePairs={"name": "first"}) == []
        client.send("getProjectIds", keyValuePairs={"name": "second"})
        assert await client.is_closed()

    async def test_half_an_answer(self, server: ModelDbV1StandIn, client: PlainClient) -> None:
        await client.new_run()
        server.faults.half_answer()
        client.send("storeExperimentRunEvent", er=run(1))
        assert await client.is_closed()
        assert len(server.runs) == 2

    async def test_an_answer_that_is_none(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        server.faults.garbage_answer()
        client.send("testConnection")
        frame = await client.receive_frame()
        assert frame is not None
        with pytest.raises(MalformedMessageError):
            decode_reply(frame)
        assert await client.result("testConnection") == 200

    async def test_an_answer_with_another_number(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        server.faults.wrong_sequence_id()
        sent = client.send("testConnection")
        assert (await client.receive()).sequence_id != sent

    async def test_refused(self, server: ModelDbV1StandIn, client: PlainClient) -> None:
        await client.new_run()
        server.faults.refuse(
            INTERFACE.ServerLogicException("SQLITE_FULL"), method="storeExperimentRunEvent"
        )
        server.faults.refuse(ApplicationException(6, "Internal error"), method="getProjectIds")
        assert await client.error("storeExperimentRunEvent", er=run(1)) == (
            "ServerLogicException",
            "SQLITE_FULL",
        )
        assert await client.error("getProjectIds", keyValuePairs={}) == (
            "ApplicationException",
            "Internal error",
        )
        assert len(server.runs) == 1

    async def test_held(self, server: ModelDbV1StandIn, client: PlainClient) -> None:
        await client.new_run()
        before, after = (
            server.faults.hold_before_execution(1, method="storeExperimentRunEvent"),
            server.faults.hold_before_answer(2, method="storeExperimentRunEvent"),
        )
        client.send("storeExperimentRunEvent", er=run(1))
        client.send("storeExperimentRunEvent", er=run(1))
        await before.reached.wait()
        assert len(server.runs) == 1
        before.release()
        assert (await client.receive()).result.experimentRunId == 2
        await after.reached.wait()
        assert len(server.runs) == 3
        after.release()
        assert (await client.receive()).result.experimentRunId == 3

    async def test_clear_ends_everything(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        faults = server.faults
        hold = faults.hold_before_execution()
        client.send("testConnection")
        await hold.reached.wait()
        faults.drop_before_answer()
        faults.foreign_writer("ExperimentRun")
        faults.mongo_down = faults.mongo_frozen = faults.storage_busy = True
        faults.freeze()
        faults.clear()
        assert (faults.mongo_down, faults.mongo_frozen, faults.storage_busy, faults.frozen) == (
            False,
            False,
            False,
            False,
        )
        hold.release()
        assert (await client.receive()).result == 200
        run_id = await client.new_run()
        await client.result("storeFitEvent", fe=fit(run_id, metadata="{}"))


class TestDeath:
    async def test_in_the_middle_of_a_fit(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        run_id = await client.new_run()
        server.faults.die_after_row("HyperParameter", 2)
        client.send("storeFitEvent", fe=fit(run_id, a="1", b="2", c="3"))
        assert await client.is_closed()
        assert (len(server.store.specs), len(server.store.hyperparameters), len(server.fits)) == (
            1,
            2,
            0,
        )
        await server.restart()
        async with PlainClient(server.port) as again:
            assert (await again.result("getExperimentRunDetails", experimentRunId=run_id))[
                "modelResponses"
            ] == []
            assert (await again.result("storeFitEvent", fe=fit(run_id)))["modelId"] == 2

    async def test_between_a_fit_and_its_event_a_second_fit_breaks_the_run(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        run_id = await client.new_run()
        server.faults.die_after_row("FitEvent")
        client.send("storeFitEvent", fe=fit(run_id))
        assert await client.is_closed()
        await server.restart()
        async with PlainClient(server.port) as again:
            details = await again.result("getExperimentRunDetails", experimentRunId=run_id)
            assert [model["id"] for model in details["modelResponses"]] == [1]
            assert (await again.result("storeFitEvent", fe=fit(run_id, 1)))["fitEventId"] == 2
            _, text = await again.error("getExperimentRunDetails", experimentRunId=run_id)
            assert text.startswith("TooManyRowsException")


class TestForeignWriter:
    async def test_its_run_comes_back_without_an_error(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        await client.new_run()
        server.faults.foreign_writer("ExperimentRun", their_id=True)
        answer = await client.result("storeExperimentRunEvent", er=run(1, "mine"))
        rows = {row["id"]: row["description"] for row in server.runs}
        assert rows[answer["experimentRunId"]] == FOREIGN_RUN
        assert "mine" in rows.values()

    async def test_its_data_frame_becomes_that_of_the_fit(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        run_id = await client.new_run()
        server.faults.foreign_writer("DataFrame", 2, their_id=True)
        answers = [await client.result("storeFitEvent", fe=fit(run_id)) for _ in range(2)]
        assert [answer["dfId"] for answer in answers] == [1, 3]
        assert [
            len(server.store.data_frame_metadata.where("dfId", number)) for number in (1, 2, 3)
        ] == [1, 0, 1]

    @pytest.mark.parametrize("table", ["ExperimentRun", "MetricEvent", "FitEvent"])
    async def test_no_id_is_a_null_pointer(
        self, server: ModelDbV1StandIn, client: PlainClient, table: str
    ) -> None:
        run_id = await client.new_run()
        server.faults.foreign_writer(table)
        call = {
            "ExperimentRun": ("storeExperimentRunEvent", {"er": run(1)}),
            "MetricEvent": ("storeMetricEvent", {"me": metric(run_id, -1, -1)}),
            "FitEvent": ("storeFitEvent", {"fe": fit(run_id)}),
        }[table]
        assert await client.error(call[0], **call[1]) == NULL

    async def test_the_errors_are_those_that_three_writers_saw(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        recorded = {
            exchange.response["exception"]["message"]
            for exchange in load()
            if exchange.file == "race"
        }
        run_id = await client.new_run()
        seen = set()
        for table in ("DataFrame", "TransformerSpec", "Transformer", "FitEvent"):
            server.faults.foreign_writer(table)
            seen.add((await client.error("storeFitEvent", fe=fit(run_id, eta="0.1")))[1])
        server.faults.foreign_writer("DataFrame")
        frame_only = metric(run_id, -1, -1)
        frame_only.df = data_frame(Compression="None")
        seen.add((await client.error("storeMetricEvent", me=frame_only))[1])
        assert seen == recorded

"""The ModelDB V1 stand-in: the recorded exchanges, the wire, and what was watched on the real
server beside them.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest

from daemon.demo.modeldb_v1.frames import LARGEST_FRAME
from daemon.demo.modeldb_v1.store import float32, printed_time
from daemon.targets.modeldb_v1.codec import INTERFACE, decode_reply, encode_call
from tests.support.modeldb_v1_exchanges import load
from tests.support.modeldb_v1_plain_client import PlainClient, fit, metric, project, run
from tests.support.modeldb_v1_replay import Story, replay, replay_counted, stories
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NULL = ("ServerLogicException", "NullPointerException: null")
TWINS = ("ServerLogicException", "TooManyRowsException: Cursor returned more than one result")


class StandInHands:
    """What happened behind the real server's back."""

    def __init__(self, server: ModelDbV1StandIn) -> None:
        self._server = server

    async def insert_project(self, name: str, author: str) -> None:
        self._server.store.insert(self._server.store.projects, name=name, author=author, created=0)

    async def delete_event(self, event_id: int) -> None:
        self._server.store.events.delete(event_id)

    async def lock_database(self) -> None:
        self._server.faults.storage_busy = True

    async def unlock_database(self) -> None:
        self._server.faults.storage_busy = False


@pytest.fixture
async def server() -> AsyncIterator[ModelDbV1StandIn]:
    async with ModelDbV1StandIn() as server:
        yield server


@pytest.fixture
async def client(server: ModelDbV1StandIn) -> AsyncIterator[PlainClient]:
    async with PlainClient(server.port) as client:
        yield client


async def models_of(client: PlainClient, run_id: int) -> list[dict[str, Any]]:
    details = await client.result("getExperimentRunDetails", experimentRunId=run_id)
    models: list[dict[str, Any]] = details["modelResponses"]
    return models


class TestRecordings:
    @pytest.mark.parametrize("story", stories(), ids=lambda story: story.name)
    async def test_answers_as_recorded(self, story: Story) -> None:
        async with ModelDbV1StandIn(
            metadata_store=story.metadata_store, mongo_timeout_seconds=0.0, storage_busy_seconds=0.0
        ) as server:
            result = await replay_counted(
                "127.0.0.1", server.port, story.exchanges, StandInHands(server)
            )
        assert result.differences == []
        assert result.replayed == story.exchanges

    def test_only_what_three_writers_saw_is_left_out(self) -> None:
        replayed = {exchange.label for story in stories() for exchange in story.exchanges}
        left_out = {exchange.file for exchange in load() if exchange.label not in replayed}
        assert left_out == {"race"}

    async def test_a_wrong_answer_is_noticed(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        await client.new_run()
        differences = await replay("127.0.0.1", server.port, stories()[0].exchanges[:3])
        assert [difference.label for difference in differences] == [
            "light_api/sample-1",
            "light_api/sample-3",
        ]

    async def test_trouble_is_not_replayed_without_hands(self, server: ModelDbV1StandIn) -> None:
        trouble = [exchange for exchange in load() if exchange.file == "trouble"]
        with pytest.raises(ValueError, match="needs hands"):
            await replay("127.0.0.1", server.port, trouble)


class TestWire:
    @pytest.mark.parametrize(
        "data",
        [
            struct.pack("!i", LARGEST_FRAME + 1) + b"\x80\x01\x00\x01",
            struct.pack("!i", 0),
            struct.pack("!i", -5),
            encode_call("testConnection", {}, 1),
            b"GET / HTTP/1.1\r\nHost: modeldb\r\n\r\n",
            struct.pack("!i", 8) + b"\x80\x02\x00\x01\x00\x00\x00\x00",
        ],
        ids=["too large", "empty", "negative", "unframed", "HTTP", "version 2"],
    )
    async def test_closed_without_an_answer(self, client: PlainClient, data: bytes) -> None:
        client.send_bytes(data)
        assert await client.is_closed()

    async def test_the_largest_frame_is_taken(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        run_id = await client.new_run()
        empty = encode_call("storeExperimentRunEvent", {"er": run(1, "")}, 7)
        client.send_frame(
            encode_call(
                "storeExperimentRunEvent", {"er": run(1, "x" * (LARGEST_FRAME - len(empty)))}, 7
            )
        )
        assert (await client.receive()).result.experimentRunId == run_id + 1
        assert len(server.runs[-1]["description"]) == LARGEST_FRAME - len(empty)

    async def test_a_message_may_go_on_in_the_next_frame(self, client: PlainClient) -> None:
        message = encode_call("getProjectIds", {"keyValuePairs": {"name": "churn"}}, 5)
        client.send_frame(message[:20])
        client.send_frame(message[20:])
        assert (await client.receive()).sequence_id == 5

    async def test_what_follows_a_message_in_its_frame_is_the_next_one(
        self, client: PlainClient
    ) -> None:
        client.send_frame(
            encode_call("testConnection", {}, 5)
            + encode_call("testConnection", {}, 6)
            + b"\xff\xff\xff\xff"
        )
        assert [(await client.receive()).sequence_id for _ in range(2)] == [5, 6]
        assert await client.is_closed()

    async def test_text_that_is_not_utf_8(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        client.send_frame(
            encode_call("storeProjectEvent", {"pr": project("nam")}, 1).replace(b"nam", b"n\xffm")
        )
        assert (await client.receive()).result.projectId == 1
        assert server.projects[0]["name"] == "n\ufffdm"

    async def test_fields_that_the_server_does_not_expect(self, client: PlainClient) -> None:
        fields = [
            # 77: a map of lists
            b"\x0d\x00\x4d\x0b\x0f\x00\x00\x00\x01\x00\x00\x00\x01k\x08\x00\x00\x00\x01\x00\x00\x00\x09",
            # 78: a struct
            b"\x0c\x00\x4e\x02\x00\x01\x01\x0a\x00\x02\x00\x00\x00\x00\x00\x00\x00\x01\x00",
            b"\x0b\x00\x01\x00\x00\x00\x02ab",  # 1 is a number, but a text here
        ]
        client.send_frame(
            encode_call("getRunsAndExperimentsInProject", {}, 3)[:-1] + b"".join(fields) + b"\x00"
        )
        assert (await client.receive()).result.projId == 0

    @pytest.mark.parametrize(
        "field",
        [
            b"\x0f\x00\x4d\x08\xff\xff\xff\xff",  # 77: a list of -1 items
            b"\x0b\x00\x4d\xff\xff\xff\xff",  # 77: a text of -1 bytes
            b"\x63\x00\x4d",  # 77: of a type that does not exist
        ],
    )
    async def test_closed_in_the_middle_of_what_is_no_message(
        self, client: PlainClient, field: bytes
    ) -> None:
        client.send_frame(encode_call("testConnection", {}, 3)[:-1] + field + b"\x00")
        assert await client.is_closed()

    async def test_calls_are_pipelined_in_order(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        await client.new_run()
        sent = [client.send("storeExperimentRunEvent", er=run(1)) for _ in range(100)]
        sent.append(client.send("storeExperimentRunEvent", er=INTERFACE.ExperimentRunEvent()))
        sent += [client.send("storeExperimentRunEvent", er=run(1)) for _ in range(99)]
        replies = [await client.receive() for _ in sent]
        assert [reply.sequence_id for reply in replies] == sent
        assert replies[100].exception is not None
        assert [reply.result.experimentRunId for reply in replies if reply.result] == list(
            range(2, 201)
        )
        assert server.calls.count("storeExperimentRunEvent") == 201

    async def test_an_unknown_method_leaves_the_connection_usable(
        self, client: PlainClient
    ) -> None:
        frame = encode_call("testConnection", {}, 4)
        client.send_frame(frame.replace(b"testConnection", b"restConnection"))
        answer = await client.receive_frame()
        assert answer is not None
        assert b"Invalid method name: 'restConnection'" in answer
        assert await client.result("testConnection") == 200

    @pytest.mark.parametrize("method", ["storeFitEvent", "storeMetricEvent"])
    async def test_closed_when_the_event_is_unset(self, client: PlainClient, method: str) -> None:
        client.send(method)
        assert await client.is_closed()

    @pytest.mark.parametrize(
        "method",
        [
            "storeProjectEvent",
            "storeExperimentEvent",
            "storeExperimentRunEvent",
            "getProjectIds",
            "getModelIds",
            "updateProject",
        ],
    )
    async def test_a_null_pointer_when_others_are_unset(
        self, client: PlainClient, method: str
    ) -> None:
        assert await client.error(method) == NULL

    async def test_unset_numbers_are_zero(self, client: PlainClient) -> None:
        assert await client.error("storeDataFrame") == (
            "InvalidExperimentRunException",
            "Can't find experiment run ID 0",
        )

    async def test_connections_do_not_wait_for_each_other(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        hold = server.faults.hold_before_execution(method="getProjectIds")
        client.send("getProjectIds", keyValuePairs={})
        await hold.reached.wait()
        async with PlainClient(server.port) as other:
            assert await other.result("testConnection") == 200
        hold.release()
        assert (await client.receive()).result == []


class TestWorkers:
    async def test_one_connection_too_many_waits_for_its_turn(self) -> None:
        async with (
            ModelDbV1StandIn(workers=1) as server,
            PlainClient(server.port) as first,
            PlainClient(server.port) as second,
        ):
            assert await first.result("testConnection") == 200
            second.send("testConnection")
            for _ in range(20):  # the first goes on, and the second is not heard
                await first.result("testConnection")
            assert {each.connection for each in server.received} == {1}
            await first.__aexit__(None, None, None)
            assert (await second.receive()).result == 200

    async def test_it_is_closed_when_none_comes(self) -> None:
        async with (
            ModelDbV1StandIn(workers=1, worker_seconds=0.05) as server,
            PlainClient(server.port) as first,
        ):
            await first.result("testConnection")
            async with PlainClient(server.port) as second:
                assert await second.is_closed()
            assert await first.result("testConnection") == 200

    async def test_a_hundred_are_served(self, server: ModelDbV1StandIn) -> None:
        clients = [PlainClient(server.port) for _ in range(100)]
        for each in clients:
            await each.__aenter__()
            assert await each.result("testConnection") == 200
        assert server.open_connections == 100
        for each in clients:
            await each.__aexit__(None, None, None)


class TestProcess:
    async def test_the_latency_of_answers_does_not_add_up(self) -> None:
        async with (
            ModelDbV1StandIn(latency_seconds=0.2) as server,
            PlainClient(server.port) as client,
        ):
            begun = asyncio.get_running_loop().time()
            sent = [client.send("testConnection") for _ in range(50)]
            assert [(await client.receive()).sequence_id for _ in sent] == sent
            assert 0.2 <= asyncio.get_running_loop().time() - begun < 5.0

    async def test_it_keeps_its_data_and_its_port(self) -> None:
        server = ModelDbV1StandIn()
        await server.start()
        port = server.port
        async with PlainClient(port) as client:
            assert await client.new_run() == 1
            await server.aclose()
            assert await client.is_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await server.restart()
        assert server.port == port
        async with PlainClient(port) as client:
            assert await client.new_run() == 2
        await server.aclose()
        assert server.open_connections == 0

    async def test_it_waits_for_calls(self, server: ModelDbV1StandIn, client: PlainClient) -> None:
        waiting = asyncio.ensure_future(server.wait_for_calls("testConnection", 2))
        await client.result("testConnection")
        assert not waiting.done()
        client.send("testConnection")
        async with asyncio.timeout(5):
            await waiting


class TestRows:
    async def test_a_job_in_the_tables(self, server: ModelDbV1StandIn, client: PlainClient) -> None:
        assert server.overview() == "nothing is stored"
        run_id = await client.new_run(description="marker")
        stored = await client.result(
            "storeFitEvent", fe=fit(run_id, metadata='{"NAME": "churn-1"}', eta="0.1")
        )
        await client.result(
            "storeMetricEvent", me=metric(run_id, stored["modelId"], stored["dfId"], value=0.1)
        )
        assert [(row["name"], row["author"]) for row in server.projects] == [("churn", "ana")]
        assert [(row["project"], row["name"]) for row in server.experiments] == [
            (1, "Default_Experiment")
        ]
        assert [(row["experiment"], row["description"]) for row in server.runs] == [(1, "marker")]
        assert [(row["transformer"], row["df"], row["problemType"]) for row in server.fits] == [
            (1, 1, "undefined")
        ]
        assert [(row["transformerType"], row["filepath"]) for row in server.models] == [
            ("xgboost", None)
        ]
        assert [(row["tag"], row["filepath"]) for row in server.data_frames] == [
            ("train", "s3://bucket/train")
        ]
        assert [(row["metricType"], row["metricValue"]) for row in server.metrics] == [
            ("train:error", float32(0.1))
        ]
        assert [(each["NAME"], each["MODELDB_model_id"]) for each in server.documents] == [
            ("churn-1", 1)
        ]
        assert server.overview() == "churn (ana): 1 runs, 1 models, 1 metrics"

    async def test_rows_are_copies(self, server: ModelDbV1StandIn, client: PlainClient) -> None:
        await client.new_run()
        server.runs[0]["description"] = "changed"
        assert server.runs[0]["description"] == "x"

    async def test_a_small_id_after_a_large_one(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        await client.new_run()
        for number in (50, 0, -1):
            await client.result(
                "storeExperimentRunEvent",
                er=INTERFACE.ExperimentRunEvent(INTERFACE.ExperimentRun(number, 1, "x")),
            )
        runs = (await client.result("getRunsAndExperimentsInProject", projId=1))["experimentRuns"]
        assert [each["id"] for each in runs] == [row["id"] for row in server.runs] == [0, 1, 50, 51]

    def test_times(self) -> None:
        assert printed_time(1_000).endswith("01.0")
        assert printed_time(1_230).endswith("01.23")
        assert printed_time(1_005).endswith("01.005")


class TestCalls:
    async def test_twin_experiments(self, server: ModelDbV1StandIn, client: PlainClient) -> None:
        await client.new_run()
        for _ in range(2):
            server.store.insert(server.store.experiments, project=1, name="twin", created=0)
        twin = INTERFACE.ExperimentEvent(INTERFACE.Experiment(-1, 1, "twin", "", False))
        assert await client.error("storeExperimentEvent", er=twin) == TWINS

    async def test_an_experiment_without_a_name(self, client: PlainClient) -> None:
        nameless = INTERFACE.ExperimentEvent(INTERFACE.Experiment(-1, 1, None, "", False))
        assert (await client.error("storeExperimentEvent", er=nameless))[1].endswith(
            "(NOT NULL constraint failed: Experiment.name)"
        )

    async def test_columns_of_a_fit(self, client: PlainClient) -> None:
        run_id = await client.new_run()
        event = fit(run_id)
        event.featureColumns, event.predictionColumns, event.labelColumns = (
            ["z", "b", "b", "p1"],
            ["p2", "p1", "p2"],
            ["l", "p1", ""],
        )
        model_id = (await client.result("storeFitEvent", fe=event))["modelId"]
        [model] = await models_of(client, run_id)
        assert (model["featureColumns"], model["predictionColumns"], model["labelColumns"]) == (
            ["b", "z"],
            ["p2", "p1"],
            ["", "l"],
        )
        ancestry = (await client.result("computeModelAncestry", modelId=model_id))["fitEvent"]
        assert (ancestry["featureColumns"], ancestry["predictionColumns"]) == ([], ["p2", "p1"])

    async def test_a_metric_of_nobody_makes_a_model_that_is_none(self, client: PlainClient) -> None:
        run_id = await client.new_run()
        await client.result("storeMetricEvent", me=metric(run_id, -1, -1))
        assert await models_of(client, run_id) == []

    async def test_a_metric_without_what_is_not_stored(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        run_id = await client.new_run()
        event = metric(run_id, -1, -1)
        event.metricValue = event.labelCol = event.predictionCol = None
        await client.result("storeMetricEvent", me=event)
        assert server.metrics[0]["metricValue"] == 0.0

    async def test_a_repeated_metric_is_two_rows_and_the_later_value(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        run_id = await client.new_run()
        stored = await client.result("storeFitEvent", fe=fit(run_id))
        for value in (0.5, 0.25):
            await client.result(
                "storeMetricEvent",
                me=metric(run_id, stored["modelId"], stored["dfId"], value=value),
            )
        [model] = await models_of(client, run_id)
        assert model["metrics"] == {"train:error": {str(stored["dfId"]): 0.25}}
        assert len(server.metrics) == 2

    async def test_rows_before_an_error_stay(
        self, server: ModelDbV1StandIn, client: PlainClient
    ) -> None:
        run_id = await client.new_run()
        event = fit(run_id)
        event.featureColumns = None
        assert await client.error("storeFitEvent", fe=event) == NULL
        assert (len(server.data_frames), len(server.models), len(server.fits)) == (1, 1, 0)
        assert await models_of(client, run_id) == []

    async def test_projects_found(self, client: PlainClient) -> None:
        await client.new_run()
        assert (
            await client.result("updateProject", projectId=1, key="NAME", value="renamed") is True
        )
        assert await client.result(
            "getProjectIds", keyValuePairs={"Name": "renamed", "id": "01"}
        ) == [1]
        assert await client.result("getProjectIds", keyValuePairs={"id": "x"}) == []
        _, text = await client.error("getProjectIds", keyValuePairs={"name": "a", "owner": "b"})
        where = "select Project.id from Project where (PROJECT.name = ? and PROJECT.owner = ?)"
        assert text.startswith(f"DataAccessException: SQL [{where}]; [SQLITE_ERROR]")


def test_numbers_are_narrowed() -> None:
    assert [float32(value) for value in (0.95, 1e39, -1e39, 1e-50, 123456789.123)] == [
        0.949999988079071,
        float("inf"),
        float("-inf"),
        0.0,
        123456792.0,
    ]
    assert str(float32(-0.0)) == "0.0"


def test_an_answer_is_a_whole_message() -> None:
    """The replayer compares decoded answers: what it decodes must not have more in it."""
    for exchange in load():
        if exchange.response_frame is not None and exchange.method is not None:
            decode_reply(exchange.response_frame)

"""The ModelDB V2 stand-in: the recorded exchanges, the fault switchboard, and what was watched on
the real server beside them.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import string
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from daemon.demo.modeldb_v2.calls import EXPERIMENT_CALLS, PROJECT_CALLS, RUN_CALLS
from daemon.demo.modeldb_v2.run_updates import RUN_UPDATE_CALLS
from tests.support.modeldb_v2_exchanges import Replay, Replayer, load
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from tests.support.modeldb_v2_stand_in import InjectedFaults

ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/"


class Api:
    """A client that knows nothing: calls in, (status, body) out."""

    def __init__(self, server: ModelDbV2StandIn, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.project_id = ""
        self.experiment_id = ""

    async def call(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        async with self.session.request(method, self.server.url + path, **request) as response:
            parsed = response.headers["Content-Type"] == "application/json"
            return response.status, json.loads(
                await response.text()
            ) if parsed else await response.text()

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        return await self.call("GET", path, params=query)

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        return await self.call("POST", path, json=body)

    async def create_run(self, name: str, **members: Any) -> tuple[int, Any]:
        parents = {"project_id": self.project_id, "experiment_id": self.experiment_id}
        return await self.post(
            "/experiment-run/createExperimentRun", **parents, name=name, **members
        )

    async def created_run(self, name: str, **members: Any) -> str:
        status, body = await self.create_run(name, **members)
        assert status == 200, body
        return str(body["experiment_run"]["id"])

    async def delete_project(self, project_id: str) -> None:
        assert await self.call("DELETE", "/project/deleteProject", json={"id": project_id}) == (
            200,
            {"status": True},
        )

    async def at_once(
        self, operation: str, calls: list[Coroutine[Any, Any, tuple[int, Any]]]
    ) -> list[int]:
        """Statuses of calls that certainly overlap: none goes on before all have arrived."""
        self.server.faults.frozen = True
        answers = asyncio.gather(*calls)
        await self.server.wait_for_requests(operation, self.server.requests[operation] + len(calls))
        self.server.faults.frozen = False
        return [status for status, _ in await answers]

    async def find(self, **body: Any) -> list[str]:
        """Ids of the runs found."""
        status, answer = await self.post(
            "/experiment-run/findExperimentRuns", ids_only=True, **body
        )
        assert status == 200, answer
        assert answer.get("total_records", "0") == str(len(answer.get("experiment_runs", [])))
        return [run["id"] for run in answer.get("experiment_runs", [])]


@pytest.fixture
async def server() -> AsyncIterator[ModelDbV2StandIn]:
    async with ModelDbV2StandIn() as server:
        yield server


@pytest.fixture
async def api(server: ModelDbV2StandIn) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        api = Api(server, session)
        _, body = await api.post("/project/createProject", name="p")
        api.project_id = body["project"]["id"]
        _, body = await api.post(
            "/experiment/createExperiment", project_id=api.project_id, name="e"
        )
        api.experiment_id = body["experiment"]["id"]
        yield api


def equal(key: str, value: object) -> list[dict[str, object]]:
    return [{"key": key, "value": value, "operator": "EQ"}]


def marked(name: str) -> list[dict[str, str]]:
    return [{"key": "sagemaker_training_job_arn", "value": ARN + name}]


class Switchboard:
    """Drives the recorded outages."""

    def __init__(self, faults: InjectedFaults) -> None:
        self.faults = faults
        faults.database_answer_seconds = 0.01

    async def database_down(self) -> None:
        self.faults.database_down = True

    async def database_back(self) -> None:
        self.faults.database_down = False
        self.faults.refuse_next(1, 500, {"code": 2})

    async def backend_down(self) -> None:
        self.faults.backend_down = True

    async def backend_back(self) -> None:
        self.faults.backend_down = False


async def replayed(file: str, server: ModelDbV2StandIn) -> Replay:
    return await Replayer(server.url, outages=Switchboard(server.faults)).replay(file)


class TestRecordedExchanges:
    @pytest.mark.parametrize("file", sorted({exchange.file for exchange in load()}))
    async def test_the_stand_in_answers_as_recorded(self, file: str) -> None:
        async with ModelDbV2StandIn(latency_seconds=0.02 if file == "races" else 0) as server:
            replay = await replayed(file, server)
        assert replay.differences == []
        assert len(replay.passed) == sum(exchange.file == file for exchange in load())
        assert not replay.left_out

    def test_every_call_was_recorded(self) -> None:
        served = {
            **PROJECT_CALLS,
            **EXPERIMENT_CALLS,
            **RUN_CALLS,
            **RUN_UPDATE_CALLS,
        }.keys()
        assert {exchange.operation for exchange in load()} == served | {"noSuchCall"}

    async def test_a_server_with_other_projects_is_not_asked_for_all_of_them(
        self, api: Api
    ) -> None:
        replay = await replayed("projects", api.server)
        assert replay.differences == []
        assert {reason: len(exchanges) for reason, exchanges in replay.left_out.items()} == {
            "the server has other projects": 4
        }
        assert len(replay.passed) == 33

    async def test_a_replay_leaves_nothing_behind(self, server: ModelDbV2StandIn) -> None:
        for _ in range(2):
            assert (await replayed("job-sync", server)).differences == []
        assert server.projects() == []

    async def test_the_replayer_sees_another_status_another_text_and_another_order(
        self, server: ModelDbV2StandIn
    ) -> None:
        server.faults.refuse_next(
            1, 409, {"error": "x", "code": 6, "message": "x"}, operation="getProjectByName"
        )
        (status,) = (await replayed("job-sync", server)).differences
        assert status.startswith(
            "job-sync/churn-xgb-2024-01-02-03-04-05-678/1-project: 409 application/json"
        )
        server.faults.refuse_next(
            1, 404, {"error": "x", "code": 5, "message": "x"}, operation="getProjectByName"
        )
        (text,) = (await replayed("projects", server)).differences
        assert text.endswith(
            "members ['code', 'error', 'message'], recorded ['code', 'details', 'error', 'message']"
        )
        rows = [
            {"id": id_}
            for id_ in (
                "a500ea70-33d0-49b3-be53-353bde413cb8",
                "3d52984f-6be8-454e-b93e-ce7de907b04e",
            )
        ]
        answer = {"experiment_runs": rows, "total_records": "2"}
        server.faults.refuse_next(12, 200, answer, operation="findExperimentRuns")
        differences = (await replayed("find", server)).differences
        assert any(
            line.startswith("find/metric-greater.experiment_runs[0].id: 'a500ea70")
            for line in differences
        )


class TestFaults:
    async def test_backend_down(self, api: Api) -> None:
        api.server.faults.backend_down = True
        status, body = await api.get("/project/verifyConnection")
        assert (status, body["code"]) == (503, 14)
        assert "connection refused" in body["error"]
        assert (await api.create_run("job"))[0] == 503
        assert await api.get("/no/such/path") == (404, "Not Found\n")
        api.server.faults.backend_down = False
        assert await api.find() == []

    async def test_one_service_of_the_proxy_down(self, api: Api) -> None:
        api.server.faults.services_down = {"experiment-run"}
        assert (await api.get("/project/getProjects"))[0] == 200
        assert (await api.create_run("job"))[0] == 503

    async def test_database_down_takes_its_time_and_verify_connection_does_not_notice(
        self, api: Api
    ) -> None:
        api.server.faults.database_down = True
        api.server.faults.database_answer_seconds = 0.05
        assert await api.get("/project/verifyConnection") == (200, {"status": True})
        began = asyncio.get_running_loop().time()
        status, body = await api.create_run("job")
        assert asyncio.get_running_loop().time() - began >= 0.05
        assert (status, body["code"], body["error"]) == (
            500,
            13,
            "UNAVAILABLE: UNAVAILABLE: DB connection not found after 2560 millisecond",
        )
        # a request that is refused without the database still is
        assert (await api.create_run(""))[0] == 400
        api.server.faults.database_down = False
        assert await api.find() == []

    async def test_frozen_nothing_is_answered_and_after_the_thaw_all_of_it_is_carried_out(
        self, api: Api
    ) -> None:
        api.server.faults.frozen = True
        left = asyncio.create_task(api.create_run("left"))
        stayed = asyncio.create_task(api.create_run("stayed"))
        await api.server.wait_for_requests("createExperimentRun", 2)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        assert api.server.runs() == []
        api.server.faults.frozen = False
        assert (await stayed)[0] == 200
        assert sorted(run["name"] for run in api.server.runs()) == ["left", "stayed"]

    async def test_frozen_in_the_middle_of_a_call_keeps_its_answer(self, api: Api) -> None:
        api.server.latency_seconds = 0.01
        creating = asyncio.create_task(api.create_run("job"))
        await api.server.wait_for_requests("createExperimentRun")
        api.server.faults.frozen = True
        done, _ = await asyncio.wait([creating], timeout=0.1)
        assert not done
        api.server.faults.frozen = False
        assert (await creating)[0] == 200

    async def test_web_page_on_everything(self, api: Api) -> None:
        api.server.faults.web_page = True
        for answer in (await api.create_run("job"), await api.get("/no/such/path")):
            assert answer[0] == 200
            assert answer[1].startswith("<!DOCTYPE html>")
        assert api.server.runs() == []

    async def test_a_lost_answer_is_carried_out(self, api: Api) -> None:
        api.server.faults.lose_next_answers(1, operation="createExperimentRun")
        assert await api.find() == []  # another operation
        with pytest.raises(aiohttp.ClientError):
            await api.create_run("job")
        assert (await api.create_run("job"))[0] == 409

    async def test_a_refused_call_is_not_carried_out(self, api: Api) -> None:
        api.server.faults.refuse_next(2, 502, "Bad Gateway", operation="createExperimentRun")
        api.server.faults.refuse_next(1, 500, {"code": 2})
        assert await api.create_run("job") == (502, "Bad Gateway")
        assert await api.create_run("job") == (502, "Bad Gateway")
        assert await api.create_run("job") == (500, {"code": 2})
        assert (await api.create_run("job"))[0] == 200

    async def test_a_delay_before_the_call_is_carried_out(self, api: Api) -> None:
        api.server.faults.delay_next(0.3, operation="createExperimentRun")
        leaving = asyncio.create_task(api.create_run("job"))
        await api.server.wait_for_requests("createExperimentRun")
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert await api.find() == []
        async with asyncio.timeout(5):
            while not await api.find():
                await asyncio.sleep(0.01)

    async def test_a_delay_before_the_answer(self, api: Api) -> None:
        api.server.faults.delay_next(30, operation="createExperimentRun", carry_out_first=True)
        creating = asyncio.create_task(api.create_run("job"))
        await api.server.wait_for_requests("createExperimentRun")
        assert len(await api.find()) == 1
        assert not creating.done()
        creating.cancel()

    async def test_clear_ends_everything(self, api: Api) -> None:
        faults = api.server.faults
        faults.backend_down = faults.database_down = faults.web_page = faults.frozen = True
        faults.services_down = {"experiment-run"}
        faults.lose_next_answers(5)
        faults.refuse_next(5, 500, {})
        faults.delay_next(60, 5)
        faults.clear()
        assert (await api.create_run("job"))[0] == 200


class TestServer:
    async def test_creates_of_one_name_that_overlap_all_succeed_and_later_ones_do_not(
        self, api: Api
    ) -> None:
        api.server.latency_seconds = 0.02
        assert await api.at_once(
            "createExperimentRun", [api.create_run("job") for _ in range(3)]
        ) == [200, 200, 200]
        assert (await api.create_run("job"))[0] == 409
        assert len(api.server.runs()) == 3

    async def test_a_call_goes_on_when_its_client_has_left(self, api: Api) -> None:
        api.server.latency_seconds = 0.05
        leaving = asyncio.create_task(api.create_run("job"))
        await api.server.wait_for_requests("createExperimentRun")
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        api.server.latency_seconds = 0
        async with asyncio.timeout(5):
            while not await api.find():
                await asyncio.sleep(0.01)

    async def test_it_counts_calls_and_the_most_at_once(self, api: Api) -> None:
        api.server.latency_seconds = 0.02
        await api.at_once(
            "createExperimentRun", [api.create_run(f"job-{number}") for number in range(5)]
        )
        await api.get("/no/such/path")
        assert api.server.requests == {
            "createProject": 1,
            "createExperiment": 1,
            "createExperimentRun": 5,
        }
        assert api.server.max_concurrent == 5

    async def test_what_it_shows_are_copies(self, api: Api) -> None:
        await api.created_run("job", metrics=[{"key": "m", "value": 1}])
        api.server.runs()[0]["metrics"][0]["value"] = 2
        assert api.server.runs()[0]["metrics"] == [{"key": "m", "value": 1}]
        assert [project["name"] for project in api.server.projects()] == ["p"]
        assert [experiment["name"] for experiment in api.server.experiments()] == ["e"]

    async def test_required_headers(self) -> None:
        headers = {"Authorization": "Bearer secret", "Grpc-Metadata-developer_key": "key"}
        async with (
            ModelDbV2StandIn(require_headers=headers) as server,
            aiohttp.ClientSession() as session,
        ):
            api = Api(server, session)
            for wrong in (
                {},
                {**headers, "Authorization": "Bearer other"},
                {"Authorization": "Bearer secret"},
            ):
                status, body = await api.call("GET", "/project/getProjects", headers=wrong)
                assert (status, body["code"], body["error"]) == (401, 16, "UNAUTHENTICATED")
            assert await api.call("GET", "/project/getProjects", headers=headers) == (200, {})

    @pytest.mark.parametrize(
        ("body", "key"),
        [
            ({"predicates": equal("name", ["x"])}, "name"),
            ({"predicates": [{"key": "name", "value": "x", "operator": "NE"}]}, "name"),
            ({"predicates": equal("attributes.number", 5)}, "attributes.number"),
            ({"sort_key": "metrics.m"}, "metrics.m"),
        ],
    )
    async def test_what_it_does_not_imitate_it_says(
        self, api: Api, body: dict[str, Any], key: str
    ) -> None:
        status, refused = await api.post("/experiment-run/findExperimentRuns", **body)
        assert (status, refused["error"]) == (
            501,
            f"the ModelDB V2 stand-in does not imitate this use of {key}",
        )

    async def test_stopped_it_refuses_connections_and_started_again_it_has_its_data(
        self, api: Api
    ) -> None:
        await api.created_run("job")
        url = api.server.url
        await api.server.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await api.find()
        await api.server.start()
        assert api.server.url == url
        assert len(await api.find()) == 1

    async def test_a_taken_port(self, server: ModelDbV2StandIn) -> None:
        with pytest.raises(OSError, match="in use"):
            await ModelDbV2StandIn(port=server.port).start()

    async def test_stop_ends_what_is_frozen_also_for_clients_that_left(self, api: Api) -> None:
        api.server.faults.frozen = True
        left = asyncio.create_task(api.create_run("left"))
        stayed = asyncio.create_task(api.create_run("stayed"))
        await api.server.wait_for_requests("createExperimentRun", 2)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        async with asyncio.timeout(5):
            await api.server.stop()
            with pytest.raises(aiohttp.ClientConnectionError):
                await stayed
        api.server.faults.frozen = False
        for _ in range(20):  # more turns of the loop than a call takes
            await asyncio.sleep(0)
        assert api.server.runs() == []

    async def test_in_a_process_of_its_own(self) -> None:
        arguments = (
            sys.executable,
            "-m",
            "daemon.demo.modeldb_v2.server",
            "--port",
            "0",
            "--latency",
            "0.01",
        )
        process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        async with asyncio.timeout(30), aiohttp.ClientSession() as session:
            url = (await process.stdout.readline()).decode().strip()
            async with session.get(f"{url}/project/verifyConnection") as response:
                assert await response.json() == {"status": True}
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


class TestLearntBesideTheRecording:
    """Each of these was watched on the real ModelDB 2.0.8.1."""

    async def test_find_by_mark_over_the_whole_server_leaves_out_what_is_deleted(
        self, api: Api
    ) -> None:
        here = await api.created_run("job", attributes=marked("job"))
        await api.created_run("other", attributes=marked("other"))
        deleted = await api.created_run("deleted", attributes=marked("job"))
        await api.call("DELETE", "/experiment-run/deleteExperimentRuns", json={"ids": [deleted]})
        _, body = await api.post("/project/createProject", name="second")
        second = body["project"]["id"]
        _, body = await api.post("/experiment/createExperiment", project_id=second, name="e")
        members = {"project_id": second, "experiment_id": body["experiment"]["id"], "name": "job"}
        _, body = await api.post(
            "/experiment-run/createExperimentRun", **members, attributes=marked("job")
        )
        there = body["experiment_run"]["id"]
        by_mark = {
            "predicates": equal("attributes.sagemaker_training_job_arn", ARN + "job"),
            "sort_key": "date_created",
        }
        assert await api.find(**by_mark, ascending=True) == [here, there]
        await api.delete_project(second)
        assert await api.find(**by_mark) == [here]

    async def test_next_to_an_experiment_a_project_does_not_narrow_a_find(self, api: Api) -> None:
        run = await api.created_run("job")
        _, body = await api.post("/project/createProject", name="second")
        second = body["project"]["id"]
        assert await api.find(project_id=second, experiment_id=api.experiment_id) == [run]
        assert await api.find(project_id=second) == []
        assert await api.find(project_id=api.project_id, experiment_id="nope") == []

    async def test_runs_of_a_deleted_experiment_are_found_by_name_only(self, api: Api) -> None:
        run = await api.created_run("job")
        await api.call("DELETE", "/experiment/deleteExperiment", json={"id": api.experiment_id})
        assert await api.get("/experiment-run/getExperimentRunById", id=run) == (200, {})
        status, body = await api.get(
            "/experiment-run/getExperimentRunByName", experiment_id=api.experiment_id, name="job"
        )
        assert (status, body["experiment_run"]["id"]) == (200, run)
        assert await api.find() == []
        assert await api.find(experiment_id=api.experiment_id) == []

    async def test_runs_of_a_deleted_project_are_an_unknown_project(self, api: Api) -> None:
        run = await api.created_run("job")
        await api.delete_project(api.project_id)
        answers = [
            await api.get("/experiment-run/getExperimentRunById", id=run),
            await api.get(
                "/experiment-run/getExperimentRunByName",
                experiment_id=api.experiment_id,
                name="job",
            ),
            await api.get("/experiment/getExperimentById", id=api.experiment_id),
            await api.post("/experiment-run/findExperimentRuns", experiment_id=api.experiment_id),
        ]
        assert [(status, body["code"], body["error"]) for status, body in answers] == [
            (404, 5, "Project not found for given ID")
        ] * 4
        assert await api.find() == []

    async def test_find_projects_and_experiments_by_name_mind_the_case_and_sort(
        self, api: Api
    ) -> None:
        body = {"project_id": api.project_id, "name": "twice"}
        create = [api.post("/experiment/createExperiment", **body) for _ in range(2)]
        assert await api.at_once("createExperiment", create) == [200, 200]
        await api.post("/experiment/createExperiment", project_id=api.project_id, name="Twice")
        paging = {"sort_key": "date_created", "ascending": True, "page_number": 1, "page_limit": 1}
        by_name = {"project_id": api.project_id, "predicates": equal("name", "twice")}
        _, body = await api.post("/experiment/findExperiments", **by_name, **paging)
        assert ([row["name"] for row in body["experiments"]], body["total_records"]) == (
            ["twice"],
            "2",
        )
        oldest = min(api.server.experiments()[1:], key=lambda row: int(row["date_created"]))
        assert body["experiments"] == [oldest]
        _, body = await api.post("/project/findProjects", predicates=equal("name", "P"))
        assert body == {}
        _, body = await api.post(
            "/project/findProjects", predicates=equal("name", "p"), ids_only=True
        )
        assert body == {"projects": [{"id": api.project_id}], "total_records": "1"}

    async def test_the_newest_change_comes_first(self, api: Api) -> None:
        first = await api.created_run("first")
        await asyncio.sleep(0.002)  # the server's clock is in milliseconds
        second = await api.created_run("second")
        assert await api.find() == [second, first]
        await asyncio.sleep(0.002)
        api.server.store.runs.updated(api.server.store.run(first))
        assert await api.find() == [first, second]
        assert await api.find(sort_key="date_created") == [second, first]

    @pytest.mark.parametrize(
        ("predicate", "found"),
        [
            ({"key": "attributes.text", "value": "abc"}, ["j1"]),
            ({"key": "metrics.m", "value": 1, "operator": "GT"}, ["j2"]),
            ({"key": "tags", "value": "t"}, ["j1"]),
        ],
    )
    async def test_predicates(self, api: Api, predicate: dict[str, Any], found: list[str]) -> None:
        more = {"attributes": [{"key": "text", "value": "abc"}], "tags": ["t"]}
        await api.created_run("j1", metrics=[{"key": "m", "value": 1}], **more)
        await api.created_run("j2", metrics=[{"key": "m", "value": 2}])
        names = {run["id"]: run["name"] for run in api.server.runs()}
        assert sorted(names[run] for run in await api.find(predicates=[predicate])) == found

    @pytest.mark.parametrize(
        ("body", "answer"),
        [
            ({"predicates": equal("bogus", "x")}, (500, 13, "Internal server error")),
            ({"sort_key": "bogus"}, (500, 13, "Internal server error")),
        ],
    )
    async def test_a_find_that_is_refused(
        self, api: Api, body: dict[str, Any], answer: tuple[int, int, str | None]
    ) -> None:
        await api.created_run("job", attributes=[{"key": "text", "value": "abc"}])
        status, refused = await api.post("/experiment-run/findExperimentRuns", **body)
        assert (status, refused["code"], refused.get("error")) == answer

    @pytest.mark.parametrize(
        ("members", "stored"),
        [
            ({"startTime": "5", "start_time": "6"}, {"start_time": "5"}),
            (
                {
                    "start_time": 0,
                    "description": "",
                    "tags": None,
                    "metrics": [],
                    "bogus": {"a": 1},
                },
                {},
            ),
            (
                {"metrics": [{"key": "a", "value": 2.0, "valueType": 1}]},
                {"metrics": [{"key": "a", "value": 2, "value_type": "NUMBER"}]},
            ),
            (
                {"artifacts": [{"artifactType": 99}, {"artifact_type": 0}]},
                {"artifacts": [{"artifact_type": 99}, {}]},
            ),
        ],
    )
    async def test_how_json_is_read(
        self, api: Api, members: dict[str, Any], stored: dict[str, Any]
    ) -> None:
        _, body = await api.create_run("job", **members)
        run = body["experiment_run"]
        made = {
            "id",
            "project_id",
            "experiment_id",
            "name",
            "date_created",
            "date_updated",
            "code_version_snapshot",
        }
        assert {name: member for name, member in run.items() if name not in made} == stored

    @pytest.mark.parametrize(
        ("members", "text"),
        [
            ({"description": 5}, "json: cannot unmarshal number into Go value of type string"),
            (
                {"tags": "x"},
                "json: cannot unmarshal string into Go value of type []json.RawMessage",
            ),
            (
                {"metrics": [5]},
                "json: cannot unmarshal number into Go value of type map[string]json.RawMessage",
            ),
            (
                {"start_time": 2**63},
                "json: cannot unmarshal number 9223372036854775808 into Go value of type int64",
            ),
            (
                {"artifacts": [{"path_only": "true"}]},
                "json: cannot unmarshal string into Go value of type bool",
            ),
        ],
    )
    async def test_what_is_not_read(self, api: Api, members: dict[str, Any], text: str) -> None:
        status, body = await api.create_run("job", **members)
        assert (status, body["code"], body["error"]) == (400, 3, text)

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b'{"name": "x"} trailing', 200),
            (b'{"name": "x\xff"}', 200),
            (b"[]", 400),
            (b"", 400),
            (b'{"name": "x", "a": -Infinity}', 400),
            (b"\x1f\x8b", 400),
        ],
    )
    async def test_bodies(self, api: Api, body: bytes, status: int) -> None:
        assert (await api.call("POST", "/project/createProject", data=body))[0] == status

    @pytest.mark.parametrize(
        ("members", "taken"),
        [
            ({"name": "😀" * 128}, True),
            ({"name": "a\0"}, False),
            ({"tags": ["a\0"]}, False),
            ({"attributes": [{"key": "a\0"}]}, False),
            ({"attributes": [{"key": "a", "value": "x\0"}]}, True),
            ({"hyperparameters": [{"key": "a", "value": "x\0"}]}, True),
            ({"datasets": [{"key": "a", "path": "x\0"}]}, False),
            ({"code_version": "c" * 255}, True),
            ({"code_version": "c" * 256}, False),
            ({"datasets": [{"key": "a", "linked_artifact_id": "c" * 256}]}, False),
            ({"artifacts": [{"key": "a", "filename_extension": "e" * 51}]}, False),
        ],
    )
    async def test_what_the_tables_take(
        self, api: Api, members: dict[str, Any], *, taken: bool
    ) -> None:
        status, body = await api.create_run(**{"name": "job", **members})
        assert (status, body if status != 200 else {}) == (
            (200, {}) if taken else (500, {"code": 2})
        )
        assert len(api.server.runs()) == taken

    async def test_what_an_index_takes(self, api: Api) -> None:
        dice = random.Random(5)
        noise = "".join(dice.choice(string.ascii_letters + string.digits) for _ in range(2800))
        words = [
            "".join(dice.choices(string.ascii_lowercase, k=dice.randint(2, 9))) for _ in range(200)
        ]
        prose = " ".join(dice.choice(words) for _ in range(1200))
        numbers = json.dumps(
            {f"{dice.choice(words)}{number}": dice.random() for number in range(200)}
        )
        for text, most in ((noise, 2680), (prose, 5200), (numbers, 2500)):
            for index, size in enumerate((most, most * 12 // 10)):
                status, _ = await api.create_run(
                    f"{most}-{index}", hyperparameters=[{"key": "k", "value": text[:size]}]
                )
                assert status == (500 if index else 200)
                key_status, _ = await api.create_run(
                    f"key-{most}-{index}", attributes=[{"key": text[:size], "value": 1}]
                )
                assert key_status == status
            assert (
                await api.create_run(f"{most}-attribute", attributes=[{"key": "k", "value": text}])
            )[0] == 200

    async def test_an_answer_above_4_mib_is_429(self, api: Api) -> None:
        for name in ("a", "b", "c", "d", "e"):
            await api.created_run(name, description="x" * 900_000)
        status, body = await api.post("/experiment-run/findExperimentRuns")
        assert (status, body["code"]) == (429, 8)
        assert len(await api.find()) == 5

    async def test_an_existing_name_is_told_before_what_else_is_wrong(self, api: Api) -> None:
        await api.created_run("job")
        assert (await api.create_run("job", description="\0"))[0] == 409
        assert (await api.create_run("job", observations=[{}]))[0] == 409
        assert (await api.create_run("job", tags=[""]))[0] == 400

    async def test_the_short_name_of_a_project(self, api: Api) -> None:
        short = []
        for name in ("A p!roj/é", "x" * 41):
            _, body = await api.post("/project/createProject", name=name)
            short.append(body["project"]["short_name"])
        assert short == ["A-p-roj-", "xxxxxxxxxx4495c1948d806f6dd8cbd8e15f7e254a"]

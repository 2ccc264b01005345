"""The ModelDB V2 client on real sockets: recorded answers, foreign servers, lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from daemon.targets.http import session as session_module
from daemon.targets.modeldb_v2.errors import ApiErrorKind
from tests.support.modeldb_v2_exchanges import load
from tests.support.modeldb_v2_scripted import answering, asking, error_of, json_answer, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from daemon.targets.modeldb_v2.client import ModelDbV2Client
    from tests.support.modeldb_v2_exchanges import Exchange
    from tests.support.modeldb_v2_scripted import Deadlines

    SameCall = Callable[[ModelDbV2Client, Any, dict[str, str], Any], Awaitable[Any]]


@dataclass
class Observed:
    calls: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, operation: str, result: str) -> None:
        self.calls.append((operation, str(result)))


# Recorded exchanges
# ---

RECORDED = 294


def _logging(member: str) -> SameCall:
    return lambda client, _query, _equal, body: client.log_run_entries(
        body.get("id", ""), member, body[member]
    )


def _deleting(member: str) -> SameCall:
    keys = f"{member.removesuffix('s')}_keys"
    return lambda client, _query, _equal, body: client.delete_run_entries(
        body["id"], member, body[keys]
    )


SAME_CALL: dict[str, SameCall] = {
    "getProjects": lambda client, _query, _equal, _body: client.get_projects_page(),
    "getProjectById": lambda client, query, _equal, _body: client.get_project_by_id(
        query.get("id", "")
    ),
    "findProjects": lambda client, _query, equal, _body: client.find_projects(equal["name"]),
    "createProject": lambda client, _query, _equal, body: client.create_project(body),
    "updateProjectDescription": lambda client, _query, _equal, body: (
        client.update_project_description(body["id"], body["description"])
    ),
    "updateProjectAttributes": lambda client, _query, _equal, body: client.update_project_attribute(
        body["id"], body["attribute"]["key"], body["attribute"]["value"]
    ),
    "findExperiments": lambda client, _query, equal, body: client.find_experiments(
        body["project_id"], equal["name"]
    ),
    "createExperiment": lambda client, _query, _equal, body: client.create_experiment(body),
    "getExperimentById": lambda client, query, _equal, _body: client.get_experiment_by_id(
        query["id"]
    ),
    "createExperimentRun": lambda client, _query, _equal, body: client.create_experiment_run(body),
    "getExperimentRunByName": lambda client, query, _equal, _body: (
        client.get_experiment_run_by_name(query["experiment_id"], query["name"])
    ),
    "getExperimentRunById": lambda client, query, _equal, _body: client.get_experiment_run_by_id(
        query["id"]
    ),
    "findExperimentRuns": lambda client, _query, equal, _body: client.find_experiment_runs(equal),
    "deleteExperimentRuns": lambda client, _query, _equal, body: client.delete_experiment_runs(
        body["ids"]
    ),
    "updateExperimentRunDescription": lambda client, _query, _equal, body: (
        client.update_run_description(body["id"], body["description"])
    ),
    "addExperimentRunTags": lambda client, _query, _equal, body: client.add_run_tags(
        body["id"], body["tags"]
    ),
    "deleteExperimentRunTags": lambda client, _query, _equal, body: client.delete_run_tags(
        body["id"], body["tags"]
    ),
    **{
        f"log{member.capitalize()}": _logging(member)
        for member in ("metrics", "hyperparameters", "attributes", "artifacts", "observations")
    },
    "deleteMetrics": _deleting("metrics"),
    "deleteHyperparameters": _deleting("hyperparameters"),
    "deleteExperimentRunAttributes": _deleting("attributes"),
    "deleteObservations": _deleting("observations"),
    "logDatasets": lambda client, _query, _equal, body: client.overwrite_run_datasets(
        body["id"], body["datasets"]
    ),
    "deleteArtifact": lambda client, _query, _equal, body: client.delete_run_artifact(
        body["id"], body["key"]
    ),
}
"""Every call of the client, made from the query, the conditions and the body of a recorded
request."""

CALLED = [exchange for exchange in load() if exchange.operation in SAME_CALL]

NEVER_ASKED = {
    "connection/grpc-timeout-bad": "sends no Grpc-Timeout, and asks for the first project only",
    "connection/grpc-timeout-expired": "the same",
    "connection/wrong-method": "uses the right method",
    "connection/wrong-method-put": "uses the right method",
    "find/by-arn-ids-only": "always wants whole runs, and seeks by experiment or on the whole "
    "server",
    "find/hyperparameter-string": "the same",
    "find/metric-greater": "only asks for equality",
    "find/page-1": "sorts by age only",
    "find/page-2": "sorts by age only",
    "find/page-past-end": "always has a condition",
    "find/two-predicates": "only asks for equality",
    "find/unknown-key": "always wants text",
    "find/unknown-project": "does not seek by project",
    "projects/by-id-missing": "always has an id",
    "projects/create-malformed": "sends JSON",
    "projects/list-bad-page": "asks for the first project only",
    "projects/list-page-1": "asks for the first project only",
    "projects/list-page-2": "asks for the first project only",
    "projects/list-page-past-end": "asks for the first project only",
    "projects/list-sorted": "asks for the first project only",
    "updates/log-datasets-known-key": "always overwrites",
    "updates/log-metrics-no-id": "always has an id",
    "values/nan-token": "sends JSON",
    "values/overflow-number": "sends JSON",
}
"""Requests that the client never makes, with the reason; their answers must be understood
anyway."""

KINDS = {
    (400, 3): ApiErrorKind.INVALID,
    (403, 7): ApiErrorKind.ABSENT,
    (404, 5): ApiErrorKind.ABSENT,
    (405, None): ApiErrorKind.NOT_THE_API,
    (408, 1): ApiErrorKind.TOO_LARGE,
    (409, 6): ApiErrorKind.EXISTS,
    (500, 2): ApiErrorKind.BARE_500,
    (503, 14): ApiErrorKind.UNAVAILABLE,
    (504, 4): ApiErrorKind.TIMEOUT,
}
KINDS_BY_LABEL = {
    "find/unknown-key": ApiErrorKind.INTERNAL,
    "outages/database-down-create": ApiErrorKind.DATABASE_DOWN,
    "races/run-by-name": ApiErrorKind.DUPLICATES,
    "runs/by-name-two-projects": ApiErrorKind.DUPLICATES,
}


def test_recorded_exchanges_of_calls_that_the_client_makes_are_all_used() -> None:
    assert len(load()) == RECORDED
    assert (len(CALLED), len(NEVER_ASKED)) == (264, 24)
    assert NEVER_ASKED.keys() < {exchange.label for exchange in CALLED}


@pytest.mark.parametrize("file", sorted({exchange.file for exchange in CALLED}))
async def test_recorded_exchanges(file: str, subtests: pytest.Subtests) -> None:
    recorded: list[Exchange] = []
    received: list[tuple[web.Request, str]] = []

    async def replay(request: web.Request) -> web.Response:
        received.append((request, await request.text()))
        answer = recorded[-1].response
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        return web.Response(status=answer.status, body=text.encode(), headers=answer.headers)

    async with serving(replay) as url, asking(url) as client:
        for exchange in [exchange for exchange in CALLED if exchange.file == file]:
            with subtests.test(exchange.label):
                recorded.append(exchange)
                received.clear()
                await assert_read_as_recorded(exchange, the_same_call(client, exchange))
                request, text = received[0]
                assert request.path == f"/v1/{exchange.service}/{exchange.operation}"
                if exchange.label not in NEVER_ASKED:
                    asked = (request.method, dict(request.query))
                    assert asked == (exchange.request.method, exchange.request.query)
                    assert_equivalent(json.loads(text) if text else None, recorded_body(exchange))


async def assert_read_as_recorded(exchange: Exchange, call: Awaitable[Any]) -> None:
    answer = exchange.response
    if answer.status == 200:
        assert ids_in(await call) == ids_of(answer.body)
        return
    error = await error_of(call)
    code = answer.body["code"] if isinstance(answer.body, dict) else None
    kind = KINDS.get((answer.status, code))
    assert error.kind is KINDS_BY_LABEL.get(exchange.label, kind)
    assert (error.operation, error.status, error.code) == (exchange.operation, answer.status, code)


def recorded_body(exchange: Exchange) -> Any:
    body = exchange.request.body
    if exchange.label == "limits/body-5MB":  # the recording shortens it
        return {**body, "description": body["description"] * 5_000_000}
    if exchange.operation == "findExperimentRuns":  # the client looks on the whole server
        return {key: value for key, value in body.items() if key != "experiment_id"}
    return body


def the_same_call(client: ModelDbV2Client, exchange: Exchange) -> Awaitable[Any]:
    """What the recorded request asks for, asked of the client. What it cannot ask gets any call of
    the operation.
    """
    body = recorded_body(exchange)
    body = body if isinstance(body, dict) else {}
    equal = {
        each["key"]: each["value"]
        for each in body.get("predicates", ())
        if isinstance(each["value"], str)
    }
    return SAME_CALL[exchange.operation](client, exchange.request.query, equal, body)


def assert_equivalent(sent: Any, recorded: Any) -> None:
    """Equal, but for order and paging, which are added or another."""
    if recorded is None:
        assert sent is None
        return
    harmless = {"sort_key", "ascending", "page_number", "page_limit"}
    assert {key: value for key, value in sent.items() if key not in harmless} == {
        key: value for key, value in recorded.items() if key not in harmless
    }


def ids_in(value: Any) -> Counter[str]:
    if value is None:  # a delete
        return Counter()
    return Counter(each.id for each in (value if isinstance(value, list | tuple) else [value]))


def ids_of(body: dict[str, Any]) -> Counter[str]:
    rows = [
        row
        for member in body.values()
        for row in (member if isinstance(member, list) else [member])
        if isinstance(row, dict)
    ]
    return Counter(row["id"] for row in rows)


# Answers of all kinds
# ---

HTML = "text/html; charset=utf-8"
JSON = "application/json"
PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


def words(code: int, text: str = "") -> str:
    return json.dumps({"code": code} | ({"error": text, "message": text} if text else {}))


@pytest.mark.parametrize(
    ("status", "content_type", "body", "kind", "unknown"),
    [
        # the API's own words
        (
            400,
            JSON,
            words(3, "Tag name can not be more than 40 characters"),
            ApiErrorKind.INVALID,
            False,
        ),
        (401, JSON, words(16, "UNAUTHENTICATED"), ApiErrorKind.UNAUTHENTICATED, False),
        (403, JSON, words(7, "Access is denied."), ApiErrorKind.ABSENT, False),
        (404, JSON, words(5, "Project not found for given ID"), ApiErrorKind.ABSENT, False),
        (
            409,
            JSON,
            words(6, "ExperimentRun already exists in database"),
            ApiErrorKind.EXISTS,
            False,
        ),
        (
            429,
            JSON,
            words(8, "grpc: received message larger than max (4194334 vs. 4194304)"),
            ApiErrorKind.TOO_LARGE,
            True,
        ),
        (429, JSON, words(8, "quota exceeded"), ApiErrorKind.THROTTLED, True),
        (500, JSON, words(2), ApiErrorKind.BARE_500, True),
        (
            500,
            JSON,
            words(13, "UNAVAILABLE: UNAVAILABLE: DB connection not found after 2560 millisecond"),
            ApiErrorKind.DATABASE_DOWN,
            True,
        ),
        (
            500,
            JSON,
            words(13, "Multiple ExperimentRun found in database"),
            ApiErrorKind.DUPLICATES,
            False,
        ),
        (
            500,
            JSON,
            words(13, "header list size to send violates the maximum size (8192 bytes)"),
            ApiErrorKind.HEADERS,
            False,
        ),
        (
            500,
            JSON,
            words(13, "stream terminated by RST_STREAM with error code: INTERNAL_ERROR"),
            ApiErrorKind.UNAVAILABLE,
            True,
        ),
        (500, JSON, words(13, "Internal server error"), ApiErrorKind.INTERNAL, True),
        (501, JSON, words(12, "NULL_VALUE not supported"), ApiErrorKind.UNIMPLEMENTED, False),
        (
            501,
            JSON,
            words(12, "Method not found: ai.verta.modeldb.ExperimentRunService/x"),
            ApiErrorKind.NOT_THE_API,
            True,
        ),
        (503, JSON, words(14, "transport is closing"), ApiErrorKind.UNAVAILABLE, True),
        (504, JSON, words(4, "context deadline exceeded"), ApiErrorKind.TIMEOUT, True),
        (
            408,
            JSON,
            words(1, "stream terminated by RST_STREAM with error code: CANCEL"),
            ApiErrorKind.UNAVAILABLE,
            True,
        ),  # of a small body
        (400, JSON, words(9, "FAILED_PRECONDITION"), ApiErrorKind.INTERNAL, False),
        # the text of something in front of the API
        (200, HTML, PAGE, ApiErrorKind.NOT_THE_API, True),
        (200, HTML, '{"experiment_run": {"id": "r"}}', ApiErrorKind.NOT_THE_API, True),
        (200, JSON, '{"experiment_run": {"id": "r"', ApiErrorKind.NOT_THE_API, True),
        (200, JSON, "[]", ApiErrorKind.NOT_THE_API, True),
        (200, JSON, "{}", ApiErrorKind.NOT_THE_API, True),
        (200, JSON, '{"experiment_run": {"name": "no id"}}', ApiErrorKind.NOT_THE_API, True),
        (200, JSON, '{"experiment_run": {"id": 5}}', ApiErrorKind.NOT_THE_API, True),
        (
            200,
            JSON,
            '{"experiment_run": {"id": "r", "attributes": [5]}}',
            ApiErrorKind.NOT_THE_API,
            True,
        ),
        (204, "", "", ApiErrorKind.NOT_THE_API, True),
        (302, HTML, "", ApiErrorKind.NOT_THE_API, False),
        (307, HTML, "", ApiErrorKind.NOT_THE_API, False),
        (400, HTML, PAGE, ApiErrorKind.NOT_THE_API, False),
        (400, JSON, '{"message": "bad"}', ApiErrorKind.NOT_THE_API, False),
        (401, HTML, PAGE, ApiErrorKind.UNAUTHENTICATED, False),
        (403, HTML, PAGE, ApiErrorKind.UNAUTHENTICATED, False),
        (403, JSON, '{"message": "Forbidden"}', ApiErrorKind.UNAUTHENTICATED, False),
        (404, "text/plain; charset=utf-8", "Not Found\n", ApiErrorKind.NOT_THE_API, False),
        (404, HTML, PAGE, ApiErrorKind.NOT_THE_API, False),
        (404, JSON, '{"kind": "Status", "code": 404}', ApiErrorKind.NOT_THE_API, False),
        (404, JSON, words(3, "a code that has another status"), ApiErrorKind.NOT_THE_API, False),
        (404, JSON, '{"code": 5.0}', ApiErrorKind.NOT_THE_API, False),
        (405, "text/plain; charset=utf-8", "Method Not Allowed\n", ApiErrorKind.NOT_THE_API, False),
        (408, HTML, PAGE, ApiErrorKind.TIMEOUT, True),
        (409, HTML, PAGE, ApiErrorKind.NOT_THE_API, False),
        (413, HTML, PAGE, ApiErrorKind.TOO_LARGE, False),
        (429, HTML, PAGE, ApiErrorKind.THROTTLED, False),
        (500, HTML, PAGE, ApiErrorKind.UNAVAILABLE, True),
        (500, JSON, '{"message": "upstream"}', ApiErrorKind.UNAVAILABLE, True),
        (502, HTML, PAGE, ApiErrorKind.UNAVAILABLE, True),
        (503, HTML, PAGE, ApiErrorKind.UNAVAILABLE, True),
        (504, HTML, PAGE, ApiErrorKind.UNAVAILABLE, True),
    ],
)
async def test_answers_to_a_create(
    status: int, content_type: str, body: str, kind: ApiErrorKind, *, unknown: bool
) -> None:
    observed = Observed()

    async def handle(_request: web.Request) -> web.Response:
        headers = {"Content-Type": content_type} if content_type else {}
        return web.Response(
            status=status,
            body=body.encode(),
            headers=headers | ({"Location": "/login"} if status < 400 else {}),
        )

    async with serving(handle) as url, asking(url, observe=observed) as client:
        error = await error_of(client.create_experiment_run({"name": "j"}))

    assert (error.kind, error.outcome_unknown, error.status) == (kind, unknown, status)
    assert observed.calls == [("createExperimentRun", kind.value)]
    if kind is ApiErrorKind.NOT_THE_API:
        assert "target.url should look like http://host:8080/v1" in error.detail
    if kind is ApiErrorKind.UNAUTHENTICATED:
        assert "target.auth" in error.detail


async def test_a_large_body_that_ends_in_a_cancelled_stream_is_too_large() -> None:
    async def cancel(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(
            status=408,
            text=words(1, "stream terminated by RST_STREAM with error code: CANCEL"),
            content_type=JSON,
        )

    async with serving(cancel) as url, asking(url) as client:
        error = await error_of(client.create_experiment_run({"description": "x" * 5_000_000}))

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.TOO_LARGE, False)


@pytest.mark.parametrize(
    ("body", "found"),
    [({}, 0), ({"total_records": "3"}, 0), ({"projects": []}, 0), ({"projects": [{"id": "p"}]}, 1)],
)
async def test_an_empty_list_is_left_out(body: dict[str, Any], found: int) -> None:
    async def handle(_request: web.Request) -> web.Response:
        return json_answer(200, body)

    async with serving(handle) as url, asking(url) as client:
        assert len(await client.find_projects("p")) == found


@pytest.mark.parametrize(
    "body", [{"status": True}, {"projects": {}}, {"projects": ["p"]}, {"projects": None}]
)
async def test_a_list_that_is_none_is_not_the_api(body: dict[str, Any]) -> None:
    async def handle(_request: web.Request) -> web.Response:
        return json_answer(200, body)

    async with serving(handle) as url, asking(url) as client:
        assert (await error_of(client.find_projects("p"))).kind is ApiErrorKind.NOT_THE_API


async def test_a_delete_must_say_so() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return json_answer(200, {})

    async with serving(handle) as url, asking(url) as client:
        assert (
            await error_of(client.delete_experiment_runs(["r"]))
        ).kind is ApiErrorKind.NOT_THE_API


async def test_what_came_instead_of_the_api_is_named() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(status=200, text=f"\n\n  {PAGE}", content_type="text/html")

    async with serving(handle) as url, asking(url) as client:
        detail = (await error_of(client.get_experiment_run_by_name("e", "job-of-mine"))).detail

    assert f"{url}/experiment-run/getExperimentRunByName answered 200 text/html" in detail
    assert "'<!DOCTYPE html><html><head><title>Sign in" in detail
    assert "http://host:3000/api/v1/modeldb" in detail
    assert "job-of-mine" not in detail
    assert "\n" not in detail


async def test_redirects_are_named_and_not_followed() -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        raise web.HTTPFound("https://login.example.com/start")

    async with serving(handle) as url, asking(url) as client:
        detail = (await error_of(client.get_projects_page())).detail

    assert asked == ["/v1/project/getProjects"]
    assert "a redirect to https://login.example.com/start" in detail


async def test_no_secret_comes_back_from_an_echo() -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(
            status=400, text=words(3, f"got {dict(request.headers)}"), content_type=JSON
        )

    async def echo_page(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.headers['Authorization']} {request.headers['X-Key']}")

    for handler in (echo, echo_page):
        headers = {"Authorization": "Bearer top-secret-token", "X-Key": "another-secret"}
        async with serving(handler) as url, asking(url, headers=headers) as client:
            error = await error_of(client.get_projects_page())
        assert "redacted" in error.detail
        assert "secret" not in error.detail + repr(error) + str(error.__cause__)


# The connection
# ---


async def test_a_refused_connection_is_surely_not_sent(free_port: Callable[[], int]) -> None:
    port = free_port()
    async with asking(f"http://127.0.0.1:{port}/v1") as client:
        error = await error_of(client.create_experiment_run({}))

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.CONNECTION, False)
    assert f"cannot connect to 127.0.0.1:{port}" in error.detail


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: "
            b"chunked\r\n\r\n5\r\n{"
        ),
    ],
    ids=["before the answer", "in the answer", "in a chunk"],
)
async def test_a_lost_connection_leaves_the_outcome_unknown(raw: bytes) -> None:
    async with answering(raw) as url, asking(url) as client:
        error = await error_of(client.create_experiment_run({}))

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.CONNECTION, True)


async def test_a_server_that_speaks_something_else_is_not_the_api() -> None:
    http2_settings = bytes.fromhex("00001204000000000000037fffffff000400100000000600002000")
    async with answering(http2_settings) as url, asking(url) as client:
        error = await error_of(client.create_experiment_run({}))

    assert error.kind is ApiErrorKind.NOT_THE_API
    assert "8085 is gRPC" in error.detail


async def test_no_answer_in_time_leaves_the_outcome_unknown_and_the_slot_free(
    deadlines: Deadlines,
) -> None:
    hanging = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        if request.path.endswith("createExperimentRun"):
            deadlines.expire()
            await hanging.wait()
        return json_answer(200, {})

    async with (
        serving(handle) as url,
        asking(url, timeout_seconds=deadlines.SECONDS, max_concurrency=1) as client,
    ):
        async with asyncio.timeout(10):
            error = await error_of(client.create_experiment_run({}))
        assert await client.get_projects_page() == ()
        hanging.set()

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.TIMEOUT, True)
    assert "no answer within 77 s" in error.detail


async def test_an_answer_that_trickles_is_cut_off_too(deadlines: Deadlines) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": JSON})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for written in itertools.count():
                if written == 5:
                    deadlines.expire()
                await response.write(b" ")
                await asyncio.sleep(0.01)
        return response

    async with (
        asyncio.timeout(10),
        serving(handle) as url,
        asking(url, timeout_seconds=deadlines.SECONDS) as client,
    ):
        assert (await error_of(client.get_projects_page())).kind is ApiErrorKind.TIMEOUT
    assert deadlines.count == 1  # that of the whole call, not one per read


async def test_an_endless_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "ANSWER_LIMIT_BYTES", 1000)

    async def handle(_request: web.Request) -> web.Response:
        return json_answer(200, {"projects": [{"id": "p", "name": "x" * 2000}]})

    async with serving(handle) as url, asking(url) as client:
        assert (await error_of(client.get_projects_page())).kind is ApiErrorKind.NOT_THE_API


async def test_cancelled_calls_give_their_slot_back() -> None:
    observed = Observed()
    arrived, hanging = asyncio.Event(), asyncio.Event()

    async def handle(_request: web.Request) -> web.Response:
        if not arrived.is_set():
            arrived.set()
            await hanging.wait()
        return json_answer(200, {})

    async with serving(handle) as url, asking(url, max_concurrency=1, observe=observed) as client:
        call = asyncio.create_task(client.get_projects_page())
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await client.get_projects_page()
        hanging.set()

    assert observed.calls == [("getProjects", "interrupted"), ("getProjects", "ok")]


async def test_no_more_calls_at_once_than_configured() -> None:
    running, most = 0, 0
    full = asyncio.Event()

    async def handle(_request: web.Request) -> web.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            full.set()
        await full.wait()
        await asyncio.sleep(0.005)
        running -= 1
        return json_answer(200, {})

    async with serving(handle) as url, asking(url, max_concurrency=3) as client:
        await asyncio.gather(*(client.get_projects_page() for _ in range(20)))

    assert most == 3


async def test_what_waited_through_an_outage_is_not_sent() -> None:
    asked: Counter[str] = Counter()
    first, second = asyncio.Event(), asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        operation = request.path.rpartition("/")[2]
        asked[operation] += 1
        if operation == "getProjects":
            first.set()
            await second.wait()
            return web.Response(
                status=500,
                text=words(13, "UNAVAILABLE: DB connection not found"),
                content_type=JSON,
            )
        return json_answer(200, {"experiment_run": {"id": "r"}})

    observed = Observed()
    async with serving(handle) as url, asking(url, max_concurrency=1, observe=observed) as client:
        failing = asyncio.create_task(error_of(client.get_projects_page()))
        await first.wait()
        waiting = [
            asyncio.create_task(error_of(client.create_experiment_run({}))) for _ in range(5)
        ]
        await asyncio.sleep(0)
        second.set()
        assert (await failing).kind is ApiErrorKind.DATABASE_DOWN
        refused = await asyncio.gather(*waiting)
        assert {(error.kind, error.outcome_unknown) for error in refused} == {
            (ApiErrorKind.DATABASE_DOWN, False)
        }
        assert asked == {"getProjects": 1}
        assert observed.calls == [("getProjects", "database_down")]

        assert (await client.create_experiment_run({})).id == "r"  # what comes later is sent


async def test_a_failure_of_one_call_alone_does_not_stop_the_queue() -> None:
    async def handle(request: web.Request) -> web.Response:
        if request.query.get("id") == "none":
            return web.Response(status=404, text=words(5, "absent"), content_type=JSON)
        return json_answer(200, {"experiment": {"id": "e"}})

    async with serving(handle) as url, asking(url, max_concurrency=1) as client:
        absent, found = await asyncio.gather(
            error_of(client.get_experiment_by_id("none")), client.get_experiment_by_id("e")
        )

    assert (absent.kind, found.id) == (ApiErrorKind.ABSENT, "e")


# What is sent
# ---


async def test_headers_of_a_request() -> None:
    headers: list[Mapping[str, str]] = []

    async def handle(request: web.Request) -> web.Response:
        headers.append(dict(request.headers))
        response = json_answer(200, {})
        response.set_cookie("session", "x")
        return response

    async with (
        serving(handle) as url,
        asking(url, headers={"Authorization": "Bearer t", "X-Tenant": "ml"}) as client,
    ):
        await client.get_projects_page()
        await client.find_projects("p")

    assert all(
        each["Accept"] == JSON and each["Authorization"] == "Bearer t" and each["X-Tenant"] == "ml"
        for each in headers
    )
    assert all("Cookie" not in each for each in headers)
    assert headers[1]["Content-Type"] == JSON


async def test_base_url_with_a_path_and_a_slash_at_its_end() -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return json_answer(200, {})

    async with serving(handle) as url, asking(url.replace("/v1", "/api/v1/modeldb/")) as client:
        await client.get_projects_page()

    assert asked == ["/api/v1/modeldb/project/getProjects"]


async def test_odd_names_arrive_as_they_are() -> None:
    names: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        if request.method == "GET":
            names.append(request.query["name"])
            return json_answer(200, {"experiment_run": {"id": "r"}})
        names.append((await request.json())["predicates"][0]["value"])
        return json_answer(200, {})

    odd = 'a+b %41&c=d/é漢 "q"#\'\U0001f600'
    async with serving(handle) as url, asking(url) as client:
        await client.get_experiment_run_by_name("e", odd)
        await client.find_projects(odd)

    assert names == [odd, odd]


async def test_the_workspace_goes_where_the_api_takes_one() -> None:
    bodies: dict[str, Any] = {}

    async def handle(request: web.Request) -> web.Response:
        operation = request.path.rpartition("/")[2]
        bodies[operation] = await request.json()
        return json_answer(200, {"project": {"id": "p"}} if operation.startswith("create") else {})

    async with serving(handle) as url, asking(url, workspace="team") as client:
        await client.create_project({"name": "p"})
        await client.find_projects("p")
        await client.find_experiment_runs({"name": "r"})

    assert {operation: body.get("workspace_name") for operation, body in bodies.items()} == {
        "createProject": "team",
        "findProjects": "team",
        "findExperimentRuns": "team",
    }


async def test_duplicates_come_oldest_first_and_by_id_within_one_millisecond() -> None:
    duplicates = [
        {"id": "c", "date_created": "11"},
        {"id": "b", "date_created": "9"},
        {"id": "a", "date_created": "11"},
    ]

    async def handle(request: web.Request) -> web.Response:
        member = {
            "findProjects": "projects",
            "findExperiments": "experiments",
            "findExperimentRuns": "experiment_runs",
        }
        return json_answer(200, {member[request.path.rpartition("/")[2]]: duplicates})

    async with serving(handle) as url, asking(url) as client:
        for found in (
            await client.find_projects("n"),
            await client.find_experiments("p", "n"),
            await client.find_experiment_runs({}),
        ):
            assert [each.id for each in found] == ["b", "a", "c"]

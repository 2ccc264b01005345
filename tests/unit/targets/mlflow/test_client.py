"""The MLflow client on real sockets: what it sends, and what it makes of the answers."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from daemon.targets.mlflow.client import MlflowClient, UnsendableValue
from daemon.targets.mlflow.entities import (
    DatasetInput,
    Experiment,
    MetricPoint,
    ModelVersion,
    Run,
)
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind
from tests.support.mlflow_scripted import asking, error_of
from tests.support.modeldb_v2_scripted import answering, json_answer, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from yarl import URL

RUN: dict[str, Any] = {
    "info": {
        "run_id": "r1",
        "run_uuid": "r1",
        "run_name": "job-1",
        "experiment_id": "7",
        "user_id": "",
        "status": "RUNNING",
        "start_time": 1763628000000,
        "artifact_uri": "mlflow-artifacts:/7/r1/artifacts",
        "lifecycle_stage": "active",
    },
    "data": {
        "tags": [{"key": "mark", "value": "m"}],
        "params": [{"key": "lr", "value": "0.1"}],
        "metrics": [{"key": "auc", "value": 0.5, "timestamp": "1763628000001", "step": 0}],
    },
    "inputs": {
        "dataset_inputs": [
            {
                "dataset": {
                    "name": "train",
                    "digest": "0a1b2c3d",
                    "source_type": "s3",
                    "source": '{"uri": "s3://b/k"}',
                },
                "tags": [{"key": "mlflow.data.context", "value": "train"}],
            }
        ]
    },
}
READ_RUN = Run(
    "r1",
    "7",
    "job-1",
    "RUNNING",
    start_time=1763628000000,
    tags={"mark": "m"},
    params={"lr": "0.1"},
    metrics={"auc": MetricPoint("auc", 0.5, 1763628000001, 0)},
    inputs=(DatasetInput("train", "0a1b2c3d", "s3", '{"uri": "s3://b/k"}', "train"),),
)
EXPERIMENT = {
    "experiment_id": "7",
    "name": "churn",
    "artifact_location": "mlflow-artifacts:/7",
    "lifecycle_stage": "deleted",
    "tags": [{"key": "project_user", "value": "ml"}],
}
READ_EXPERIMENT = Experiment("7", "churn", deleted=True, tags={"project_user": "ml"})
VERSION = {
    "name": "churn",
    "version": "3",
    "source": "s3://b/model.tar.gz",
    "run_id": "r1",
    "status": "READY",
    "tags": [{"key": "mark", "value": "m"}],
}
READ_VERSION = ModelVersion("churn", "3", "r1", "s3://b/model.tar.gz", "", {"mark": "m"})

CALLS: dict[str, tuple[Callable[[MlflowClient], Awaitable[Any]], str, Any, Any, Any]] = {
    # the call, method and path with query, the body, the answer, what is read
    "get_experiment_by_name": (
        lambda client: client.get_experiment_by_name("a b/+ü"),
        "GET experiments/get-by-name?experiment_name=a%20b%2F%2B%C3%BC",
        None,
        {"experiment": EXPERIMENT},
        READ_EXPERIMENT,
    ),
    "get_experiment": (
        lambda client: client.get_experiment("7"),
        "GET experiments/get?experiment_id=7",
        None,
        {"experiment": EXPERIMENT},
        READ_EXPERIMENT,
    ),
    "create_experiment": (
        lambda client: client.create_experiment("churn", {"k": "v"}),
        "POST experiments/create",
        {"name": "churn", "tags": [{"key": "k", "value": "v"}]},
        {"experiment_id": "7"},
        "7",
    ),
    "set_experiment_tag": (
        lambda client: client.set_experiment_tag("7", "k", "v"),
        "POST experiments/set-experiment-tag",
        {"experiment_id": "7", "key": "k", "value": "v"},
        {},
        None,
    ),
    "search_experiments": (
        lambda client: client.search_experiments(max_results=1, page_token="t"),
        "POST experiments/search",
        {"max_results": 1, "view_type": "ALL", "page_token": "t"},
        {"experiments": [EXPERIMENT], "next_page_token": "u"},
        ((READ_EXPERIMENT,), "u"),
    ),
    "search_experiments, none": (
        lambda client: client.search_experiments(max_results=1),
        "POST experiments/search",
        {"max_results": 1, "view_type": "ALL"},
        {},
        ((), ""),
    ),
    "create_run": (
        lambda client: client.create_run(
            "7", run_name="job-1", start_time=1763628000000, tags={"mark": "m"}
        ),
        "POST runs/create",
        {
            "experiment_id": "7",
            "run_name": "job-1",
            "start_time": 1763628000000,
            "tags": [{"key": "mark", "value": "m"}],
        },
        {"run": RUN},
        READ_RUN,
    ),
    "log_batch": (
        lambda client: client.log_batch(
            "r1",
            metrics=[MetricPoint("auc", 0.5, 1, 2), MetricPoint("loss", math.nan, 1, 0)],
            params={"lr": "0.1"},
            tags={"k": "v"},
        ),
        "POST runs/log-batch",
        {
            "run_id": "r1",
            "metrics": [
                {"key": "auc", "value": 0.5, "timestamp": 1, "step": 2},
                {"key": "loss", "value": "NaN", "timestamp": 1, "step": 0},
            ],
            "params": [{"key": "lr", "value": "0.1"}],
            "tags": [{"key": "k", "value": "v"}],
        },
        {},
        None,
    ),
    "log_inputs": (
        lambda client: client.log_inputs("r1", READ_RUN.inputs),
        "POST runs/log-inputs",
        {"run_id": "r1", "datasets": RUN["inputs"]["dataset_inputs"]},
        {},
        None,
    ),
    "update_run": (
        lambda client: client.update_run("r1", status="FINISHED", end_time=5, run_name="n"),
        "POST runs/update",
        {"run_id": "r1", "status": "FINISHED", "end_time": 5, "run_name": "n"},
        {"run_info": {**RUN["info"], "status": "FINISHED"}},
        None,
    ),
    "set_tag": (
        lambda client: client.set_tag("r1", "k", "v"),
        "POST runs/set-tag",
        {"run_id": "r1", "key": "k", "value": "v"},
        {},
        None,
    ),
    "delete_tag": (
        lambda client: client.delete_tag("r1", "k"),
        "POST runs/delete-tag",
        {"run_id": "r1", "key": "k"},
        {},
        None,
    ),
    "get_run": (
        lambda client: client.get_run("r1"),
        "GET runs/get?run_id=r1",
        None,
        {"run": RUN},
        READ_RUN,
    ),
    "search_runs": (
        lambda client: client.search_runs(["7", "8"], "tags.mark = 'm'"),
        "POST runs/search",
        {
            "experiment_ids": ["7", "8"],
            "filter": "tags.mark = 'm'",
            "run_view_type": "ALL",
            "max_results": 1000,
        },
        {"runs": [RUN]},
        (READ_RUN,),
    ),
    "delete_run": (
        lambda client: client.delete_run("r1"),
        "POST runs/delete",
        {"run_id": "r1"},
        {},
        None,
    ),
    "create_registered_model": (
        lambda client: client.create_registered_model("churn", "of mine"),
        "POST registered-models/create",
        {"name": "churn", "description": "of mine"},
        {"registered_model": {"name": "churn"}},
        None,
    ),
    "get_registered_model": (
        lambda client: client.get_registered_model("churn"),
        "GET registered-models/get?name=churn",
        None,
        {"registered_model": {"name": "churn"}},
        None,
    ),
    "create_model_version": (
        lambda client: client.create_model_version(
            "churn",
            source="s3://b/model.tar.gz",
            run_id="r1",
            run_link="https://console",
            description="d",
            tags={"mark": "m"},
        ),
        "POST model-versions/create",
        {
            "name": "churn",
            "source": "s3://b/model.tar.gz",
            "run_id": "r1",
            "run_link": "https://console",
            "description": "d",
            "tags": [{"key": "mark", "value": "m"}],
        },
        {"model_version": VERSION},
        READ_VERSION,
    ),
    "search_model_versions": (
        lambda client: client.search_model_versions("run_id = 'r1'"),
        "GET model-versions/search?filter=run_id%20%3D%20%27r1%27&max_results=200",
        None,
        {"model_versions": [VERSION]},
        (READ_VERSION,),
    ),
    "update_model_version": (
        lambda client: client.update_model_version("churn", "3", "d"),
        "PATCH model-versions/update",
        {"name": "churn", "version": "3", "description": "d"},
        {"model_version": VERSION},
        None,
    ),
    "delete_model_version": (
        lambda client: client.delete_model_version("churn", "3"),
        "DELETE model-versions/delete",
        {"name": "churn", "version": "3"},
        {},
        None,
    ),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_sends_and_reads(name: str) -> None:
    call, sent, body, answer, read = CALLS[name]
    asked: list[tuple[str, bytes, str]] = []
    observed: list[tuple[str, str]] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(
            (
                f"{request.method} {request.raw_path}",
                await request.read(),
                request.headers.get("Content-Type", ""),
            )
        )
        return json_answer(200, answer)

    def observe(operation: str, result: str) -> None:
        observed.append((operation, result))

    async with serving(handle) as url, asking(f"{url}/ml", observe=observe) as client:
        assert await call(client) == read

    method, path = sent.split(" ")
    assert asked[0][0] == f"{method} /v1/ml/api/2.0/mlflow/{path}"
    assert observed == [(path.partition("?")[0], "ok")]
    if body is None:
        assert asked[0][1:] == (b"", "")
    else:
        # The order counts: a server that stops reading stores what stands first.
        assert json.dumps(json.loads(asked[0][1])) == json.dumps(body)
        assert asked[0][2] == "application/json"


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "another"


POINT: Any = MetricPoint
INPUT: Any = DatasetInput


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("start_time is float", lambda c: c.create_run("7", run_name="n", start_time=1.5, tags={})),
        ("start_time is bool", lambda c: c.create_run("7", run_name="n", start_time=True, tags={})),
        (
            "start_time is beyond 64 bits",
            lambda c: c.create_run("7", run_name="n", start_time=2**63, tags={}),
        ),
        ("experiment_id is int", lambda c: c.create_run(7, run_name="n", start_time=1, tags={})),
        (
            "tags.value is int",
            lambda c: c.create_run("7", run_name="n", start_time=1, tags={"n": 5}),
        ),
        ("tags.key is int", lambda c: c.create_run("7", run_name="n", start_time=1, tags={5: "n"})),
        (
            "run_name is NoneType",
            lambda c: c.create_run("7", run_name=None, start_time=1, tags={}),
        ),
        ("params.value is float", lambda c: c.log_batch("r", params={"lr": 0.1})),
        ("params.value is NoneType", lambda c: c.log_batch("r", params={"lr": None})),
        (
            "metrics[1].value is infinite",
            lambda c: c.log_batch(
                "r", metrics=[MetricPoint("a", 1.0, 1, 0), MetricPoint("b", math.inf, 1, 0)]
            ),
        ),
        (
            "metrics[0].value is str",
            lambda c: c.log_batch("r", metrics=[POINT("a", "1", 1, 0)]),
        ),
        (
            "metrics[0].value is bool",
            lambda c: c.log_batch("r", metrics=[MetricPoint("a", True, 1, 0)]),
        ),
        (
            "metrics[0].value is beyond a float",
            lambda c: c.log_batch("r", metrics=[MetricPoint("a", 10**400, 1, 0)]),
        ),
        (
            "metrics[0].step is float",
            lambda c: c.log_batch("r", metrics=[POINT("a", 1.0, 1, 0.0)]),
        ),
        ("end_time is float", lambda c: c.update_run("r", status="FINISHED", end_time=1.5)),
        ("status is none of MLflow's", lambda c: c.update_run("r", status="COMPLETED")),
        (
            "datasets[0].digest is int",
            lambda c: c.log_inputs("r", [INPUT("n", 5, "s3", "{}", "train")]),
        ),
        (
            "tags.value is int",
            lambda c: c.create_model_version("m", source="s3://b/k", run_id="r", tags={"a": 5}),
        ),
    ],
)
async def test_what_would_be_misread_is_not_sent(
    place: str, call: Callable[[Any], Awaitable[None]]
) -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return json_answer(200, {})

    async with serving(handle) as url, asking(url) as client:
        with pytest.raises(UnsendableValue, match=place.replace("[", r"\[")):
            await call(client)
    assert asked == []


async def test_texts_are_sent_as_they_are_but_for_lone_surrogates() -> None:
    bodies: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.Response:
        bodies.append(json.loads(await request.read()))
        return json_answer(200, {})

    odd = 'é漢 "q"\\ \'\U0001f600\t\n'
    async with serving(handle) as url, asking(url) as client:
        await client.set_tag("r", Text("k"), f"{odd}\ud800")

    assert bodies == [{"run_id": "r", "key": "k", "value": f"{odd}\ufffd"}]


# Answers
# ---


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call[3]])
async def test_an_answer_of_another_shape_is_not_the_api(name: str) -> None:
    call = CALLS[name][0]

    async def handle(_request: web.Request) -> web.Response:
        return json_answer(200, {"odd": 5})

    async with serving(handle) as url, asking(url) as client:
        error = await error_of(call(client))

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.NOT_THE_API, True)
    assert "(no " in error.detail
    assert "target.tracking_uri should be the address of MLflow's web pages" in error.detail


async def test_what_came_instead_is_named_without_the_query() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(text="\n <!DOCTYPE html><title>Sign in", content_type="text/html")

    async with serving(handle) as url, asking(url) as client:
        detail = (await error_of(client.get_experiment_by_name("project-of-mine"))).detail

    assert f"{url}/api/2.0/mlflow/experiments/get-by-name answered 200 text/html" in detail
    assert "<!DOCTYPE html><title>Sign in" in detail
    assert "project-of-mine" not in detail


async def test_all_pages_of_a_search_are_read() -> None:
    tokens: list[str | None] = []

    async def handle(request: web.Request) -> web.Response:
        get = request.method == "GET"
        token = request.query.get("page_token") if get else (await request.json()).get("page_token")
        tokens.append(token)
        found = {"model_versions": [VERSION]} if get else {"runs": [RUN]}
        after = {None: "a&b c", "a&b c": "d"}.get(token)
        return json_answer(200, found | ({"next_page_token": after} if after else {}))

    async with serving(handle) as url, asking(url) as client:
        assert await client.search_runs(["7"], "f") == (READ_RUN,) * 3
        assert await client.search_model_versions("f") == (READ_VERSION,) * 3

    assert tokens == [None, "a&b c", "d"] * 2


async def test_pages_that_never_end_are_not_the_api() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return json_answer(200, {"runs": [], "next_page_token": "again"})

    async with asyncio.timeout(10), serving(handle) as url, asking(url) as client:
        error = await error_of(client.search_runs(["7"], "f"))

    assert error.kind is ApiErrorKind.NOT_THE_API
    assert "pages never end" in error.detail


async def test_a_long_filter_and_many_experiments_are_sent() -> None:
    asked: list[Any] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return json_answer(200, {})

    ids = [str(number) for number in range(20_000)]
    async with serving(handle) as url, asking(url) as client:
        assert await client.search_runs(ids, f"tags.a = '{'x' * 10_000}'") == ()

    assert asked[0]["experiment_ids"] == ids
    assert len(asked[0]["filter"]) > 10_000


async def test_a_status_that_was_not_taken_is_noticed() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return json_answer(200, {"run_info": RUN["info"]})

    async with serving(handle) as url, asking(url) as client:
        await client.update_run("r1", run_name="n")
        error = await error_of(client.update_run("r1", status="FINISHED", end_time=5))

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.INTERNAL, True)
    assert "status is not FINISHED after it was set" in error.detail


async def test_the_api_s_own_word() -> None:
    async def handle(_request: web.Request) -> web.Response:
        return json_answer(400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "there"})

    observed: list[tuple[str, str]] = []

    def observe(operation: str, result: str) -> None:
        observed.append((operation, result))

    async with serving(handle) as url, asking(url, observe=observe) as client:
        error = await error_of(client.create_registered_model("m"))
        assert client.outages == 0

    assert (error.kind, error.code) == (ApiErrorKind.EXISTS, "RESOURCE_ALREADY_EXISTS")
    assert error.detail == "registered-models/create: 400 RESOURCE_ALREADY_EXISTS: there"
    assert observed == [("registered-models/create", "exists")]


async def test_a_lost_answer_of_a_create_has_an_unknown_outcome() -> None:
    async with answering(b"") as url, asking(url) as client:
        error = await error_of(client.create_run("7", run_name="n", start_time=1, tags={}))
        assert client.outages == 1
        with pytest.raises(ApiError, match="runs/log-batch: not sent, because meanwhile runs/cre"):
            client.refuse_if_out_since(0, "runs/log-batch")

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.CONNECTION, True)


async def test_another_protocol_names_the_setting() -> None:
    async with answering(b"\x00\x00\x12\x04") as url, asking(url) as client:
        error = await error_of(client.search_experiments(max_results=1))

    assert error.kind is ApiErrorKind.NOT_THE_API
    assert "such as http://host:5000" in error.detail


async def test_a_refused_signature_names_the_login() -> None:
    class Nobody:
        async def headers(self, _method: str, _url: URL, _body: bytes) -> Mapping[str, str]:
            raise EdgeFault(Edge.TARGET, Reason.CREDENTIALS, "no credentials are configured")

        def refused(self) -> None:
            pytest.fail("nothing was sent")

    async with serving(never) as url, asking(url, signer=Nobody()) as client:
        error = await error_of(client.get_run("r"))

    assert (error.kind, error.outcome_unknown) == (ApiErrorKind.UNAUTHENTICATED, False)
    assert error.detail == "runs/get: no credentials are configured"


async def never(_request: web.Request) -> web.Response:
    pytest.fail("nothing was to be sent")


async def test_what_is_signed_is_what_is_sent() -> None:
    signed: list[str] = []
    sent: list[str] = []

    class Signer:
        async def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:
            signed.append(f"{method} {url.raw_path_qs} {body.decode()}")
            return {"Authorization": "x"}

        def refused(self) -> None:
            pytest.fail("the server takes them")

    async def handle(request: web.Request) -> web.Response:
        sent.append(f"{request.method} {request.raw_path} {(await request.read()).decode()}")
        return json_answer(200, {"registered_model": {"name": "m"}})

    async with serving(handle) as url, asking(url, signer=Signer()) as client:
        await client.get_registered_model("a b+c/d~é'")
        await client.create_registered_model("é漢 \U0001f600")

    assert signed == sent
    assert sent[0].endswith("?name=a%20b%2Bc%2Fd~%C3%A9%27 ")

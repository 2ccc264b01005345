"""Requests that show what MLflow's server does: right, wrong and hostile ones.

`STEPS` is one script, to be played in order against a server without data: each step may save the
id of its answer under a name, and later steps use it as ``<name>``.
`tests/support/mlflow_exchanges.py` plays it, and recorded what the real servers answered.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

JSON_HEADERS = {"Content-Type": "application/json"}
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/churn"
TIME = 1_700_000_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """A request.

    Attributes:
        name: what it shows; unique.
        body: as text, with ``<name>`` for what was saved.
        saves: the name under which the id of the answer's run or experiment is saved.
    """

    name: str
    method: str
    path: str
    query: str = ""
    body: str = ""
    saves: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_HEADERS)


class _Script:
    def __init__(self) -> None:
        self.steps: list[Step] = []

    def post(
        self,
        name: str,
        operation: str,
        body: Any,
        /,
        *,
        method: str = "POST",
        saves: str = "",
        **headers: str,
    ) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        given = JSON_HEADERS | {key.replace("_", "-"): value for key, value in headers.items()}
        path = operation if operation.startswith("/") else f"/api/2.0/mlflow/{operation}"
        self.steps.append(Step(name, method, path, "", text, saves, given))

    def get(self, name: str, operation: str, /, **query: str) -> None:
        path = operation if operation.startswith("/") else f"/api/2.0/mlflow/{operation}"
        arguments = urllib.parse.urlencode(query, safe="<>")
        self.steps.append(Step(name, "GET", path, arguments))

    def stored(self, name: str, run: str) -> None:
        self.get(f"{name}: what is stored", "runs/get", run_id=f"<{run}>")


def _run(experiment: str = "<churn>", **members: Any) -> dict[str, Any]:
    return {"experiment_id": experiment, **members}


def _tag(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def _metric(key: str, value: Any, timestamp: int = 5, step: int = 0) -> dict[str, Any]:
    return {"key": key, "value": value, "timestamp": timestamp, "step": step}


def _dataset(name: str, digest: Any, source: Any = "{}") -> dict[str, Any]:
    return {"dataset": {"name": name, "digest": digest, "source_type": "s3", "source": source}}


def _experiments(script: _Script) -> None:
    post, get = script.post, script.get
    tags = [_tag("mlflow.note.content", "Who leaves?"), _tag("project_user", "ann")]
    post(
        "experiment: created",
        "experiments/create",
        {"name": "churn", "tags": tags},
        saves="churn",
    )
    post("experiment: name taken", "experiments/create", {"name": "churn"})
    post("experiment: other case", "experiments/create", {"name": "Churn"}, saves="other")
    post("experiment: no name", "experiments/create", {})
    post("experiment: empty name", "experiments/create", {"name": ""})
    post("experiment: name is a number", "experiments/create", {"name": 5})
    post("experiment: name of 256", "experiments/create", {"name": "n" * 256}, saves="long256")
    post("experiment: name of 257", "experiments/create", {"name": "n" * 257}, saves="long257")
    post("experiment: name of 501", "experiments/create", {"name": "n" * 501})
    post("experiment: name with NUL", "experiments/create", {"name": "a\x00b"}, saves="nul")
    post(
        "experiment: tag value is a number",
        "experiments/create",
        {"name": "tag5", "tags": [_tag("a", "1"), _tag("b", 5), _tag("c", "3")]},
        saves="tag5",
    )
    get(
        "experiment: tag value is a number: what is stored",
        "experiments/get",
        experiment_id="<tag5>",
    )
    post(
        "experiment: tag twice",
        "experiments/create",
        {"name": "twice", "tags": [_tag("a", "1"), _tag("a", "2")]},
    )
    get("experiment: by name", "experiments/get-by-name", experiment_name="churn")
    get("experiment: by unknown name", "experiments/get-by-name", experiment_name="nothing")
    get("experiment: by no name", "experiments/get-by-name")
    get("experiment: by id", "experiments/get", experiment_id="<churn>")
    get("experiment: by unknown id", "experiments/get", experiment_id="999999")
    get("experiment: by id that is no number", "experiments/get", experiment_id="abc")
    set_tag = "experiments/set-experiment-tag"
    for name, key, value in (
        ("set", "project_user", "bob"),
        ("value of 5000", "long", "x" * 5000),
        ("value of 5001", "long", "x" * 5001),
        ("value of 20001", "long", "x" * 20_001),
        ("key of 251", "k" * 251, "v"),
        ("key with =", "a=b", "v"),
    ):
        body = {"experiment_id": "<tag5>", "key": key, "value": value}
        post(f"experiment tag: {name}", set_tag, body)
    post("experiment tag: no key", set_tag, {"experiment_id": "<tag5>", "value": "v"})
    post("experiment tag: no value", set_tag, {"experiment_id": "<tag5>", "key": "empty"})
    search = "experiments/search"
    post("experiments: no max_results", search, {})
    post("experiments: one", search, {"max_results": 1, "filter": "name = 'churn'"})
    post("experiments: 50001", search, {"max_results": 50_001})
    post(
        "experiments: max_results is text", search, {"max_results": "1", "filter": "name = 'churn'"}
    )
    post("experiments: max_results is a word", search, {"max_results": "many"})
    post(
        "experiments: filter by tag",
        search,
        {"max_results": 5, "filter": "tags.project_user = 'ann'"},
    )
    post("experiments: first page", search, {"max_results": 2, "view_type": "ALL"})
    get("experiments: by GET", search, max_results="1", filter="name = 'churn'")


def _creates(script: _Script) -> None:
    post, stored = script.post, script.stored
    mark = [
        _tag("sagemaker_training_job_arn", ARN),
        _tag("sagemaker_creation_time", "2026-11-29T08:00:00.000Z"),
    ]
    create = "runs/create"
    post("run: created", create, _run(run_name="job", start_time=TIME, tags=mark), saves="job")
    stored("run: created", "job")
    post(
        "run: created again",
        create,
        _run(run_name="job", start_time=TIME + 1, tags=mark),
        saves="job2",
    )
    post("run: bare", create, _run(), saves="bare")
    post("run: no experiment id", create, {"run_name": "job"})
    post(
        "run: experiment id is a number",
        create,
        '{"experiment_id": 0, "run_name": "number"}',
        saves="number",
    )
    post("run: unknown experiment", create, _run("999999"))
    post("run: experiment id is a word", create, _run("abc"))
    post("run: empty body", create, "")
    post("run: a list", create, "[]")
    post("run: no JSON", create, "this is no JSON")
    post("run: a number", create, "5")
    post("run: null", create, "null")
    post("run: JSON in JSON", create, json.dumps(json.dumps(_run("0", run_name="in"))), saves="in")
    post("run: JSON text that is no JSON", create, '"abc"')
    post(
        "run: camel case",
        create,
        {"experimentId": "0", "runName": "camel", "startTime": 7},
        saves="camel",
    )
    post("run: both spellings", create, _run("0", run_name="a", runName="b"), saves="both")
    post("run: unknown members", create, _run("0", run_name="u", nonsense={"a": [1]}), saves="u")
    for name, start in (
        ("is a fraction", TIME + 0.5),
        ("has a point", float(TIME)),
        ("is text", str(TIME)),
        ("is a word", "now"),
        ("is a bool", True),
        ("is null", None),
        ("is negative", -5),
        ("is too large", 2**63),
        ("is the largest", 2**63 - 1),
        ("is an object", {}),
    ):
        label = "start-" + name.replace(" ", "-")
        body = _run("<other>", start_time=start, run_name="job", tags=mark)
        post(f"start_time {name}", create, body, saves=label)
    tag_cases: tuple[tuple[str, Any], ...] = (
        ("value is a number", [_tag("n", 5), *mark]),
        ("value is null", [_tag("n", None), *mark]),
        ("value is a bool", [_tag("n", True), *mark]),
        ("without value", [{"key": "n"}, *mark]),
        ("without key", [{"value": "v"}, *mark]),
        ("is null", [None, *mark]),
        ("is text", ["abc", *mark]),
        ("twice", [_tag("n", "1"), _tag("n", "1")]),
        ("list is an object", {"a": "b"}),
        ("value of 8001", [_tag("n", "x" * 8001)]),
        ("key of 250", [_tag("k" * 250, "v")]),
        ("key of 251", [_tag("k" * 251, "v")]),
        ("key with = + @", [_tag("= + @ $ \" ' , [ ] \t 😀 //", "v")]),
        ("value with NUL", [_tag("n", "a\x00b")]),
        ("name as tag", [_tag("mlflow.runName", "of the tag")]),
        ("1000", [_tag(f"t{n}", "v") for n in range(1000)]),
    )
    for name, tags in tag_cases:
        label = "tag-" + name.replace(" ", "-").replace("=-+-@", "odd")
        body = _run("<other>", tags=tags, run_name="job")
        if name == "name as tag":
            body = _run("<other>", tags=tags)
        post(f"create tag {name}", create, body, saves=label)
    post(
        "create tag lone surrogate",
        create,
        r'{"experiment_id": "<other>", "tags": [{"key": "t", "value": "\ud800"}], "run_name": "j"}',
        saves="surrogate",
    )
    post(
        "create tag surrogate pair",
        create,
        r'{"experiment_id": "<other>", "tags": [{"key": "t", "value": "\ud83d\ude00"}]}',
        saves="pair",
    )
    post("run: two names", create, _run("0", run_name="a", tags=[_tag("mlflow.runName", "b")]))
    post("run: name of 250", create, _run("0", run_name="n" * 250), saves="n250")
    post("run: name of 251", create, _run("0", run_name="n" * 251), saves="n251")
    post("run: name is a number", create, _run("0", run_name=5, tags=mark), saves="name5")


def _new_run(script: _Script, label: str) -> None:
    body = _run("<other>", run_name=label)
    script.post(f"a run for {label}", "runs/create", body, saves=label)


def _odd_batches(script: _Script) -> None:
    post, stored = script.post, script.stored
    batch = "runs/log-batch"
    for name, bad in (
        ("NaN", "NaN"),
        ("text", '"abc"'),
        ("1e400", "1e400"),
        ("object", "{}"),
        ("list", "[]"),
        ("bool", "true"),
        ("number as text", '"1.5"'),
        ("NaN as text", '"NaN"'),
        ("Infinity as text", '"Infinity"'),
        ("-Infinity as text", '"-Infinity"'),
        ("nan as text", '"nan"'),
    ):
        label = "metric-" + name.replace(" ", "-")
        _new_run(script, label)
        body = (
            f'{{"run_id": "<{label}>", "metrics": ['
            '{"key": "a", "value": 1.5, "timestamp": 5, "step": 0},'
            f'{{"key": "b", "value": {bad}, "timestamp": 5, "step": 0}},'
            '{"key": "c", "value": 3, "timestamp": 5, "step": 0}],'
            '"params": [{"key": "p", "value": "v"}], "tags": [{"key": "t", "value": "v"}]}'
        )
        post(f"metric value is {name}", batch, body)
        stored(f"metric value is {name}", label)
    for name, value in (("number", 5), ("null", None), ("list", []), ("bool", False)):
        label = f"param-{name}"
        _new_run(script, label)
        params = [_tag("a", "1"), _tag("b", value), _tag("c", "3")]
        lost = [_metric("m", 1)]
        logged = {"run_id": f"<{label}>", "params": params, "metrics": lost}
        post(f"param value is {name}", batch, logged)
        stored(f"param value is {name}", label)
    for name, metric in (
        ("timestamp absent", {"key": "m", "value": 1}),
        ("timestamp negative", _metric("m", 1, -1)),
        ("timestamp is a fraction", {"key": "m", "value": 1, "timestamp": 5.5, "step": 7}),
        ("step absent", {"key": "m", "value": 1, "timestamp": 5}),
        ("step negative", _metric("m", 1, 5, -3)),
        ("value absent", {"key": "m", "timestamp": 5}),
        ("value null", _metric("m", None)),
        ("key absent", {"value": 1, "timestamp": 5}),
        ("is text", "abc"),
        ("is a number", 5),
    ):
        label = "odd-" + name.replace(" ", "-")
        _new_run(script, label)
        post(f"metric {name}", batch, {"run_id": f"<{label}>", "metrics": [metric]})
        stored(f"metric {name}", label)


def _large_batches(script: _Script) -> None:
    _new_run(script, "limits")

    def sent(name: str, **members: Any) -> None:
        body = {"run_id": "<limits>", **members}
        script.post(f"batch: {name}", "runs/log-batch", body)

    def many(count: int, start: str) -> list[dict[str, Any]]:
        return [_tag(f"{start}{n}", "v") for n in range(count)]

    def metrics(count: int, start: str = "m") -> list[dict[str, Any]]:
        return [_metric(f"{start}{n}", n) for n in range(count)]

    sent("100 params", params=many(100, "p"))
    sent("101 params", params=many(101, "q"))
    sent("100 tags", tags=many(100, "t"))
    sent("101 tags", tags=many(101, "u"))
    sent("1001 metrics", metrics=metrics(1001))
    sent("1001 altogether", metrics=metrics(901), params=many(50, "p"), tags=many(50, "t"))
    sent("100 metrics", metrics=metrics(100))
    sent("100 metrics again", metrics=metrics(100))
    sent("101 metrics", metrics=metrics(101, "n"))
    sent("101 metrics again", metrics=metrics(101, "n"))
    sent("101 metrics, one of them again", metrics=[*metrics(1), *metrics(100, "o")])


def _batches(script: _Script) -> None:
    post = script.post
    batch = "runs/log-batch"
    _new_run(script, "batch")

    def logged(name: str, **members: Any) -> None:
        post(f"batch: {name}", batch, {"run_id": "<batch>", **members})

    logged("param", params=[_tag("p", "1")])
    logged("param again", params=[_tag("p", "1")])
    logged(
        "param changed",
        params=[_tag("new", "1"), _tag("p", "2")],
        metrics=[_metric("gone", 1)],
        tags=[_tag("gone", "1")],
    )
    logged("param twice", params=[_tag("d", "1"), _tag("d", "1")])
    logged("param of 6001", params=[_tag("p6001", "x" * 6001)])
    logged("param key of 250", params=[_tag("k" * 250, "v")])
    logged("param key of 251", params=[_tag("k" * 251, "v")])
    logged("param key absent", params=[{"value": "v"}])
    logged("param key empty", params=[_tag("", "v")])
    logged("param with NUL", params=[_tag("nul", "a\x00b")])
    logged("params are an object", params={"a": "b"})
    logged("params are null", params=None)
    logged("case of keys", params=[_tag("Lr", "1"), _tag("lr", "2")])
    logged("one bad entry undoes all", params=[_tag("fine", "1")], tags=[_tag("a=b", "v")])
    logged("tag of 8001", tags=[_tag("t8001", "x" * 8001)])
    logged("tag key of 251", tags=[_tag("k" * 251, "v")])
    logged("tag twice", tags=[_tag("tt", "1"), _tag("tt", "2")])
    logged("tag of the name", tags=[_tag("mlflow.runName", "renamed")])
    logged("metric key of 251", metrics=[_metric("k" * 251, 1)])
    logged(
        "latest is the highest step, then time, then value",
        metrics=[
            _metric("latest", 1, 9, 0),
            _metric("latest", 2, 1, 1),
            _metric("latest", 3, 2, 1),
            _metric("latest", 2.5, 2, 1),
            _metric("latest", 9, 99, 0),
        ],
    )
    logged("a value twice", metrics=[_metric("same", 1), _metric("same", 1)])
    logged("nothing")
    for key in (
        "a=b",
        "a+b",
        "a@b",
        "a$b",
        'a"b',
        "a'b",
        "a,b",
        "a[b]",
        "a\tb",
        "a😀b",
        "/a",
        "a/",
        "a//b",
        "./a",
        "a/../b",
        "..",
        ".",
        "a:b",
        "a b",
        "a.b",
        "a-b",
        "a_b",
        "a/b",
        "ключ",
        "鍵",
        "newline\n",
        " ",
    ):
        logged(f"key {key!r}", params=[_tag(key, "v")])
    for key in ("a=b", "train:auc", "a//b"):
        logged(f"metric key {key!r}", metrics=[_metric(key, 1)])
        logged(f"tag key {key!r}", tags=[_tag(key, "v")])
    script.stored("batch", "batch")
    script.get("metric history", "metrics/get-history", run_id="<batch>", metric_key="latest")
    post("batch: no run", batch, {"params": []})
    post("batch: unknown run", batch, {"run_id": "0" * 32})
    post("batch: bad run id", batch, {"run_id": "a b"})
    post("batch: run id is a number", batch, {"run_id": 5})
    post("batch: empty body", batch, "")
    post("batch: a list", batch, "[]")
    post("batch: no JSON", batch, "no JSON")


def _tags_and_inputs(script: _Script) -> None:
    post, stored = script.post, script.stored
    set_tag, inputs = "runs/set-tag", "runs/log-inputs"
    post("set-tag", set_tag, {"run_id": "<job>", "key": "note", "value": "1"})
    post("set-tag again", set_tag, {"run_id": "<job>", "key": "note", "value": "2"})
    post("set-tag: value of 8001", set_tag, {"run_id": "<job>", "key": "long", "value": "x" * 8001})
    post("set-tag: key of 251", set_tag, {"run_id": "<job>", "key": "k" * 251, "value": "v"})
    post("set-tag: key with =", set_tag, {"run_id": "<job>", "key": "a=b", "value": "v"})
    post("set-tag: no key", set_tag, {"run_id": "<job>", "value": "v"})
    post("set-tag: no value", set_tag, {"run_id": "<job>", "key": "empty"})
    post("set-tag: value is a number", set_tag, {"run_id": "<job>", "key": "n", "value": 5})
    post("set-tag: unknown run", set_tag, {"run_id": "0" * 32, "key": "a", "value": "v"})
    post("set-tag: by run_uuid", set_tag, {"run_uuid": "<job>", "key": "uuid", "value": "v"})
    post("delete-tag", "runs/delete-tag", {"run_id": "<job>", "key": "note"})
    post("delete-tag again", "runs/delete-tag", {"run_id": "<job>", "key": "note"})
    context = [_tag("mlflow.data.context", "train")]
    post(
        "inputs",
        inputs,
        {"run_id": "<job>", "datasets": [_dataset("train", "d1", "one") | {"tags": context}]},
    )
    post(
        "inputs again",
        inputs,
        {"run_id": "<job>", "datasets": [_dataset("train", "d1", "one") | {"tags": context}]},
    )
    post(
        "inputs: another source",
        inputs,
        {"run_id": "<job2>", "datasets": [_dataset("train", "d1", "two")]},
    )
    post(
        "inputs: digest is a number",
        inputs,
        {"run_id": "<bare>", "datasets": [_dataset("a", 5), _dataset("b", "d")]},
    )
    stored("inputs", "job")
    stored("inputs: another source", "job2")
    stored("inputs: digest is a number", "bare")
    for name, item in (
        ("name of 501", _dataset("n" * 501, "d")),
        ("digest of 36", _dataset("n", "d" * 36)),
        ("digest of 37", _dataset("n", "d" * 37)),
        ("source of 65536", _dataset("n", "d2", "s" * 65_536)),
        ("tag key of 256", _dataset("n", "d3") | {"tags": [_tag("k" * 256, "v")]}),
        ("tag value of 501", _dataset("n", "d4") | {"tags": [_tag("k", "v" * 501)]}),
        ("no data set", {"tags": []}),
        (
            "source type efs",
            {"dataset": {"name": "e", "digest": "d", "source_type": "efs", "source": "{}"}},
        ),
    ):
        post(f"inputs: {name}", inputs, {"run_id": "<number>", "datasets": [item]})
    post("inputs: unknown run", inputs, {"run_id": "0" * 32, "datasets": []})


def _updates(script: _Script) -> None:
    post, stored, get = script.post, script.stored, script.get
    update = "runs/update"
    post(
        "update: end_time is a fraction",
        update,
        {"run_id": "<job>", "end_time": 1.5, "status": "FINISHED"},
    )
    post(
        "update: unknown status",
        update,
        {"run_id": "<job>", "status": "COMPLETED", "end_time": TIME + 60_000},
    )
    post("update: status is a number", update, {"run_id": "<job>", "status": 4})
    post("update: status 9", update, {"run_id": "<job>", "status": 9, "end_time": 1})
    post(
        "update: finished",
        update,
        {"run_id": "<job>", "status": "FINISHED", "end_time": TIME + 90_000},
    )
    post(
        "update: finished again",
        update,
        {"run_id": "<job>", "status": "FINISHED", "end_time": TIME + 90_000},
    )
    post("update: start_time", update, {"run_id": "<job>", "start_time": 5})
    post(
        "update: end before start", update, {"run_id": "<job2>", "status": "KILLED", "end_time": 5}
    )
    post("update: name", update, {"run_id": "<job2>", "run_name": "renamed"})
    post("update: empty name", update, {"run_id": "<job2>", "run_name": ""})
    post("update: unknown run", update, {"run_id": "0" * 32, "status": "FINISHED"})
    post("update: no run", update, {"status": "FINISHED"})
    post(
        "update: a finished run takes a tag",
        "runs/set-tag",
        {"run_id": "<job>", "key": "late", "value": "v"},
    )
    stored("update", "job")
    get("get: unknown run", "runs/get", run_id="0" * 32)
    get("get: no run", "runs/get")


def _searches(script: _Script) -> None:
    post = script.post
    search = "runs/search"
    key = "sagemaker_training_job_arn"

    def sought(name: str, text: str, **members: Any) -> None:
        body = {"experiment_ids": ["<churn>"], "filter": text, **members}
        post(f"search: {name}", search, body)

    sought("key in backticks", f"tags.`{key}` = '{ARN}'")
    sought("key in double quotes", f"tags.\"{key}\" = '{ARN}'")
    sought("bare key", f"tags.{key} = '{ARN}'")
    sought("two clauses", f"tags.`{key}` = '{ARN}' AND tags.`late` = 'v'")
    sought("lower case and", f"tags.`{key}` = '{ARN}' and tag.late = 'v'")
    sought("or", f"tags.`{key}` = '{ARN}' OR tags.late = 'v'")
    sought("value in double quotes", 'tags.late = "v"')
    sought("doubled quote", "tags.late = 'it''s'")
    sought("escaped quote", "tags.late = 'it\\'s'")
    sought("not equal", f"tags.`{key}` != 'x'", max_results=1)
    sought("ilike", "tags.late ILIKE 'V'")
    sought("is null", "tags.late IS NULL", max_results=1)
    sought("is not null", "tags.late IS NOT NULL")
    sought("in on tags", "tags.late IN ('v')")
    sought("run id in", "attributes.run_id IN ('<job>')")
    sought("name", "attributes.run_name = 'renamed'")
    sought("run name without prefix", "run_name = 'renamed'")
    sought("status", "attributes.status = 'FINISHED'")
    sought("start time", f"attributes.start_time = {TIME}")
    sought("unknown attribute", "color = 'red'")
    sought("unknown kind", "things.a = 'b'")
    sought("unquoted value", "tags.late = v")
    sought("number as tag value", "tags.late = 5")
    sought("nonsense", "this is nonsense")
    sought("half a clause", "tags.late =")
    sought("empty filter", "", max_results=1)
    sought("second page", "", max_results=1, page_token="eyJvZmZzZXQiOiAxfQ==")
    sought("max_results 0", "", max_results=0)
    sought("max_results 50001", "", max_results=50_001)
    sought("deleted only", "", run_view_type="DELETED_ONLY")
    sought("unknown view", "tags.late = 'v'", run_view_type="EVERYTHING")
    post("search: no experiments", search, {"filter": f"tags.`{key}` = '{ARN}'"})
    post(
        "search: experiment id is a number",
        search,
        '{"experiment_ids": [0], "filter": "tags.late = \'v\'"}',
    )
    post("search: experiment id is a word", search, {"experiment_ids": ["abc"]})
    post(
        "search: experiment ids are text", search, {"experiment_ids": "0", "filter": "tags.a = 'v'"}
    )


def _models(script: _Script) -> None:
    post, get = script.post, script.get
    create, version = "registered-models/create", "model-versions/create"
    post("model: created", create, {"name": "churn", "description": "Who leaves"})
    post("model: name taken", create, {"name": "churn"})
    for name in ("a/b", "a:b", ".", "..", " ", "", "n" * 256, "n" * 257, "with space"):
        post(f"model: name {name[:10]!r} of {len(name)}", create, {"name": name})
    post("model: no name", create, {})
    post("model: description of 5001", create, {"name": "wordy", "description": "x" * 5001})
    get("model: get", "registered-models/get", name="churn")
    get("model: get unknown", "registered-models/get", name="nothing")
    whole = {
        "name": "churn",
        "source": "s3://bucket/churn/model.tar.gz",
        "run_id": "<job>",
        "run_link": "https://eu-west-1.console.aws.amazon.com/sagemaker/jobs/churn",
        "description": "A model",
        "tags": [_tag("sagemaker_training_job_arn", ARN)],
    }
    post("version: created", version, whole)
    post("version: created again", version, whole)
    post(
        "version: tag is a number",
        version,
        {
            "name": "churn",
            "source": "s3://b/k",
            "tags": [_tag("a", 5), _tag("mark", "m")],
            "run_id": "<job>",
        },
    )
    post("version: bare", version, {"name": "churn", "source": "s3://b/k"})
    post("version: unknown model", version, {"name": "nothing", "source": "s3://b/k"})
    post("version: no source", version, {"name": "churn"})
    for source in (
        "s3://bucket",
        "s3://bucket/",
        "s3://b/../k",
        "s3://b/%2e%2e/k",
        "s3://b/a//k",
        "s3://b/k/",
        "s3://b/./k",
        "https://example.com/model",
        "/tmp/model",
        "model.tar.gz",
        "arn:aws:sagemaker:eu-west-1:1:model/m",
        "gs://b/k",
        "file:///tmp/model",
        "runs:/abc/model",
    ):
        post(f"version: source {source}", version, {"name": "churn", "source": source})
    post("version: source of 500", version, {"name": "churn", "source": "s3://b/" + "k" * 493})
    post("version: source of 501", version, {"name": "churn", "source": "s3://b/" + "k" * 494})
    post(
        "version: run_link of 501",
        version,
        {"name": "churn", "source": "s3://b/k", "run_link": "l" * 501},
    )
    post(
        "version: description of 5001",
        version,
        {"name": "churn", "source": "s3://b/k", "description": "x" * 5001},
    )
    for count in (5000, 5001, 100_001):
        tags = [_tag("long", "x" * count)]
        post(
            f"version: tag of {count}",
            version,
            {"name": "churn", "source": "s3://b/k", "tags": tags},
        )
    post(
        "version: tag key with =",
        version,
        {"name": "churn", "source": "s3://b/k", "tags": [_tag("a=b", "v")]},
    )
    search = "model-versions/search"
    get("versions: of a run", search, filter="run_id = '<job>'")
    get("versions: of a model, first page", search, filter="name = 'churn'", max_results="1")
    get("versions: by tag", search, filter=f"tags.`sagemaker_training_job_arn` = '{ARN}'")
    get("versions: by source", search, filter="source_path = 's3://bucket/churn/model.tar.gz'")
    get("versions: unknown attribute", search, filter="color = 'red'")
    get("versions: or", search, filter="name = 'a' OR name = 'b'")
    get("versions: none", search, filter="run_id = 'nothing'")
    get("versions: too many", search, max_results="200001")
    post(
        "version: update",
        "model-versions/update",
        {"name": "churn", "version": "1", "description": "Better"},
        method="PATCH",
    )
    post(
        "version: update unknown",
        "model-versions/update",
        {"name": "churn", "version": "999"},
        method="PATCH",
    )
    post(
        "version: version is a word",
        "model-versions/update",
        {"name": "churn", "version": "x"},
        method="PATCH",
    )
    post(
        "version: version is a number",
        "model-versions/update",
        {"name": "churn", "version": 1},
        method="PATCH",
    )
    post(
        "version: delete",
        "model-versions/delete",
        {"name": "churn", "version": "2"},
        method="DELETE",
    )
    post(
        "version: delete again",
        "model-versions/delete",
        {"name": "churn", "version": "2"},
        method="DELETE",
    )
    post("version: after a deletion", version, {"name": "churn", "source": "s3://b/last"})
    get("version: after a deletion: of the run", search, filter="run_id = '<job>'")


def _deletions(script: _Script) -> None:
    post, get, stored = script.post, script.get, script.stored
    run = {"run_id": "<job>"}
    post("run: deleted", "runs/delete", run)
    post("run: deleted again", "runs/delete", run)
    stored("run: deleted", "job")
    post("deleted run: tag", "runs/set-tag", run | {"key": "a", "value": "v"})
    post("deleted run: tag deleted", "runs/delete-tag", run | {"key": "a"})
    post("deleted run: batch", "runs/log-batch", run)
    post("deleted run: inputs", "runs/log-inputs", run | {"datasets": []})
    post("deleted run: update", "runs/update", run | {"status": "FAILED"})
    body = {"experiment_ids": ["<churn>"], "filter": f"tags.`sagemaker_training_job_arn` = '{ARN}'"}
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL"):
        post(f"search after deletion: {view}", "runs/search", body | {"run_view_type": view})
    post("run: restored", "runs/restore", run)
    post("run: restored again", "runs/restore", run)
    post("run: deleted, unknown", "runs/delete", {"run_id": "0" * 32})
    experiment = {"experiment_id": "<churn>"}
    post("experiment: deleted", "experiments/delete", experiment)
    post("experiment: deleted again", "experiments/delete", experiment)
    get("deleted experiment: by name", "experiments/get-by-name", experiment_name="churn")
    post("deleted experiment: create", "experiments/create", {"name": "churn"})
    post("deleted experiment: run", "runs/create", _run())
    post(
        "deleted experiment: tag",
        "experiments/set-experiment-tag",
        experiment | {"key": "a", "value": "v"},
    )
    stored("deleted experiment", "job")
    for view in ("ACTIVE_ONLY", "DELETED_ONLY", "ALL"):
        search = {"max_results": 5, "view_type": view, "filter": "name = 'churn'"}
        post(f"deleted experiment: search {view}", "experiments/search", search)
    post("experiment: restored", "experiments/restore", experiment)
    post("experiment: restored again", "experiments/restore", experiment)
    stored("restored experiment", "job")


def _web(script: _Script) -> None:
    post, get = script.post, script.get
    get("health", "/health")
    get("version", "/version")
    get("server-info", "/api/3.0/mlflow/server-info")
    get("unknown path", "/api/2.0/mlflow/runs/nonsense")
    get("unknown path far away", "/nonsense")
    get("wrong verb: GET", "runs/create")
    post("wrong verb: POST", "runs/get", {"run_id": "<job>"})
    post("wrong verb: PUT", "runs/update", {"run_id": "<job>"}, method="PUT")
    search = "experiments/search"
    one = {"max_results": 1, "filter": "name = 'churn'"}
    post("content type with charset", search, one, Content_Type="application/json; charset=utf-8")
    post("content type text/plain", search, one, Content_Type="text/plain")
    post("content type of a form", search, one, Content_Type="application/x-www-form-urlencoded")
    post("old path of the web pages", "/ajax-api/2.0/mlflow/experiments/search", one)
    post("host: localhost", search, one, Host="localhost:5000")
    post("host: private address", search, one, Host="192.168.1.5:5000")
    for host in (
        "mlflow",
        "mlflow:5000",
        "mlflow.mlflow.svc.cluster.local",
        "mlflow.example.com",
        "172.40.0.1",
    ):
        post(f"host: {host}", search, one, Host=host)
    script.steps.append(
        Step("host: health", "GET", "/health", headers={"Host": "mlflow.example.com"})
    )
    post("origin: another", search, one, Origin="https://mlflow.example.com")
    post("origin: localhost", search, one, Origin="http://localhost:3000")


LOGINS = {"admin": "admin's password", "ann": "ann's password", "bob": "bob's password"}
"""Users of a server with basic auth, with their passwords."""


def _login(user: str, password: str = "") -> str:
    text = f"{user}:{password or LOGINS[user]}"
    return "Basic " + base64.b64encode(text.encode()).decode()


def _logins(script: _Script) -> None:
    post = script.post
    search, one = "experiments/search", {"max_results": 1, "filter": "name = 'anns'"}
    post("no login", search, one)
    post("wrong password", search, one, Authorization=_login("ann", "wrong"))
    post("unknown user", search, one, Authorization=_login("eve", "wrong"))
    post("bearer token", search, one, Authorization="Bearer token")
    script.get("no login: health", "/health")
    script.get("no login: version", "/version")
    script.get("no login: server-info", "/api/3.0/mlflow/server-info")
    script.get("no login: unknown path", "/api/2.0/mlflow/nonsense")

    def by(user: str, name: str, operation: str, body: Any, **more: Any) -> None:
        post(f"{user}: {name}", operation, body, Authorization=_login(user), **more)

    by("ann", "unknown path", "nonsense", {})
    by("ann", "experiment", "experiments/create", {"name": "anns"}, saves="anns")
    by("ann", "run", "runs/create", _run("<anns>", run_name="job"), saves="job")
    by("ann", "model", "registered-models/create", {"name": "anns"})
    by("ann", "version", "model-versions/create", {"name": "anns", "source": "s3://b/k"})
    run, version = {"run_id": "<job>"}, {"name": "anns", "version": "1"}
    by("bob", "search", search, one)
    by("bob", "search of runs", "runs/search", {"experiment_ids": ["<anns>"]})
    by("bob", "run", "runs/create", _run("<anns>", run_name="job"))
    by("bob", "tag", "runs/set-tag", run | {"key": "a", "value": "v"})
    by("bob", "batch", "runs/log-batch", run)
    by("bob", "inputs", "runs/log-inputs", run | {"datasets": []})
    by("bob", "update", "runs/update", run | {"status": "FINISHED"})
    by("bob", "run deleted", "runs/delete", run)
    by(
        "bob",
        "experiment tag",
        "experiments/set-experiment-tag",
        _run("<anns>", key="a", value="v"),
    )
    by("bob", "experiment deleted", "experiments/delete", _run("<anns>"))
    by("bob", "version", "model-versions/create", {"name": "anns", "source": "s3://b/k"})
    by("bob", "version updated", "model-versions/update", version, method="PATCH")
    by("bob", "version deleted", "model-versions/delete", version, method="DELETE")
    by("bob", "run in the default experiment", "runs/create", _run("0"))
    by("bob", "run in an unknown experiment", "runs/create", _run("999999"))
    by("bob", "tag of an unknown run", "runs/set-tag", {"run_id": "0" * 32, "key": "a"})
    by("bob", "batch of an unknown run", "runs/log-batch", {"run_id": "0" * 32})
    by("bob", "unknown model", "model-versions/create", {"name": "none", "source": "s3://b/k"})
    by("admin", "tag", "runs/set-tag", run | {"key": "a", "value": "v"})

    def read(name: str, operation: str, query: str) -> None:
        path = f"/api/2.0/mlflow/{operation}"
        headers = {"Authorization": _login("bob")}
        script.steps.append(Step(f"bob reads {name}", "GET", path, query, headers=headers))

    read("an experiment", "experiments/get-by-name", "experiment_name=anns")
    read("an unknown experiment by name", "experiments/get-by-name", "experiment_name=none")
    read("an unknown experiment", "experiments/get", "experiment_id=999999")
    read("a run", "runs/get", "run_id=<job>")
    read("an unknown run", "runs/get", f"run_id={'0' * 32}")
    read("a model", "registered-models/get", "name=anns")
    read("an unknown model", "registered-models/get", "name=none")
    read("versions", "model-versions/search", "filter=name%20%3D%20'anns'")


def _database_down(script: _Script) -> None:
    post, get = script.post, script.get
    unknown = "0" * 32
    get("health", "/health")
    get("version", "/version")
    post("experiments searched", "experiments/search", {"max_results": 1})
    get("experiment by name", "experiments/get-by-name", experiment_name="churn")
    post("experiment created", "experiments/create", {"name": "churn"})
    post("experiment without name", "experiments/create", {})
    post("run created", "runs/create", _run("1"))
    get("run", "runs/get", run_id=unknown)
    post("batch", "runs/log-batch", {"run_id": unknown})
    post("batch with a bad key", "runs/log-batch", {"run_id": unknown, "tags": [_tag("a=b", "v")]})
    post("inputs", "runs/log-inputs", {"run_id": unknown, "datasets": []})
    post("tag", "runs/set-tag", {"run_id": unknown, "key": "a", "value": "v"})
    post("update", "runs/update", {"run_id": unknown, "status": "FINISHED"})
    post("runs searched", "runs/search", {"experiment_ids": ["1"]})
    post("runs searched with a bad filter", "runs/search", {"filter": "a OR b"})
    post("model created", "registered-models/create", {"name": "churn"})
    post("version created", "model-versions/create", {"name": "churn", "source": "s3://b/k"})
    get("versions searched", "model-versions/search", filter="run_id = 'a'")


def _steps(*parts: Callable[[_Script], None]) -> tuple[Step, ...]:
    script = _Script()
    for part in parts:
        part(script)
    return tuple(script.steps)


PARTS = {
    "experiments": _steps(_experiments),
    "creates": _steps(_creates),
    "odd batches": _steps(_odd_batches),
    "large batches": _steps(_large_batches),
    "batches": _steps(_batches),
    "tags and inputs": _steps(_tags_and_inputs),
    "updates": _steps(_updates),
    "searches": _steps(_searches),
    "models": _steps(_models),
    "deletions": _steps(_deletions),
    "web": _steps(_web),
}
STEPS = tuple(step for steps in PARTS.values() for step in steps)
LOGIN_STEPS = _steps(_logins)
"""For a server with basic auth and `LOGINS`."""
DATABASE_DOWN_STEPS = _steps(_database_down)
"""For a server whose database has been stopped."""

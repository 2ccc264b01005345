"""What MLflow does for each call that concerns runs."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

from daemon.demo.mlflow import checks, messages
from daemon.demo.mlflow.calls import Call, Database, listed, tag_values, take_page
from daemon.demo.mlflow.experiment_calls import check_active, find_experiment
from daemon.demo.mlflow.filters import Clause, Grammar, parse_filter
from daemon.demo.mlflow.names import (
    MAX_DATASET,
    MAX_INPUT_TAG,
    MAX_KEY,
    MAX_PARAM_VALUE,
    MAX_TAG_VALUE,
    check_key,
    check_length,
    check_run_id,
)
from daemon.demo.mlflow.replies import (
    BAD_REQUEST,
    MissingEntity,
    ServerError,
    absent,
    invalid,
)
from daemon.demo.mlflow.store import ACTIVE, DELETED, Point, Run, Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from daemon.demo.mlflow.parsing import Message

_VIEWS = {"ACTIVE_ONLY": {ACTIVE}, "DELETED_ONLY": {DELETED}, "ALL": {ACTIVE, DELETED}}
_RUN_NAME = "mlflow.runName"
_ATTRIBUTES = (
    "Created",
    "Run Name",
    "Run name",
    "artifact_uri",
    "created",
    "end_time",
    "run name",
    "run_id",
    "run_name",
    "start_time",
    "status",
    "user_id",
)
_NUMERIC = ("start_time", "end_time", "created", "Created")
_RUN_NAME_COLUMN, _KEY_COLUMN, _TAG_COLUMN = 250, 250, 8_000
_REPEATED_METRICS_OF_2X = 100
_FIRST_WORDS = ("treasured", "painted", "crawling", "rogue", "burly", "abundant", "fun", "trusting")
_SECOND_WORDS = ("owl", "shrimp", "steed", "bat", "grub", "mole", "fawn", "loon")


def _find(store: Store, run_id: str) -> Run:
    run = store.runs.get(run_id)
    if run is None:
        raise MissingEntity(f"Run with id={run_id} not found")
    return run


def _find_active(database: Database, store: Store, run_id: str) -> Run:
    run = _find(store, run_id)
    if run.stage != ACTIVE:
        raise invalid(
            f"The run {run_id} must be in the 'active' state. Current state is {run.stage}."
        )
    database.check_owner(store.experiments[run.experiment_id].owner)
    return run


def _random_name(run_id: str) -> str:
    number = int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:4])
    first, second = _FIRST_WORDS[number % 8], _SECOND_WORDS[number // 8 % 8]
    return f"{first}-{second}-{number // 64 % 1000}"


def _create(database: Database, message: Message) -> dict[str, Any]:
    store = database.open()
    wanted = message.get("experiment_id", "")
    experiment = find_experiment(database, database.read(), wanted)
    check_active(experiment)
    database.check_owner(experiment.owner)
    tags = tag_values(message)
    name, name_tag = message.get("run_name", ""), dict(tags).get(_RUN_NAME, "")
    if name and name_tag and name != name_tag:
        raise invalid(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different "
            f"values (run_name='{name}', mlflow.runName='{name_tag}')."
        )
    run_id = database.new_id()
    name = name or name_tag or _random_name(run_id)
    if not name_tag:
        tags.append((_RUN_NAME, name))
    if not wanted:
        # The default experiment is found, and its absent id is what the database gets.
        raise _integrity("FOREIGN KEY constraint failed")
    database.columns.check(
        [(name, _RUN_NAME_COLUMN)]
        + [column for key, value in tags for column in ((key, 250), (value, _TAG_COLUMN))]
    )
    if len(dict(tags)) < len(tags):
        raise _integrity("UNIQUE constraint failed: tags.key, tags.run_uuid")
    run = Run(
        run_id,
        experiment.id,
        name,
        message.get("user_id", ""),
        message.get("start_time", 0),
        f"{experiment.artifact_location}/{run_id}/artifacts",
        dict(tags),
    )
    store.add_run(run)
    return {"run": store.printed_run(run, outputs=False)}


def _integrity(problem: str) -> ServerError:
    return ServerError(
        BAD_REQUEST,
        "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush "
        f"block if this flush is occurring prematurely)\n(sqlite3.IntegrityError) {problem}\n",
    )


def _update(database: Database, message: Message) -> dict[str, Any]:
    store = database.open()
    run = _find_active(database, store, message.get("run_id", "") or message.get("run_uuid", ""))
    name = message.get("run_name", "")
    database.columns.check([(name, _RUN_NAME_COLUMN)])
    run.status = message.get("status", run.status)
    run.end_time = message.get("end_time", run.end_time)
    if name:
        run.name = run.tags[_RUN_NAME] = name
    return {"run_info": run.info()}


def _log_batch(database: Database, message: Message) -> dict[str, Any]:
    run_id = message.get("run_id", "")
    check_run_id(run_id)
    points = [_checked_point(metric, n) for n, metric in enumerate(message.get("metrics", ()))]
    params = [
        _checked_pair(param, f"params[{n}].key", MAX_PARAM_VALUE, "Param key")
        for n, param in enumerate(message.get("params", ()))
    ]
    tags = [
        _checked_pair(tag, f"tags[{n}].key", MAX_TAG_VALUE, f"tags[{n}].key")
        for n, tag in enumerate(message.get("tags", ()))
    ]
    _check_counts(points, params, tags)
    keys = [key for key, _ in params]
    repeated = [key for n, key in enumerate(keys) if key in keys[:n]]
    if repeated:
        raise invalid(
            f"Duplicate parameter keys have been submitted: {repeated}. Please ensure the request "
            "contains only one param value per param key."
        )
    store = database.open()
    run = _find_active(database, store, run_id)
    changed = [
        {"key": key, "old_value": run.params[key], "new_value": value}
        for key, value in params
        if run.params.get(key, value) != value
    ]
    if changed:
        raise invalid(
            "Changing param values is not allowed. Params were already "
            f"logged='{changed}' for run ID='{run_id}'."
        )
    database.columns.check(
        ((text, MAX_TAG_VALUE) for pair in (*params, *tags) for text in pair), in_batch=True
    )
    known = [point for point in points if point in run.points]
    if not database.modern and known and len(points) > _REPEATED_METRICS_OF_2X:
        raise ServerError(
            BAD_REQUEST,
            "(sqlite3.IntegrityError) UNIQUE constraint failed: metrics.key, metrics.timestamp, "
            "metrics.step, metrics.run_uuid, metrics.value, metrics.is_nan\n",
        )
    for point in points:
        run.add(point)
    run.params.update(params)
    _set_tags(run, tags)
    return {}


def _set_tags(run: Run, tags: Iterable[tuple[str, str]]) -> None:
    for key, value in tags:
        run.tags[key] = value
        if key == _RUN_NAME and value:
            run.name = value


def _checked_point(metric: Message, index: int) -> Point:
    key, value = metric.get("key", ""), metric.get("value", 0.0)
    check_key(key, f"metrics[{index}].name")
    timestamp = metric.get("timestamp", 0)
    if timestamp < 0:
        raise invalid(
            f"Invalid value {timestamp} for parameter 'metrics[{index}].timestamp' supplied: "
            f"metric '{key}' (value={value}). Timestamp must be a nonnegative long (64-bit "
            "integer) "
        )
    check_length("Metric name", MAX_KEY, key)
    return Point.of(key, value, timestamp, metric.get("step", 0))


def _checked_pair(pair: Message, path: str, longest: int, what: str) -> tuple[str, str]:
    """Key and value; the value is cut."""
    key = pair.get("key", "")
    check_key(key, path)
    check_length(what, MAX_KEY, key)
    return key, pair.get("value", "")[:longest]


def _check_counts(
    points: Sequence[object], params: Sequence[object], tags: Sequence[object]
) -> None:
    altogether = len(points) + len(params) + len(tags)
    for what, limit, count in (
        ("metrics", 1000, len(points)),
        ("params", 100, len(params)),
        ("tags", 100, len(tags)),
        ("metrics, params, and tags", 1000, altogether),
    ):
        if count > limit:
            raise invalid(
                f"A batch logging request can contain at most {limit} {what}. Got {count} {what}. "
                f"Please split up {what} across multiple requests and try again."
            )


def _log_inputs(database: Database, message: Message) -> dict[str, Any]:
    run_id = message.get("run_id", "")
    check_run_id(run_id)
    inputs = []
    for item in message.get("datasets", ()):
        dataset = dict(item.get("dataset", {}))
        for name in ("name", "digest", "source_type", "source"):
            dataset.setdefault(name, "")
        for name, limit in MAX_DATASET.items():
            check_length(name, limit, dataset.get(name, ""))
        tags = tag_values(item)
        for key, value in tags:
            check_length("key", MAX_INPUT_TAG["key"], key)
            check_length("value", MAX_INPUT_TAG["value"], value)
        inputs.append((dataset, dict(tags)))
    store = database.open()
    run = _find_active(database, store, run_id)
    database.columns.check(
        ((text, 65_535) for dataset, _ in inputs for text in dataset.values()), in_batch=True
    )
    for dataset, of_input in inputs:
        name_and_digest = dataset["name"], dataset["digest"]
        store.datasets.setdefault((run.experiment_id, *name_and_digest), dataset)
        run.inputs.setdefault(name_and_digest, of_input)
    return {}


def _set_tag(database: Database, message: Message) -> dict[str, Any]:
    key, value = _checked_pair(message, "key", MAX_TAG_VALUE, "key")
    store = database.open()
    run = _find_active(database, store, message.get("run_id", "") or message.get("run_uuid", ""))
    database.columns.check([(key, _KEY_COLUMN), (value, _TAG_COLUMN)])
    _set_tags(run, [(key, value)])
    return {}


def _delete_tag(database: Database, message: Message) -> dict[str, Any]:
    run_id, key = message.get("run_id", ""), message.get("key", "")
    run = _find_active(database, database.open(), run_id)
    if key not in run.tags:
        raise absent(f"No tag with name: {key} in run with id {run_id}")
    del run.tags[key]
    return {}


def _get(database: Database, message: Message) -> dict[str, Any]:
    store = database.read()
    run = _find(store, message.get("run_id", "") or message.get("run_uuid", ""))
    return {"run": store.printed_run(run, outputs=database.modern)}


def _delete(database: Database, message: Message) -> dict[str, Any]:
    return _move(database, message, DELETED)


def _restore(database: Database, message: Message) -> dict[str, Any]:
    return _move(database, message, ACTIVE)


def _move(database: Database, message: Message, stage: str) -> dict[str, Any]:
    store = database.open()
    run = _find(store, message.get("run_id", ""))
    database.check_owner(store.experiments[run.experiment_id].owner)
    run.stage = stage
    return {}


def _search(database: Database, message: Message) -> dict[str, Any]:
    max_results = message.get("max_results", 1000)
    if max_results < 1:
        raise invalid(
            f"Invalid value {max_results} for parameter 'max_results' supplied. It must be a "
            "positive integer"
        )
    grammar = Grammar(_ATTRIBUTES, _NUMERIC, knows_null=database.modern)
    clauses = parse_filter(message.get("filter", ""), grammar)
    store = database.read()
    stages = _VIEWS[message.get("run_view_type", "ACTIVE_ONLY")]
    found = [
        run
        for number in dict.fromkeys(_numbers(database, message.get("experiment_ids", ())))
        for run in store.runs_of.get(number, ())
        if run.stage in stages and all(_matches(run, clause) for clause in clauses)
    ]
    found.sort(key=lambda run: (-run.start_time, run.id))
    page, more = take_page(found, message, max_results)
    printed = [store.printed_run(run, outputs=database.modern) for run in page]
    return listed("runs", printed) | more


def _numbers(database: Database, ids: Iterable[str]) -> list[int]:
    numbers = []
    for text in ids:
        try:
            numbers.append(int(text))
        except ValueError:
            if database.modern:
                raise invalid(
                    f"Invalid experiment ID '{text}'. Experiment ID must be a valid integer."
                ) from None
    return numbers


def _matches(run: Run, clause: Clause) -> bool:
    if clause.kind == "tag":
        return clause.matches(run.tags.get(clause.key))
    if clause.kind == "parameter":
        return clause.matches(run.params.get(clause.key))
    if clause.kind == "metric":
        point = run.latest.get(clause.key)
        return clause.matches(None if point is None else math.nan if point.is_nan else point.value)
    attributes: dict[str, str | int | None] = {
        "run_id": run.id,
        "run_name": run.name,
        "status": run.status,
        "artifact_uri": run.artifact_uri,
        "user_id": run.user_id,
        "start_time": run.start_time,
        "created": run.start_time,
        "Created": run.start_time,
        "end_time": run.end_time,
    }
    return clause.matches(attributes.get(clause.key))


def _metric_history(database: Database, message: Message) -> dict[str, Any]:
    key = message.get("metric_key", "")
    run_id = message.get("run_id", "") or message.get("run_uuid", "")
    run = database.read().runs.get(run_id)
    if run is None:
        return {}
    points = [point for point in run.points if point.key == key]
    if not message.get("max_results"):
        return listed("metrics", [point.printed() for point in points])
    page, more = take_page(points, message, message["max_results"])
    return listed("metrics", [point.printed() for point in page]) | more


_BY_ID: checks.Checks = {"run_id": [checks.REQUIRED, checks.STRING]}

RUN_CALLS = {
    "runs/create": Call(
        ("POST",),
        messages.RUN_CREATE,
        {
            "experiment_id": [checks.STRING],
            "start_time": [checks.INTEGRAL],
            "run_name": [checks.STRING],
        },
        _create,
    ),
    "runs/update": Call(
        ("POST",),
        messages.RUN_UPDATE,
        {
            **_BY_ID,
            "end_time": [checks.INTEGRAL],
            "status": [checks.STRING],
            "run_name": [checks.STRING],
        },
        _update,
    ),
    "runs/log-batch": Call(
        ("POST",),
        messages.RUN_BATCH,
        {
            "run_id": [checks.STRING, checks.REQUIRED],
            "metrics": [
                checks.ARRAY,
                checks.members_present("metrics", "key", "value", "timestamp"),
            ],
            "params": [checks.ARRAY, checks.members_present("params", "key")],
            "tags": [checks.ARRAY, checks.members_present("tags", "key")],
        },
        _log_batch,
        batch=True,
    ),
    "runs/log-inputs": Call(
        ("POST",),
        messages.RUN_INPUTS,
        {**_BY_ID, "datasets": [checks.ARRAY], "models": [checks.ARRAY]},
        _log_inputs,
    ),
    "runs/set-tag": Call(
        ("POST",),
        messages.RUN_TAG,
        {**_BY_ID, "key": [checks.REQUIRED, checks.STRING], "value": [checks.STRING]},
        _set_tag,
    ),
    "runs/delete-tag": Call(
        ("POST",),
        messages.RUN_TAG_DELETE,
        {**_BY_ID, "key": [checks.REQUIRED, checks.STRING]},
        _delete_tag,
    ),
    "runs/get": Call(("GET",), messages.RUN_GET, _BY_ID, _get),
    "runs/delete": Call(("POST",), messages.RUN_ID, _BY_ID, _delete),
    "runs/restore": Call(("POST",), messages.RUN_ID, _BY_ID, _restore),
    "runs/search": Call(
        ("POST",),
        messages.RUN_SEARCH,
        {
            "experiment_ids": [checks.ARRAY],
            "filter": [checks.STRING],
            "max_results": [checks.INTEGRAL, checks.UP_TO_50000],
            "order_by": [checks.ARRAY, checks.STRING_ITEMS],
        },
        _search,
    ),
    "metrics/get-history": Call(
        ("GET",),
        messages.METRIC_HISTORY,
        {**_BY_ID, "metric_key": [checks.REQUIRED, checks.STRING]},
        _metric_history,
    ),
}

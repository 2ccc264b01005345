"""What MLflow does for each call that concerns experiments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.demo.mlflow import checks, messages
from daemon.demo.mlflow.calls import ADMIN, Call, Database, listed, tag_values, take_page
from daemon.demo.mlflow.filters import Clause, Grammar, parse_filter
from daemon.demo.mlflow.names import MAX_EXPERIMENT_NAME, MAX_KEY, check_key, check_length
from daemon.demo.mlflow.replies import (
    RESOURCE_ALREADY_EXISTS,
    MissingEntity,
    ServerError,
    absent,
    invalid,
)
from daemon.demo.mlflow.store import ACTIVE, DELETED, Experiment, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.demo.mlflow.parsing import Message

_VIEWS = {"ACTIVE_ONLY": {ACTIVE}, "DELETED_ONLY": {DELETED}, "ALL": {ACTIVE, DELETED}}
_GRAMMAR = Grammar(
    ("name", "creation_time", "last_update_time"), ("creation_time", "last_update_time")
)
_MAX_RESULTS = 50_000
_COLUMNS = {"name": 256, "key": 250, "value": 5_000}


def find_experiment(database: Database, store: Store, wanted: str, view: str = "ALL") -> Experiment:
    """An experiment by its id; "" means the default one."""
    text = wanted or "0"
    try:
        number = int(text)
    except ValueError:
        if database.modern:
            raise invalid(
                f"Invalid experiment ID '{text}'. Experiment ID must be a valid integer."
            ) from None
        number = -1
    found = store.experiments.get(number)
    if found is None or found.stage not in _VIEWS[view]:
        shown = str(number) if database.modern else text
        raise MissingEntity(f"No Experiment with id={shown} exists")
    return found


def check_active(experiment: Experiment) -> None:
    if experiment.stage != ACTIVE:
        raise invalid(
            f"The experiment {experiment.id} must be in the 'active' state. Current state is "
            f"{experiment.stage}."
        )


def _check_tag(database: Database, key: str, value: str) -> None:
    check_key(key, "key")
    check_length("key", MAX_KEY, key)
    check_length("value", 20_000 if database.modern else 5_000, value)


def _create(database: Database, message: Message) -> dict[str, Any]:
    name = message.get("name", "")
    if not name:
        raise invalid(f"Invalid experiment name: '{name}'")
    check_length("name", MAX_EXPERIMENT_NAME, name)
    tags = tag_values(message)
    for key, value in tags:
        _check_tag(database, key, value)
    store = database.open()
    database.columns.check([(name, _COLUMNS["name"])])
    if name in store.experiment_ids:
        raise ServerError(
            RESOURCE_ALREADY_EXISTS,
            f"Experiment(name={name}) already exists. Error: (sqlite3.IntegrityError) UNIQUE "
            "constraint failed: experiments.name",
        )
    if len(dict(tags)) < len(tags):
        raise ServerError(
            RESOURCE_ALREADY_EXISTS,
            f"Experiment(name={name}) already exists. Error: (sqlite3.IntegrityError) UNIQUE "
            "constraint failed: experiment_tags.key, experiment_tags.experiment_id",
        )
    now = database.now_ms()
    number = max(store.experiments, default=-1) + 1
    place = message.get("artifact_location", "") or f"mlflow-artifacts:/{number}"
    store.add_experiment(Experiment(number, name, place, now, now, dict(tags), owner=database.user))
    return {"experiment_id": str(number)}


def _get_by_name(database: Database, message: Message) -> dict[str, Any]:
    name = message.get("experiment_name", "")
    store = database.read()
    if name not in store.experiment_ids:
        # With logins, who is no administrator is answered by the check of permissions.
        shown = name if database.user not in {"", ADMIN} else f"'{name}'"
        raise absent(f"Could not find experiment with name {shown}")
    return _printed(database, store.experiments[store.experiment_ids[name]])


def _get(database: Database, message: Message) -> dict[str, Any]:
    store = database.read()
    return _printed(database, find_experiment(database, store, message.get("experiment_id", "")))


def _printed(database: Database, experiment: Experiment) -> dict[str, Any]:
    return {"experiment": experiment.printed(with_workspace=database.modern)}


def _search(database: Database, message: Message) -> dict[str, Any]:
    max_results = message.get("max_results", 0)
    if max_results < 1:
        raise invalid(
            f"Invalid value {max_results} for parameter 'max_results' supplied. It must be a "
            "positive integer"
        )
    if max_results > _MAX_RESULTS:
        raise invalid(
            f"Invalid value {max_results} for parameter 'max_results' supplied. It must be at most "
            "50000"
        )
    clauses = parse_filter(message.get("filter", ""), _GRAMMAR)
    store = database.read()
    stages = _VIEWS[message.get("view_type", "ACTIVE_ONLY")]
    found = [
        experiment
        for experiment in store.experiments.values()
        if experiment.stage in stages and all(_matches(experiment, clause) for clause in clauses)
    ]
    found.sort(key=lambda experiment: (-experiment.created, experiment.id))
    page, more = take_page(found, message, max_results)
    printed = [experiment.printed(with_workspace=database.modern) for experiment in page]
    return listed("experiments", printed) | more


def _matches(experiment: Experiment, clause: Clause) -> bool:
    if clause.kind == "tag":
        return clause.matches(experiment.tags.get(clause.key))
    values: Mapping[str, str | int] = {
        "name": experiment.name,
        "creation_time": experiment.created,
        "last_update_time": experiment.updated,
    }
    return clause.matches(values.get(clause.key))


def _set_tag(database: Database, message: Message) -> dict[str, Any]:
    key, value = message.get("key", ""), message.get("value", "")
    _check_tag(database, key, value)
    store = database.open()
    experiment = find_experiment(database, store, message.get("experiment_id", ""))
    check_active(experiment)
    database.check_owner(experiment.owner)
    experiment.tags[key] = value
    return {}


def _delete(database: Database, message: Message) -> dict[str, Any]:
    return _move(database, message, "ACTIVE_ONLY", DELETED)


def _restore(database: Database, message: Message) -> dict[str, Any]:
    return _move(database, message, "DELETED_ONLY", ACTIVE)


def _move(database: Database, message: Message, view: str, stage: str) -> dict[str, Any]:
    store = database.open()
    experiment = find_experiment(database, store, message.get("experiment_id", ""), view)
    database.check_owner(experiment.owner)
    experiment.stage, experiment.updated = stage, database.now_ms()
    for run in store.runs_of[experiment.id]:
        run.stage = stage
    return {}


_BY_ID: checks.Checks = {"experiment_id": [checks.REQUIRED, checks.STRING]}

EXPERIMENT_CALLS = {
    "experiments/create": Call(
        ("POST",),
        messages.EXPERIMENT_CREATE,
        {
            "name": [checks.REQUIRED, checks.STRING],
            "artifact_location": [checks.STRING],
            "tags": [checks.ARRAY],
        },
        _create,
    ),
    "experiments/get-by-name": Call(
        ("GET",),
        messages.EXPERIMENT_NAME,
        {"experiment_name": [checks.REQUIRED, checks.STRING]},
        _get_by_name,
    ),
    "experiments/get": Call(("GET",), messages.EXPERIMENT_ID, _BY_ID, _get),
    "experiments/search": Call(
        ("POST", "GET"),
        messages.EXPERIMENT_SEARCH,
        {
            "view_type": [checks.INTEGRAL],
            "max_results": [checks.INTEGRAL],
            "order_by": [checks.ARRAY],
            "filter": [checks.STRING],
            "page_token": [checks.STRING],
        },
        _search,
    ),
    "experiments/set-experiment-tag": Call(
        ("POST",),
        messages.EXPERIMENT_TAG,
        {
            "experiment_id": [checks.REQUIRED, checks.STRING],
            "key": [checks.REQUIRED, checks.STRING],
            "value": [checks.STRING],
        },
        _set_tag,
    ),
    "experiments/delete": Call(("POST",), messages.EXPERIMENT_ID, _BY_ID, _delete),
    "experiments/restore": Call(("POST",), messages.EXPERIMENT_ID, _BY_ID, _restore),
}

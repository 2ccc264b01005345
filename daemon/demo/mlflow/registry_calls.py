"""What MLflow does for each call that concerns registered models and their versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.demo.mlflow import checks, messages
from daemon.demo.mlflow.calls import Call, Database, listed, tag_values, take_page
from daemon.demo.mlflow.filters import Clause, Grammar, parse_filter
from daemon.demo.mlflow.names import (
    MAX_KEY,
    check_key,
    check_length,
    check_model_name,
    check_source,
)
from daemon.demo.mlflow.replies import (
    RESOURCE_ALREADY_EXISTS,
    MissingEntity,
    ServerError,
    absent,
    invalid,
)
from daemon.demo.mlflow.store import Model, Store, Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.demo.mlflow.parsing import Message

_GRAMMAR = Grammar(
    ("name", "run_id", "source_path", "version_number"), ("version_number",), quotes_clauses=False
)
_COLUMNS = {"name": 256, "source": 500, "run_link": 500, "description": 5_000, "run_id": 500}


def _find_model(database: Database, store: Store, name: str) -> Model:
    check_model_name(name, strict=database.modern)
    model = store.models.get(name)
    if model is None:
        raise MissingEntity(f"Registered Model with name={name} not found")
    return model


def _find_version(database: Database, store: Store, message: Message) -> Version:
    name, text = message.get("name", ""), message.get("version", "")
    check_model_name(name, strict=database.modern)
    try:
        number = int(text)
    except ValueError:
        raise invalid(f"Parameter 'version' must be an integer, got '{text}'.") from None
    for version in store.versions.get(name, ()):
        if version.number == number and not version.deleted:
            return version
    raise absent(f"Model Version (name={name}, version={number}) not found")


def _checked_tags(database: Database, message: Message) -> dict[str, str]:
    tags = tag_values(message)
    for key, value in tags:
        check_key(key, "key")
        check_length("key", MAX_KEY, key)
        check_length("value", 100_000 if database.modern else 5_000, value)
    return dict(tags)


def _create_model(database: Database, message: Message) -> dict[str, Any]:
    name, description = message.get("name", ""), message.get("description", "")
    check_model_name(name, strict=database.modern)
    tags = _checked_tags(database, message)
    store = database.open()
    database.columns.check([(name, _COLUMNS["name"]), (description, _COLUMNS["description"])])
    if name in store.models:
        raise ServerError(
            RESOURCE_ALREADY_EXISTS, f"Registered Model (name={name}) already exists."
        )
    now = database.now_ms()
    model = Model(name, description, now, now, tags, owner=database.user)
    store.models[name] = model
    store.versions[name] = []
    return {"registered_model": model.printed()}


def _get_model(database: Database, message: Message) -> dict[str, Any]:
    store = database.read()
    model = _find_model(database, store, message.get("name", ""))
    body = model.printed()
    latest = [version for version in store.versions[model.name] if not version.deleted][-1:]
    if latest:
        body["latest_versions"] = [version.printed() for version in latest]
    return {"registered_model": body}


def _create_version(database: Database, message: Message) -> dict[str, Any]:
    name, source = message.get("name", ""), message.get("source", "")
    check_source(source, message.get("run_id", ""), strict=database.modern)
    check_model_name(name, strict=database.modern)
    tags = _checked_tags(database, message)
    store = database.open()
    model = _find_model(database, store, name)
    database.check_owner(model.owner)
    texts = {member: message.get(member, "") for member in ("run_id", "run_link", "description")}
    database.columns.check(
        (value, _COLUMNS[member]) for member, value in ({"source": source} | texts).items()
    )
    now = database.now_ms()
    model.updated = now
    versions = store.versions[name]
    version = Version(name, len(versions) + 1, source, created=now, updated=now, tags=tags, **texts)
    versions.append(version)
    return {"model_version": version.printed()}


def _search_versions(database: Database, message: Message) -> dict[str, Any]:
    clauses = parse_filter(message.get("filter", ""), _GRAMMAR)
    store = database.read()
    found = [
        version
        for versions in store.versions.values()
        for version in versions
        if not version.deleted and all(_matches(version, clause) for clause in clauses)
    ]
    found.sort(key=lambda version: (-version.updated, version.name, -version.number))
    page, more = take_page(found, message, message.get("max_results", 200_000))
    return listed("model_versions", [version.printed() for version in page]) | more


def _matches(version: Version, clause: Clause) -> bool:
    if clause.kind == "tag":
        return clause.matches(version.tags.get(clause.key))
    values: Mapping[str, str | int] = {
        "name": version.name,
        "run_id": version.run_id,
        "source_path": version.source,
        "version_number": version.number,
    }
    return clause.matches(values.get(clause.key))


def _update_version(database: Database, message: Message) -> dict[str, Any]:
    store = database.open()
    version = _find_version(database, store, message)
    database.check_owner(store.models[version.name].owner)
    description = message.get("description", "")
    database.columns.check([(description, _COLUMNS["description"])])
    version.description = description
    version.updated = database.now_ms()
    return {"model_version": version.printed()}


def _delete_version(database: Database, message: Message) -> dict[str, Any]:
    store = database.open()
    version = _find_version(database, store, message)
    model = store.models[version.name]
    database.check_owner(model.owner)
    model.updated = version.updated = database.now_ms()
    version.deleted = True
    return {}


_NAME: checks.Checks = {"name": [checks.STRING, checks.REQUIRED]}
_VERSION: checks.Checks = {**_NAME, "version": [checks.STRING, checks.REQUIRED]}

REGISTRY_CALLS = {
    "registered-models/create": Call(
        ("POST",),
        messages.MODEL_CREATE,
        {**_NAME, "tags": [checks.ARRAY], "description": [checks.STRING]},
        _create_model,
    ),
    "registered-models/get": Call(("GET",), messages.MODEL_NAME, _NAME, _get_model),
    "model-versions/create": Call(
        ("POST",),
        messages.VERSION_CREATE,
        {
            **_NAME,
            "source": [checks.STRING, checks.REQUIRED],
            "run_id": [checks.STRING],
            "tags": [checks.ARRAY],
            "run_link": [checks.STRING],
            "description": [checks.STRING],
            "model_id": [checks.STRING],
        },
        _create_version,
    ),
    "model-versions/search": Call(
        ("GET",),
        messages.VERSION_SEARCH,
        {
            "filter": [checks.STRING],
            "max_results": [checks.INTEGRAL, checks.UP_TO_200000],
            "order_by": [checks.ARRAY, checks.STRING_ITEMS],
            "page_token": [checks.STRING],
        },
        _search_versions,
    ),
    "model-versions/update": Call(
        ("PATCH",),
        messages.VERSION_UPDATE,
        {**_VERSION, "description": [checks.STRING]},
        _update_version,
    ),
    "model-versions/delete": Call(("DELETE",), messages.VERSION, _VERSION, _delete_version),
}

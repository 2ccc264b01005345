"""The calls of the ModelDB V2 stand-in that change a run: what each refuses, and what it does.

Texts, codes and details were watched on ModelDB 2.0.8.1. As there, a deleted run is changed, too,
and observations are added whether they are there or not. The real server's texts for lists that are
empty are only known of metrics, hyperparameters and attributes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v2 import messages
from daemon.demo.modeldb_v2.calls import Call, as_read_back, check_tags, require
from daemon.demo.modeldb_v2.messages import ALREADY_EXISTS, INVALID_ARGUMENT, ApiError
from daemon.demo.modeldb_v2.observations import check_epoch_number
from daemon.demo.modeldb_v2.store import check_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.demo.modeldb_v2.store import Entity, Store

    Request = Mapping[str, Any]
    Answer = dict[str, Any]

_NOUNS = {
    "metrics": ("Metric", "metric Key"),
    "hyperparameters": ("Hyperparameter", "hyperparameter Key"),
    "attributes": ("Attribute", "attribute Key"),
    "artifacts": ("Artifact", "artifact key"),
    "datasets": ("Dataset", "dataSet key"),
}
"""As the texts of refusals have them."""


def _require(call: str, *fields: tuple[str, str]) -> Callable[[Request], None]:
    return require(call, ("id", "ExperimentRun ID"), *fields)


def _changed(store: Store, run: Entity, **members: object) -> None:
    """Sets members of a run; empty ones are left out, as everywhere."""
    row = as_read_back({**run.row, **members})
    check_columns(row)
    run.row.clear()
    run.row.update({name: value for name, value in row.items() if value or name not in members})
    store.runs.updated(run)


def _update_description(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    _changed(store, run, description=request.get("description", ""))
    return {"experiment_run": run.row}


def _add_tags(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    known = run.row.get("tags", [])
    _changed(store, run, tags=list(dict.fromkeys([*known, *request["tags"]])))
    return {"experiment_run": run.row}


def _delete_tags(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    kept = [tag for tag in run.row.get("tags", []) if tag not in request["tags"]]
    _changed(store, run, tags=kept)
    return {"experiment_run": run.row}


def _log(member: str, store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    entries: Sequence[Answer] = request.get(member) or [request[member.removesuffix("s")]]
    stored = run.row.get(member, [])
    if member == "observations":
        for entry in entries:
            check_epoch_number(entry)
    else:
        new = [entry.get("key") for entry in entries]
        known = [entry["key"] for entry in stored if entry.get("key") in new]
        if request.get("overwrite"):
            stored = [entry for entry in stored if entry["key"] not in known]
        elif known:
            noun, key = _NOUNS[member]
            text = f"{noun} being logged already exists. existing {key} : {known[0]}"
            raise ApiError(ALREADY_EXISTS, text)
    _changed(store, run, **{member: [*stored, *entries]})
    return {}


def _delete_keys(member: str, store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    keys = request[f"{member.removesuffix('s')}_keys"]
    kept = [
        entry
        for entry in run.row.get(member, [])
        if entry.get("attribute", entry).get("key") not in keys
    ]
    _changed(store, run, **{member: kept})
    return {}


def _delete_artifact(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    kept = [each for each in run.row.get("artifacts", []) if each["key"] != request["key"]]
    _changed(store, run, artifacts=kept)
    return {}


def _tags_are_given(call: str) -> Callable[[Request], None]:
    def validate(request: Request) -> None:
        _require(call, ("tags", "ExperimentRun tags"))(request)
        check_tags(request)

    return validate


def _entries_are_given(call: str, member: str) -> Callable[[Request], None]:
    def validate(request: Request) -> None:
        _require(call)(request)
        if not request.get(member):
            new = "New " if member == "metrics" else ""
            text = f"{new}{member.capitalize()} not found in {call} request"
            raise ApiError(INVALID_ARGUMENT, text, f"{call}.Response")

    return validate


def _logging(member: str) -> dict[str, Call]:
    several = f"Log{member.capitalize()}"
    calls = {
        f"log{member.capitalize()}": Call(
            "POST",
            messages.log_several(member),
            partial(_log, member),
            _entries_are_given(several, member),
        )
    }
    if member in {"metrics", "hyperparameters", "attributes"}:
        one = member.capitalize().removesuffix("s")
        calls[f"log{one}"] = Call(
            "POST", messages.log_one(member), partial(_log, member), _require(f"Log{one}")
        )
    return calls


def _deleting(member: str) -> dict[str, Call]:
    name = "ExperimentRunAttributes" if member == "attributes" else member.capitalize()
    keys = f"{member.removesuffix('s')}_keys"
    return {
        f"delete{name}": Call(
            "DELETE",
            messages.delete_keys(member),
            partial(_delete_keys, member),
            _require(f"Delete{name}", (keys, f"{member.capitalize()} keys")),
        )
    }


RUN_UPDATE_CALLS: Mapping[str, Call] = {
    "updateExperimentRunDescription": Call(
        "POST",
        messages.UPDATE_DESCRIPTION,
        _update_description,
        _require("UpdateExperimentRunDescription"),
    ),
    "addExperimentRunTags": Call(
        "POST", messages.RUN_TAGS, _add_tags, _tags_are_given("AddExperimentRunTags")
    ),
    "deleteExperimentRunTags": Call(
        "DELETE", messages.RUN_TAGS, _delete_tags, _tags_are_given("DeleteExperimentRunTags")
    ),
    **{name: call for member in messages.LOGGED for name, call in _logging(member).items()},
    **{
        name: call
        for member in ("metrics", "hyperparameters", "attributes", "observations")
        for name, call in _deleting(member).items()
    },
    "deleteArtifact": Call(
        "DELETE",
        messages.BY_ID_AND_KEY,
        _delete_artifact,
        _require("DeleteArtifact", ("key", "Artifact key")),
    ),
}

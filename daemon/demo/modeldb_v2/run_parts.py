"""The calls of the ModelDB V2 stand-in that change or read one part of a run: its lists, tags,
description and code version.

The client of this project writes a run in one create and needs none of these. They are here because
the recorded exchanges use them on the way to calls that the client makes, and because people edit
runs. They also work on a deleted run, as on the real server. Unlike there, the singular calls of a
metric refuse a request without one, logObservations takes an observation without attribute and
artifact, and logArtifact, logObservation, logJobId and updateExperimentRunName are unknown paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.demo.modeldb_v2 import messages
from daemon.demo.modeldb_v2.calls import (
    Call,
    add_tags,
    as_read_back,
    check_epoch_number,
    check_tags,
    require,
)
from daemon.demo.modeldb_v2.messages import ALREADY_EXISTS, INVALID_ARGUMENT, NOT_FOUND, ApiError
from daemon.demo.modeldb_v2.store import check_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from daemon.demo.modeldb_v2.calls import Answer, Request
    from daemon.demo.modeldb_v2.store import Entity, Store

_RUN_ID = ("id", "ExperimentRun ID")
_Item = TypeVar("_Item")


def _set(store: Store, run: Entity, name: str, value: object) -> None:
    """Changes one field of a run; what is empty is not stored."""
    if value:
        run.row[name] = value
    else:
        run.row.pop(name, None)
    store.runs.updated(run)


def _undeleted(
    items: Iterable[_Item], request: Request, keys: str, key_of: Callable[[_Item], str]
) -> list[_Item]:
    """What is left of a list when a request has deleted the keys that it names, or everything."""
    deleted = request.get(keys, ())
    return (
        [] if request.get("delete_all") else [item for item in items if key_of(item) not in deleted]
    )


def _require_keys_or_all(call: str, keys: str, missing: str) -> Callable[[Request], None]:
    def validate(request: Request) -> None:
        require(call, _RUN_ID)(request)
        if not (request.get("delete_all") or request.get(keys)):
            text = f"{missing} keys not found and deleteAll flag has false in {call} request"
            raise ApiError(INVALID_ARGUMENT, text, f"{call}.Response")

    return validate


def _require_names_or_all(call: str, names: str, missing: str) -> Callable[[Request], None]:
    def validate(request: Request) -> None:
        needed = [_RUN_ID] if request.get("delete_all") else [_RUN_ID, (names, missing)]
        require(call, *needed)(request)

    return validate


@dataclass(frozen=True, slots=True)
class _Keyed:
    """A list of a run whose elements have keys, and the calls on it.

    Args:
        name: the list's field; the calls are log<Name> and so on.
        element: what the message of one element is.
        exists: the text about a key that is there already, up to the key.
        missing: what the text calls the elements of log<Name>s when they are missing, alone and
            together with the id.
    """

    name: str
    element: messages.Message
    exists: str
    missing: tuple[str, str]

    @property
    def one(self) -> str:
        return self.name.removesuffix("s")

    def log(self, store: Store, request: Request) -> Answer:
        """Adds all the elements, or none when a key is there already."""
        run = store.run(request["id"])
        added = request[self.name] if self.name in request else [request[self.one]]
        had = run.row.get(self.name, [])
        replaced = {item.get("key", "") for item in added} if request.get("overwrite") else set()
        kept = [item for item in had if item.get("key", "") not in replaced]
        known = {item.get("key", "") for item in kept}
        for item in added:
            if (key := item.get("key", "")) in known:
                raise ApiError(ALREADY_EXISTS, f"{self.exists} : {key}")
        return self._keep(store, run, kept + added)

    def append(self, store: Store, request: Request) -> Answer:
        """Adds all the elements without looking at what is there."""
        run = store.run(request["id"])
        return self._keep(store, run, run.row.get(self.name, []) + request[self.name])

    def _keep(self, store: Store, run: Entity, items: list[dict[str, Any]]) -> Answer:
        changed = as_read_back({self.name: items})
        check_columns(changed)
        _set(store, run, self.name, changed[self.name])
        return {}

    def get(self, store: Store, request: Request) -> Answer:
        items = store.run(request["id"]).row.get(self.name, [])
        return {self.name: items} if items else {}

    def delete(self, store: Store, request: Request, keys: str) -> Answer:
        """Unknown keys are no error."""
        run = store.run(request["id"])
        _set(
            store,
            run,
            self.name,
            _undeleted(run.row.get(self.name, ()), request, keys, lambda item: item.get("key", "")),
        )
        return {}

    def log_one_call(self, name: str) -> Call:
        alone = self.one.capitalize()
        return Call(
            "POST",
            messages.log_one(self.one, self.element),
            self.log,
            require(name, _RUN_ID, (self.one, alone), also=f"{_RUN_ID[1]} and New {alone}"),
        )

    def log_many_call(self, name: str) -> Call:
        alone, together = self.missing
        return Call(
            "POST",
            messages.log_many(self.name, self.element),
            self.log,
            require(name, _RUN_ID, (self.name, alone), also=f"{_RUN_ID[1]} and {together}"),
        )

    def get_call(self, name: str) -> Call:
        return Call("GET", messages.BY_ID, self.get, require(name, _RUN_ID))

    def delete_call(self, keys: str, validate: Callable[[Request], None]) -> Call:
        def perform(store: Store, request: Request) -> Answer:
            return self.delete(store, request, keys)

        return Call("DELETE", messages.delete_keys(keys), perform, validate)


_METRICS = _Keyed(
    "metrics",
    messages.KEY_VALUE,
    "Metric being logged already exists. existing metric Key",
    ("New Metrics", "New Metrics"),
)
_HYPERPARAMETERS = _Keyed(
    "hyperparameters",
    messages.KEY_VALUE,
    "Hyperparameter being logged already exists. existing hyperparameter Key",
    ("Hyperparameters", "New Hyperparameters"),
)
_ATTRIBUTES = _Keyed(
    "attributes",
    messages.KEY_VALUE,
    "Attribute being logged already exists. existing attribute Key",
    ("Attributes", "New Attributes"),
)
_DATASETS = _Keyed(
    "datasets",
    messages.ARTIFACT,
    "Dataset being logged already exists. existing dataSet key",
    ("Datasets", "Datasets"),
)
_ARTIFACTS = _Keyed(
    "artifacts",
    messages.ARTIFACT,
    "Artifact being logged already exists. existing artifact key",
    ("Artifacts", "Artifacts"),
)


def _run_answer(run: Entity) -> Answer:
    return {"experiment_run": run.row}


def _get_attributes(store: Store, request: Request) -> Answer:
    found = store.run(request["id"]).row.get("attributes", [])
    if not request.get("get_all"):
        found = [item for item in found if item.get("key", "") in request["attribute_keys"]]
    return {"attributes": found} if found else {}


def _require_attribute_keys(request: Request) -> None:
    if not request.get("get_all"):
        require("GetAttributes", _RUN_ID, ("attribute_keys", "Attributes"))(request)
    require("GetAttributes", _RUN_ID)(request)


def _require_linked_dataset(request: Request) -> None:
    require("LogDataset", _RUN_ID)(request)
    if not request.get("dataset", {}).get("linked_artifact_id"):
        raise ApiError(
            INVALID_ARGUMENT, "Dataset ID not found in LogArtifact request", "LogDataset.Response"
        )


def _get_artifacts(store: Store, request: Request) -> Answer:
    found = _ARTIFACTS.get(store, request)
    if not found:
        raise ApiError(NOT_FOUND, "Artifacts not found in the ExperimentRun")
    return found


def _delete_artifact(store: Store, request: Request) -> Answer:
    return _ARTIFACTS.delete(store, {"id": request["id"], "keys": [request["key"]]}, "keys")


def _update_description(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    check_columns(request)
    _set(store, run, "description", request.get("description"))
    return _run_answer(run)


def _add_tags(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    check_columns(request)
    add_tags(run, request["tags"])
    store.runs.updated(run)
    return _run_answer(run)


def _validate_added_tags(request: Request) -> None:
    require("AddExperimentRunTags", _RUN_ID, ("tags", "ExperimentRun tags"))(request)
    check_tags(request)


def _delete_tags(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    _set(store, run, "tags", _undeleted(run.row.get("tags", ()), request, "tags", str))
    return _run_answer(run)


def _get_tags(store: Store, request: Request) -> Answer:
    tags = store.run(request["id"]).row.get("tags", [])
    return {"tags": tags} if tags else {}


def _observed(observation: Mapping[str, Any]) -> str:
    item = observation.get("attribute") or observation.get("artifact") or {}
    return str(item.get("key", ""))


def _log_observations(store: Store, request: Request) -> Answer:
    """Always appends; an observation without an epoch gets the one after the highest of its key
    before the call.
    """
    run = store.run(request["id"])
    had = run.row.get("observations", [])
    added = []
    for observation in request["observations"]:
        if "epoch_number" in observation:
            check_epoch_number(observation)
            added.append(observation)
        else:
            epochs = [
                other["epoch_number"] for other in had if _observed(other) == _observed(observation)
            ]
            added.append({**observation, "epoch_number": max(epochs, default=-1) + 1})
    check_columns({"observations": added})
    _set(store, run, "observations", had + added)
    return {}


def _get_observations(store: Store, request: Request) -> Answer:
    observations = store.run(request["id"]).row.get("observations", ())
    found = [item for item in observations if _observed(item) == request["observation_key"]]
    return {"observations": found} if found else {}


def _delete_observations(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    kept = _undeleted(run.row.get("observations", ()), request, "observation_keys", _observed)
    _set(store, run, "observations", kept)
    return {}


def _log_code_version(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    if run.row.get("code_version_snapshot") and not request.get("overwrite"):
        text = f"Code version already logged for experiment {run.id}"
        raise ApiError(ALREADY_EXISTS, text, "LogExperimentRunCodeVersion")
    snapshot = request.get("code_version", {})
    check_columns({"code_version_snapshot": snapshot})
    run.row["code_version_snapshot"] = snapshot
    store.runs.updated(run)
    return {}


RUN_PART_CALLS: Mapping[str, Call] = {
    "logMetric": _METRICS.log_one_call("LogMetric"),
    "logMetrics": _METRICS.log_many_call("LogMetrics"),
    "getMetrics": _METRICS.get_call("GetMetrics"),
    "deleteMetrics": _METRICS.delete_call(
        "metric_keys", _require_keys_or_all("DeleteMetrics", "metric_keys", "Metrics")
    ),
    "logHyperparameter": _HYPERPARAMETERS.log_one_call("LogHyperparameter"),
    "logHyperparameters": _HYPERPARAMETERS.log_many_call("LogHyperparameters"),
    "getHyperparameters": _HYPERPARAMETERS.get_call("GetHyperparameters"),
    "deleteHyperparameters": _HYPERPARAMETERS.delete_call(
        "hyperparameter_keys",
        _require_keys_or_all("DeleteHyperparameters", "hyperparameter_keys", "Hyperparameter"),
    ),
    "logAttribute": _ATTRIBUTES.log_one_call("LogAttribute"),
    "logAttributes": _ATTRIBUTES.log_many_call("LogAttributes"),
    "addExperimentRunAttributes": Call(
        "POST",
        messages.log_many("attributes", messages.KEY_VALUE),
        _ATTRIBUTES.append,
        require("AddExperimentRunAttributes", _RUN_ID, ("attributes", "ExperimentRun Attributes")),
    ),
    "getAttributes": Call("GET", messages.GET_ATTRIBUTES, _get_attributes, _require_attribute_keys),
    "deleteExperimentRunAttributes": _ATTRIBUTES.delete_call(
        "attribute_keys",
        _require_names_or_all(
            "DeleteExperimentRunAttributes", "attribute_keys", "ExperimentRun attributes"
        ),
    ),
    "logDatasets": _DATASETS.log_many_call("LogDatasets"),
    "logDataset": Call(
        "POST",
        messages.log_one("dataset", messages.ARTIFACT),
        _DATASETS.log,
        _require_linked_dataset,
    ),
    "getDatasets": _DATASETS.get_call("GetDatasets"),
    "logArtifacts": _ARTIFACTS.log_many_call("LogArtifacts"),
    "getArtifacts": Call("GET", messages.BY_ID, _get_artifacts, require("GetArtifacts", _RUN_ID)),
    "deleteArtifact": Call(
        "DELETE",
        messages.DELETE_ARTIFACT,
        _delete_artifact,
        require("DeleteArtifact", _RUN_ID, ("key", "Artifact key")),
    ),
    "updateExperimentRunDescription": Call(
        "POST",
        messages.UPDATE_DESCRIPTION,
        _update_description,
        require("UpdateExperimentRunDescription", _RUN_ID),
    ),
    "addExperimentRunTags": Call("POST", messages.TAGS, _add_tags, _validate_added_tags),
    "deleteExperimentRunTags": Call(
        "DELETE",
        messages.TAGS,
        _delete_tags,
        _require_names_or_all("DeleteExperimentRunTags", "tags", "ExperimentRun tags"),
    ),
    "getExperimentRunTags": Call(
        "GET",
        messages.BY_ID,
        _get_tags,
        require("GetExperimentRunTags", _RUN_ID, details="GetTags.Response"),
    ),
    "logObservations": Call(
        "POST",
        messages.log_many("observations", messages.OBSERVATION),
        _log_observations,
        require("LogObservations", _RUN_ID, ("observations", "Observations")),
    ),
    "getObservations": Call(
        "GET",
        messages.GET_OBSERVATIONS,
        _get_observations,
        require("GetObservations", _RUN_ID, ("observation_key", "Observation key")),
    ),
    "deleteObservations": Call(
        "DELETE",
        messages.delete_keys("observation_keys"),
        _delete_observations,
        _require_keys_or_all("DeleteObservations", "observation_keys", "Observation"),
    ),
    "logExperimentRunCodeVersion": Call(
        "POST",
        messages.LOG_CODE_VERSION,
        _log_code_version,
        require("LogExperimentRunCodeVersion", _RUN_ID),
    ),
}

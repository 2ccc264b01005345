"""The calls of the ModelDB V2 stand-in on projects, experiments and runs: what each refuses, and
what it does.

A call has three parts, which the server runs one after the other: `validate` needs nothing but the
request; `check` reads the database; `perform` reads or writes it. Other calls may come in between
`check` and `perform`: names are checked and then inserted without a constraint, so two creates of
one name that overlap both succeed, as on the real server.

Texts, codes and details were watched on ModelDB 2.0.8.1. Unlike the real server:

* the dates of a project and of an experiment do not follow a change in what they contain;
* the find calls ignore lists of ids;
* versioned_inputs is an unknown field, and the bytes of artifacts have no store.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v2 import messages
from daemon.demo.modeldb_v2.find import page, sought
from daemon.demo.modeldb_v2.messages import (
    ALREADY_EXISTS,
    INTERNAL,
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    ApiError,
)
from daemon.demo.modeldb_v2.observations import check_epoch_number, observation_read_back
from daemon.demo.modeldb_v2.store import (
    KEY_VALUE_LISTS,
    MARK,
    check_columns,
    check_text,
    new_id,
    now,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from daemon.demo.modeldb_v2.store import Entity, Row, Store

    Request = Mapping[str, Any]
    Answer = dict[str, Any]


def nothing_to_validate(_request: Request) -> None:
    """For a call that takes any request."""


def nothing_to_check(_store: Store, _request: Request) -> None:
    """For a call that reads and writes in one step."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API. All three parts raise `ApiError`."""

    method: str
    message: messages.Message
    """The request: in the query string of a GET, else in the body."""
    perform: Callable[[Store, Request], Answer]
    validate: Callable[[Request], None] = nothing_to_validate
    check: Callable[[Store, Request], None] = nothing_to_check
    uses_database: bool = True


def require(
    call: str, *fields: tuple[str, str], details: str = "", also: str = ""
) -> Callable[[Request], None]:
    """Refuses a request that lacks a field: the answer names the first that is missing, or all of
    them if none is there.

    Args:
        call: the call as the text writes it.
        fields: (field, what the text calls it).
        details: the message type in the details, when it is not the call's own.
        also: what the text says when all are missing, when it is not the fields' names joined.
    """

    def validate(request: Request) -> None:
        missing = [label for name, label in fields if not request.get(name)]
        if not missing:
            return
        what = missing[0]
        if len(missing) == len(fields) > 1:
            what = also or " and ".join(missing)
        raise ApiError(
            INVALID_ARGUMENT, f"{what} not found in {call} request", details or f"{call}.Response"
        )

    return validate


_NAME_UNITS = 256
_TAG_CHARACTERS = 40


def check_name(request: Request) -> None:
    """Raises `ApiError` for a name of more than 256 UTF-16 units (the column: 255 characters)."""
    if len(request.get("name", "").encode("utf-16-le")) // 2 > _NAME_UNITS:
        raise ApiError(
            INVALID_ARGUMENT, f"Entity name can not be more than {_NAME_UNITS} characters"
        )


def check_tags(request: Request) -> None:
    for tag in request.get("tags", ()):
        if not tag:
            raise ApiError(INVALID_ARGUMENT, "Invalid tag found, Tag shouldn't be empty")
        if len(tag) > _TAG_CHARACTERS:
            text = f"Tag name can not be more than {_TAG_CHARACTERS} characters"
            raise ApiError(INVALID_ARGUMENT, f"{text}. Limit exceeded tag is: {tag}")


def _validate_all(*validators: Callable[[Request], None]) -> Callable[[Request], None]:
    def validate(request: Request) -> None:
        for one in validators:
            one(request)

    return validate


def as_read_back(row: Row) -> Row:
    """A row as later calls see it: a value that was never sent, and that the create's answer
    therefore lacks, is null then.
    """
    for name in KEY_VALUE_LISTS:
        items = row.get(name, ())
        if any("value" not in item for item in items):
            row = {**row, name: [{**item, "value": item.get("value")} for item in items]}
    if observations := row.get("observations"):
        row = {**row, "observations": [observation_read_back(each) for each in observations]}
    return row


# --- projects -------------------------------------------------------------------------------------


_SHORT_NAME_CHARACTERS = 40


def _short_name(name: str) -> str:
    """Long names end in an MD5 of the rest."""
    plain = re.sub(r"[^a-zA-Z0-9_.-]+", "-", name)
    if len(plain) <= _SHORT_NAME_CHARACTERS:
        return plain
    digest = hashlib.md5(plain[11:].encode(), usedforsecurity=False).hexdigest()
    return plain[:10] + digest.lstrip("0")


def _check_project_name(store: Store, request: Request) -> None:
    if store.projects.find("name", request["name"]):
        raise ApiError(ALREADY_EXISTS, "Project already exists in database")


def _create_project(store: Store, request: Request) -> Answer:
    moment = now()
    row = {
        "id": new_id(),
        **request,
        "date_created": moment,
        "date_updated": moment,
        "short_name": _short_name(request["name"]),
    }
    check_columns(row)
    store.projects.insert(as_read_back(row))
    return {"project": row}


def _get_project_by_name(store: Store, request: Request) -> Answer:
    check_text(request["name"])
    found = store.projects.find("name", request["name"])
    if not found:
        raise ApiError(NOT_FOUND, "Project not found", "GetProjectByName.Response")
    # Of several, the real server gave the oldest whenever it was watched.
    return {"project_by_user": found[0].row}


def _get_project_by_id(store: Store, request: Request) -> Answer:
    return {"project": store.project(request["id"]).row}


def _get_projects(store: Store, request: Request) -> Answer:
    return page(store.projects.all_live(), request, "projects", "GetProjects")


def _find_projects(store: Store, request: Request) -> Answer:
    name = sought(request, "name")
    found: Iterable[Entity] = (
        store.projects.all_live() if name is None else store.projects.find("name", name)
    )
    return page(found, request, "projects", "FindProjects")


def _update_project_description(store: Store, request: Request) -> Answer:
    project = store.project(request["id"])
    check_columns(request)
    project.row.pop("description", None)
    if description := request.get("description"):
        project.row["description"] = description
    store.projects.updated(project)
    return {"project": project.row}


def _require_project_attribute(request: Request) -> None:
    given = {"id": request.get("id"), "key": request.get("attribute", {}).get("key")}
    require(
        "UpdateProjectAttributes",
        ("id", "Project ID"),
        ("key", "Attribute key"),
        also="Project ID and attribute key",
    )(given)


def _update_project_attribute(store: Store, request: Request) -> Answer:
    project = store.project(request["id"])
    attribute = {"key": request["attribute"]["key"], "value": None, **request["attribute"]}
    check_columns({"attributes": [attribute]})
    attributes = project.row.setdefault("attributes", [])
    for place, known in enumerate(attributes):
        if known.get("key") == attribute["key"]:
            attributes[place] = attribute
            break
    else:
        attributes.append(attribute)
    store.projects.updated(project)
    return {"project": project.row}


def _delete_project(store: Store, request: Request) -> Answer:
    project = store.projects.live(request["id"])
    if project is not None:
        store.projects.delete(project)
    return {"status": True}


PROJECT_CALLS: Mapping[str, Call] = {
    "verifyConnection": Call(
        "GET", messages.NOTHING, lambda _store, _request: {"status": True}, uses_database=False
    ),
    "createProject": Call(
        "POST",
        messages.CREATE_PROJECT,
        _create_project,
        _validate_all(require("CreateProject", ("name", "Project name")), check_name, check_tags),
        _check_project_name,
    ),
    "getProjectByName": Call(
        "GET",
        messages.BY_NAME,
        _get_project_by_name,
        require("GetProjectByName", ("name", "Project name is")),
    ),
    "getProjectById": Call(
        "GET", messages.BY_ID, _get_project_by_id, require("GetProjectById", ("id", "Project ID"))
    ),
    "getProjects": Call("GET", messages.LISTING, _get_projects),
    "findProjects": Call("POST", messages.FIND_PROJECTS, _find_projects),
    "updateProjectDescription": Call(
        "POST",
        messages.UPDATE_DESCRIPTION,
        _update_project_description,
        require("UpdateProjectDescription", ("id", "Project ID is")),
    ),
    "updateProjectAttributes": Call(
        "POST", messages.UPDATE_ATTRIBUTE, _update_project_attribute, _require_project_attribute
    ),
    "deleteProject": Call(
        "DELETE", messages.BY_ID, _delete_project, require("DeleteProject", ("id", "Project ID"))
    ),
}


# --- experiments ----------------------------------------------------------------------------------


def _check_experiment_name(store: Store, request: Request) -> None:
    store.project(request["project_id"])
    if store.experiments.find("name", (request["project_id"], request["name"])):
        raise ApiError(ALREADY_EXISTS, "Experiment already exists in database")


def _create_experiment(store: Store, request: Request) -> Answer:
    moment = now()
    row = {"id": new_id(), **request, "date_created": moment, "date_updated": moment}
    check_columns(row)
    store.experiments.insert(as_read_back(row))
    return {"experiment": row}


def _get_experiment_by_id(store: Store, request: Request) -> Answer:
    return {"experiment": store.experiment(request["id"]).row}


def _experiments_in(store: Store, request: Request) -> Iterator[Entity]:
    found: Iterable[Entity] = store.experiments.all_live()
    if project_id := request.get("project_id"):
        store.project(project_id)
        name = sought(request, "name")
        found = (
            store.experiments.find("project", project_id)
            if name is None
            else store.experiments.find("name", (project_id, name))
        )
    return (entity for entity in found if store.projects.live(entity.row["project_id"]))


def _find_experiments(store: Store, request: Request) -> Answer:
    return page(_experiments_in(store, request), request, "experiments", "FindExperiments")


def _delete_experiment(store: Store, request: Request) -> Answer:
    experiment = store.experiments.live(request["id"])
    if experiment is None:
        text = "Access is denied. User is unauthorized for given Experiment IDs : []"
        raise ApiError(PERMISSION_DENIED, text, "DeleteExperiments")
    store.experiments.delete(experiment)
    return {"status": True}


EXPERIMENT_CALLS: Mapping[str, Call] = {
    "createExperiment": Call(
        "POST",
        messages.CREATE_EXPERIMENT,
        _create_experiment,
        _validate_all(
            require("CreateExperiment", ("project_id", "Project ID"), ("name", "Experiment name")),
            check_name,
            check_tags,
        ),
        _check_experiment_name,
    ),
    "getExperimentById": Call(
        "GET",
        messages.BY_ID,
        _get_experiment_by_id,
        require("GetExperimentById", ("id", "Experiment ID")),
    ),
    "findExperiments": Call("POST", messages.FIND_EXPERIMENTS, _find_experiments),
    "deleteExperiment": Call(
        "DELETE",
        messages.BY_ID,
        _delete_experiment,
        require("DeleteExperiment", ("id", "Experiment ID")),
    ),
}


# --- runs -----------------------------------------------------------------------------------------


def _check_run_name(store: Store, request: Request) -> None:
    store.project(request["project_id"])
    store.experiment(request["experiment_id"])
    for run in store.runs.find("name", (request["experiment_id"], request["name"])):
        if run.row["project_id"] == request["project_id"]:
            raise ApiError(ALREADY_EXISTS, "ExperimentRun already exists in database")
    for observation in request.get("observations", ()):
        check_epoch_number(observation)


def _create_run(store: Store, request: Request) -> Answer:
    moment = now()
    row = {"id": new_id(), **request, "date_created": moment, "date_updated": moment}
    row.setdefault("code_version_snapshot", {})
    check_columns(row)
    store.runs.insert(as_read_back(row))
    return {"experiment_run": row}


def _get_run_by_name(store: Store, request: Request) -> Answer:
    check_text(request["name"])
    found = store.runs.find("name", (request["experiment_id"], request["name"]))
    if not found:
        raise ApiError(
            NOT_FOUND, "ExperimentRun not found in database", "GetExperimentRunByName.Response"
        )
    if len(found) > 1:
        raise ApiError(
            INTERNAL, "Multiple ExperimentRun found in database", "GetExperimentRunByName.Response"
        )
    # A deleted project hides its runs here; a deleted experiment does not.
    store.project(found[0].row["project_id"])
    return {"experiment_run": found[0].row}


def _get_run_by_id(store: Store, request: Request) -> Answer:
    run = store.run(request["id"])
    if run.deleted:
        raise _no_live_runs([run.id])
    # A run of a deleted experiment is neither shown nor refused.
    return {"experiment_run": run.row} if store.has_parents(run) else {}


def _no_live_runs(ids: Iterable[str]) -> ApiError:
    text = f"Access is denied. ExperimentRun not found for given ids : [{', '.join(ids)}]"
    return ApiError(PERMISSION_DENIED, text)


def _runs_in(store: Store, request: Request) -> Iterator[Entity]:
    """The live runs that a request may be about, by the narrowest index; next to an experiment, the
    project does not count.
    """
    project_id, experiment_id = request.get("project_id"), request.get("experiment_id")
    name, mark = sought(request, "name"), sought(request, f"attributes.{MARK}")
    found: Iterable[Entity]
    if mark is not None:
        found = store.runs.find("mark", mark)
    elif experiment_id and name is not None:
        found = store.runs.find("name", (experiment_id, name))
    elif experiment_id:
        found = store.runs.find("experiment", experiment_id)
    elif project_id:
        found = store.runs.find("project", project_id)
    else:
        found = store.runs.all_live()
    return (
        run
        for run in found
        if store.has_parents(run)
        and (not experiment_id or run.row["experiment_id"] == experiment_id)
        and (not project_id or experiment_id or run.row["project_id"] == project_id)
    )


def _find_runs(store: Store, request: Request) -> Answer:
    if project_id := request.get("project_id"):
        store.project(project_id)
    # An unknown experiment is an empty answer, one of a deleted project is an error.
    if experiment := store.experiments.by_id(request.get("experiment_id", "")):
        store.project(experiment.row["project_id"])
    return page(_runs_in(store, request), request, "experiment_runs", "FindExperimentRuns")


def _delete_runs(store: Store, request: Request) -> Answer:
    found = [run for run_id in request["ids"] if (run := store.runs.live(run_id))]
    if not found:
        raise _no_live_runs(request["ids"])
    for run in found:
        store.runs.delete(run)
    return {"status": True}


RUN_CALLS: Mapping[str, Call] = {
    "createExperimentRun": Call(
        "POST",
        messages.CREATE_RUN,
        _create_run,
        _validate_all(
            require(
                "CreateExperimentRun",
                ("project_id", "Project ID"),
                ("experiment_id", "Experiment ID"),
                ("name", "ExperimentRun name"),
            ),
            check_name,
            check_tags,
        ),
        _check_run_name,
    ),
    "getExperimentRunByName": Call(
        "GET",
        messages.BY_EXPERIMENT_AND_NAME,
        _get_run_by_name,
        require(
            "GetExperimentRunByName",
            ("name", "ExperimentRun name"),
            ("experiment_id", "Experiment ID"),
        ),
    ),
    "getExperimentRunById": Call(
        "GET",
        messages.BY_ID,
        _get_run_by_id,
        require("GetExperimentRunById", ("id", "ExperimentRun ID")),
    ),
    "findExperimentRuns": Call("POST", messages.FIND_RUNS, _find_runs),
    "deleteExperimentRuns": Call(
        "DELETE",
        messages.BY_IDS,
        _delete_runs,
        require(
            "DeleteExperimentRuns",
            ("ids", "ExperimentRun IDs"),
            details="DeleteExperiments.Response",
        ),
    ),
}

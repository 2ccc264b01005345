"""What the ModelDB V1 stand-in's calls that read from SQL return, the server's oddities included.

A call takes the store and its arguments, as those in `writes` do. `dispatch` adds what the server
reads from MongoDB. Nothing served here annotates a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v1.store import (
    database_error,
    printed_time,
    single,
)
from daemon.demo.modeldb_v1.writes import given
from daemon.targets.modeldb_v1.codec import INTERFACE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.demo.modeldb_v1.store import Row, Store
    from daemon.demo.modeldb_v1.writes import Arguments, Perform

_PROJECT_COLUMNS = {"id", "name", "author", "description", "created"}


def answer_200(_store: Store, _arguments: Arguments) -> int:
    return 200


def project_ids_statement(arguments: Arguments) -> str:
    """The SQL that stands in errors."""
    conditions = [f"PROJECT.{name} = ?" for name in arguments["keyValuePairs"] or ()]
    where = (
        "1 = 1"
        if not conditions
        else conditions[0]
        if len(conditions) == 1
        else f"({' and '.join(conditions)})"
    )
    return f"select Project.id from Project where {where}"  # noqa: S608 - it only stands in errors


def project_ids(store: Store, arguments: Arguments) -> list[int]:
    conditions: Mapping[str, str] = given(arguments["keyValuePairs"])
    for name in conditions:
        if name.lower() not in _PROJECT_COLUMNS:
            error = f"[SQLITE_ERROR] SQL error or missing database (no such column: PROJECT.{name})"
            raise database_error(project_ids_statement(arguments), error)
    return [
        row["id"]
        for row in store.projects
        if all(_equals(row[name.lower()], value) for name, value in conditions.items())
    ]


def _equals(stored: object, text: str) -> bool:
    """SQLite makes a number of a text that is to equal one."""
    if isinstance(stored, int):
        return text.isdecimal() and int(text) == stored
    return stored == text


def runs_and_experiments(store: Store, arguments: Arguments) -> Any:  # noqa: ANN401 - a struct of the interface
    """All runs of a project, and those of its experiments that have one."""
    project_id = arguments["projId"]
    runs = store.runs_in_project(project_id)
    used = {run["experiment"] for run in runs}
    experiments = [
        row for row in store.experiments.where("project", project_id) if row["id"] in used
    ]
    first = min(used, default=0)
    return INTERFACE.ProjectExperimentsAndRuns(
        project_id,
        [_experiment(row, is_default=row["id"] == first) for row in experiments],
        [_run(run) for run in runs],
    )


def run_details(store: Store, arguments: Arguments) -> Any:  # noqa: ANN401 - a struct of the interface
    """A run, what it is in, and its models; those without their metadata."""
    run = _found(
        store.runs.get(arguments["experimentRunId"]),
        f"Can't find ExperimentRun with ID {arguments['experimentRunId']}",
    )
    experiment = _found(
        store.experiments.get(run["experiment"]),
        f"Can't find Experiment with ID {run['experiment']}",
    )
    project = _found(
        store.projects.get(experiment["project"]),
        f"Can't find Project with ID {experiment['project']}",
    )
    models = [
        model_response(store, row["id"])
        for row in store.models.where("experimentRun", run["id"])
        for _ in store.fits.where("transformer", row["id"])
    ]
    is_default = experiment["id"] == store.default_experiment(project["id"])
    return INTERFACE.ExperimentRunDetailsResponse(
        _project(project), _experiment(experiment, is_default=is_default), _run(run), models
    )


def model_response(store: Store, model_id: int) -> Any:  # noqa: ANN401 - a struct of the interface
    """A model that has a fit, without its metadata."""
    model = _found(
        store.models.get(model_id),
        f"Could not find record for Transformer {model_id}, because it does not exist.",
    )
    fit = _found(
        single(store.fits.where("transformer", model_id)),
        f"Could not find corresponding FitEvent for Transformer {model_id}",
    )
    run = _found(
        store.runs.get(model["experimentRun"]),
        f"Can't find ExperimentRun with ID {model['experimentRun']}",
    )
    experiment = store.experiments.get(run["experiment"])
    project = None if experiment is None else store.projects.get(experiment["project"])
    metrics: dict[str, dict[int, float]] = {}
    for row in store.metrics.where("transformer", model_id):
        metrics.setdefault(row["metricType"], {})[row["df"]] = row["metricValue"]
    return INTERFACE.ModelResponse(
        id=model_id,
        experimentRunId=run["id"],
        experimentId=-1 if experiment is None or project is None else experiment["id"],
        projectId=-1 if project is None else project["id"],
        trainingDataFrame=_data_frame(store, fit["df"]),
        specification=_spec(store, fit["transformerSpec"]),
        problemType=_problem_type(fit),
        featureColumns=[row["name"] for row in store.features.where("transformer", model_id)],
        labelColumns=_columns(fit["labelColumns"]),
        predictionColumns=_columns(fit["predictionColumns"]),
        metrics=metrics,
        annotations=[],
        sha=run["sha"],
        filepath=printed_time(run["created"]),  # the server has these two the wrong way round
        timestamp=model["filepath"],
    )


def model_ancestry(store: Store, arguments: Arguments) -> Any:  # noqa: ANN401 - a struct of the interface
    """A model's fit, without what would be in other tables."""
    model_id = arguments["modelId"]
    fit = _found(
        single(store.fits.where("transformer", model_id)),
        f"Could not find FitEvent for model {model_id}",
    )
    frame, spec, model = (
        store.data_frames.get(fit["df"]),
        store.specs.get(fit["transformerSpec"]),
        store.models.get(model_id),
    )
    if frame is None or spec is None or model is None:
        raise INTERFACE.ResourceNotFoundException("Could not find FitEvent with ID %s0")
    event = INTERFACE.FitEvent(
        INTERFACE.DataFrame(frame["id"], [], frame["numRows"], frame["tag"], frame["filepath"]),
        INTERFACE.TransformerSpec(spec["id"], spec["transformerType"], [], spec["tag"]),
        INTERFACE.Transformer(model_id, model["transformerType"], model["tag"], model["filepath"]),
        [],
        _columns(fit["predictionColumns"]),
        _columns(fit["labelColumns"]),
        fit["experimentRun"],
        _problem_type(fit),
    )
    return INTERFACE.ModelAncestryResponse(model_id, event, [])


def _found(row: Row | None, problem: str) -> Row:
    if row is None:
        raise INTERFACE.ResourceNotFoundException(problem)
    return row


def _project(row: Row) -> Any:  # noqa: ANN401 - a struct of the interface
    return INTERFACE.Project(row["id"], row["name"], row["author"], row["description"])


def _experiment(row: Row, *, is_default: bool) -> Any:  # noqa: ANN401 - a struct of the interface
    return INTERFACE.Experiment(
        row["id"], row["project"], row["name"], row["description"], is_default
    )


def _run(row: Row) -> Any:  # noqa: ANN401 - a struct of the interface
    return INTERFACE.ExperimentRun(
        row["id"], row["experiment"], row["description"], row["sha"], printed_time(row["created"])
    )


def _data_frame(store: Store, frame_id: int) -> Any:  # noqa: ANN401 - a struct of the interface
    row = _found(
        store.data_frames.get(frame_id), f"Could not read DataFrame {frame_id}, it doesn't exist"
    )
    columns = [
        INTERFACE.DataFrameColumn(each["name"], each["type"])
        for each in store.data_frame_columns.where("dfId", frame_id)
    ]
    pairs = [
        store.key_values.get(each["metadataKvId"])
        for each in store.data_frame_metadata.where("dfId", frame_id)
    ]
    metadata = [
        INTERFACE.MetadataKV(pair["key"], pair["value"], pair["valueType"])
        for pair in pairs
        if pair is not None
    ]
    return INTERFACE.DataFrame(
        frame_id, columns, row["numRows"], row["tag"], row["filepath"], metadata
    )


def _spec(store: Store, spec_id: int) -> Any:  # noqa: ANN401 - a struct of the interface
    row = _found(
        store.specs.get(spec_id), f"Could not read TransformerSpec {spec_id}, it doesn't exist"
    )
    parameters = [
        INTERFACE.HyperParameter(
            each["paramName"],
            each["paramValue"],
            each["paramType"],
            each["paramMinValue"],
            each["paramMaxValue"],
        )
        for each in store.hyperparameters.where("spec", spec_id)
    ]
    return INTERFACE.TransformerSpec(spec_id, row["transformerType"], parameters, row["tag"])


def _problem_type(fit: Row) -> int:
    number: int = getattr(INTERFACE.ProblemType, fit["problemType"].upper())
    return number


def _columns(joined: str) -> Sequence[str]:
    """As Java splits: nothing is empty at the end, but an empty text is one empty column."""
    columns = joined.split(",")
    while len(columns) > 1 and not columns[-1]:
        columns.pop()
    return columns if any(columns) or "," not in joined else []


READING: Mapping[str, Perform] = {
    "testConnection": answer_200,
    "getProjectIds": project_ids,
    "getRunsAndExperimentsInProject": runs_and_experiments,
    "getExperimentRunDetails": run_details,
    "computeModelAncestry": model_ancestry,
}

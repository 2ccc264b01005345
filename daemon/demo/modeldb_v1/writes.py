"""What the ModelDB V1 stand-in's calls that store do, row by row in the server's order.

A call takes the store and its arguments (by their names in the interface), returns its result, and
raises `ServerError` or an exception of the interface. Rows that were stored before an error stay,
as on the server: no call is one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.demo.modeldb_v1.store import (
    FIT,
    METRIC,
    database_error,
    float32,
    now,
    null_pointer,
    single,
    unboxed,
)
from daemon.targets.modeldb_v1.codec import INTERFACE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.demo.modeldb_v1.store import Store

    Arguments = Mapping[str, Any]
    Perform = Callable[[Store, Arguments], Any]


class ConnectionBrokenError(Exception):
    """The error ends the server's thread: the connection closes without an answer."""


def given(thing: Any) -> Any:  # noqa: ANN401 - any part of a request
    """The thing; raises `ServerError` when it was not sent."""
    if thing is None:
        raise null_pointer()
    return thing


def _event(arguments: Arguments, name: str) -> Any:  # noqa: ANN401 - a struct of the interface
    """An argument that is looked at outside of the server's error handling."""
    if arguments[name] is None:
        raise ConnectionBrokenError
    return arguments[name]


def _check_run(store: Store, run_id: int) -> None:
    if store.runs.get(run_id) is None:
        raise INTERFACE.InvalidExperimentRunException(f"Can't find experiment run ID {run_id}")


def _set_columns(**columns: object) -> dict[str, object]:
    """The columns that a statement names."""
    return {name: value for name, value in columns.items() if value is not None}


def store_project(store: Store, arguments: Arguments) -> Any:  # noqa: ANN401 - a struct of the interface
    """Finds by name and author, or inserts, with an experiment."""
    project = given(given(arguments["pr"]).project)
    same_author = store.projects.where("author", project.author)
    found = single(
        [row for row in same_author if project.name is not None and row["name"] == project.name]
    )
    if found is not None:
        return INTERFACE.ProjectEventResponse(found["id"])
    project_id = store.insert(
        store.projects,
        id=project.id,
        name=project.name,
        author=project.author,
        description=project.description,
        created=now(),
    )
    store.insert(
        store.experiments,
        project=project_id,
        name="Default_Experiment",
        description="Default Experiment",
        created=now(),
    )
    return INTERFACE.ProjectEventResponse(unboxed(project_id))


def store_experiment(store: Store, arguments: Arguments) -> Any:  # noqa: ANN401 - a struct of the interface
    """Finds the project's first experiment; or finds by project and name, or inserts."""
    experiment = given(given(arguments["er"]).experiment)
    if experiment.isDefault:
        return INTERFACE.ExperimentEventResponse(store.default_experiment(experiment.projectId))
    of_project = store.experiments.where("project", experiment.projectId)
    found = single([row for row in of_project if row["name"] == experiment.name])
    if found is not None:
        return INTERFACE.ExperimentEventResponse(found["id"])
    experiment_id = store.insert(
        store.experiments,
        id=experiment.id,
        project=experiment.projectId,
        name=experiment.name,
        description=experiment.description,
        created=now(),
    )
    return INTERFACE.ExperimentEventResponse(unboxed(experiment_id))


def store_run(store: Store, arguments: Arguments) -> Any:  # noqa: ANN401 - a struct of the interface
    """Always inserts; the experiment is not looked for."""
    run = given(given(arguments["er"]).experimentRun)
    run_id = store.insert(
        store.runs,
        id=run.id,
        experiment=run.experimentId,
        description=run.description,
        created=now(),
        **_set_columns(sha=run.sha),
    )
    return INTERFACE.ExperimentRunEventResponse(unboxed(run_id))


def store_data_frame(store: Store, arguments: Arguments) -> int:
    _check_run(store, arguments["experimentRunId"])
    return unboxed(_data_frame(store, arguments["df"], arguments["experimentRunId"]))


def store_fit(store: Store, arguments: Arguments) -> Any:  # noqa: ANN401 - a struct of the interface
    """The SQL part: a model with a complete fit is found, anything else inserted."""
    fit = _event(arguments, "fe")
    run_id = fit.experimentRunId
    _check_run(store, run_id)
    known = single(store.fits.where("transformer", given(fit.model).id))
    event = None if known is None else store.event_of(known["id"])
    if known is not None and event is not None:
        return INTERFACE.FitEventResponse(
            known["df"], known["transformerSpec"], known["transformer"], event["id"], known["id"]
        )
    data_frame_id = _data_frame(store, fit.df, run_id)
    model_id = _model(store, fit.model, run_id)
    spec_id = _spec(store, fit.spec, run_id)
    problem_type = given(fit.problemType)
    predictions = list(dict.fromkeys(given(fit.predictionColumns)))
    labels = sorted(set(given(fit.labelColumns)).difference(predictions))
    features = sorted(set(given(fit.featureColumns)).difference(predictions))
    fit_id = store.insert(
        store.fits,
        transformerSpec=spec_id,
        transformer=model_id,
        df=data_frame_id,
        predictionColumns=",".join(predictions),
        labelColumns=",".join(labels),
        experimentRun=run_id,
        problemType=INTERFACE.ProblemType._VALUES_TO_NAMES[problem_type].lower(),  # noqa: SLF001 - thriftpy2's way to ask
    )
    event_id = store.insert(
        store.events, eventType=FIT, eventId=unboxed(fit_id), experimentRun=run_id
    )
    for place, name in enumerate(features):
        store.insert(
            store.features, name=name, featureIndex=place, importance=0.0, transformer=model_id
        )
    return INTERFACE.FitEventResponse(
        *map(unboxed, (data_frame_id, spec_id, model_id, event_id, fit_id))
    )


def store_metric(store: Store, arguments: Arguments) -> Any:  # noqa: ANN401 - a struct of the interface
    """Always inserts, even an unknown model; the value is rounded to a 32-bit float."""
    metric = _event(arguments, "me")
    run_id = metric.experimentRunId
    _check_run(store, run_id)
    data_frame_id = _data_frame(store, metric.df, run_id)
    model_id = _model(store, metric.model, run_id)
    metric_id = store.insert(
        store.metrics,
        transformer=model_id,
        df=data_frame_id,
        metricType=metric.metricType,
        metricValue=float32(metric.metricValue),
        experimentRun=run_id,
    )
    event_id = store.insert(
        store.events, eventType=METRIC, eventId=unboxed(metric_id), experimentRun=run_id
    )
    return INTERFACE.MetricEventResponse(
        *map(unboxed, (model_id, data_frame_id, event_id, metric_id))
    )


def _data_frame(store: Store, frame: Any, run_id: int) -> int | None:  # noqa: ANN401 - a struct of the interface
    known = store.data_frames.get(given(frame).id)
    if known is not None:
        return int(known["id"])
    frame_id = store.insert(
        store.data_frames,
        tag=frame.tag,
        numRows=frame.numRows,
        experimentRun=run_id,
        **_set_columns(filepath=frame.filepath),
    )
    for column in given(frame.schema):
        store.insert(store.data_frame_columns, dfId=frame_id, name=column.name, type=column.type)
    for pair in frame.metadata or ():
        pair_id = store.insert(
            store.key_values, key=pair.key, value=pair.value, valueType=pair.valueType
        )
        store.insert(store.data_frame_metadata, dfId=frame_id, metadataKvId=pair_id)
    return frame_id


def _model(store: Store, model: Any, run_id: int) -> int | None:  # noqa: ANN401 - a struct of the interface
    known = store.models.get(given(model).id)
    if known is not None:
        return int(known["id"])
    return store.insert(
        store.models, transformerType=model.transformerType, tag=model.tag, experimentRun=run_id
    )


def _spec(store: Store, spec: Any, run_id: int) -> int | None:  # noqa: ANN401 - a struct of the interface
    known = store.specs.get(given(spec).id)
    if known is not None:
        return int(known["id"])
    spec_id = store.insert(
        store.specs, transformerType=spec.transformerType, tag=spec.tag, experimentRun=run_id
    )
    for each in given(spec.hyperparameters):
        store.insert(
            store.hyperparameters,
            spec=spec_id,
            paramName=each.name,
            paramType=each.type,
            paramValue=each.value,
            paramMinValue=float32(each.min),
            paramMaxValue=float32(each.max),
            experimentRun=run_id,
        )
    return spec_id


def update_project(store: Store, arguments: Arguments) -> bool:
    """Sets name, author or description; unlike the server it keeps the id and the creation time."""
    key, column = given(arguments["key"]), arguments["key"].lower()
    if column not in {"id", "name", "author", "description", "created"}:
        statement = f"update Project set {key} = ? where Project.id = ?"  # noqa: S608 - it only stands in the error
        raise database_error(
            statement, f"[SQLITE_ERROR] SQL error or missing database (no such column: {key})"
        )
    project = store.projects.get(arguments["projectId"])
    if project is None:
        return False
    if column not in {"id", "created"}:
        project[column] = arguments["value"]
    return True


STORING: Mapping[str, Perform] = {
    "storeProjectEvent": store_project,
    "storeExperimentEvent": store_experiment,
    "storeExperimentRunEvent": store_run,
    "storeDataFrame": store_data_frame,
    "storeFitEvent": store_fit,
    "storeMetricEvent": store_metric,
    "updateProject": update_project,
}

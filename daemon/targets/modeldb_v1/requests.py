"""Builds the Thrift structs of a job's calls, as the original client does unless that loses data.

An id of -1 creates a row. Lists are always set: on an unset one the server fails after it has
stored some of the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v1.codec import INTERFACE

if TYPE_CHECKING:
    from daemon.targets.modeldb_v1.mapping import MappedDataFrame, MappedJob, MappedMetric

NEW = -1
_LEAST, _MOST = 2.2250738585072014e-308, 1.7976931348623157e308
"""Bounds that the original client sends with each hyperparameter; stored as 0 and infinity."""


def project_event(job: MappedJob) -> Any:  # noqa: ANN401 - a Thrift struct, as in this whole module
    project = INTERFACE.Project(
        id=NEW, name=job.project_name, author=job.project_user, description=job.project_description
    )
    return INTERFACE.ProjectEvent(project=project)


def default_experiment_event(project_id: int) -> Any:  # noqa: ANN401 - see above
    """Finds the project's default experiment, which the server creates with the project."""
    experiment = INTERFACE.Experiment(
        id=NEW, projectId=project_id, name="", description="", isDefault=True
    )
    return INTERFACE.ExperimentEvent(experiment=experiment)


def named_experiment_event(project_id: int) -> Any:  # noqa: ANN401 - see above
    """Finds or creates an experiment with the name of default ones, for a project without any."""
    experiment = INTERFACE.Experiment(
        id=NEW,
        projectId=project_id,
        name="Default_Experiment",
        description="Default Experiment",
        isDefault=False,
    )
    return INTERFACE.ExperimentEvent(experiment=experiment)


def run_event(experiment_id: int, job: MappedJob) -> Any:  # noqa: ANN401 - see above
    run = INTERFACE.ExperimentRun(id=NEW, experimentId=experiment_id, description=job.marker)
    return INTERFACE.ExperimentRunEvent(experimentRun=run)


def fit_event(run_id: int, job: MappedJob, *, model_id: int = NEW) -> Any:  # noqa: ANN401 - see above
    """The model with its training data.

    Args:
        run_id: the run to store it in.
        job: the model's job.
        model_id: a stored model without metadata: the server adds only the metadata.
    """
    return INTERFACE.FitEvent(
        df=data_frame(job.data_frames[0]),
        spec=INTERFACE.TransformerSpec(
            id=NEW,
            transformerType=job.model_type,
            hyperparameters=[
                INTERFACE.HyperParameter(name=name, value=text, type="str", min=_LEAST, max=_MOST)
                for name, text in job.hyperparameters
            ],
            tag=job.model_name,
        ),
        model=INTERFACE.Transformer(
            id=model_id,
            transformerType=job.model_type,
            tag=job.model_name,
            filepath=job.model_location,
        ),
        featureColumns=[],
        predictionColumns=[],
        labelColumns=[],
        experimentRunId=run_id,
        problemType=INTERFACE.ProblemType.UNDEFINED,
        metadata=job.metadata,
    )


def data_frame(frame: MappedDataFrame) -> Any:  # noqa: ANN401 - see above
    return INTERFACE.DataFrame(
        id=NEW,
        schema=[],
        numRows=-1,
        tag=frame.tag,
        filepath=frame.filepath,
        metadata=[
            INTERFACE.MetadataKV(key=key, value=value, valueType="str")
            for key, value in frame.metadata
        ],
    )


def metric_event(run_id: int, model_id: int, data_frame_id: int, metric: MappedMetric) -> Any:  # noqa: ANN401 - see above
    """A metric of a model on a stored data frame; each id of -1 would create one."""
    return INTERFACE.MetricEvent(
        df=INTERFACE.DataFrame(
            id=data_frame_id, schema=[], numRows=-1, tag="", filepath="", metadata=[]
        ),
        model=INTERFACE.Transformer(id=model_id, transformerType="", tag="", filepath=""),
        metricType=metric.name,
        metricValue=metric.value,
        labelCol="label_col",
        predictionCol="prediction_col",
        experimentRunId=run_id,
    )

"""`TrainingRun`: everything that is known about a finished training job, independent of the target.

Left out of DescribeTrainingJob on purpose: Environment, ContainerEntrypoint and ContainerArguments
(may contain secrets under inconspicuous names), MetricDefinitions, debugger and profiler rules,
VPC, WarmPoolStatus (changes after the end).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon.text import cleaned, one_line
from daemon.training_job.channels import Channel, read_channels
from daemon.training_job.field_readers import flag, moment, section, text, texts, whole
from daemon.training_job.hyperparameters import Hyperparameter, decoded, read_hyperparameters
from daemon.training_job.identity import JOB_NAME, JobArn, JobMark
from daemon.training_job.instances import read_instances
from daemon.training_job.metrics import Metric, read_metrics
from daemon.training_job.redaction import REDACTED, is_secret, secrets_in, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from daemon.training_job.metric_series import MetricSeries
    from daemon.training_job.tags import JobTags
    from daemon.training_job.tuning_job import TuningJob

__all__ = [
    "Channel",
    "DescribedJob",
    "Hyperparameter",
    "Metric",
    "TrainingRun",
    "described_status",
    "training_run",
]

_CONSOLES = {
    "aws": "https://{region}.console.aws.amazon.com",
    "aws-cn": "https://{region}.console.amazonaws.cn",
    "aws-us-gov": "https://console.amazonaws-us-gov.com",
}

_PIPELINE_STEP_JOB = re.compile(
    r"pipelines-(?P<execution>[a-z0-9]{12})-(?P<step>.+)-[A-Za-z0-9]{10}"
)
"""How SageMaker Pipelines names its jobs; long step names are cut (observed, undocumented)."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A finished training job. None: absent. Texts are storable and not empty; times are UTC."""

    mark: JobMark
    arn: JobArn
    """As described, in the case that ListTags needs."""
    name: str
    creation_time: datetime

    project_name: str
    project_user: str
    project_description: str
    model_name: str
    model_type: str
    all_tags: Mapping[str, str] = field(default_factory=dict)
    """Values may be empty; those under secret keys are redacted."""

    status: str = ""
    """Empty when absent."""
    secondary_status: str | None = None
    failure_reason: str | None = None
    """May have several lines; values under secret keys are redacted."""

    start_time: datetime | None = None
    end_time: datetime | None = None
    last_modified_time: datetime | None = None
    training_seconds: int | None = None
    billable_seconds: int | None = None
    billable_tokens: int | None = None
    max_runtime_seconds: int | None = None

    instances: str | None = None
    """For display: `4 x ml.p4d.24xlarge`, instance groups joined, or `one of` the preferences."""
    instance_type: str | None = None
    """For instance groups: their types, joined by commas."""
    instance_count: int | None = None
    """For instance groups: the total."""
    volume_gb: int | None = None
    volume_kms_key: str | None = None
    managed_spot: bool | None = None
    network_isolation: bool | None = None
    inter_container_encryption: bool | None = None

    training_image: str | None = None
    algorithm_name: str | None = None
    """Name or ARN of an algorithm resource, used instead of an image."""
    input_mode: str | None = None
    role_arn: str | None = None
    program: str | None = None
    """The script of script mode."""
    source_code_uri: str | None = None
    """sagemaker_submit_directory of script mode."""

    channels: tuple[Channel, ...] = ()
    hyperparameters: tuple[Hyperparameter, ...] = ()
    """In the order of the description; values under secret keys are redacted."""
    metrics: tuple[Metric, ...] = ()
    """The newest value of each name."""
    non_finite_metrics: Mapping[str, str] = field(default_factory=dict)
    """Metrics whose newest value is ``NaN``, ``Infinity`` or ``-Infinity``."""

    model_location: str | None = None
    """Where the job was to store its model; set even if there is no such object."""
    output_path: str | None = None
    output_compression: str | None = None
    output_kms_key: str | None = None
    checkpoint_uri: str | None = None
    tensorboard_uri: str | None = None
    debugger_uri: str | None = None

    tuning_job_arn: str | None = None
    auto_ml_job_arn: str | None = None
    labeling_job_arn: str | None = None
    pipeline_execution: str | None = None
    """The execution's ARN from the job's tags, else its id from the job's name."""
    pipeline_step: str | None = None
    experiment_name: str | None = None
    trial_name: str | None = None
    trial_component_name: str | None = None
    experiment_run_name: str | None = None

    model_package_arn: str | None = None
    model_package_group_arn: str | None = None
    source_model_package_arn: str | None = None

    base_model_arn: str | None = None
    """This and the next four: of serverless customisation jobs."""
    serverless_job_type: str | None = None
    customization_technique: str | None = None
    peft: str | None = None
    sequence_length: str | None = None

    mlflow_resource_arn: str | None = None
    mlflow_experiment_name: str | None = None
    mlflow_experiment_id: str | None = None
    mlflow_run_name: str | None = None
    mlflow_run_id: str | None = None

    metric_series: tuple[MetricSeries, ...] = ()
    """Thinned; empty unless asked for."""
    tuning: TuningJob | None = None
    """Of `tuning_job_arn`."""

    notes: tuple[str, ...] = ()
    """One line for each fact that was hidden, left out or not to be had; targets add theirs."""

    @property
    def tuning_job_name(self) -> str | None:
        """Of the ARN, so that it is the same for all children whether `tuning` is known or not."""
        name = (self.tuning_job_arn or "").rpartition("/")[2]
        return name or None

    @property
    def partition(self) -> str:
        return self.arn.partition

    @property
    def region(self) -> str:
        return self.arn.region

    @property
    def account(self) -> str:
        return self.arn.account

    @property
    def console_url(self) -> str | None:
        """The job's page in the AWS console; None in a partition without a known console."""
        console = _CONSOLES.get(self.partition)
        if console is None:
            return None
        page = f"sagemaker/home?region={self.region}#/jobs/{self.name}"
        return f"{console.format(region=self.region)}/{page}"


@dataclass(frozen=True, slots=True)
class DescribedJob:
    """A description of a training job whose identity has been checked."""

    description: Mapping[str, Any]
    """DescribeTrainingJob as botocore parses it."""
    name: str
    arn: JobArn
    """As described, in the case that ListTags needs."""
    creation_time: datetime
    """In UTC."""

    @property
    def mark(self) -> JobMark:
        return JobMark.of(self.arn, self.creation_time)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> DescribedJob:
        """Reads the identity.

        Raises:
            ValueError: TrainingJobName, TrainingJobArn or CreationTime is missing or unusable, or
                name and ARN belong to two jobs.
        """
        name, arn_text = text(description, "TrainingJobName"), text(description, "TrainingJobArn")
        if name is None or not JOB_NAME.fullmatch(name):
            raise ValueError("the description has no usable TrainingJobName")
        if arn_text is None:
            raise ValueError(f"the description of {name} has no TrainingJobArn")
        arn = JobArn.parse(arn_text)
        if arn.name.lower() != name.lower():
            raise ValueError(f"the description of {name} has the ARN of another job: {arn.text}")
        creation_time = moment(description, "CreationTime")
        if creation_time is None:
            raise ValueError(f"the description of {name} has no usable CreationTime")
        return cls(description, name, arn, creation_time)


def described_status(description: Mapping[str, Any]) -> str:
    """TrainingJobStatus; empty when the description has none."""
    return one_line(text(description, "TrainingJobStatus") or "")


def training_run(
    job: DescribedJob,
    tags: JobTags,
    all_tags: Mapping[str, str],
    redact: Sequence[str],
) -> TrainingRun:
    """Builds the run of a described job.

    Args:
        job: the described job. Fields other than its identity count as absent if they are missing
            or of the wrong type.
        tags: the five tags that describe project and model.
        all_tags: all tags of the job.
        redact: patterns of the keys of hyperparameters and tags whose values are redacted.
    """
    description = job.description
    hyperparameters = read_hyperparameters(description, redact)
    typed = {
        parameter.key: parameter.value
        for parameter in hyperparameters
        if parameter.text != REDACTED
    }
    metrics, non_finite = read_metrics(description)
    resources = section(description, "ResourceConfig")
    instances = read_instances(resources)
    pipeline_execution, pipeline_step = _pipeline(job.name, all_tags)
    algorithm = section(description, "AlgorithmSpecification")
    output = section(description, "OutputDataConfig")
    experiment = section(description, "ExperimentConfig")
    package = section(description, "ModelPackageConfig")
    serverless = section(description, "ServerlessJobConfig")
    mlflow, mlflow_run = section(description, "MlflowConfig"), section(description, "MlflowDetails")
    return TrainingRun(
        mark=job.mark,
        arn=job.arn,
        name=job.name,
        creation_time=job.creation_time,
        project_name=tags.project_name,
        project_user=tags.project_user,
        project_description=tags.project_description,
        model_name=tags.model_name,
        model_type=tags.model_type,
        all_tags={
            one_line(key): REDACTED if is_secret(key, redact) else one_line(value)
            for key, value in all_tags.items()
        },
        status=described_status(description),
        secondary_status=text(description, "SecondaryStatus"),
        failure_reason=_failure_reason(description, redact),
        start_time=moment(description, "TrainingStartTime"),
        end_time=moment(description, "TrainingEndTime"),
        last_modified_time=moment(description, "LastModifiedTime"),
        training_seconds=whole(description, "TrainingTimeInSeconds"),
        billable_seconds=whole(description, "BillableTimeInSeconds"),
        billable_tokens=whole(description, "BillableTokenCount"),
        max_runtime_seconds=whole(section(description, "StoppingCondition"), "MaxRuntimeInSeconds"),
        instances=instances.summary,
        instance_type=instances.type,
        instance_count=instances.count,
        volume_gb=whole(resources, "VolumeSizeInGB"),
        volume_kms_key=text(resources, "VolumeKmsKeyId"),
        managed_spot=flag(description, "EnableManagedSpotTraining"),
        network_isolation=flag(description, "EnableNetworkIsolation"),
        inter_container_encryption=flag(description, "EnableInterContainerTrafficEncryption"),
        training_image=text(algorithm, "TrainingImage"),
        algorithm_name=text(algorithm, "AlgorithmName"),
        input_mode=text(algorithm, "TrainingInputMode"),
        role_arn=text(description, "RoleArn"),
        program=text(typed, "sagemaker_program"),
        source_code_uri=text(typed, "sagemaker_submit_directory"),
        channels=read_channels(description),
        hyperparameters=hyperparameters,
        metrics=metrics,
        non_finite_metrics=non_finite,
        model_location=text(section(description, "ModelArtifacts"), "S3ModelArtifacts"),
        output_path=text(output, "S3OutputPath"),
        output_compression=text(output, "CompressionType"),
        output_kms_key=text(output, "KmsKeyId"),
        checkpoint_uri=text(section(description, "CheckpointConfig"), "S3Uri"),
        tensorboard_uri=text(section(description, "TensorBoardOutputConfig"), "S3OutputPath"),
        debugger_uri=text(section(description, "DebugHookConfig"), "S3OutputPath"),
        tuning_job_arn=text(description, "TuningJobArn"),
        auto_ml_job_arn=text(description, "AutoMLJobArn"),
        labeling_job_arn=text(description, "LabelingJobArn"),
        pipeline_execution=pipeline_execution,
        pipeline_step=pipeline_step,
        experiment_name=text(experiment, "ExperimentName"),
        trial_name=text(experiment, "TrialName"),
        trial_component_name=text(experiment, "TrialComponentDisplayName"),
        experiment_run_name=text(experiment, "RunName"),
        model_package_arn=text(description, "OutputModelPackageArn"),
        model_package_group_arn=text(package, "ModelPackageGroupArn"),
        source_model_package_arn=text(package, "SourceModelPackageArn"),
        base_model_arn=text(serverless, "BaseModelArn"),
        serverless_job_type=text(serverless, "JobType"),
        customization_technique=text(serverless, "CustomizationTechnique"),
        peft=text(serverless, "Peft"),
        sequence_length=text(serverless, "SequenceLength"),
        mlflow_resource_arn=text(mlflow, "MlflowResourceArn"),
        mlflow_experiment_name=text(mlflow, "MlflowExperimentName"),
        mlflow_experiment_id=text(mlflow_run, "MlflowExperimentId"),
        mlflow_run_name=text(mlflow, "MlflowRunName"),
        mlflow_run_id=text(mlflow_run, "MlflowRunId"),
    )


def _failure_reason(description: Mapping[str, Any], redact: Sequence[str]) -> str | None:
    reason = text(description, "FailureReason")
    if reason is None:
        return None
    hyperparameters = secrets_in(texts(description, "HyperParameters"), redact)
    environment = secrets_in(texts(description, "Environment"), redact)
    unquoted = [str(decoded(secret)) for secret in hyperparameters]
    return without_secrets(
        reason, [cleaned(secret) for secret in (*hyperparameters, *unquoted, *environment)]
    )


def _pipeline(name: str, tags: Mapping[str, str]) -> tuple[str | None, str | None]:
    execution, step = (
        text(tags, "sagemaker:pipeline-execution-arn"),
        text(tags, "sagemaker:pipeline-step-name"),
    )
    named = _PIPELINE_STEP_JOB.fullmatch(name)
    if named is not None:
        return execution or named["execution"], step or named["step"]
    return execution, step

"""Reads a training run from what DescribeTrainingJob and ListTags say of a job.

Members that are left out on purpose are listed in `docs/mapping.md`, with the reasons.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from daemon.text import one_line
from daemon.training_job.channels import read_channels, source_code_uri
from daemon.training_job.described_job import described_status
from daemon.training_job.field_readers import (
    flag,
    integer,
    moment,
    section,
    text,
    whole,
)
from daemon.training_job.hyperparameters import read_hyperparameters
from daemon.training_job.instances import read_instances
from daemon.training_job.metrics import read_metrics
from daemon.training_job.phases import read_phases
from daemon.training_job.redaction import REDACTED, RunRedaction
from daemon.training_job.rule_evaluations import read_issues
from daemon.training_job.training_run import TrainingRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.training_job.described_job import DescribedJob
    from daemon.training_job.tags import JobTags

_PIPELINE_STEP_JOB = re.compile(
    r"pipelines-(?P<execution>[a-z0-9]{12})-(?P<step>.+)-[A-Za-z0-9]{10}"
)
"""How SageMaker Pipelines names its jobs; long step names are cut (observed, undocumented)."""

_SHOWN_WHOLE = 10**20


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
        redact: patterns of further keys whose values are redacted; none: nothing is redacted.
    """
    description = job.description
    redaction = RunRedaction.of(description, all_tags, redact)
    hyperparameters = read_hyperparameters(description, redaction)
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
    end_time = moment(description, "TrainingEndTime")
    phases = read_phases(description, end_time)
    notes = list(tags.notes)
    number = partial(_number, notes)
    progress = section(description, "ProgressInfo")
    stopping = section(description, "StoppingCondition")
    submit_directory = text(typed, "sagemaker_submit_directory")
    channels = read_channels(description, submit_directory)
    run = TrainingRun(
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
            redaction.name(one_line(key)): redaction.value("tag", key, one_line(value))
            for key, value in all_tags.items()
        },
        status=described_status(description),
        secondary_status=text(description, "SecondaryStatus"),
        failure_reason=redaction.failure_reason(text(description, "FailureReason")),
        start_time=moment(description, "TrainingStartTime"),
        end_time=end_time,
        last_modified_time=moment(description, "LastModifiedTime"),
        training_seconds=number(description, "TrainingTimeInSeconds"),
        billable_seconds=number(description, "BillableTimeInSeconds"),
        billable_tokens=number(description, "BillableTokenCount"),
        pending_seconds=phases.pending,
        downloading_seconds=phases.downloading,
        training_phase_seconds=phases.training,
        uploading_seconds=phases.uploading,
        interrupted_seconds=phases.interrupted,
        interruptions=phases.interruptions,
        max_runtime_seconds=number(stopping, "MaxRuntimeInSeconds"),
        max_wait_seconds=number(stopping, "MaxWaitTimeInSeconds"),
        max_pending_seconds=number(stopping, "MaxPendingTimeInSeconds"),
        max_retries=number(section(description, "RetryStrategy"), "MaximumRetryAttempts"),
        instances=instances.summary,
        instance_type=instances.type,
        instance_count=instances.count,
        instance_preferences=instances.preferences,
        training_plan_arn=text(resources, "TrainingPlanArn"),
        keep_alive_seconds=number(resources, "KeepAlivePeriodInSeconds"),
        volume_gb=number(resources, "VolumeSizeInGB"),
        volume_kms_key=text(resources, "VolumeKmsKeyId"),
        managed_spot=flag(description, "EnableManagedSpotTraining"),
        network_isolation=flag(description, "EnableNetworkIsolation"),
        inter_container_encryption=flag(description, "EnableInterContainerTrafficEncryption"),
        training_image=text(algorithm, "TrainingImage"),
        algorithm_name=text(algorithm, "AlgorithmName"),
        input_mode=text(algorithm, "TrainingInputMode"),
        role_arn=text(description, "RoleArn"),
        program=text(typed, "sagemaker_program"),
        source_code_uri=source_code_uri(submit_directory, channels),
        channels=channels,
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
        profiler_uri=text(section(description, "ProfilerConfig"), "S3OutputPath"),
        debugger_issues=read_issues(description, "DebugRuleEvaluationStatuses"),
        profiler_issues=read_issues(description, "ProfilerRuleEvaluationStatuses"),
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
        eula_accepted=flag(serverless, "AcceptEula"),
        evaluation_type=text(serverless, "EvaluationType"),
        evaluator_arn=text(serverless, "EvaluatorArn"),
        epochs=number(progress, "CurrentEpoch"),
        max_epochs=number(progress, "MaxEpoch"),
        steps=number(progress, "CurrentStep"),
        steps_per_epoch=number(progress, "TotalStepCountPerEpoch"),
        mlflow_resource_arn=text(mlflow, "MlflowResourceArn"),
        mlflow_experiment_name=text(mlflow, "MlflowExperimentName"),
        mlflow_experiment_id=text(mlflow_run, "MlflowExperimentId"),
        mlflow_run_name=text(mlflow, "MlflowRunName"),
        mlflow_run_id=text(mlflow_run, "MlflowRunId"),
        notes=tuple(notes),
    )
    return redaction.everywhere(run)


def _number(notes: list[str], source: Mapping[str, Any], name: str) -> int | None:
    """A whole number that every target stores exactly; one that is too large is noted."""
    value = whole(source, name)
    if value is None and (given := integer(source, name)) is not None:
        shown = str(given) if abs(given) < _SHOWN_WHOLE else "a number of more than 20 digits"
        notes.append(f"{name} is {shown}, which is too large to be stored exactly: left out")
    return value


def _pipeline(name: str, tags: Mapping[str, str]) -> tuple[str | None, str | None]:
    execution, step = (
        text(tags, "sagemaker:pipeline-execution-arn"),
        text(tags, "sagemaker:pipeline-step-name"),
    )
    named = _PIPELINE_STEP_JOB.fullmatch(name)
    if named is not None:
        return execution or named["execution"], step or named["step"]
    return execution, step

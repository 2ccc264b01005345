"""Attributes of a job that have the same keys in every target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon import __version__
from daemon.text import shortened
from daemon.training_job.identity import iso_milliseconds

if TYPE_CHECKING:
    from datetime import datetime

    from daemon.training_job.training_run import TrainingRun
    from daemon.training_job.tuning_job import TuningJob

_LINE_CHARACTERS = 300


def common_attributes(run: TrainingRun) -> dict[str, float | str | bool | None]:
    """Attributes other than channels, hyperparameters, metrics and tags. None: unknown.

    Each key has the same type in all runs: a single text under a numeric key breaks queries on it.
    """
    return {
        "model_name": run.model_name,
        "model_type": run.model_type,
        "project_user": run.project_user,
        "status": run.status,
        "secondary_status": run.secondary_status,
        "failure_reason": run.failure_reason,
        "region": run.region,
        "account": run.account,
        "partition": run.partition,
        "console_url": run.console_url,
        "logs_url": run.logs_url,
        "tuning_job_url": run.tuning_job_url,
        "pipeline_url": run.pipeline_url,
        "model_console_url": run.model_console_url,
        "start_time": _iso(run.start_time),
        "end_time": _iso(run.end_time),
        "last_modified_time": _iso(run.last_modified_time),
        "training_time_s": run.training_seconds,
        "billable_time_s": run.billable_seconds,
        "billable_tokens": run.billable_tokens,
        "pending_seconds": run.pending_seconds,
        "downloading_seconds": run.downloading_seconds,
        "training_phase_seconds": run.training_phase_seconds,
        "uploading_seconds": run.uploading_seconds,
        "interrupted_seconds": run.interrupted_seconds,
        # a job that cannot be interrupted need not say that it was not
        "interruptions": run.interruptions if run.managed_spot or run.interruptions else None,
        "max_runtime_s": run.max_runtime_seconds,
        "max_wait_s": run.max_wait_seconds,
        "max_pending_s": run.max_pending_seconds,
        "max_retries": run.max_retries,
        "instances": run.instances,
        "instance_type": run.instance_type,
        "instance_count": run.instance_count,
        "instance_preferences": run.instance_preferences,
        "training_plan_arn": run.training_plan_arn,
        "keep_alive_s": run.keep_alive_seconds,
        "volume_size_gb": run.volume_gb,
        "volume_kms_key": run.volume_kms_key,
        "managed_spot": run.managed_spot,
        "spot_saving_percent": run.spot_saving_percent,
        "network_isolation": run.network_isolation,
        "inter_container_encryption": run.inter_container_encryption,
        "training_image": run.training_image,
        "algorithm_name": run.algorithm_name,
        "input_mode": run.input_mode,
        "role_arn": run.role_arn,
        "program": run.program,
        "source_code_uri": run.source_code_uri,
        "model_artifact_uri": run.model_location,
        "output_path": run.output_path,
        "output_compression": run.output_compression,
        "output_kms_key": run.output_kms_key,
        "checkpoint_uri": run.checkpoint_uri,
        "tensorboard_uri": run.tensorboard_uri,
        "debugger_uri": run.debugger_uri,
        "profiler_uri": run.profiler_uri,
        "debugger_issues": _shortened_lines(run.debugger_issues),
        "profiler_issues": _shortened_lines(run.profiler_issues),
        "tuning_job_arn": run.tuning_job_arn,
        "tuning_job_name": run.tuning_job_name,
        **_tuning(run.tuning),
        "auto_ml_job_arn": run.auto_ml_job_arn,
        "labeling_job_arn": run.labeling_job_arn,
        "pipeline_execution": run.pipeline_execution,
        "pipeline_step": run.pipeline_step,
        "sagemaker_experiment": run.experiment_name,
        "sagemaker_trial": run.trial_name,
        "sagemaker_trial_component": run.trial_component_name,
        "sagemaker_experiment_run": run.experiment_run_name,
        "model_package_arn": run.model_package_arn,
        "model_package_group_arn": run.model_package_group_arn,
        "source_model_package_arn": run.source_model_package_arn,
        "base_model_arn": run.base_model_arn,
        "hub_content_arn": _hub_content(run),
        "serverless_job_type": run.serverless_job_type,
        "customization_technique": run.customization_technique,
        "peft": run.peft,
        "sequence_length": run.sequence_length,
        "eula_accepted": run.eula_accepted,
        "evaluation_type": run.evaluation_type,
        "evaluator_arn": run.evaluator_arn,
        "epochs": run.epochs,
        "max_epochs": run.max_epochs,
        "steps": run.steps,
        "steps_per_epoch": run.steps_per_epoch,
        "mlflow_resource_arn": run.mlflow_resource_arn,
        "mlflow_experiment_name": run.mlflow_experiment_name,
        "mlflow_experiment_id": run.mlflow_experiment_id,
        "mlflow_run_name": run.mlflow_run_name,
        "mlflow_run_id": run.mlflow_run_id,
        "sync_version": __version__,
    }


def instead_of_a_model(run: TrainingRun) -> dict[str, str | None]:
    """Attributes over the common ones: an evaluation makes no model, although SageMaker says where
    its model is.
    """
    if not run.is_evaluation:
        return {}
    return {
        "model_artifact_uri": None,
        "model_console_url": None,
        "evaluation_output_uri": run.model_location,
        "evaluation_output_console_url": run.model_console_url,
    }


def _tuning(job: TuningJob | None) -> dict[str, str | bool | None]:
    if job is None:
        return {}
    return {
        "tuning_status": job.status,
        "tuning_strategy": job.strategy,
        "tuning_objective": job.metric,
        "tuning_direction": job.direction,
        "tuning_best_job": job.best_job,
        "tuning_best_so_far": job.is_best_so_far,
        "tuning_warm_start_parents": ", ".join(job.warm_start_parents),
    }


def _hub_content(run: TrainingRun) -> str:
    """What a fine-tuning that is not serverless started from."""
    arns = [channel.hub_content_arn for channel in run.channels if channel.hub_content_arn]
    return ", ".join(dict.fromkeys(arns))


def _shortened_lines(text: str | None) -> str | None:
    """Text whose lines are short enough for people to read all of them."""
    if text is None:
        return None
    return "\n".join(shortened(line, _LINE_CHARACTERS) for line in text.split("\n"))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso_milliseconds(moment)

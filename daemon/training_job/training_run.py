"""`TrainingRun`: all that is known about a finished training job, independent of the target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.training_job import links
from daemon.training_job.channels import Channel
from daemon.training_job.hyperparameters import Hyperparameter
from daemon.training_job.metrics import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from daemon.training_job.identity import JobArn, JobMark
    from daemon.training_job.metric_series import MetricSeries
    from daemon.training_job.tuning_job import TuningJob

__all__ = ["Channel", "Hyperparameter", "Metric", "TrainingRun"]

_STUDIO_DOMAIN_TAG = "sagemaker:domain-arn"
"""Set by SageMaker on what is created from Studio."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A finished training job. None: absent. Texts are storable, not empty and without secrets;
    times are UTC.
    """

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
    """Values may be empty."""

    status: str = ""
    """Empty when absent."""
    secondary_status: str | None = None
    failure_reason: str | None = None
    """May have several lines."""

    start_time: datetime | None = None
    end_time: datetime | None = None
    last_modified_time: datetime | None = None
    training_seconds: int | None = None
    billable_seconds: int | None = None
    billable_tokens: int | None = None
    pending_seconds: int | None = None
    """This and the next five: see `Phases`."""
    downloading_seconds: int | None = None
    training_phase_seconds: int | None = None
    uploading_seconds: int | None = None
    interrupted_seconds: int | None = None
    interruptions: int | None = None
    max_runtime_seconds: int | None = None
    max_wait_seconds: int | None = None
    """Limit of managed spot training, waiting included."""
    max_pending_seconds: int | None = None
    max_retries: int | None = None
    """How often SageMaker may start the job again after an internal error."""

    instances: str | None = None
    """For display: `4 x ml.p4d.24xlarge`, instance groups joined, or `one of` the preferences
    when nobody says which.
    """
    instance_type: str | None = None
    """For instance groups: their types, joined by commas."""
    instance_count: int | None = None
    """For instance groups: the total."""
    instance_preferences: str | None = None
    """What the job was allowed to run on, in order of preference, with training plans."""
    training_plan_arn: str | None = None
    keep_alive_seconds: int | None = None
    """How long the instances stay in a warm pool."""
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
    """sagemaker_submit_directory of script mode; of code in a channel, where that has it from."""

    channels: tuple[Channel, ...] = ()
    hyperparameters: tuple[Hyperparameter, ...] = ()
    """In the order of the description."""
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
    profiler_uri: str | None = None

    debugger_issues: str | None = None
    """One line for each debugger rule that found issues."""
    profiler_issues: str | None = None

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
    eula_accepted: bool | None = None
    """Of the licence of the base model."""
    evaluation_type: str | None = None
    """This and the next: of serverless jobs that evaluate a model."""
    evaluator_arn: str | None = None
    epochs: int | None = None
    """This and the next three: how far a serverless job came, and how far it might have come."""
    max_epochs: int | None = None
    steps: int | None = None
    """In the last epoch."""
    steps_per_epoch: int | None = None

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
        """The job's page in the AWS console. All links: None in a partition without a known one."""
        return links.job_page(self.arn, self.name)

    @property
    def logs_url(self) -> str | None:
        """The job's log streams in CloudWatch Logs."""
        return links.logs_page(self.arn, self.name)

    @property
    def tuning_job_url(self) -> str | None:
        return links.tuning_job_page(self.arn, self.name, self.tuning_job_arn)

    @property
    def pipeline_url(self) -> str | None:
        """The pipeline execution in Studio; None unless the job's tags name Studio's domain."""
        domain = self.all_tags.get(_STUDIO_DOMAIN_TAG)
        return links.pipeline_execution_page(self.pipeline_execution, domain)

    @property
    def model_console_url(self) -> str | None:
        """The model's location in the S3 console; None unless it is in S3."""
        uncompressed = self.output_compression == "NONE"
        return links.s3_page(self.arn, self.model_location, is_prefix=uncompressed)

    @property
    def is_evaluation(self) -> bool:
        """Whether the job evaluates a model and makes none."""
        return self.serverless_job_type == "Evaluation"

    @property
    def spot_saving_percent(self) -> int | None:
        """What managed spot training saved of the billed time; None for other jobs."""
        if not (self.managed_spot and self.training_seconds and self.billable_seconds is not None):
            return None
        return max(0, round(100 * (1 - self.billable_seconds / self.training_seconds)))

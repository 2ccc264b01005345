"""The demo's training jobs: descriptions and events as SageMaker writes them, for every outcome a
message can have.

Names, buckets, people and secrets are invented. The shapes follow botocore's model of
DescribeTrainingJob and "Automating Amazon SageMaker AI with Amazon EventBridge" in the SageMaker
developer guide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from daemon.outcome import Rejected, Skipped, Synced
from daemon.training_job.identity import Home, JobArn, JobMark
from daemon.training_job.tags import TagKeys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

ACCOUNT = "123456789012"
"""Moto's own."""
REGION = "eu-west-1"
HOME = Home(ACCOUNT, REGION)
OTHER_HOME = Home("210987654321", REGION)

SECRETS = ("sk-live-51HdemoNotARealKey", "hunter2-demo-not-real", "wandb-demo-0a1b2c3d4e5f")
"""Values that the jobs carry and that must be neither in ModelDB nor in a log."""

KEYS = TagKeys()
NO_METRICS: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class SampleJob:
    """A training job in its last state, and the events that tell of it."""

    name: str
    about: str
    """What is special about it, for people."""
    description: Mapping[str, Any]
    """As DescribeTrainingJob answers; times as datetime."""
    tags: Mapping[str, str]
    """As ListTags answers."""
    event_tags: Mapping[str, str]
    """As its events tell."""
    home: Home = HOME
    history: tuple[str, ...] = ("Completed",)
    """The secondary status of each event, in order. The same one twice: delivered twice."""

    @property
    def arn(self) -> str:
        return JobArn.of(self.home, self.name).text

    @property
    def mark(self) -> JobMark:
        """Identifies its run in ModelDB."""
        return JobMark.of(JobArn.parse(self.arn), self.description["CreationTime"])

    @property
    def demands(self) -> str:
        """The outcome that the job must have: this account's completed, tagged jobs are synced."""
        if self.home != HOME:
            return Rejected.kind
        if self.description["TrainingJobStatus"] != "Completed" or KEYS.sync not in self.tags:
            return Skipped.kind
        needed = (
            KEYS.project_name,
            KEYS.project_user,
            KEYS.project_description,
            KEYS.model_name,
            KEYS.model_type,
        )
        return Synced.kind if all(self.tags.get(key) for key in needed) else Rejected.kind

    @property
    def finite_metrics(self) -> Mapping[str, float]:
        """The final metrics that are numbers; targets have no place for others."""
        metrics = {
            metric["MetricName"]: metric["Value"]
            for metric in self.description["FinalMetricDataList"]
        }
        return {name: value for name, value in metrics.items() if math.isfinite(value)}

    @property
    def inputs(self) -> Mapping[str, str]:
        """The URI of each channel."""
        return {
            channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
            for channel in self.description["InputDataConfig"]
        }

    def event_detail(self, secondary_status: str) -> dict[str, Any]:
        """The ``detail`` of a state change event; times in epoch milliseconds, null if unset."""
        over = secondary_status in {"Completed", "Failed"}
        copied = (
            "HyperParameters",
            "AlgorithmSpecification",
            "RoleArn",
            "InputDataConfig",
            "OutputDataConfig",
            "ResourceConfig",
            "StoppingCondition",
        )
        times = ("CreationTime", "TrainingStartTime", "TrainingEndTime", "LastModifiedTime")
        return {
            "TrainingJobName": self.name,
            "TrainingJobArn": self.arn,
            "TrainingJobStatus": secondary_status if over else "InProgress",
            "SecondaryStatus": secondary_status,
            **{member: self.description[member] for member in copied},
            **{
                member: _milliseconds(self.description[member])
                if over or member == times[0]
                else None
                for member in times
            },
            "SecondaryStatusTransitions": [],
            "Tags": dict(self.event_tags),
            "TuningJobArn": self.description.get("TuningJobArn"),
            "FailureReason": self.description.get("FailureReason") if over else None,
        }


@dataclass(frozen=True, slots=True)
class Act:
    """What happens in SageMaker and EventBridge in one part of the story."""

    jobs: tuple[SampleJob, ...]
    repeated: tuple[SampleJob, ...] = ()
    """Jobs of an earlier act whose last event is delivered again."""
    bodies: tuple[str, ...] = ()
    """Messages put into the queue by another sender."""

    @property
    def events(self) -> Sequence[tuple[SampleJob, str]]:
        """Each a job and its secondary status."""
        own = [(job, secondary_status) for job in self.jobs for secondary_status in job.history]
        return [*own, *((job, job.history[-1]) for job in self.repeated)]

    @property
    def message_count(self) -> int:
        return len(self.events) + len(self.bodies)


@dataclass(frozen=True, slots=True)
class Story:
    """The three acts."""

    ordinary: Act
    during_outage: Act
    afterwards: Act

    @property
    def acts(self) -> tuple[Act, ...]:
        return (self.ordinary, self.during_outage, self.afterwards)

    @property
    def jobs(self) -> tuple[SampleJob, ...]:
        return tuple(job for act in self.acts for job in act.jobs)

    @property
    def bodies(self) -> tuple[str, ...]:
        return tuple(body for act in self.acts for body in act.bodies)


@dataclass(frozen=True, slots=True)
class _Team:
    """Whose job it is: what its tags and its places in S3 have in common."""

    project: str
    user: str
    project_description: str
    bucket: str

    def tags(self, model: str, model_type: str) -> Mapping[str, str]:
        return {
            KEYS.sync: "true",
            KEYS.project_name: self.project,
            KEYS.project_user: self.user,
            KEYS.project_description: self.project_description,
            KEYS.model_name: model,
            KEYS.model_type: model_type,
            "cost-center": "ml-4711",
        }


@dataclass(frozen=True, slots=True)
class _Training:
    """What differs from job to job in a description."""

    image: str
    hyperparameters: Mapping[str, str]
    metrics: tuple[tuple[str, float], ...] = NO_METRICS
    channels: tuple[str, ...] = ("train", "validation")
    instance: str = "ml.m5.xlarge"
    minutes: float = 15
    interrupted: bool = False
    more: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


CHURN = _Team("Churn", "amara.okafor", "Who will leave next month?", "s3://acme-ml-churn")
FRAUD = _Team("Fraud", "li.wei", "Which card payments are not the owner's?", "s3://acme-ml-fraud")
DEMAND = _Team(
    "Demand", "sofia.rossi", "How many of each article will be sold where?", "s3://acme-ml-demand"
)

_BUILT_IN = "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-xgboost:1.7-1"
_DEEPAR = "224300973850.dkr.ecr.eu-west-1.amazonaws.com/forecasting-deepar:1"
_PYTORCH = (
    "763104351884.dkr.ecr.eu-west-1.amazonaws.com/"
    "pytorch-training:2.6.0-gpu-py312-cu126-ubuntu22.04-sagemaker"
)
_ROLE = "AmazonSageMaker-ExecutionRole-20260301T101500"
_OWN_IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/fraud-trainer:2026.4"


def sample_story(now: datetime) -> Story:
    """The jobs of a demo that begins now: all of them ended a moment ago."""
    # SageMaker's times have milliseconds
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    boosted = _job(
        "churn-xgb-2041",
        "built-in XGBoost; four events, the last of them twice",
        CHURN.tags("churn-xgb", "XGBoost"),
        _describe(now, CHURN, _Training(_BUILT_IN, _BOOSTING, _AUC)),
        history=("Starting", "Training", "Completed", "Completed"),
    )
    scripted = _job(
        "churn-mlp-118",
        "script mode: hyperparameters as JSON in quotes; event twice",
        CHURN.tags("churn-mlp", "PyTorch"),
        _describe(now, CHURN, _scripted("churn-mlp-118")),
        history=("Completed", "Completed"),
    )
    nightly_tags = DEMAND.tags("demand-ridge", "scikit-learn")
    return Story(
        Act(
            (
                boosted,
                scripted,
                _tuned(now),
                _job(
                    "demand-nightly",
                    "an ordinary nightly job",
                    nightly_tags,
                    _nightly(now, rmse=41.7, hours_ago=24),
                ),
                _job(
                    "scratch-7",
                    "has no MODEL_DB_SYNC tag",
                    {"owner": "amara.okafor"},
                    _describe(now, CHURN, _Training(_BUILT_IN, {"num_round": "5"}, _AUC)),
                ),
                _failed(now),
                _half_tagged(now),
                _job(
                    boosted.name,
                    f"a job of account {OTHER_HOME.account}, by a name used here, too",
                    boosted.tags,
                    boosted.description,
                    home=OTHER_HOME,
                ),
            ),
            bodies=("please sync churn-xgb-2041",),
        ),
        Act((_spot(now), _not_a_number(now), _secretive(now), _untagged_event(now))),
        Act(
            (
                _job(
                    "demand-nightly",
                    "deleted and created again: another job, another run",
                    nightly_tags,
                    _nightly(now, rmse=39.2, hours_ago=0),
                ),
            ),
            repeated=(boosted, scripted),
        ),
    )


HALF_TAGGED = "fraud-gbm-77"
"""Is rejected, until somebody completes its tags."""


def lost_job(now: datetime) -> SampleJob:
    """A job that ended a minute ago and whose event got lost. Not part of the story."""
    training = _Training(_OWN_IMAGE, {"alpha": "0.25"}, (("validation:rmse", 38.6),), ("sales",))
    return _job(
        "demand-nightly-2",
        "its event was lost",
        DEMAND.tags("demand-ridge", "scikit-learn"),
        _describe(now - timedelta(minutes=1), DEMAND, training),
    )


_BOOSTING = {
    "objective": "binary:logistic",
    "eval_metric": "auc",
    "num_round": "200",
    "eta": "0.1",
    "max_depth": "6",
}
_AUC = (("train:auc", 0.9412), ("validation:auc", 0.9107), ("validation:error", 0.138))


def _scripted(name: str) -> _Training:
    values = {
        "epochs": "10",
        "lr": "0.0005",
        "optimizer": '"adam"',
        "use_amp": "true",
        "hidden_layers": "[256, 128, 64]",
        "sagemaker_program": '"train.py"',
        "sagemaker_submit_directory": f'"{CHURN.bucket}/source/{name}/sourcedir.tar.gz"',
        "sagemaker_container_log_level": "20",
        "sagemaker_job_name": f'"{name}"',
        "sagemaker_region": f'"{REGION}"',
    }
    metrics = (("train:loss", 0.2213), ("test:accuracy", 0.8764))
    return _Training(_PYTORCH, values, metrics, ("training", "test"), "ml.g5.2xlarge", 47)


def _tuned(now: datetime) -> SampleJob:
    tuning_job = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:hyper-parameter-tuning-job/churn-hpo"
    values = {
        "_tuning_objective_metric": "validation:auc",
        "eta": "0.21340000000000003",
        "num_round": "317",
    }
    metrics = (("validation:auc", 0.9188), ("ObjectiveMetric", 0.9188))
    return _job(
        "churn-hpo-007-3fa9",
        "child of a hyperparameter tuning job",
        CHURN.tags("churn-xgb", "XGBoost"),
        _describe(
            now, CHURN, _Training(_BUILT_IN, values, metrics, more={"TuningJobArn": tuning_job})
        ),
    )


def _nightly(now: datetime, *, rmse: float, hours_ago: int) -> Mapping[str, Any]:
    training = _Training(
        _OWN_IMAGE, {"alpha": "0.3"}, (("validation:rmse", rmse),), ("sales", "calendar"), minutes=6
    )
    return _describe(now - timedelta(hours=hours_ago), DEMAND, training)


def _failed(now: datetime) -> SampleJob:
    reason = (
        'AlgorithmError: ExecuteUserScriptError:\nExitCode 1\nErrorMessage "CUDA out of memory"'
    )
    outcome = {"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed", "FailureReason": reason}
    return _job(
        "fraud-vae-12",
        "failed; only Completed is configured",
        FRAUD.tags("fraud-vae", "PyTorch"),
        _describe(now, FRAUD, _Training(_PYTORCH, {"latent": "32"}, more=outcome)),
        history=("Failed",),
    )


def _half_tagged(now: datetime) -> SampleJob:
    tags = {
        key: value for key, value in FRAUD.tags("fraud-gbm", "").items() if key != KEYS.model_type
    }
    return _job(
        HALF_TAGGED,
        f"is to be synced but lacks the tag {KEYS.model_type}",
        tags,
        _describe(now, FRAUD, _Training(_OWN_IMAGE, {"num_leaves": "63"}, _AUC)),
    )


def _spot(now: datetime) -> SampleJob:
    more = {
        "EnableManagedSpotTraining": True,
        "CheckpointConfig": {
            "S3Uri": f"{FRAUD.bucket}/checkpoints/fraud-spot-640",
            "LocalPath": "/opt/ml/checkpoints",
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 14400},
        "BillableTimeInSeconds": 1490,
    }
    training = _Training(
        _OWN_IMAGE,
        {"num_leaves": "127"},
        _AUC,
        instance="ml.c5.4xlarge",
        minutes=83,
        interrupted=True,
        more=more,
    )
    return _job(
        "fraud-spot-640",
        "spot training, interrupted once",
        FRAUD.tags("fraud-gbm", "LightGBM"),
        _describe(now, FRAUD, training),
    )


def _not_a_number(now: datetime) -> SampleJob:
    metrics = (("train:loss", float("nan")), ("validation:loss", 0.7134))
    return _job(
        "fraud-vae-13",
        "its training loss ended as NaN",
        FRAUD.tags("fraud-vae", "PyTorch"),
        _describe(
            now,
            FRAUD,
            _Training(_PYTORCH, {"latent": "64", "lr": "0.8"}, metrics, instance="ml.g5.xlarge"),
        ),
    )


def _secretive(now: datetime) -> SampleJob:
    api_key, password, wandb_key = SECRETS
    values = {
        "num_leaves": "63",
        "tokenizer": '"bert-base"',
        "payments_api_key": api_key,
        "DB_PASSWORD": f'"{password}"',
    }
    more = {"Environment": {"WANDB_API_KEY": wandb_key, "OMP_NUM_THREADS": "4"}}
    return _job(
        "fraud-gbm-78",
        "an API key and a password among its hyperparameters",
        FRAUD.tags("fraud-gbm", "LightGBM"),
        _describe(now, FRAUD, _Training(_OWN_IMAGE, values, _AUC, more=more)),
    )


def _untagged_event(now: datetime) -> SampleJob:
    values = {"context_length": "28", "prediction_length": "14", "time_freq": "D", "epochs": "80"}
    metrics = (("train:final_loss", 3.4471), ("test:mean_wQuantileLoss", 0.1182))
    tags = DEMAND.tags("demand-deepar", "DeepAR")
    training = _Training(_DEEPAR, values, metrics, ("train", "test"), "ml.c5.2xlarge", 32)
    return _job(
        "demand-deepar-9",
        "its event has no tags, ListTags has them",
        tags,
        _describe(now, DEMAND, training),
        event_tags={},
    )


def _job(
    name: str,
    about: str,
    tags: Mapping[str, str],
    description: Mapping[str, Any],
    *,
    event_tags: Mapping[str, str] | None = None,
    home: Home = HOME,
    history: tuple[str, ...] = ("Completed",),
) -> SampleJob:
    bucket = description["OutputDataConfig"]["S3OutputPath"]
    described = {
        **description,
        "TrainingJobName": name,
        "TrainingJobArn": JobArn.of(home, name).text,
        "ModelArtifacts": {"S3ModelArtifacts": f"{bucket}/{name}/output/model.tar.gz"},
    }
    return SampleJob(
        name, about, described, tags, tags if event_tags is None else event_tags, home, history
    )


def _describe(ended: datetime, team: _Team, training: _Training) -> Mapping[str, Any]:
    """What DescribeTrainingJob answers of a job that has ended, but for its name."""
    seconds = training.minutes * 60
    started = ended - timedelta(seconds=seconds)
    created = started - timedelta(seconds=97.504)
    description = {
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "HyperParameters": dict(training.hyperparameters),
        "AlgorithmSpecification": {
            "TrainingImage": training.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [
                {"Name": name, "Regex": f"{name}=([0-9.]+)"} for name, _ in training.metrics
            ],
        },
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/service-role/{_ROLE}",
        "InputDataConfig": [
            _channel(name, f"{team.bucket}/data/{name}/") for name in training.channels
        ],
        "OutputDataConfig": {
            "KmsKeyId": "",
            "S3OutputPath": f"{team.bucket}/output",
            "CompressionType": "GZIP",
        },
        "ResourceConfig": {
            "InstanceType": training.instance,
            "InstanceCount": 1,
            "VolumeSizeInGB": 30,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 7200},
        "CreationTime": created,
        "TrainingStartTime": started,
        "TrainingEndTime": ended,
        "LastModifiedTime": ended,
        "SecondaryStatusTransitions": _transitions(created, started, ended, training),
        "FinalMetricDataList": [
            {"MetricName": name, "Value": value, "Timestamp": ended - timedelta(seconds=52)}
            for name, value in training.metrics
        ],
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
        "TrainingTimeInSeconds": int(seconds),
        "BillableTimeInSeconds": int(seconds),
        **training.more,
    }
    return MappingProxyType(description)


def _channel(name: str, uri: str) -> Mapping[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": source},
        "ContentType": "text/csv",
        "CompressionType": "None",
        "RecordWrapperType": "None",
    }


def _transitions(
    created: datetime, started: datetime, ended: datetime, training: _Training
) -> list[Mapping[str, Any]]:
    last = training.more.get("SecondaryStatus", "Completed")
    steps = [
        ("Starting", created, "Preparing the instances for training"),
        ("Training", started, "Training in progress"),
    ]
    if training.interrupted:
        steps += [
            (
                "Interrupted",
                started + (ended - started) / 3,
                "Training job interrupted. Waiting for capacity",
            ),
            ("Training", started + (ended - started) / 2, "Training in progress"),
        ]
    steps += [
        ("Uploading", ended - timedelta(seconds=42), "Uploading generated training model"),
        (last, ended, f"Training job {last.lower()}"),
    ]
    ends = [*(begin for _, begin, _ in steps[1:]), ended]
    return [
        {"Status": status, "StartTime": begin, "EndTime": end, "StatusMessage": message}
        for (status, begin, message), end in zip(steps, ends, strict=True)
    ]


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)

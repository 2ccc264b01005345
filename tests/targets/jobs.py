"""Jobs for the suite of targets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.training_job.channels import Channel
from daemon.training_job.identity import JobArn, JobMark
from daemon.training_job.training_run import Hyperparameter, Metric, TrainingRun

CREATED = datetime(2025, 11, 20, 8, 40, 0, 50_000, UTC)
HOUR = timedelta(hours=1)

LONGEST_NAME = "n" * 63
LONGEST_TAG_VALUE = 256

HOSTILE = (
    "'; DROP TABLE runs; --",
    "<script>alert(1)</script>",
    "${jndi:ldap://x/a} {{7*7}} %s %n",
    "../../etc/passwd",
    "=HYPERLINK(A1)",
    'quote " backslash \\ slash / tick `',
    "数据 データ \N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET} e\N{COMBINING ACUTE ACCENT}",
    "\N{PILE OF POO} \N{FAMILY}\N{ZERO WIDTH JOINER}\N{RIGHT-TO-LEFT OVERRIDE}",
    "null",
    "NaN",
    "tab\there",
)
"""Values that must come back as the texts that they are."""


def suite_job(name: str = "churn-1", *, created: datetime = CREATED, **members: Any) -> TrainingRun:
    """A finished job with several of everything. Members of `TrainingRun` by name."""
    arn = JobArn.parse(f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}")
    run = TrainingRun(
        mark=JobMark.of(arn, created),
        arn=arn,
        name=name,
        creation_time=created,
        project_name="customer-churn",
        project_user="amara",
        project_description="Who leaves next month",
        model_name="churn-xgb",
        model_type="XGBoost",
        all_tags={"team": "growth"},
        status="Completed",
        start_time=created + HOUR,
        end_time=created + 2 * HOUR,
        hyperparameters=(
            Hyperparameter("eta", "0.2", 0.2),
            Hyperparameter("optimizer", "adam", "adam"),
        ),
        metrics=(
            Metric("train:auc", 0.99, created + 2 * HOUR),
            Metric("validation:auc", 0.95, created + 2 * HOUR),
            Metric("loss", 0.125, created + 2 * HOUR),
        ),
        channels=(
            Channel("train", "s3://data/churn/train", "s3"),
            Channel("validation", "s3://data/churn/validation", "s3"),
        ),
        model_location=f"s3://models/{name}/output/model.tar.gz",
    )
    return replace(run, **members)


def longest_job() -> TrainingRun:
    """The longest of everything that SageMaker allows."""
    key, value = "k" * 250, "v" * 2500
    return suite_job(
        LONGEST_NAME,
        project_name="p" * LONGEST_TAG_VALUE,
        project_user="u" * LONGEST_TAG_VALUE,
        project_description="d" * LONGEST_TAG_VALUE,
        model_name="m" * LONGEST_TAG_VALUE,
        model_type="t" * LONGEST_TAG_VALUE,
        all_tags={f"{number:02}{'t' * 126}": "v" * 256 for number in range(50)},
        status="Failed",
        failure_reason="f" * 1024,
        hyperparameters=tuple(
            Hyperparameter(f"{key}{number:06}", value, value) for number in range(100)
        ),
        metrics=tuple(
            Metric(f"{'m' * 253}{number:02}", number / 8, CREATED) for number in range(40)
        ),
        channels=tuple(
            Channel(f"{'c' * 62}{number:02}", f"s3://{'b' * 63}/{'u' * 950}{number}", "s3")
            for number in range(20)
        ),
        model_location=f"s3://{'b' * 63}/{'o' * 950}",
    )


def hostile_job() -> TrainingRun:
    """A job with `HOSTILE` texts wherever a person can put one."""
    return suite_job(
        "hostile-1",
        project_name=f"project {HOSTILE[1]} {HOSTILE[0]}",
        project_description=HOSTILE[6],
        model_name=f"model {HOSTILE[3]} {HOSTILE[7]}",
        model_type=HOSTILE[2],
        all_tags={f"tag{number}": text for number, text in enumerate(HOSTILE)},
        hyperparameters=tuple(
            Hyperparameter(f"key{number}", text, text) for number, text in enumerate(HOSTILE)
        ),
        metrics=tuple(
            Metric(f"{number} {text}", float(number), CREATED)
            for number, text in enumerate(HOSTILE)
        ),
    )

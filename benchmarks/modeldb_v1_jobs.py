"""The jobs of `modeldb_v1.py`, each for one of the two clients, and whether ours are all in the
server as they should be.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v1.mapping import map_job
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from tests.real.modeldb_v1_lab import expected_model
from tests.support.aws_vectors import parsed_description
from tests.support.daemon_process import FULL_TAGS, Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.training_job.training_run import TrainingRun
    from tests.real.modeldb_v1_lab import LabServer, StoredRun

PROJECTS = 4
HYPERPARAMETERS = {
    "objective": "binary:logistic",
    "eval_metric": "auc",
    "num_round": "200",
    "eta": "0.1",
    "max_depth": "6",
    "gamma": "4",
    "min_child_weight": "6",
    "subsample": "0.8",
    "alpha": "0.05",
    "seed": "42",
}
METRICS = {
    "train:auc": 0.9412,
    "train:error": 0.1123,
    "test:auc": 0.9107,
    "test:error": 0.138,
    "ObjectiveMetric": 0.9107,
}


@dataclass(frozen=True)
class BenchmarkJob(Job):
    """10 hyperparameters, the channels train and test, 5 metrics."""

    @property
    def description(self) -> dict[str, Any]:
        described = super().description
        channel = described["InputDataConfig"][0]
        channels = [
            channel
            | {
                "ChannelName": name,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"s3://acme-ml/{self.name}/{name}/",
                    }
                },
            }
            for name in ("train", "test")
        ]
        metrics = [
            {"MetricName": name, "Value": value, "Timestamp": 1763628860}
            for name, value in METRICS.items()
        ]
        return described | {
            "HyperParameters": HYPERPARAMETERS,
            "InputDataConfig": channels,
            "FinalMetricDataList": metrics,
        }


def some_jobs(client: str, round_name: str, count: int) -> list[BenchmarkJob]:
    """Jobs with names of their own, in a few projects of the client."""
    return [
        BenchmarkJob(
            f"{client}-{round_name}-{number:03d}",
            FULL_TAGS | {"MODEL_DB_PROJECT_NAME": f"{client}-{number % PROJECTS}"},
        )
        for number in range(count)
    ]


def run_of(job: Job) -> TrainingRun:
    """As the daemon has read it."""
    tags = read_tags(job.tags, TagKeys())
    assert isinstance(tags, JobTags)
    return training_run(
        DescribedJob.of(parsed_description(json.dumps(job.description).encode())),
        tags,
        job.tags,
        (),
    )


def incomplete(jobs: Sequence[Job], server: LabServer, *, metadata_store: bool) -> list[str]:
    """Which of our jobs are not exactly one complete run, in SQL."""
    by_marker: dict[str, list[StoredRun]] = {}
    for run in server.runs():
        by_marker.setdefault(run.marker, []).append(run)
    by_marker.pop("", None)  # the original client's runs have no mark
    found = []
    for job in jobs:
        expected = map_job(run_of(job), metadata_store=metadata_store)
        runs = by_marker.pop(expected.marker, [])
        models = [expected_model(expected)]
        frames = {(frame.tag, frame.filepath) for frame in expected.data_frames}
        project = (expected.project_name, expected.project_user, expected.project_description)
        if [(run.project, list(run.models), set(run.data_frames)) for run in runs] != [
            (project, models, frames)
        ]:
            found.append(f"{job.name}: {runs}")
    return found + [f"a run that nobody wanted: {marker}" for marker in by_marker]

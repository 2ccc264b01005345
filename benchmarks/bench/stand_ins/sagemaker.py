"""SageMaker and STS for any number of finished jobs: each has the recorded description of an
XGBoost job under its own name, and its tags. It has just ended.

A job's name is its project's name, a hyphen, and a number. The hyperparameter `sagemaker_job_name`,
which SageMaker's Python SDK sets, lets a run be told from others in ModelDB V1 also, where nothing
else links it to its job.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiohttp import web

from benchmarks.bench.stand_ins.clock import aws_time
from tests.support.daemon_process import ACCOUNT, FULL_TAGS, Job

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME, _END = "@name@", "@end@"
_CONTENT_TYPE = "application/x-amz-json-1.1"
_MISSING = {"__type": "ValidationException", "message": "Requested resource not found."}


class BenchJob(Job):
    """A finished job of the benchmark."""

    @property
    def description(self) -> dict[str, Any]:
        """The answer of DescribeTrainingJob."""
        description = super().description
        description["HyperParameters"] |= {"sagemaker_job_name": json.dumps(self.name)}
        return description

    @property
    def event(self) -> str:
        """As EventBridge sends it now."""
        now = datetime.fromtimestamp(aws_time(), UTC)
        return json.dumps(json.loads(super().event) | {"time": f"{now:%Y-%m-%dT%H:%M:%SZ}"})


def bench_events(project: str, first: int, count: int) -> dict[str, str]:
    """The events of jobs that end now, by the jobs' names."""
    template = BenchJob(_NAME, FULL_TAGS | {"MODEL_DB_PROJECT_NAME": project}).event
    names = [f"{project}-{number:05d}" for number in range(first, first + count)]
    return {name: template.replace(_NAME, name) for name in names}


def bench_job(project: str, number: int) -> BenchJob:
    """The job with a number."""
    return BenchJob(f"{project}-{number:05d}", FULL_TAGS | {"MODEL_DB_PROJECT_NAME": project})


def poison(project: str, number: int) -> str:
    """A body that no consumer can do anything with: the event of a job, cut off."""
    event = bench_job(project, number).event
    return event[: len(event) // 2]


class SageMaker:
    """Answers DescribeTrainingJob, ListTags, ListTrainingJobs and GetCallerIdentity.

    Requests are counted by project, those of no job (ListTrainingJobs) for none.
    """

    def __init__(self) -> None:
        ended = {"TrainingEndTime": _END, "LastModifiedTime": _END}
        self._description = json.dumps(BenchJob(_NAME, {}).description | ended)
        self._requests: dict[str, Counter[str]] = {}

    def of_project(self, project: str) -> Counter[str]:
        """How many requests of each operation a project's jobs have had."""
        return self._requests.get(project, Counter())

    async def handle(self, operation: str, request: web.BaseRequest) -> web.Response:
        """Answers a request of SageMaker."""
        parameters = json.loads(await request.read())
        name = str(
            parameters.get("TrainingJobName", parameters.get("ResourceArn", "").rpartition("/")[2])
        )
        self._requests.setdefault(name.rpartition("-")[0], Counter())[operation] += 1
        match operation:
            case "DescribeTrainingJob":
                end = f"{aws_time():.3f}"
                return _json(self._description.replace(_NAME, name).replace(f'"{_END}"', end))
            case "ListTags":
                tags = bench_job(name.rpartition("-")[0], 0).tags
                listed = [{"Key": key, "Value": value} for key, value in tags.items()]
                return _json(json.dumps({"Tags": listed}))
            case "ListTrainingJobs":
                return _json('{"TrainingJobSummaries": []}')
            case _:
                return _json(json.dumps(_MISSING), status=400)


def caller_identity() -> web.Response:
    """What STS answers."""
    return web.Response(
        content_type="text/xml",
        text=(
            '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<GetCallerIdentityResult><Arn>arn:aws:sts::{ACCOUNT}:assumed-role/bench/i-0</Arn>"
            f"<UserId>A:i-0</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult>"
            "<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata>"
            "</GetCallerIdentityResponse>"
        ),
    )


def runs_by_job(hyperparameters: Mapping[str, str]) -> str | None:
    """The name of the job that a run's hyperparameters tell."""
    name = hyperparameters.get("sagemaker_job_name")
    return None if name is None else str(json.loads(name))


def _json(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, body=text.encode(), headers={"Content-Type": _CONTENT_TYPE})

"""Links into the AWS console: a job, its logs, its tuning job, its model, and its pipeline.

A link is None in a partition whose console is not known, and where what it needs is not known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from daemon.training_job.identity import JobArn

_CONSOLES = {
    "aws": "https://{region}.console.aws.amazon.com",
    "aws-cn": "https://{region}.console.amazonaws.cn",
    "aws-us-gov": "https://console.amazonaws-us-gov.com",
}

_LOG_GROUP = "/aws/sagemaker/TrainingJobs"

_TUNING_JOB = re.compile(
    r"arn:[a-z0-9-]+:sagemaker:(?P<region>[a-z0-9-]+):\d{12}:hyper-parameter-tuning-job/(?P<name>[a-z0-9-]+)",
    re.IGNORECASE | re.ASCII,
)
_PIPELINE_EXECUTION = re.compile(
    r"arn:aws:sagemaker:(?P<region>[a-z0-9-]+):\d{12}:pipeline/(?P<pipeline>[a-z0-9-]+)/execution/(?P<execution>[a-z0-9-]+)",
    re.IGNORECASE | re.ASCII,
)
_STUDIO_DOMAIN = re.compile(
    r"arn:aws:sagemaker:[a-z0-9-]+:\d{12}:domain/(?P<domain>d-[a-z0-9-]+)",
    re.IGNORECASE | re.ASCII,
)
_S3_URI = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)", re.DOTALL)


def job_page(job: JobArn, name: str) -> str | None:
    """The job's page in the SageMaker console."""
    return _sagemaker_page(job, job.region, f"jobs/{name}")


def tuning_job_page(job: JobArn, child: str, tuning_job_arn: str | None) -> str | None:
    """The page of the job's hyperparameter tuning job, whose ARN may have lost its capitals; its
    children's names begin with its name.
    """
    found = _TUNING_JOB.fullmatch(tuning_job_arn or "")
    if found is None:
        return None
    name = found["name"]
    if child.lower().startswith(f"{name.lower()}-"):
        name = child[: len(name)]
    return _sagemaker_page(job, found["region"], f"hyper-tuning-jobs/{name}")


def logs_page(job: JobArn, name: str) -> str | None:
    """The job's log streams, one per instance, in CloudWatch Logs."""
    console = _console(job, job.region)
    if console is None:
        return None
    group, prefix = _in_fragment(_LOG_GROUP), _in_fragment(f"{name}/")
    return (
        f"{console}/cloudwatch/home?region={job.region}#logsV2:log-groups/log-group/{group}"
        f"$3FlogStreamNameFilter$3D{prefix}"
    )


def s3_page(job: JobArn, uri: str | None, *, is_prefix: bool = False) -> str | None:
    """The page of an S3 object, or of all objects under a prefix.

    Args:
        job: the job. The bucket is taken to be in its region; the console itself corrects that.
        uri: the S3 URI; one that ends in `/` is a prefix.
        is_prefix: the URI is a prefix even without `/` at its end.
    """
    console, found = _console(job, job.region), _S3_URI.fullmatch(uri or "")
    if console is None or found is None:
        return None
    key = found["key"]
    if is_prefix and not key.endswith("/"):
        key += "/"
    view = "buckets" if key.endswith("/") else "object"
    return (
        f"{console}/s3/{view}/{found['bucket']}?region={job.region}"
        f"&prefix={quote(key, safe='/', errors='replace')}"
    )


def pipeline_execution_page(
    pipeline_execution: str | None, studio_domain_arn: str | None
) -> str | None:
    """The page of a pipeline execution in SageMaker Studio: the AWS console has none.

    The address holds Studio's domain, which only a job's tag can tell. Its form is that of Studio
    itself; AWS does not document it.
    """
    execution = _PIPELINE_EXECUTION.fullmatch(pipeline_execution or "")
    domain = _STUDIO_DOMAIN.fullmatch(studio_domain_arn or "")
    if execution is None or domain is None:
        return None
    return (
        f"https://studio-{domain['domain']}.studio.{execution['region']}.sagemaker.aws"
        f"/pipelines/view/{execution['pipeline']}/executions/{execution['execution']}/graph"
    )


def _console(job: JobArn, region: str) -> str | None:
    console = _CONSOLES.get(job.partition)
    return None if console is None else console.format(region=region)


def _sagemaker_page(job: JobArn, region: str, page: str) -> str | None:
    console = _console(job, region)
    return None if console is None else f"{console}/sagemaker/home?region={region}#/{page}"


def _in_fragment(text: str) -> str:
    """Text as CloudWatch's console has it in the fragment of an address: percent-encoded twice,
    with `$` for the outer `%`.
    """
    return quote(quote(text, safe=""), safe="").replace("%", "$")

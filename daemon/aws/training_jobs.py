"""SageMaker's training jobs, behind `daemon.aws.ports.TrainingJobs`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from daemon.aws.errors import (
    AWS_ERRORS,
    SAGEMAKER,
    STS,
    advice,
    edge_fault,
    job_is_missing,
    observed,
    request_is_refused,
    said,
    unobserved,
)
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.training_job.identity import Home

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from types_aiobotocore_sagemaker import SageMakerClient

    from daemon.aws.clients import AwsClients
    from daemon.aws.errors import Observe

log = structlog.get_logger(__name__)

PROBE_NAME = "modeldb-sync-probe"
"""The job that the probe describes before any is known. "Not found" is a healthy response."""

STS_SECONDS = 15.0
"""In a VPC without an STS endpoint nothing answers, and the daemon works without STS."""

_PAGE_SIZE = 100
_MAX_PAGES = 100
"""A job has at most 50 tags, so more pages than this mean an endless loop."""


async def resolve_home(
    clients: AwsClients, account: str | None, observe: Observe = unobserved
) -> Home:
    """The account and region whose jobs are described.

    Args:
        clients: the open clients.
        account: ``aws.account_id``; None: looked up through STS. If that fails, the account is
            unknown until the next lookup.
        observe: called after the call.
    """
    if account is None:
        try:
            async with asyncio.timeout(STS_SECONDS), clients.sts() as sts:
                with observed(observe, STS, "GetCallerIdentity"):
                    account = (await sts.get_caller_identity())["Account"]
        except TimeoutError:
            log.warning("the account is not known, because STS does not answer: set aws.account_id")
        except (*AWS_ERRORS, KeyError, ValueError) as error:
            log.warning("the account is not known: set aws.account_id", detail=advice(error, STS))
    return Home(account, clients.region, clients.partition)


class SageMakerTrainingJobs:
    """The training jobs of one account and region.

    Args:
        client: the SageMaker client.
        home: account and region of the client's jobs.
        resolve: called by the probe while the account is unknown, so that startup does not wait for
            STS; None: it stays unknown.
        observe: called after each call.
    """

    def __init__(
        self,
        client: SageMakerClient,
        home: Home,
        *,
        resolve: Callable[[], Awaitable[Home]] | None = None,
        observe: Observe = unobserved,
    ) -> None:
        self._client = client
        self._home = home
        self._resolve = resolve
        self._observe = observe
        self._last_described: tuple[str, str] | None = None

    @property
    def home(self) -> Home:
        return self._home

    async def describe(self, name: str) -> Mapping[str, Any]:
        """See `daemon.aws.ports.TrainingJobs.describe`."""
        try:
            with observed(self._observe, SAGEMAKER, "DescribeTrainingJob"):
                answer: dict[str, Any] = {
                    **await self._client.describe_training_job(TrainingJobName=name)
                }
        except AWS_ERRORS as error:
            raise _fault(error, f"the training job {name}") from error
        arn = answer.get("TrainingJobArn")
        if arn is None:
            raise EdgeFault(
                Edge.SAGEMAKER,
                Reason.NOT_THE_API,
                "the description of a job has no ARN, so it is not SageMaker's: check "
                f"{SAGEMAKER.endpoint_key}",
                curable=False,
            )
        self._last_described = (name, arn)
        del answer["ResponseMetadata"]
        return answer

    async def tags(self, arn: str) -> Mapping[str, str]:
        """See `daemon.aws.ports.TrainingJobs.tags`."""
        tags: dict[str, str] = {}
        page: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            try:
                with observed(self._observe, SAGEMAKER, "ListTags"):
                    answer = await self._client.list_tags(
                        ResourceArn=arn, MaxResults=_PAGE_SIZE, **page
                    )
            except AWS_ERRORS as error:
                raise _fault(error, arn) from error
            tags.update((tag["Key"], tag.get("Value", "")) for tag in answer.get("Tags") or [])
            token = answer.get("NextToken")
            if not token:
                return tags
            if token == page.get("NextToken"):
                break
            page = {"NextToken": token}
        raise JobFault(
            Reason.SAGEMAKER_FAULT, f"ListTags of {arn} returns an endless sequence of pages"
        )

    async def probe(self) -> None:
        """See `daemon.aws.ports.TrainingJobs.probe`. Uses the job that was described last, whose
        tags can also be listed.
        """
        name, arn = self._last_described or (PROBE_NAME, None)
        await self._ask(
            "DescribeTrainingJob", self._client.describe_training_job(TrainingJobName=name)
        )
        if arn is not None:
            await self._ask("ListTags", self._client.list_tags(ResourceArn=arn))
        # last, so that an outage of all of AWS is not reported a second time for STS
        if self._home.account is None and self._resolve is not None:
            self._home = await self._resolve()

    async def _ask(self, operation: str, call: Awaitable[object]) -> None:
        """Succeeds if the service itself has responded, whatever it says about the job."""
        try:
            with observed(self._observe, SAGEMAKER, operation):
                await call
        except AWS_ERRORS as error:
            fault = _fault(error, PROBE_NAME)
            if isinstance(fault, EdgeFault):
                raise fault from error


def _fault(error: Exception, job: str) -> EdgeFault | JobRefused:
    """Whether an error of a call about one job is the fault of the edge or of the job."""
    if job_is_missing(error):
        return JobRefused(Reason.JOB_GONE, f"SageMaker does not have {job}: {said(error)}")
    if request_is_refused(error):
        return JobRefused(Reason.JOB_REFUSED, f"SageMaker refuses {job}: {said(error)}")
    return edge_fault(error, Edge.SAGEMAKER)

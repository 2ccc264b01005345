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
from daemon.outcome import Edge, Reason
from daemon.training_job.identity import Home

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from types_aiobotocore_sagemaker import SageMakerClient

    from daemon.aws.clients import AwsClients
    from daemon.aws.errors import Observe

log = structlog.get_logger(__name__)

PROBE_NAME = "modeldb-sync-probe"
"""A job to ask for before any is known. That SageMaker does not have it is a healthy answer."""

STS_SECONDS = 15.0
"""Without an endpoint for STS in a VPC nothing answers at all, and the daemon works without it."""

_PAGE_SIZE = 100
_MAX_PAGES = 100
"""A job has at most 50 tags: more pages than this never end."""


async def resolve_home(
    clients: AwsClients, account: str | None, observe: Observe = unobserved
) -> Home:
    """The account and region whose jobs are described.

    Args:
        clients: the open clients.
        account: ``aws.account_id``; None: asked of STS. If that fails, the account is unknown until
            STS is asked again.
        observe: told of the call.
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
        client: of SageMaker.
        home: where the client's jobs are.
        resolve: asked at a probe while the account is unknown, so that a start does not wait for
            STS; None: it stays unknown.
        observe: told of each call.
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
                f"the description of a job has no ARN, so it is not SageMaker's: check "
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
        raise JobFault(Reason.SAGEMAKER_FAULT, f"ListTags of {arn} hands out pages without end")

    async def probe(self) -> None:
        """See `daemon.aws.ports.TrainingJobs.probe`. Asks for the job that was described last,
        whose tags can be listed too.
        """
        name, arn = self._last_described or (PROBE_NAME, None)
        await self._ask(
            "DescribeTrainingJob", self._client.describe_training_job(TrainingJobName=name)
        )
        if arn is not None:
            await self._ask("ListTags", self._client.list_tags(ResourceArn=arn))
        # last: while AWS does not answer at all, that STS does not either is no news
        if self._home.account is None and self._resolve is not None:
            self._home = await self._resolve()

    async def _ask(self, operation: str, call: Awaitable[object]) -> None:
        """A call that has passed when the service itself has answered, whatever it says of the
        job.
        """
        try:
            with observed(self._observe, SAGEMAKER, operation):
                await call
        except AWS_ERRORS as error:
            fault = _fault(error, PROBE_NAME)
            if isinstance(fault, EdgeFault):
                raise fault from error


def _fault(error: Exception, job: str) -> EdgeFault | JobRefused:
    """Whose fault an error of a call about one job is."""
    if job_is_missing(error):
        return JobRefused(Reason.JOB_GONE, f"SageMaker does not have {job}: {said(error)}")
    if request_is_refused(error):
        return JobRefused(Reason.JOB_REFUSED, f"SageMaker refuses {job}: {said(error)}")
    return edge_fault(error, Edge.SAGEMAKER)

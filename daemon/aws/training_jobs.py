"""SageMaker's training jobs, behind `daemon.aws.ports.TrainingJobs`."""

from __future__ import annotations

import asyncio
import math
import re
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from daemon.aws.errors import (
    AWS_ERRORS,
    SAGEMAKER,
    STS,
    OddAnswerError,
    UnreadableAnswerError,
    advice,
    edge_call,
    edge_fault,
    job_is_missing,
    observed,
    request_is_refused,
    said,
    unobserved,
)
from daemon.aws.ports import JobPage, ListedJob
from daemon.aws.tuning_jobs import TuningJobs
from daemon.clock import monotonic
from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.log_context import about_no_job
from daemon.reasons import Edge, Reason
from daemon.training_job.identity import Home, JobArn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from types_aiobotocore_sagemaker import SageMakerClient

    from daemon.aws.clients import AwsClients
    from daemon.aws.errors import Observe
    from daemon.aws.metric_series import MetricSeriesReader
    from daemon.aws.ports import TrainingJobs
    from daemon.training_job.metric_series import MetricSeries
    from daemon.training_job.tuning_job import TuningJob

log = structlog.get_logger(__name__)

PROBE_NAME = "modeldb-sync-probe"
"""The job that the probe describes before any is known. "Not found" is a healthy response."""

STS_SECONDS = 15.0
"""In a VPC without an STS endpoint nothing answers, and the daemon works without STS."""
STS_COMPARE_SECONDS = 5.0
"""The same, if the account is configured and STS is only to confirm it."""
STS_AGAIN_SECONDS = 60.0
"""Between two attempts at that, and before the first further one while the account is unknown."""
LONGEST_STS_PAUSE_SECONDS = 3600.0

_ACCOUNT = re.compile(r"[0-9]{12}")
_PAGE_SIZE = 100
_MAX_PAGES = 100
"""A job has at most 50 tags, so more pages than this mean an endless loop."""


async def resolve_home(
    clients: AwsClients, account: str | None, observe: Observe = unobserved
) -> Home:
    """The account and region whose jobs are described, as STS confirms them.

    Credentials describe jobs of their own account only, so ``aws.account_id`` can be no other one.

    Args:
        clients: the open clients.
        account: ``aws.account_id``; None: STS tells it. If STS does not answer, the account is
            unknown, or not confirmed, until the next lookup.
        observe: called after the call.

    Raises:
        EdgeFault: the credentials belong to another account.
    """
    own = await _account_of_credentials(clients, account, observe)
    if own is None:
        return Home(account, clients.region, clients.partition)
    if account not in {None, own}:
        raise EdgeFault(
            Edge.SAGEMAKER,
            Reason.ACCESS_DENIED,
            f"aws.account_id is {account}, but STS says that the credentials belong to account "
            f"{own}, and they can describe jobs of that account only: correct aws.account_id, or "
            "use credentials of the other account",
            curable=False,
        )
    return Home(own, clients.region, clients.partition, confirmed=True)


async def _account_of_credentials(
    clients: AwsClients, configured: str | None, observe: Observe
) -> str | None:
    """None if STS does not say it, which is logged."""
    seconds = STS_SECONDS if configured is None else STS_COMPARE_SECONDS
    silent = False
    try:
        async with asyncio.timeout(seconds):
            with observed(observe, STS, "GetCallerIdentity"):
                async with clients.sts() as sts:
                    account = str((await sts.get_caller_identity())["Account"])
        if _ACCOUNT.fullmatch(account):
            return account
        why = f"the answer is not STS's: check {STS.endpoint_key}"
    except TimeoutError:
        silent, why = True, "no answer"
    except AWS_ERRORS as error:
        why = advice(error, STS)
    if configured is not None:
        log.info("STS does not confirm aws.account_id", detail=why)
    elif silent:
        log.warning("the account is not known, because STS does not answer: set aws.account_id")
    else:
        log.warning("the account is not known: set aws.account_id", detail=why)
    return None


class SageMakerTrainingJobs:
    """The training jobs of one account and region.

    Args:
        client: the SageMaker client.
        home: account and region of the client's jobs.
        listing: the client for ListTrainingJobs, which makes a single attempt; None: `client`.
        resolve: called by the probe until STS has confirmed the account, because the daemon works
            without STS, and after some descriptions while the account is unknown; None: it stays as
            it is.
        series: reads metric series; None: they are not wanted.
        elsewhere: the training jobs of other accounts and regions, by ``<account>/<region>``.
        observe: called after each call.
    """

    def __init__(
        self,
        client: SageMakerClient,
        home: Home,
        *,
        listing: SageMakerClient | None = None,
        resolve: Callable[[], Awaitable[Home]] | None = None,
        series: MetricSeriesReader | None = None,
        elsewhere: Mapping[str, TrainingJobs] | None = None,
        observe: Observe = unobserved,
    ) -> None:
        self._client = client
        self._listing = client if listing is None else listing
        self._home = home
        self._resolve = resolve
        self._series = series
        self.elsewhere: Mapping[str, TrainingJobs] = elsewhere or {}
        self._tuning_jobs = TuningJobs(client, observe)
        self._observe = observe
        self._resolved_at: float | None = None
        self._wrong_account: EdgeFault | None = None
        self._sts_pause = STS_AGAIN_SECONDS
        self._sts_due = 0.0
        self._last_described: tuple[str, str] | None = None

    @property
    def home(self) -> Home:
        return self._home

    async def describe(self, name: str) -> Mapping[str, Any]:
        """See `daemon.aws.ports.TrainingJobs.describe`."""
        try:
            with observed(self._observe, SAGEMAKER, "DescribeTrainingJob"):
                answer = _description(
                    name, await self._client.describe_training_job(TrainingJobName=name)
                )
        except AWS_ERRORS as error:
            raise _fault(error, f"the training job {name}") from error
        self._last_described = (name, answer["TrainingJobArn"])
        if self._home.account is None and monotonic() >= self._sts_due:
            await self._confirm_home()
        return answer

    async def tags(self, arn: str) -> Mapping[str, str]:
        """See `daemon.aws.ports.TrainingJobs.tags`."""
        tags: dict[str, str] = {}
        page: dict[str, str] = {}
        for _ in range(_MAX_PAGES):
            try:
                with observed(self._observe, SAGEMAKER, "ListTags"):
                    listed, token = _tags_of_page(
                        await self._client.list_tags(ResourceArn=arn, MaxResults=_PAGE_SIZE, **page)
                    )
            except AWS_ERRORS as error:
                raise _fault(error, arn) from error
            tags.update(listed)
            if not token:
                return tags
            if token == page.get("NextToken"):
                break
            page = {"NextToken": token}
        raise JobFault(
            Reason.SAGEMAKER_FAULT, f"ListTags of {arn} returns an endless sequence of pages"
        )

    async def list_page(
        self, *, created_after: float, created_before: float, token: str | None = None
    ) -> JobPage:
        """See `daemon.aws.ports.TrainingJobs.list_page`."""
        page: dict[str, Any] = {} if token is None else {"NextToken": token}
        with edge_call(self._observe, Edge.SAGEMAKER, "ListTrainingJobs"):
            return _page_of(
                await self._listing.list_training_jobs(
                    CreationTimeAfter=datetime.fromtimestamp(math.floor(created_after), UTC),
                    CreationTimeBefore=datetime.fromtimestamp(math.ceil(created_before), UTC),
                    SortBy="CreationTime",
                    SortOrder="Ascending",
                    MaxResults=_PAGE_SIZE,
                    **page,
                ),
                token,
            )

    async def metric_series(
        self, description: Mapping[str, Any]
    ) -> tuple[tuple[MetricSeries, ...], tuple[str, ...]]:
        """See `daemon.aws.ports.TrainingJobs.metric_series`."""
        return ((), ()) if self._series is None else await self._series.read(description)

    async def tuning_job(
        self, description: Mapping[str, Any]
    ) -> tuple[TuningJob | None, tuple[str, ...]]:
        """See `daemon.aws.ports.TrainingJobs.tuning_job`."""
        return await self._tuning_jobs.parent_of(description)

    async def probe(self) -> None:
        """See `daemon.aws.ports.TrainingJobs.probe`. Uses the job that was described last, whose
        tags can also be listed.
        """
        name, arn = self._last_described or (PROBE_NAME, None)
        await self._ask(
            "DescribeTrainingJob",
            self._client.describe_training_job(TrainingJobName=name),
            partial(_description, name),
        )
        if arn is not None:
            await self._ask("ListTags", self._client.list_tags(ResourceArn=arn), _tags_of_page)
        # last, so that an outage of all of AWS is not reported a second time for STS
        await self._confirm_home()

    async def _confirm_home(self) -> None:
        recently = (
            self._resolved_at is not None and monotonic() - self._resolved_at < STS_AGAIN_SECONDS
        )
        known = self._home.account is not None and self._wrong_account is None
        if self._resolve is None or self._home.confirmed or (known and recently):
            return
        # set before the call, so that concurrent descriptions do not ask, too
        self._sts_due = monotonic() + self._sts_pause
        self._sts_pause = min(2 * self._sts_pause, LONGEST_STS_PAUSE_SECONDS)
        with about_no_job():
            await self._resolve_home(self._resolve)

    async def _resolve_home(self, resolve: Callable[[], Awaitable[Home]]) -> None:
        try:
            home = await resolve()
        except EdgeFault as fault:
            self._wrong_account = fault
            raise
        # STS being silent now does not take back what it said
        if self._wrong_account is not None and not home.confirmed:
            raise self._wrong_account
        if self._home.account is None and home.account is not None:
            log.info("the account is known", account=home.account)
        self._home, self._wrong_account, self._resolved_at = home, None, monotonic()

    async def _ask(
        self, operation: str, call: Awaitable[Any], read: Callable[[Any], object]
    ) -> None:
        """Succeeds if the service itself has responded, whatever it says about the job."""
        try:
            with observed(self._observe, SAGEMAKER, operation):
                read(await call)
        except AWS_ERRORS as error:
            fault = _fault(error, PROBE_NAME)
            if isinstance(fault, EdgeFault):
                raise fault from error


def _description(name: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    """A description without botocore's own member. What it lacks is left to its readers.

    Raises:
        EdgeFault: it has no ARN.
        OddAnswerError: its identity or status cannot be SageMaker's.
    """
    arn = answer.get("TrainingJobArn")
    if arn is None:
        raise EdgeFault(
            Edge.SAGEMAKER,
            Reason.NOT_THE_API,
            "the description of a job has no ARN, so it is not SageMaker's: check "
            f"{SAGEMAKER.endpoint_key}",
            curable=False,
        )
    for member, kind in _IDENTITY.items():
        value = answer.get(member)
        if value is not None and not isinstance(value, kind):
            raise UnreadableAnswerError(
                f"{member} of a description is of type {type(value).__name__}"
            )
    JobArn.parse(arn)
    described = answer.get("TrainingJobName")
    if described is not None and described.lower() != name.lower():
        raise OddAnswerError("the description is of a job of another name than asked for")
    return {member: value for member, value in answer.items() if member != "ResponseMetadata"}


_IDENTITY = {
    "TrainingJobArn": str,
    "TrainingJobName": str,
    "TrainingJobStatus": str,
    "CreationTime": datetime,
}


def _tags_of_page(answer: Mapping[str, Any]) -> tuple[dict[str, str], str | None]:
    """The tags of a page, and the token of the next one.

    Raises:
        OddAnswerError: they cannot be SageMaker's.
    """
    tags = {tag["Key"]: tag.get("Value", "") for tag in answer.get("Tags") or []}
    token = answer.get("NextToken")
    if not all(isinstance(text, str) for text in (*tags, *tags.values(), token or "")):
        raise OddAnswerError("a tag is no text")
    return tags, token


def _page_of(answer: Mapping[str, Any], token: str | None) -> JobPage:
    """A page of training jobs.

    Args:
        answer: of ListTrainingJobs.
        token: with which it was asked for.

    Raises:
        OddAnswerError: it cannot be SageMaker's.
    """
    summaries, following = answer.get("TrainingJobSummaries"), answer.get("NextToken") or None
    if not isinstance(summaries, list) or not isinstance(following, str | None):
        raise OddAnswerError("ListTrainingJobs: the answer has no list of jobs")
    if following is not None and following == token:
        raise OddAnswerError("ListTrainingJobs: an endless sequence of pages")
    return JobPage([_listed(each) for each in summaries], following)


def _listed(summary: Mapping[str, Any]) -> ListedJob:
    for member, kind in _IDENTITY.items():
        if not isinstance(summary.get(member), kind):
            raise OddAnswerError(f"ListTrainingJobs: a job without {member}")
    arn = summary["TrainingJobArn"]
    try:
        JobArn.parse(arn)
    except ValueError as error:
        raise OddAnswerError(f"ListTrainingJobs: {error}") from error
    return ListedJob(
        summary["TrainingJobName"],
        arn,
        summary["TrainingJobStatus"],
        summary["CreationTime"].astimezone(UTC),
        _time(summary, "TrainingEndTime"),
        _time(summary, "LastModifiedTime"),
    )


def _time(summary: Mapping[str, Any], member: str) -> datetime | None:
    value = summary.get(member)
    return value.astimezone(UTC) if isinstance(value, datetime) else None


def _fault(error: Exception, job: str) -> EdgeFault | JobFault | JobRefused:
    """Whether an error of a call about one job is the fault of the edge or of the job."""
    if job_is_missing(error):
        return JobRefused(Reason.JOB_GONE, f"SageMaker does not have {job}: {said(error)}")
    if isinstance(error, UnreadableAnswerError):
        return JobFault(
            Reason.SAGEMAKER_FAULT, f"SageMaker's answer about {job} cannot be read: {said(error)}"
        )
    if request_is_refused(error):
        return JobRefused(Reason.JOB_REFUSED, f"SageMaker refuses {job}: {said(error)}")
    return edge_fault(error, Edge.SAGEMAKER)

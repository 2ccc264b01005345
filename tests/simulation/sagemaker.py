"""A model of SageMaker's training jobs, with a client in the shape of aiobotocore's.

A change is visible to all readers only some time after it was made; until then a reader sees either
the new or the old value, depending on the server that answers. So a job that has ended is described
as running for a while, a new job is not found, and a name that was deleted and used again may still
return the old job.

A list may show a job late, too, or as it was. It is limited to `LIST_RATE` requests a second.

Errors are the recorded ones in ``tests/data/aws/errors``.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tests.simulation.aws_calls import (
    ATTEMPTS,
    READ_SECONDS,
    AwsCaller,
    Fault,
    FaultAnswers,
    Refusal,
    ServiceFaults,
)
from tests.support.aws_vectors import errors

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from tests.simulation.aws_calls import Network

T = TypeVar("T")

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_KNOWN_AT_THE_END = {
    "TrainingEndTime",
    "FinalMetricDataList",
    "FailureReason",
    "TrainingTimeInSeconds",
    "BillableTimeInSeconds",
}
_FEWEST_RESULTS = 50
LIST_RATE = 2.0
_MOST_LISTED = 100
_LISTED = (
    *("TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "CreationTime"),
    *("TrainingEndTime", "LastModifiedTime"),
)


@dataclass(slots=True)
class Lags:
    """How long a change may take to be seen by all, at most, in seconds; may be changed at any
    time.
    """

    created: float = 0.0
    ended: float = 0.0
    deleted: float = 0.0
    tagged: float = 0.0


class _Lagging(Generic[T]):
    """A value that changes, for readers who see changes late."""

    __slots__ = ("_pending", "_settled", "latest")

    def __init__(self, value: T) -> None:
        self.latest = value
        self._settled = value
        self._pending: list[tuple[float, T]] = []

    def change(self, value: T, settled_at: float) -> None:
        """Sets the value for all readers from a time on."""
        self.latest = value
        self._pending.append((settled_at, value))

    def read(self, now: float, rng: random.Random) -> T:
        """The value that one reader sees."""
        for index in range(len(self._pending) - 1, -1, -1):
            if self._pending[index][0] <= now:
                self._settled = self._pending[index][1]
                del self._pending[: index + 1]
                break
        if not self._pending:
            return self._settled
        return rng.choice([self._settled, *(value for _, value in self._pending)])


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    description: Mapping[str, Any]
    ended: _Lagging[bool]
    leaving: _Lagging[bool]

    def described(self, now: float, rng: random.Random) -> dict[str, Any]:
        if self.leaving.read(now, rng):
            return {**self.description, "TrainingJobStatus": "Deleting"}
        if self.ended.read(now, rng):
            return dict(self.description)
        running = {
            name: value for name, value in self.description.items() if name not in _KNOWN_AT_THE_END
        }
        return {**running, "TrainingJobStatus": "InProgress", "SecondaryStatus": "Training"}


class SimulatedSageMaker:
    """The training jobs of one account and region.

    Args:
        rng: for what a reader sees and every chance.

    Attributes:
        faults: what is wrong with the service.
        lags: of changes.
        short_pages: chance that a page of tags or jobs ends early, also without any.
        list_rate: lists a second; as many may come at once after a pause.
        most_listed: jobs on a page of a list.
    """

    def __init__(self, rng: random.Random) -> None:
        self.faults = ServiceFaults()
        self.lags = Lags()
        self.short_pages = 0.0
        self.random = rng
        self.list_rate = LIST_RATE
        self.most_listed = _MOST_LISTED
        self._lists_left = LIST_RATE
        self._lists_counted_at = 0.0
        self._tokens = itertools.count()
        self._jobs: dict[str, _Lagging[_Job | None]] = {}
        self._tags: dict[str, _Lagging[Mapping[str, str] | None]] = {}

    def create(
        self,
        description: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        *,
        running: bool = False,
    ) -> None:
        name, arn = description["TrainingJobName"], description["TrainingJobArn"]
        job = self._jobs.setdefault(name, _Lagging(None))
        if job.latest is not None:
            raise ValueError(f"there is a job {name}")
        ended = _Lagging(False)
        job.change(_Job(description, ended, _Lagging(False)), self._later(self.lags.created))
        self._tags.setdefault(arn, _Lagging(None)).change(
            dict(tags or {}), self._later(self.lags.created)
        )
        if not running:
            ended.change(True, self._later(self.lags.ended))

    def end(self, name: str) -> None:
        """Ends a running job, as its description says."""
        self._job(name).ended.change(True, self._later(self.lags.ended))

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """AddTags, at any time, even after the end of the job."""
        lagging = self._tags[self._job(name).description["TrainingJobArn"]]
        lagging.change({**(lagging.latest or {}), **tags}, self._later(self.lags.tagged))

    def begin_to_delete(self, name: str) -> None:
        """The job stays in ``Deleting`` until `delete`."""
        self._job(name).leaving.change(True, self._later(self.lags.deleted))

    def delete(self, name: str) -> None:
        """DeleteTrainingJob: the name can be used again at once."""
        arn = self._job(name).description["TrainingJobArn"]
        seen = self._later(self.lags.deleted)
        self._jobs[name].change(None, seen)
        self._tags[arn].change(None, seen)

    def describe(self, name: str) -> dict[str, Any]:
        """DescribeTrainingJob.

        Raises:
            Refusal: no such job, or no such name.
        """
        if not _NAME.fullmatch(name):
            raise _refused("describe-bad-name.json", ("x_y", name))
        job = self._jobs[name].read(_now(), self.random) if name in self._jobs else None
        if job is None:
            raise _refused("describe-not-found.json")
        return job.described(_now(), self.random)

    def list_tags(self, arn: str, limit: int, token: str | None) -> dict[str, Any]:
        """ListTags. A token is the place of the next tag, and no other's.

        Raises:
            Refusal: no such job, an ARN in other case than the job's, or a wrong parameter.
        """
        if limit < _FEWEST_RESULTS:
            raise Refusal(
                "ValidationException",
                f"Value '{limit}' at 'maxResults' failed to satisfy constraint: at least "
                f"{_FEWEST_RESULTS}",
            )
        tags = self._tags[arn].read(_now(), self.random) if arn in self._tags else None
        if tags is None:
            raise _refused("list-tags-not-found.json")
        start = int((token or "0").partition("/")[0])
        left = [{"Key": key, "Value": value} for key, value in tags.items()][start:]
        size = min(limit, len(left))
        if self.short_pages and self.random.random() < self.short_pages:
            size = self.random.randrange(size + 1)
        return {"Tags": left[:size]} | (
            {"NextToken": f"{start + size}/{next(self._tokens)}"} if size < len(left) else {}
        )

    def list_jobs(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """ListTrainingJobs, oldest first by creation time. A token is the place of the last job.

        Raises:
            Refusal: throttled, or a parameter that this model does not have.
        """
        self.count_list()
        if (request.get("SortBy"), request.get("SortOrder")) != ("CreationTime", "Ascending"):
            raise Refusal("ValidationException", "this model lists by ascending creation time only")
        limit = min(request.get("MaxResults", 10), self.most_listed)
        after, before = request["CreationTimeAfter"], request["CreationTimeBefore"]
        last = tuple((request.get("NextToken") or "//").split("/")[:2])
        found = []
        for name, lagging in self._jobs.items():
            job = lagging.read(_now(), self.random)
            if job is not None and after <= job.description["CreationTime"] <= before:
                place = (job.description["CreationTime"].isoformat(), name)
                if place > last:
                    found.append((place, job.described(_now(), self.random)))
        found.sort(key=lambda each: each[0])
        size = min(limit, len(found))
        if self.short_pages and self.random.random() < self.short_pages:
            size = self.random.randrange(size + 1)
        page = found[:size]
        summaries = [
            {member: job[member] for member in _LISTED if member in job} for _, job in page
        ]
        created, name = page[-1][0] if page else last
        return {"TrainingJobSummaries": summaries} | (
            {"NextToken": f"{created}/{name}/{next(self._tokens)}"}
            if len(page) < len(found)
            else {}
        )

    def count_list(self) -> None:
        """Counts a request of ListTrainingJobs, of whoever makes it.

        Raises:
            Refusal: throttled.
        """
        earned = (_now() - self._lists_counted_at) * self.list_rate
        self._lists_left = min(max(1.0, self.list_rate), self._lists_left + earned)
        self._lists_counted_at = _now()
        if self._lists_left < 1:
            raise _refused("describe-throttled.json")
        self._lists_left -= 1

    def _job(self, name: str) -> _Job:
        job = self._jobs[name].latest
        assert job is not None, f"{name} is deleted"
        return job

    def _later(self, most: float) -> float:
        return _now() + (self.random.uniform(0, most) if most else 0.0)


class SimulatedSageMakerClient:
    """What `daemon.aws.training_jobs.SageMakerTrainingJobs` calls of aiobotocore's client.

    Args:
        sagemaker: the service.
        network: between them.
    """

    def __init__(
        self,
        sagemaker: SimulatedSageMaker,
        network: Network,
        *,
        attempts: int = ATTEMPTS,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self._sagemaker = sagemaker
        self._caller = AwsCaller(
            "sagemaker",
            network,
            sagemaker.faults,
            _answers(),
            sagemaker.random,
            attempts=attempts,
            read_seconds=read_seconds,
        )

    @property
    def calls(self) -> int:
        """The number of requests so far, retries included."""
        return self._caller.calls

    async def describe_training_job(self, **request: Any) -> dict[str, Any]:
        """DescribeTrainingJob."""
        return await self._caller.call(
            "DescribeTrainingJob", lambda: self._sagemaker.describe(request["TrainingJobName"])
        )

    async def list_training_jobs(self, **request: Any) -> dict[str, Any]:
        """ListTrainingJobs."""
        return await self._caller.call(
            "ListTrainingJobs", lambda: self._sagemaker.list_jobs(request)
        )

    async def list_tags(self, **request: Any) -> dict[str, Any]:
        """ListTags."""

        def carry_out() -> dict[str, Any]:
            return self._sagemaker.list_tags(
                request["ResourceArn"],
                request.get("MaxResults", _FEWEST_RESULTS),
                request.get("NextToken"),
            )

        return await self._caller.call("ListTags", carry_out)


def _now() -> float:
    return asyncio.get_running_loop().time()


@functools.cache
def _answers() -> FaultAnswers:
    return FaultAnswers(
        throttled=_recorded("describe-throttled.json"),
        failing=(_recorded("describe-internal.json"), _recorded("describe-unavailable.json")),
        credentials_expired=_recorded("describe-expired-token.json"),
        denied=_denied,
    )


def _denied(operation: str) -> Fault:
    fault = _recorded("describe-access-denied.json")
    return Fault(
        fault.code, fault.message.replace("DescribeTrainingJob", operation), fault.http_status
    )


@functools.cache
def _recorded(file: str) -> Fault:
    """An error as recorded or documented."""
    vector = next(each for each in errors() if each.file == file)
    body = json.loads(vector.body)
    return Fault(body["__type"], body.get("message", ""), vector.http_status)


def _refused(file: str, *replace: tuple[str, str]) -> Refusal:
    fault = _recorded(file)
    message = functools.reduce(lambda text, pair: text.replace(*pair), replace, fault.message)
    return Refusal(fault.code, message, fault.http_status)

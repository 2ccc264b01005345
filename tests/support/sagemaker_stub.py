"""A small SageMaker, with its metrics, and STS on a real socket, for tests and benchmarks.

Answers DescribeTrainingJob, ListTags, ListTrainingJobs, DescribeHyperParameterTuningJob,
BatchGetMetrics and GetCallerIdentity as on the wire, byte for byte from files where they are given
as bytes: it can give answers that moto cannot (throttling, odd codes, several pages, NaN, a web
page).

    async with SageMakerStub() as stub:
        stub.put_job(describe_bytes("spot.json"), tags={"MODEL_DB_SYNC": "true"})
        stub.fail_next("DescribeTrainingJob", "describe-throttled.json", times=2)
        ...  # a client with endpoint_url=stub.url
        assert stub.count("DescribeTrainingJob") == 3
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from tests.support.aws_vectors import HOME, errors
from tests.support.job_lister import JobLister, ListRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class StubRequest:
    """A request; retries count too."""

    operation: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response on the wire."""

    status: int
    body: bytes
    content_type: str = "application/x-amz-json-1.1"

    @classmethod
    def error(cls, file: str) -> Answer:
        """One of ``tests/data/aws/errors``, with the status in its index."""
        recorded = next(each for each in errors() if each.file == file)
        return cls(recorded.http_status, recorded.body)


@dataclass(slots=True)
class _Failure:
    operation: str | None
    answer: Answer
    times: float


@dataclass(slots=True)
class SageMakerStub:
    """SageMaker, SageMaker Metrics and STS at one address.

    Attributes:
        latency_seconds: before each answer; may be changed at any time.
        requests: all that came, in order.
        page_points: most points that BatchGetMetrics gives of a series at once.
        lists: answers ListTrainingJobs; has its rate limit.
        url: to be given as ``endpoint_url`` of the services.
    """

    account: str = HOME.account or ""
    latency_seconds: float = 0.0
    page_points: int = 1000
    lists: JobLister = field(default_factory=lambda: JobLister(time.monotonic))
    requests: list[StubRequest] = field(default_factory=list)
    url: str = ""
    _jobs: dict[str, Answer] = field(default_factory=dict)
    _tags: dict[str, Mapping[str | None, Answer]] = field(default_factory=dict)
    _tuning_jobs: dict[str, Answer] = field(default_factory=dict)
    _series: dict[tuple[str, str], Sequence[tuple[object, object]]] = field(default_factory=dict)
    _series_results: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    _failures: list[_Failure] = field(default_factory=list)
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/", self._serve)
        app.router.add_post("/BatchGetMetrics", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def put_job(
        self, description: Mapping[str, Any] | bytes, tags: Mapping[str, str] | None = None
    ) -> None:
        """Adds a job under the name and ARN of its description, or replaces the one of the same
        name.

        Args:
            description: the answer of DescribeTrainingJob; bytes are sent as they are.
            tags: by key; see also `put_tag_pages`.
        """
        body = description if isinstance(description, bytes) else json.dumps(description).encode()
        members = json.loads(body)
        self._jobs[members["TrainingJobName"]] = Answer(200, body)
        self.lists.put(members)
        listed = [{"Key": key, "Value": value} for key, value in (tags or {}).items()]
        self.put_tag_pages(members["TrainingJobArn"], {None: json.dumps({"Tags": listed}).encode()})

    def put_tag_pages(self, arn: str, pages: Mapping[str | None, bytes]) -> None:
        """Sets the tags of a job as pages of ListTags: one for each NextToken (first: None)."""
        self._tags[arn] = {token: Answer(200, page) for token, page in pages.items()}

    def put_tuning_job(self, description: Mapping[str, Any] | bytes) -> None:
        """Adds a tuning job: the answer of DescribeHyperParameterTuningJob."""
        body = description if isinstance(description, bytes) else json.dumps(description).encode()
        self._tuning_jobs[json.loads(body)["HyperParameterTuningJobName"]] = Answer(200, body)

    def put_series(self, arn: str, name: str, points: Sequence[tuple[object, object]]) -> None:
        """Adds the metric series of a job, as pairs of iteration and value."""
        self._series[arn, name] = points

    def put_series_result(self, arn: str, name: str, result: Mapping[str, Any]) -> None:
        """Answers the query of a metric like this."""
        self._series_results[arn, name] = result

    def remove_job(self, name: str) -> None:
        """DeleteTrainingJob: removes the job and its tags."""
        del self._tags[json.loads(self._jobs.pop(name).body)["TrainingJobArn"]]
        self.lists.remove(name)

    def fail_job(self, name: str, answer: Answer | str) -> None:
        """Answers DescribeTrainingJob of one job like this until `put_job` makes it known."""
        self._jobs[name] = Answer.error(answer) if isinstance(answer, str) else answer

    def fail_tags(self, arn: str, answer: Answer | str) -> None:
        """Answers ListTags of one job like this until `put_tag_pages` or `put_job`."""
        self._tags[arn] = {None: Answer.error(answer) if isinstance(answer, str) else answer}

    def fail_next(self, operation: str | None, answer: Answer | str, times: int = 1) -> None:
        """Gives the next requests another answer.

        Args:
            operation: which; None for any.
            answer: or the name of a file in ``tests/data/aws/errors``.
            times: how many requests; a client's retries are requests too.
        """
        self._failures.append(
            _Failure(operation, Answer.error(answer) if isinstance(answer, str) else answer, times)
        )

    @contextmanager
    def failing(self, operation: str | None, answer: Answer | str) -> Iterator[None]:
        """Gives every request another answer, as long as the block lasts."""
        failure = _Failure(
            operation, Answer.error(answer) if isinstance(answer, str) else answer, float("inf")
        )
        self._failures.append(failure)
        try:
            yield
        finally:
            self._failures.remove(failure)

    def count(self, operation: str) -> int:
        """How many requests of an operation came."""
        return sum(request.operation == operation for request in self.requests)

    async def _serve(self, request: web.Request) -> web.Response:
        parameters: Mapping[str, Any]
        target = request.headers.get("X-Amz-Target", "")
        if request.path == "/BatchGetMetrics":
            operation, parameters = "BatchGetMetrics", json.loads(await request.read())
        elif target:
            operation, parameters = (
                target.removeprefix("SageMaker."),
                json.loads(await request.read()),
            )
        else:
            parameters = {key: str(value) for key, value in (await request.post()).items()}
            operation = parameters.get("Action", "")
        self.requests.append(StubRequest(operation, parameters))
        answer = self._failure(operation) or (
            self._list(parameters)
            if operation == "ListTrainingJobs"
            else self._answer(operation, parameters)
        )
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        return web.Response(
            status=answer.status, body=answer.body, headers={"Content-Type": answer.content_type}
        )

    def _failure(self, operation: str) -> Answer | None:
        for failure in self._failures:
            if failure.times > 0 and failure.operation in {None, operation}:
                failure.times -= 1
                return failure.answer
        return None

    def _answer(self, operation: str, parameters: Mapping[str, Any]) -> Answer:
        match operation:
            case "DescribeTrainingJob":
                return self._jobs.get(parameters["TrainingJobName"]) or Answer.error(
                    "describe-not-found.json"
                )
            case "ListTags":
                pages = self._tags.get(parameters["ResourceArn"])
                return (
                    pages[parameters.get("NextToken")]
                    if pages
                    else Answer.error("list-tags-not-found.json")
                )
            case "DescribeHyperParameterTuningJob":
                name = parameters["HyperParameterTuningJobName"]
                return self._tuning_jobs.get(name) or Answer.error("describe-not-found.json")
            case "BatchGetMetrics":
                results = [self._series_result(query) for query in parameters["MetricQueries"]]
                body = json.dumps({"MetricQueryResults": results}).encode()
                return Answer(200, body, "application/json")
            case "GetCallerIdentity":
                return Answer(200, _caller_identity(self.account), "text/xml")
            case _:
                return Answer(400, b'{"__type": "UnknownOperationException"}')

    def _list(self, parameters: Mapping[str, Any]) -> Answer:
        try:
            return Answer(200, json.dumps(self.lists.page(parameters)).encode())
        except ListRefused as refusal:
            body = {"__type": refusal.code, "message": refusal.message}
            return Answer(400, json.dumps(body).encode())

    def _series_result(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        key = (query["ResourceArn"], query["MetricName"])
        if key in self._series_results:
            return self._series_results[key]
        start = query.get("Start", float("-inf"))
        points = [point for point in self._series.get(key, ()) if point[0] >= start]
        page = points[: self.page_points]
        return {
            "Status": "Complete" if len(page) == len(points) else "Truncated",
            "XAxisValues": [step for step, _ in page],
            "MetricValues": [value for _, value in page],
        }


def _caller_identity(account: str) -> bytes:
    return f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult>
    <Arn>arn:aws:sts::{account}:assumed-role/modeldb-sync/i-0abc</Arn>
    <UserId>AROAEXAMPLE:i-0abc</UserId>
    <Account>{account}</Account>
  </GetCallerIdentityResult>
  <ResponseMetadata><RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></ResponseMetadata>
</GetCallerIdentityResponse>""".encode()

"""The SageMaker adapter with a stub that answers byte for byte as recorded."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from daemon.aws.clients import AwsClients, Endpoints, open_clients
from daemon.aws.ports import ListedJob
from daemon.aws.training_jobs import PROBE_NAME, SageMakerTrainingJobs, resolve_home
from daemon.errors import DaemonError, EdgeFault, JobFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.training_job.identity import Home
from tests.support.aws_vectors import (
    HOME,
    ErrorVector,
    describe,
    describe_bytes,
    describes,
    errors,
    in_utc,
    tags,
    tags_bytes,
)
from tests.support.sagemaker_stub import Answer, SageMakerStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.usefixtures("no_backoff")

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/job-1"
LISTED_FROM = 1763628000.0
WEB_PAGE = Answer(200, b"<html><body>Please log in</body></html>", "text/html")


@pytest.fixture
async def stub() -> AsyncIterator[SageMakerStub]:
    async with SageMakerStub() as stub:
        yield stub


@pytest.fixture
async def clients(
    stub: SageMakerStub, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AwsClients]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    async with open_clients(
        queue_url=QUEUE_URL, endpoints=Endpoints(sagemaker=stub.url, sts=stub.url)
    ) as clients:
        yield clients


@pytest.fixture
def jobs(clients: AwsClients) -> SageMakerTrainingJobs:
    return SageMakerTrainingJobs(clients.sagemaker, HOME)


async def test_every_recorded_description_is_read(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    files = [vector.file for vector in describes()]
    assert len(files) == 36

    for file in files:
        expected = describe(file)
        stub.put_job(describe_bytes(file))

        description = await jobs.describe(expected["TrainingJobName"])

        expected.pop("ResponseMetadata")
        assert repr(description) == repr(in_utc(expected))  # NaN is not equal to itself


def put_listed_job(stub: SageMakerStub, number: int, status: str = "Completed") -> str:
    """A job created `number` minutes after `LISTED_FROM`."""
    name = f"listed-{number:03}"
    stub.put_job(
        {
            "TrainingJobName": name,
            "TrainingJobArn": ARN.replace("job-1", name),
            "TrainingJobStatus": status,
            "CreationTime": LISTED_FROM + 60 * number,
        }
        | ({} if status == "InProgress" else {"TrainingEndTime": LISTED_FROM + 60 * number + 30.5})
    )
    return name


async def test_jobs_are_listed_page_by_page_oldest_first(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    names = [put_listed_job(stub, number) for number in range(150)]
    put_listed_job(stub, -1)
    put_listed_job(stub, 151)
    page = partial(
        jobs.list_page,
        created_after=LISTED_FROM - 0.5,
        created_before=LISTED_FROM + 150 * 60 + 0.5,
    )

    first = await page()
    assert first.token is not None
    last = await page(token=first.token)

    assert [job.name for job in (*first.jobs, *last.jobs)] == names
    assert len(first.jobs) == 100
    assert last.token is None
    [request, _] = stub.requests
    assert request.parameters["CreationTimeAfter"] == LISTED_FROM - 1
    assert request.parameters["CreationTimeBefore"] == LISTED_FROM + 150 * 60 + 1


async def test_a_listed_job_has_its_times_in_utc(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    name = put_listed_job(stub, 0)
    running = put_listed_job(stub, 1, "InProgress")

    page = await jobs.list_page(created_after=LISTED_FROM, created_before=LISTED_FROM + 3600)

    created = datetime.fromtimestamp(LISTED_FROM, UTC)
    ended = datetime.fromtimestamp(LISTED_FROM + 30.5, UTC)
    assert page.jobs == [
        ListedJob(name, ARN.replace("job-1", name), "Completed", created, ended),
        ListedJob(
            running,
            ARN.replace("job-1", running),
            "InProgress",
            datetime.fromtimestamp(LISTED_FROM + 60, UTC),
        ),
    ]
    assert page.jobs[0].creation_time.tzinfo is UTC


async def test_more_than_two_lists_a_second_are_throttled_and_not_tried_again(
    stub: SageMakerStub, clients: AwsClients
) -> None:
    jobs = SageMakerTrainingJobs(clients.sagemaker, HOME, listing=clients.sagemaker_listing)
    page = partial(jobs.list_page, created_after=0.0, created_before=LISTED_FROM)
    await page()
    await page()

    with pytest.raises(EdgeFault) as raised:
        await page()

    assert (raised.value.edge, raised.value.reason) == (Edge.SAGEMAKER, Reason.THROTTLED)
    assert stub.count("ListTrainingJobs") == 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "has no list of jobs"),
        (b'{"TrainingJobSummaries": [], "NextToken": "next"}', "an endless sequence of pages"),
        (b'{"TrainingJobSummaries": [{"TrainingJobName": "a"}]}', "a job without TrainingJobArn"),
        (
            (
                b'{"TrainingJobSummaries": [{"TrainingJobName": "a", "TrainingJobArn": "arn:odd",'
                b'"TrainingJobStatus": "Completed", "CreationTime": 1763628000}]}'
            ),
            "not the ARN of a training job",
        ),
    ],
)
async def test_a_list_that_cannot_be_sagemakers_is_a_fault_of_the_edge(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, body: bytes, said: str
) -> None:
    stub.fail_next("ListTrainingJobs", Answer(200, body))

    with pytest.raises(EdgeFault, match=said) as raised:
        await jobs.list_page(created_after=0.0, created_before=LISTED_FROM, token="next")

    assert (raised.value.edge, raised.value.reason) == (Edge.SAGEMAKER, Reason.NOT_THE_API)
    assert raised.value.curable


def test_it_says_whose_jobs_it_describes(jobs: SageMakerTrainingJobs) -> None:
    assert jobs.home == HOME


async def test_times_are_moments(stub: SageMakerStub, jobs: SageMakerTrainingJobs) -> None:
    stub.put_job({"TrainingJobName": "job-1", "TrainingJobArn": ARN, "CreationTime": 1763628000.05})

    description = await jobs.describe("job-1")

    assert description["CreationTime"].astimezone(UTC) == datetime(
        2025, 11, 20, 8, 40, 0, 50_000, UTC
    )


async def test_every_recorded_error_has_the_expected_outcome(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    async def outcome(vector: ErrorVector) -> DaemonError:
        stub.fail_tags(vector.file, vector.file)
        stub.fail_job(vector.file, vector.file)
        with pytest.raises(DaemonError) as caught:
            await (jobs.tags if vector.operation == "ListTags" else jobs.describe)(vector.file)
        return caught.value

    vectors = errors()
    outcomes = await asyncio.gather(*map(outcome, vectors))

    reasons = {
        vector.file: getattr(fault, "reason", None)
        for vector, fault in zip(vectors, outcomes, strict=True)
    }
    assert reasons == {
        "describe-not-found.json": Reason.JOB_GONE,
        "describe-not-found-modelled.json": Reason.JOB_GONE,
        "describe-bad-name.json": Reason.JOB_REFUSED,
        "describe-throttled.json": Reason.THROTTLED,
        "describe-access-denied.json": Reason.ACCESS_DENIED,
        "describe-expired-token.json": Reason.CREDENTIALS,
        "describe-unrecognized-client.json": Reason.CREDENTIALS,
        "describe-internal.json": Reason.UNAVAILABLE,
        "describe-unavailable.json": Reason.UNAVAILABLE,
        "list-tags-not-found.json": Reason.JOB_GONE,
        "list-tags-throttled.json": Reason.THROTTLED,
    }
    for vector, fault in zip(vectors, outcomes, strict=True):
        assert isinstance(fault, JobRefused if vector.expect == "reject" else EdgeFault), (
            vector.file
        )


async def test_a_short_throttle_is_waited_out(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    stub.put_job({"TrainingJobName": "job-1", "TrainingJobArn": ARN, "CreationTime": 1763628000})
    stub.fail_next("DescribeTrainingJob", "describe-throttled.json")

    await jobs.describe("job-1")

    assert stub.count("DescribeTrainingJob") == 2


async def test_a_missing_permission_is_named(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    stub.fail_next("DescribeTrainingJob", "describe-access-denied.json")

    with pytest.raises(
        EdgeFault,
        match=r"sagemaker:DescribeTrainingJob is missing on arn:aws:sagemaker:\S+/x: allow",
    ):
        await jobs.describe("x")


async def test_a_web_page_is_not_taken_for_a_description(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    with stub.failing(None, WEB_PAGE):
        for call in (jobs.describe("job-1"), jobs.tags(ARN), jobs.probe()):
            with pytest.raises(EdgeFault, match=r"aws\.sagemaker_endpoint_url") as caught:
                await call
            assert (caught.value.reason, caught.value.curable) == (Reason.NOT_THE_API, False)


async def test_another_json_api_is_not_taken_for_sagemaker(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    with stub.failing(None, Answer(200, b'{"status": "ok"}')), pytest.raises(EdgeFault) as caught:
        await jobs.describe("job-1")

    assert caught.value.reason is Reason.NOT_THE_API


async def test_an_address_that_does_not_answer_is_unreachable(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    await stub.__aexit__()

    with pytest.raises(EdgeFault) as caught:
        await jobs.describe("job-1")

    assert (caught.value.reason, caught.value.curable) == (Reason.UNREACHABLE, True)


@pytest.mark.parametrize(
    "file",
    [
        "full.json",
        "untagged.json",
        "absent-member.json",
        "empty-value.json",
        "unicode.json",
        "fifty.json",
    ],
)
async def test_recorded_tags_are_read(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, file: str
) -> None:
    stub.put_tag_pages(ARN, {None: tags_bytes(file)})

    assert await jobs.tags(ARN) == tags(file)


async def test_null_for_tags_is_none(stub: SageMakerStub, jobs: SageMakerTrainingJobs) -> None:
    stub.put_tag_pages(ARN, {None: b'{"Tags": null, "NextToken": null}'})

    assert await jobs.tags(ARN) == {}


@pytest.mark.parametrize(
    ("first", "second", "token"),
    [
        ("paged-1.json", "paged-2.json", "AAMA-EXAMPLE-page-2"),
        ("empty-page-1.json", "empty-page-2.json", "AAMA-EXAMPLE-more"),
    ],
)
async def test_every_page_of_tags_is_read(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, first: str, second: str, token: str
) -> None:
    stub.put_tag_pages(ARN, {None: tags_bytes(first), token: tags_bytes(second)})

    assert await jobs.tags(ARN) == tags(first) | tags(second)
    assert "MODEL_DB_SYNC" in tags(second)
    assert stub.count("ListTags") == 2


@pytest.mark.parametrize(
    ("pages", "requests"),
    [
        (
            {
                None: tags_bytes("loop-token.json"),
                "AAMA-EXAMPLE-loop": tags_bytes("loop-token.json"),
            },
            2,
        ),
        (
            {
                None: b'{"Tags": [], "NextToken": "a"}',
                "a": b'{"Tags": [], "NextToken": "b"}',
                "b": b'{"Tags": [], "NextToken": "a"}',
            },
            100,
        ),
    ],
    ids=["one token", "two tokens"],
)
async def test_pages_without_end_are_this_jobs_fault(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, pages: dict[str | None, bytes], requests: int
) -> None:
    stub.put_tag_pages(ARN, pages)

    with pytest.raises(JobFault) as caught:
        await jobs.tags(ARN)

    assert caught.value.reason is Reason.SAGEMAKER_FAULT
    assert stub.count("ListTags") == requests


async def test_the_first_probe_is_content_with_a_job_that_cannot_be(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    await jobs.probe()

    assert [request.parameters for request in stub.requests] == [{"TrainingJobName": PROBE_NAME}]


async def test_a_later_probe_asks_both_calls_for_a_job_that_was_there(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    stub.put_job({"TrainingJobName": "job-1", "TrainingJobArn": ARN, "CreationTime": 1763628000})
    await jobs.describe("job-1")

    await jobs.probe()
    assert [request.operation for request in stub.requests[1:]] == [
        "DescribeTrainingJob",
        "ListTags",
    ]
    assert stub.requests[-1].parameters["ResourceArn"] == ARN

    stub.fail_tags(ARN, Answer(400, b'{"__type": "AccessDeniedException", "message": "no"}'))
    with pytest.raises(EdgeFault, match="sagemaker:ListTags"):
        await jobs.probe()

    stub.put_job({"TrainingJobName": "job-1", "TrainingJobArn": ARN, "CreationTime": 1763628000})
    stub.remove_job("job-1")  # gone meanwhile: SageMaker answers, so it works
    await jobs.probe()


async def test_a_probe_of_a_sagemaker_that_does_not_work_fails(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    stub.fail_next(None, "describe-expired-token.json")

    with pytest.raises(EdgeFault) as caught:
        await jobs.probe()

    assert caught.value.reason is Reason.CREDENTIALS


async def test_sts_is_not_asked_before_sagemaker_answers(
    stub: SageMakerStub, clients: AwsClients
) -> None:
    asked: list[str] = []

    async def resolve() -> Home:
        asked.append("sts")
        return HOME

    jobs = SageMakerTrainingJobs(clients.sagemaker, Home(None, HOME.region), resolve=resolve)
    stub.fail_next(None, "describe-expired-token.json")
    with pytest.raises(EdgeFault):
        await jobs.probe()
    assert asked == []  # the probe alone reports an outage of all of AWS

    await jobs.probe()
    assert (asked, jobs.home) == (["sts"], HOME)


async def test_every_call_is_counted(stub: SageMakerStub, clients: AwsClients) -> None:
    counted: list[tuple[str, str, str]] = []
    jobs = SageMakerTrainingJobs(
        clients.sagemaker, HOME, observe=lambda *call: counted.append(call)
    )
    stub.put_tag_pages(
        ARN, {None: tags_bytes("paged-1.json"), "AAMA-EXAMPLE-page-2": tags_bytes("paged-2.json")}
    )

    await jobs.tags(ARN)
    with pytest.raises(JobRefused):
        await jobs.describe("no-such-job")
    await resolve_home(clients, None, lambda *call: counted.append(call))

    assert counted == [
        ("sagemaker", "ListTags", "ok"),
        ("sagemaker", "ListTags", "ok"),
        ("sagemaker", "DescribeTrainingJob", "not_found"),
        ("sts", "GetCallerIdentity", "ok"),
    ]


async def test_the_account_is_asked_of_sts_once(stub: SageMakerStub, clients: AwsClients) -> None:
    stub.account = "000000000042"

    assert await resolve_home(clients, None) == Home("000000000042", "eu-west-1", "aws")
    assert stub.count("GetCallerIdentity") == 1


async def test_a_configured_account_is_confirmed_by_sts(
    stub: SageMakerStub, clients: AwsClients
) -> None:
    stub.account = "000000000042"

    home = await resolve_home(clients, "000000000042")

    assert (home, home.confirmed) == (Home("000000000042", "eu-west-1", "aws"), True)


async def test_an_account_that_is_not_that_of_the_credentials_is_a_configuration_error(
    stub: SageMakerStub, clients: AwsClients
) -> None:
    with pytest.raises(EdgeFault) as caught:
        await resolve_home(clients, "000000000042")

    fault = caught.value
    assert (fault.edge, fault.reason, fault.curable) == (
        Edge.SAGEMAKER,
        Reason.ACCESS_DENIED,
        False,
    )
    assert "aws.account_id is 000000000042" in fault.detail
    assert stub.account in fault.detail


@pytest.mark.parametrize("answer", ["silent", "denied", "odd"])
async def test_a_configured_account_does_not_need_sts(
    stub: SageMakerStub, clients: AwsClients, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    match answer:
        case "silent":
            monkeypatch.setattr("daemon.aws.training_jobs.STS_COMPARE_SECONDS", 0.05)
            stub.latency_seconds = 0.3
        case "denied":
            stub.fail_next("GetCallerIdentity", Answer(403, b"<Error/>", "text/xml"))
        case _:
            stub.account = "somebody"

    with capture_logs() as logs:
        home = await resolve_home(clients, "000000000042")

    assert (home, home.confirmed) == (Home("000000000042", "eu-west-1", "aws"), False)
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("info", "STS does not confirm aws.account_id")
    ]


async def test_a_wrong_account_stays_wrong_while_sts_is_silent(
    stub: SageMakerStub, clients: AwsClients
) -> None:
    wrong = EdgeFault(Edge.SAGEMAKER, Reason.ACCESS_DENIED, "wrong", curable=False)
    answers: list[Home | EdgeFault] = [
        wrong,
        Home("000000000042", "eu-west-1"),
        Home("000000000042", "eu-west-1", confirmed=True),
    ]

    async def resolve() -> Home:
        answer = answers.pop(0)
        if isinstance(answer, EdgeFault):
            raise answer
        return answer

    jobs = SageMakerTrainingJobs(
        clients.sagemaker, Home("000000000042", "eu-west-1"), resolve=resolve
    )
    for _ in range(2):
        with pytest.raises(EdgeFault, match="wrong"):
            await jobs.probe()
    await jobs.probe()
    assert jobs.home.confirmed
    await jobs.probe()  # asks no more


async def test_a_silent_sts_is_not_asked_by_every_probe(
    stub: SageMakerStub, clients: AwsClients
) -> None:
    asked: list[str] = []

    async def resolve() -> Home:
        asked.append("sts")
        return HOME

    jobs = SageMakerTrainingJobs(clients.sagemaker, HOME, resolve=resolve)
    await jobs.probe()
    await jobs.probe()
    assert asked == ["sts"]


async def test_an_sts_that_was_away_at_the_start_is_asked_again_until_it_answers(
    stub: SageMakerStub, clients: AwsClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a description, because no probe runs while all is well; with growing pauses."""
    now = 1000.0
    monkeypatch.setattr("daemon.aws.training_jobs.monotonic", lambda: now)
    away = True
    asked: list[float] = []

    async def resolve() -> Home:
        asked.append(now)
        return Home(None, HOME.region) if away else HOME

    jobs = SageMakerTrainingJobs(clients.sagemaker, Home(None, HOME.region), resolve=resolve)
    stub.put_job({"TrainingJobName": "job-1", "TrainingJobArn": ARN, "CreationTime": 1763628000})
    await jobs.probe()
    for _ in range(40):
        await asyncio.gather(*(jobs.describe("job-1") for _ in range(3)))
        now += 10
    assert asked == [1000.0, 1060.0, 1180.0]
    away = False
    now = 1500.0
    await jobs.describe("job-1")
    assert jobs.home == HOME
    now += 100_000
    await jobs.describe("job-1")
    assert asked == [1000.0, 1060.0, 1180.0, 1500.0]


async def test_without_sts_the_account_stays_unknown_and_this_is_logged(
    stub: SageMakerStub, clients: AwsClients
) -> None:
    error = b"<Error><Code>InvalidClientTokenId</Code><Message>no</Message></Error>"
    denied = b"<ErrorResponse>%b</ErrorResponse>" % error
    stub.fail_next("GetCallerIdentity", Answer(403, denied, "text/xml"))

    with capture_logs() as logs:
        home = await resolve_home(clients, None)

    assert home == Home(None, "eu-west-1", "aws")
    assert [(line["log_level"], "aws.account_id" in line["event"]) for line in logs] == [
        ("warning", True)
    ]
    assert "InvalidClientTokenId" in logs[0]["detail"]


UNREADABLE: dict[str, dict[str, object]] = {
    "creation time a text": {"CreationTime": "yesterday"},
    "creation time impossible": {"CreationTime": 1e300},
    "creation time no number": {"CreationTime": float("nan")},
    "creation time an object": {"CreationTime": {}},
    "end time a text": {"TrainingEndTime": "later"},
    "end time a list": {"TrainingEndTime": []},
    "hyperparameters a list": {"HyperParameters": [1]},
    "hyperparameters a text": {"HyperParameters": "x"},
    "metrics numbers": {"FinalMetricDataList": [1]},
    "metrics a number": {"FinalMetricDataList": 7},
    "a metric's time a text": {"FinalMetricDataList": [{"MetricName": "a", "Timestamp": "x"}]},
    "resources a list": {"ResourceConfig": []},
    "channels numbers": {"InputDataConfig": [1]},
    "a data source a list": {"InputDataConfig": [{"ChannelName": "a", "DataSource": []}]},
    "transitions an object": {"SecondaryStatusTransitions": {"a": 1}},
    "a status a list": {"TrainingJobStatus": ["Completed"]},
    "rules a number": {"DebugRuleConfigurations": 7},
    "an experiment a list": {"ExperimentConfig": [1]},
}


@pytest.mark.parametrize("members", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_a_description_that_botocore_cannot_parse_is_a_fault_of_sagemaker_for_this_job(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, members: dict[str, object]
) -> None:
    description = json.loads(describe_bytes("spot.json")) | members
    body = json.dumps(description | {"TrainingJobName": "odd"}).encode()
    stub.fail_job("odd", Answer(200, body))

    with capture_logs() as logs, pytest.raises(JobFault) as caught:
        await jobs.describe("odd")

    assert caught.value.reason is Reason.SAGEMAKER_FAULT
    assert "answer about the training job odd cannot be read" in caught.value.detail
    assert logs == []


@pytest.mark.parametrize(
    "body", ['{"Tags": [1]}', '{"Tags": {"a": 1}}', '{"Tags": 7}', '{"Tags": "x"}']
)
async def test_tags_that_botocore_cannot_parse_are_a_fault_of_sagemaker_for_this_job(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, body: str
) -> None:
    stub.fail_tags("arn", Answer(200, body.encode()))
    with capture_logs() as logs, pytest.raises(JobFault) as caught:
        await jobs.tags("arn")
    assert caught.value.reason is Reason.SAGEMAKER_FAULT
    assert logs == []

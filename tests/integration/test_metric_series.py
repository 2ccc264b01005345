"""Metric series and tuning jobs with a stub that answers on a real socket."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from daemon.aws import best_effort
from daemon.aws import metric_series as reader_module
from daemon.aws import tuning_jobs as tuning_module
from daemon.aws.clients import AwsClients, Endpoints, open_clients
from daemon.aws.metric_series import MetricSeriesReader
from daemon.aws.training_jobs import SageMakerTrainingJobs
from daemon.training_job.metric_series import MetricSeries
from tests.support.aws_vectors import HOME
from tests.support.sagemaker_stub import Answer, SageMakerStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.usefixtures("no_backoff")

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:training-job/hpo-1-001"
JOB: dict[str, Any] = {
    "TrainingJobName": "HPO-1-001",
    "TrainingJobArn": ARN,
    "TuningJobArn": "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/hpo-1",
    "FinalMetricDataList": [{"MetricName": "loss", "Value": 0.1}],
    "AlgorithmSpecification": {"MetricDefinitions": [{"Name": "loss"}, {"Name": "acc"}]},
}
TUNING = {
    "HyperParameterTuningJobName": "HPO-1",
    "HyperParameterTuningJobStatus": "InProgress",
    "HyperParameterTuningJobConfig": {
        "Strategy": "Hyperband",
        "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
    },
    "BestTrainingJob": {"TrainingJobName": "HPO-1-001"},
}
WEB_PAGE = Answer(200, b"<html><body>Please log in</body></html>", "text/html")
DENIED = Answer(
    400,
    json.dumps(
        {
            "__type": "AccessDeniedException",
            "message": "User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to "
            "perform: sagemaker:BatchGetMetrics because no identity-based policy allows it",
        }
    ).encode(),
)


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
    endpoints = Endpoints(sagemaker=stub.url, sts=stub.url, sagemaker_metrics=stub.url)
    async with open_clients(
        queue_url=QUEUE_URL, endpoints=endpoints, metric_series=True
    ) as clients:
        yield clients


@pytest.fixture
def calls() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def jobs(clients: AwsClients, calls: list[tuple[str, str, str]]) -> SageMakerTrainingJobs:
    def observe(service: str, operation: str, result: str) -> None:
        calls.append((service, operation, str(result)))

    assert clients.sagemaker_metrics is not None
    reader = MetricSeriesReader(clients.sagemaker_metrics, observe)
    return SageMakerTrainingJobs(clients.sagemaker, HOME, series=reader, observe=observe)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of pauses and caches, to be set by the test."""
    now = [1000.0]
    for module in (best_effort, tuning_module):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def job_with(*names: str) -> dict[str, Any]:
    definitions = [{"Name": name} for name in names]
    return {
        **JOB,
        "FinalMetricDataList": [],
        "AlgorithmSpecification": {"MetricDefinitions": definitions},
    }


async def test_series_are_read_by_iteration_in_one_call(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, calls: list[tuple[str, str, str]]
) -> None:
    stub.put_series(ARN, "loss", [(0, 0.5), (1, 0.25)])
    stub.put_series(ARN, "acc", [(0, 0.8), (10, 0.9)])
    series, notes = await jobs.metric_series(JOB)
    assert series == (
        MetricSeries("loss", (0, 1), (0.5, 0.25)),
        MetricSeries("acc", (0, 10), (0.8, 0.9)),
    )
    assert notes == ()
    (request,) = stub.requests
    assert request.parameters["MetricQueries"][0] == {
        "MetricName": "loss",
        "ResourceArn": ARN,
        "MetricStat": "Last",
        "Period": "IterationNumber",
        "XAxisType": "IterationNumber",
    }
    assert calls == [("sagemaker", "BatchGetMetrics", "ok")]


@pytest.mark.parametrize(("points", "page"), [(10, 3), (10, 5), (11, 5), (2, 1), (1000, 100)])
async def test_truncated_series_are_read_to_their_end(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, points: int, page: int
) -> None:
    stub.page_points = page
    stub.put_series(ARN, "loss", [(2 * step, float(step)) for step in range(points)])
    stub.put_series(ARN, "acc", [(0, 1.0)])
    series, notes = await jobs.metric_series(JOB)
    assert series[0].steps == tuple(range(0, 2 * points, 2))
    assert (series[1].name, notes) == ("acc", ())
    asked = [
        [query["MetricName"] for query in request.parameters["MetricQueries"]]
        for request in stub.requests
    ]
    assert asked == [["loss", "acc"]] + [["loss"]] * (math.ceil(points / page) - 1)


@pytest.mark.parametrize(
    ("result", "note"),
    [
        ({"Status": "Truncated", "XAxisValues": [], "MetricValues": []}, "is cut by the service"),
        ({"Status": "ValidationError", "Message": "no such metric"}, "not read: no such metric"),
        ({"Status": "InternalError"}, "not read: InternalError"),
        ({"Status": "Complete"}, "SageMaker has no series of metric 'loss'"),
        ({"Status": "Complete", "XAxisValues": [], "MetricValues": []}, "no series of metric"),
        ({}, "not read: no status"),
        (
            {"Status": "Complete", "XAxisValues": [0, 1], "MetricValues": ["NaN", "Infinity"]},
            "values that are not finite left out: 2",
        ),
        ({"Status": "Complete", "XAxisValues": [0], "MetricValues": []}, "no series of metric"),
        ({"Status": "New", "Message": "a\nb"}, "not read: a b"),
        ({"Status": "InternalError", "Message": "x" * 3000}, "not read: xxx"),
    ],
)
async def test_a_series_that_is_not_to_be_had_is_a_note_and_the_others_come(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, result: dict[str, Any], note: str
) -> None:
    stub.put_series_result(ARN, "loss", result)
    stub.put_series(ARN, "acc", [(0, 1.0)])
    series, notes = await jobs.metric_series(JOB)
    assert [one.name for one in series] == ["acc"]
    assert len(notes) == 1
    assert note in notes[0]
    assert len(notes[0]) < 400


async def test_a_service_that_repeats_its_page_is_not_asked_for_ever(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    page = {"Status": "Truncated", "XAxisValues": [0, 1], "MetricValues": [1.0, 2.0]}
    stub.put_series_result(ARN, "loss", page)
    series, notes = await jobs.metric_series(job_with("loss"))
    assert (series[0].steps, len(stub.requests)) == ((0, 1), 2)
    assert notes == ("metric series 'loss' is cut by the service",)


async def test_a_series_without_end_is_read_in_part(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "MOST_POINTS", 250)
    stub.page_points = 100
    stub.put_series(ARN, "loss", [(step, 1.0) for step in range(100_000)])
    series, notes = await jobs.metric_series(job_with("loss"))
    assert (series[0].steps[-1], len(stub.requests)) == (299, 3)
    assert notes == ("metric series too long, read in part: 'loss'",)


async def test_more_metrics_than_a_call_takes_are_cut(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    names = [f"m{number}" for number in range(120)]
    for name in names:
        stub.put_series(ARN, name, [(0, 1.0)])
    series, notes = await jobs.metric_series(job_with(*names, "n" * 256))
    assert [one.name for one in series] == names[:100]
    assert notes == ("metric series of 20 metrics not asked for: a job has at most 100",)


@pytest.mark.parametrize(
    "job", [job_with(), {"TrainingJobArn": ARN}, {}, {**JOB, "TrainingJobArn": 3}]
)
async def test_a_job_without_metrics_is_not_asked_about(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, job: dict[str, Any]
) -> None:
    assert await jobs.metric_series(job) == ((), ())
    assert stub.requests == []


async def test_nothing_is_asked_when_series_are_not_wanted(
    stub: SageMakerStub, clients: AwsClients
) -> None:
    jobs = SageMakerTrainingJobs(clients.sagemaker, HOME)
    assert await jobs.metric_series(JOB) == ((), ())
    assert stub.requests == []


FAILURES = [
    pytest.param(DENIED, "sagemaker:BatchGetMetrics is missing", id="denied"),
    pytest.param(Answer(403, b'{"__type": "AccessDenied"}'), "missing", id="denied with 403"),
    pytest.param(
        Answer(400, b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'),
        "answers ThrottlingException",
        id="throttled",
    ),
    pytest.param(Answer(429, b'{"__type": "TooManyRequestsException"}'), "answers", id="429"),
    pytest.param(Answer(500, b'{"__type": "InternalFailure"}'), "InternalFailure", id="500"),
    pytest.param(Answer(503, b""), "answers 503", id="503"),
    pytest.param(WEB_PAGE, "not from SageMaker", id="a proxy's page"),
    pytest.param(Answer(400, b'{"__type": "ExpiredTokenException"}'), "credentials", id="expired"),
    pytest.param(Answer(200, b"[]"), "", id="a list"),
    pytest.param(Answer(200, b'{"MetricQueryResults": "odd"}'), "", id="odd results"),
    pytest.param(Answer(200, b'{"MetricQueryResults": []}'), "", id="no results"),
    pytest.param(Answer(200, b"{"), "", id="cut off"),
    pytest.param(
        Answer(400, b'{"__type": "ValidationException", "message": "no"}'), ": no", id="refused"
    ),
    pytest.param(
        Answer(400, b'{"__type": "ResourceNotFound"}'), "ResourceNotFound", id="no such thing"
    ),
]


@pytest.mark.parametrize(("answer", "words"), FAILURES)
async def test_whatever_the_service_does_costs_a_note(
    stub: SageMakerStub,
    jobs: SageMakerTrainingJobs,
    clock: list[float],
    calls: list[tuple[str, str, str]],
    answer: Answer,
    words: str,
) -> None:
    stub.put_series(ARN, "loss", [(0, 1.0)])
    stub.put_tuning_job(TUNING)
    with stub.failing(None, answer):
        series, notes = await jobs.metric_series(JOB)
        parent, parent_notes = await jobs.tuning_job(JOB)
    assert (series, parent, len(notes), len(parent_notes)) == ((), None, 1, 1)
    assert notes[0].startswith("metric series not read: BatchGetMetrics: ")
    assert words in notes[0]
    assert parent_notes[0].startswith(
        "tuning job HPO-1 not read: DescribeHyperParameterTuningJob: "
    )
    assert {operation for _, operation, result in calls if result != "ok"} == {
        "BatchGetMetrics",
        "DescribeHyperParameterTuningJob",
    }
    clock[0] += 10_000
    assert [one.name for one in (await jobs.metric_series(JOB))[0]] == ["loss"]
    assert (await jobs.tuning_job(JOB))[0] is not None


async def test_a_service_that_failed_is_left_alone_for_longer_and_longer(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, clock: list[float]
) -> None:
    asked_at = []
    with stub.failing("BatchGetMetrics", DENIED):
        for second in range(1000, 3000, 5):
            clock[0] = float(second)
            before = stub.count("BatchGetMetrics")
            _, notes = await jobs.metric_series(JOB)
            assert "sagemaker:BatchGetMetrics is missing" in notes[0]
            if stub.count("BatchGetMetrics") > before:
                asked_at.append(second - 1000)
    assert asked_at == [0, 30, 90, 210, 450, 930, 1530]


async def test_a_denied_permission_is_one_warning(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, clock: list[float]
) -> None:
    with stub.failing("BatchGetMetrics", DENIED), capture_logs() as logs:
        for _ in range(5):
            await jobs.metric_series(JOB)
            clock[0] += 1000
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [line["event"] for line in warnings] == [
        "runs are written without what a permission is missing for"
    ]
    assert "sagemaker:BatchGetMetrics" in warnings[0]["detail"]


async def test_a_silent_service_costs_seconds_and_then_nothing(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_effort, "CALL_SECONDS", 0.25)
    stub.latency_seconds = 30
    async with asyncio.timeout(20):
        results = await asyncio.gather(*(jobs.metric_series(JOB) for _ in range(40)))
        parents = await asyncio.gather(*(jobs.tuning_job(JOB) for _ in range(40)))
    note = "metric series not read: BatchGetMetrics is not answered within 0.25 s"
    assert {notes for _, notes in results} == {(note,)}
    assert {parent for parent, _ in parents} == {None}
    assert stub.count("BatchGetMetrics") <= reader_module.JOBS_AT_ONCE
    assert stub.count("DescribeHyperParameterTuningJob") <= 1


async def test_a_job_that_waits_too_long_for_its_turn_goes_on_without(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "JOB_SECONDS", 0.05)
    monkeypatch.setattr(tuning_module, "PARENT_SECONDS", 0.05)
    stub.latency_seconds = 30
    async with asyncio.timeout(20):
        _, notes = await jobs.metric_series(JOB)
        _, parent_notes = await jobs.tuning_job(JOB)
    assert notes == ("metric series are incomplete: not read within 0.05 s",)
    assert parent_notes == ("tuning job HPO-1 not read: no answer within 0.05 s",)


async def test_children_that_end_together_ask_once_for_their_parent(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    stub.put_tuning_job(TUNING)
    found = await asyncio.gather(
        *(jobs.tuning_job({**JOB, "TrainingJobName": f"HPO-1-{number:03}"}) for number in range(50))
    )
    assert stub.count("DescribeHyperParameterTuningJob") == 1
    assert [parent.is_best_so_far for parent, _ in found if parent] == [
        number == 1 for number in range(50)
    ]
    assert {parent.strategy for parent, _ in found if parent} == {"Hyperband"}


@pytest.mark.parametrize(
    ("status", "seconds", "asked"),
    [
        ("InProgress", 59, 1),
        ("InProgress", 61, 2),
        ("Stopping", 61, 2),
        ("Deleting", 61, 2),
        ("Completed", 61, 1),
        ("Completed", 3599, 1),
        ("Completed", 3601, 2),
        ("Failed", 3599, 1),
        ("Stopped", 3599, 1),
        (None, 61, 2),
    ],
)
async def test_how_long_an_answer_about_a_parent_is_used(
    stub: SageMakerStub,
    jobs: SageMakerTrainingJobs,
    clock: list[float],
    status: str | None,
    seconds: float,
    asked: int,
) -> None:
    stub.put_tuning_job(TUNING | {"HyperParameterTuningJobStatus": status})
    await jobs.tuning_job(JOB)
    clock[0] += seconds
    parent, _ = await jobs.tuning_job(JOB)
    assert parent is not None
    assert parent.status == status
    assert stub.count("DescribeHyperParameterTuningJob") == asked


async def test_known_parents_are_bounded(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning_module, "MOST_KNOWN", 3)

    async def ask(number: int) -> None:
        stub.put_tuning_job(TUNING | {"HyperParameterTuningJobName": f"t{number}"})
        arn = f"arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/t{number}"
        parent, _ = await jobs.tuning_job({**JOB, "TuningJobArn": arn})
        assert parent is not None

    for number in (0, 1, 2, 3, 1, 2, 3):
        await ask(number)
    assert stub.count("DescribeHyperParameterTuningJob") == 4
    await ask(0)
    assert stub.count("DescribeHyperParameterTuningJob") == 5


async def test_a_parent_that_is_gone_is_a_note_and_stops_no_other(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    parent, notes = await jobs.tuning_job(JOB)
    assert parent is None
    assert "tuning job HPO-1 not read" in notes[0]
    other = "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/other"
    stub.put_tuning_job(TUNING | {"HyperParameterTuningJobName": "other"})
    assert (await jobs.tuning_job({**JOB, "TuningJobArn": other}))[0] is not None


async def test_an_answer_about_another_parent_is_not_believed(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    wrong = Answer(200, json.dumps(TUNING | {"HyperParameterTuningJobName": "other"}).encode())
    stub.fail_next("DescribeHyperParameterTuningJob", wrong)
    parent, notes = await jobs.tuning_job(JOB)
    assert parent is None
    assert "tuning job HPO-1 not read" in notes[0]


async def test_a_job_without_a_parent_asks_nothing(
    stub: SageMakerStub, jobs: SageMakerTrainingJobs
) -> None:
    for arn in (None, "", " ", 7):
        assert await jobs.tuning_job({**JOB, "TuningJobArn": arn}) == (None, ())
    assert stub.requests == []

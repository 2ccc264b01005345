"""The model of SageMaker: its errors are the recorded ones, and its reads are eventually
consistent.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from daemon.aws.clients import Endpoints, open_clients
from daemon.aws.training_jobs import SageMakerTrainingJobs
from daemon.errors import DaemonError, EdgeFault, JobRefused
from daemon.reasons import Reason
from tests.simulation.aws_calls import PlainNetwork
from tests.simulation.sagemaker import SimulatedSageMaker, SimulatedSageMakerClient
from tests.simulation.sqs_places import VirtualTimeLoop
from tests.support.aws_vectors import HOME, describe, describe_bytes, describes, in_utc, tags
from tests.support.sagemaker_stub import SageMakerStub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"
JOB = describe("xgboost-builtin.json")
NAME, ARN = JOB["TrainingJobName"], JOB["TrainingJobArn"]
TAGS = tags("full.json")


def model() -> tuple[SimulatedSageMaker, SageMakerTrainingJobs]:
    service = SimulatedSageMaker(random.Random(1))
    client: Any = SimulatedSageMakerClient(service, PlainNetwork(), attempts=1)
    return service, SageMakerTrainingJobs(client, HOME)


@pytest.fixture
async def stub() -> AsyncIterator[SageMakerStub]:
    async with SageMakerStub() as stub:
        yield stub


@pytest.fixture
async def recorded(
    stub: SageMakerStub, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SageMakerTrainingJobs]:
    """The real adapter, through the real client."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    async with open_clients(
        queue_url=QUEUE_URL, endpoints=Endpoints(sagemaker=stub.url, sts=stub.url)
    ) as clients:
        yield SageMakerTrainingJobs(clients.sagemaker, HOME)


async def failure(
    call: Coroutine[Any, Any, object],
) -> tuple[type, str, Reason | None, bool | None]:
    """The parts of an error that the daemon uses."""
    with pytest.raises(DaemonError) as caught:
        await call
    error = caught.value
    return type(error), str(error), getattr(error, "reason", None), getattr(error, "curable", None)


def throttle(service: SimulatedSageMaker) -> None:
    service.faults.throttled = 1.0


def expire(service: SimulatedSageMaker) -> None:
    service.faults.credentials_expired = True


def deny(service: SimulatedSageMaker) -> None:
    service.faults.denied |= {"DescribeTrainingJob"}


def forget(service: SimulatedSageMaker) -> None:
    """Does nothing: the model has no job yet."""


FAULTS: list[tuple[str, str, Callable[[SimulatedSageMaker], None]]] = [
    ("describe-not-found.json", "x", forget),
    ("describe-bad-name.json", "x_y", forget),
    ("describe-throttled.json", "x", throttle),
    ("describe-access-denied.json", "x", deny),
    ("describe-expired-token.json", "x", expire),
    ("list-tags-not-found.json", "arn:x", forget),
    ("list-tags-throttled.json", "arn:x", throttle),
]


@pytest.mark.parametrize(("file", "about", "break_it"), FAULTS, ids=[file for file, _, _ in FAULTS])
async def test_a_fault_is_the_recorded_one(
    stub: SageMakerStub,
    recorded: SageMakerTrainingJobs,
    file: str,
    about: str,
    break_it: Callable[[SimulatedSageMaker], None],
) -> None:
    operation = "tags" if file.startswith("list-tags") else "describe"
    stub.fail_next(None, file, times=3)
    service, simulated = model()
    break_it(service)

    assert await failure(getattr(simulated, operation)(about)) == await failure(
        getattr(recorded, operation)(about)
    )


async def test_a_service_that_fails_is_one_of_the_recorded_ones(
    stub: SageMakerStub, recorded: SageMakerTrainingJobs
) -> None:
    expected = set()
    for file in ("describe-internal.json", "describe-unavailable.json"):
        stub.fail_next(None, file, times=3)
        expected.add(await failure(recorded.describe("x")))

    service, simulated = model()
    service.faults.failing = 1.0

    assert {await failure(simulated.describe("x")) for _ in range(20)} == expected


async def test_nobody_at_the_address(stub: SageMakerStub, recorded: SageMakerTrainingJobs) -> None:
    await stub.__aexit__()
    service, simulated = model()
    service.faults.down = True

    kind, _, *rest = await failure(simulated.describe("x"))  # the text names the address
    expected_kind, _, *expected_rest = await failure(recorded.describe("x"))

    assert (kind, rest) == (expected_kind, expected_rest)
    assert rest == [Reason.UNREACHABLE, True]


async def test_descriptions_and_tags_are_as_recorded(
    stub: SageMakerStub, recorded: SageMakerTrainingJobs
) -> None:
    service, simulated = model()
    for vector in describes():
        description = describe(vector.file)
        name, arn = description["TrainingJobName"], description["TrainingJobArn"]
        del description["ResponseMetadata"]
        stub.put_job(describe_bytes(vector.file), TAGS)
        service.create(description, TAGS)

        # NaN is not equal to itself
        given = in_utc(await simulated.describe(name))
        assert repr(given) == repr(await recorded.describe(name))
        assert await simulated.tags(arn) == await recorded.tags(arn) == TAGS
        service.delete(name)


async def test_a_job_that_is_gone(stub: SageMakerStub, recorded: SageMakerTrainingJobs) -> None:
    service, simulated = model()
    stub.put_job(describe_bytes("xgboost-builtin.json"), TAGS)
    service.create(JOB, TAGS)
    stub.remove_job(NAME)
    service.delete(NAME)

    assert await failure(simulated.describe(NAME)) == await failure(recorded.describe(NAME))
    assert await failure(simulated.tags(ARN)) == await failure(recorded.tags(ARN))


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


def in_virtual_time(check: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test of the model alone."""

    def test() -> None:
        run(check())

    return test


@in_virtual_time
async def test_an_arn_in_other_case_is_another() -> None:
    service, jobs = model()
    service.create(JOB, TAGS)

    assert (await failure(jobs.tags(ARN.upper())))[2] is Reason.JOB_GONE


@in_virtual_time
async def test_a_running_job_is_described_without_its_end() -> None:
    service, jobs = model()
    service.create(JOB, TAGS, running=True)

    running = await jobs.describe(NAME)
    assert (running["TrainingJobStatus"], running["SecondaryStatus"]) == ("InProgress", "Training")
    assert running["CreationTime"] == JOB["CreationTime"]
    assert not {"TrainingEndTime", "FinalMetricDataList"} & set(running)

    service.end(NAME)
    assert (await jobs.describe(NAME))["TrainingJobStatus"] == "Completed"


@in_virtual_time
async def test_an_end_is_seen_now_and_then_not_before_all_see_it() -> None:
    service, jobs = model()
    service.lags.ended = 10
    service.create(JOB, TAGS)

    at_first = [(await jobs.describe(NAME))["TrainingJobStatus"] for _ in range(50)]
    assert set(at_first) == {"InProgress", "Completed"}
    assert ("Completed", "InProgress") in set(pairwise(at_first))
    await asyncio.sleep(10)
    assert {(await jobs.describe(NAME))["TrainingJobStatus"] for _ in range(50)} == {"Completed"}


async def several(jobs: SageMakerTrainingJobs) -> Counter[object]:
    """The answers of many readers about one job: the reason of the error, or the creation time."""
    given = Counter[object]()
    for _ in range(60):
        try:
            given[(await jobs.describe(NAME))["CreationTime"]] += 1
        except JobRefused as refused:
            given[refused.reason] += 1
    return given


@in_virtual_time
async def test_a_new_job_is_not_found_for_a_while() -> None:
    service, jobs = model()
    service.lags.created = 5
    service.create(JOB, TAGS)

    assert set(await several(jobs)) == {Reason.JOB_GONE, JOB["CreationTime"]}
    await asyncio.sleep(5)
    assert set(await several(jobs)) == {JOB["CreationTime"]}
    assert await jobs.tags(ARN) == TAGS


@in_virtual_time
async def test_a_name_given_again_may_still_bring_the_old_job() -> None:
    service, jobs = model()
    service.create(JOB, TAGS)
    with pytest.raises(ValueError, match="there is a job"):
        service.create(JOB)
    service.lags.deleted = service.lags.created = 5
    newer = {**JOB, "CreationTime": JOB["CreationTime"] + timedelta(days=1)}
    service.delete(NAME)
    service.create(newer, {"MODEL_DB_SYNC": "false"})

    assert set(await several(jobs)) == {JOB["CreationTime"], Reason.JOB_GONE, newer["CreationTime"]}
    await asyncio.sleep(5)
    assert set(await several(jobs)) == {newer["CreationTime"]}
    assert await jobs.tags(ARN) == {"MODEL_DB_SYNC": "false"}


@in_virtual_time
async def test_tags_may_come_late() -> None:
    service, jobs = model()
    service.create(JOB, {"team": "churn"})
    service.lags.tagged = 5
    service.tag(NAME, TAGS)

    seen = [len(await jobs.tags(ARN)) for _ in range(50)]
    assert set(seen) == {1, 1 + len(TAGS)}
    await asyncio.sleep(5)
    assert await jobs.tags(ARN) == {"team": "churn"} | TAGS


@in_virtual_time
async def test_tags_may_come_in_pages_also_empty_ones() -> None:
    service = SimulatedSageMaker(random.Random(1))
    sizes = []

    class Watched(SimulatedSageMakerClient):
        async def list_tags(self, **request: Any) -> dict[str, Any]:
            answer = await super().list_tags(**request)
            sizes.append(len(answer["Tags"]))
            return answer

    client: Any = Watched(service, PlainNetwork())
    service.create(JOB, TAGS)
    service.short_pages = 0.7

    for _ in range(30):
        assert await SageMakerTrainingJobs(client, HOME).tags(ARN) == TAGS
    assert {0, 1, len(TAGS)} <= set(sizes)


@in_virtual_time
async def test_a_short_throttle_is_waited_out_by_the_client() -> None:
    service = SimulatedSageMaker(random.Random(3))
    simulated = SimulatedSageMakerClient(service, PlainNetwork(), attempts=3)
    client: Any = simulated
    jobs = SageMakerTrainingJobs(client, HOME)
    service.create(JOB, TAGS)
    service.faults.throttled = 0.5

    outcomes = Counter[bool]()
    for _ in range(200):
        try:
            await jobs.describe(NAME)
        except EdgeFault:
            outcomes[False] += 1
        else:
            outcomes[True] += 1

    assert 10 < outcomes[False] < 45  # an eighth
    assert simulated.calls > 300


@in_virtual_time
async def test_a_probe_asks_what_the_flow_asks() -> None:
    service, jobs = model()
    await jobs.probe()
    service.create(JOB, TAGS)
    await jobs.describe(NAME)

    service.faults.denied |= {"ListTags"}
    with pytest.raises(EdgeFault, match="sagemaker:ListTags is missing"):
        await jobs.probe()


async def test_jobs_are_listed_oldest_first_in_pages_that_may_be_short_or_empty() -> None:
    service, jobs = model()
    service.list_rate = 1000.0
    service.short_pages = 0.7
    created = JOB["CreationTime"]
    names = [f"job-{number:03}" for number in range(30)]
    for number, name in enumerate(names):
        arn = ARN.replace(NAME, name)
        later = created + timedelta(seconds=number)
        service.create(
            {**JOB, "TrainingJobName": name, "TrainingJobArn": arn, "CreationTime": later}
        )
    start = created.timestamp()
    listed, sizes, token = [], [], None
    while True:
        page = await jobs.list_page(created_after=start + 1, created_before=start + 28, token=token)
        sizes.append(len(page.jobs))
        listed += [job.name for job in page.jobs]
        token = page.token
        if token is None:
            break
    assert listed == [name for name in names if name not in {names[0], names[-1]}][: len(listed)]
    assert len(listed) in {27, 28}
    assert len(sizes) > 1


async def test_more_lists_than_the_rate_are_throttled() -> None:
    _, jobs = model()
    for _ in range(2):
        await jobs.list_page(created_after=0.0, created_before=1.0)
    with pytest.raises(EdgeFault) as caught:
        await jobs.list_page(created_after=0.0, created_before=1.0)
    assert caught.value.reason is Reason.THROTTLED

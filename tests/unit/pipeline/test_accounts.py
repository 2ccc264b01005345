"""Jobs of several accounts and regions: each is asked about where it is, and what is wrong with one
account holds the jobs of no other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from daemon.aws.account_jobs import AccountTrainingJobs
from daemon.errors import EdgeFault, JobRefused
from daemon.intake.in_flight import Slots
from daemon.outcome import Deferred, Rejected, Skipped
from daemon.pipeline.flow import FlowRules
from daemon.pipeline.foreign_jobs import jobs_of
from daemon.reasons import Edge, Reason
from daemon.training_job.identity import Home, JobArn
from tests.support.flow_scene import (
    ACCOUNT,
    REGION,
    MemoryTrainingJobs,
    a_while,
    arn_of,
    event_body,
    flow_scene,
    message,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.aws.ports import Message
    from tests.support.flow_scene import FlowScene

MEMBER, DENIED = "210987654321", "310987654321"
FRANKFURT = "eu-central-1"
PLACES = [(MEMBER, REGION), (DENIED, REGION), (ACCOUNT, FRANKFURT)]
DENIAL = EdgeFault(Edge.SAGEMAKER, Reason.ACCESS_DENIED, "role cannot be assumed")


def members() -> tuple[MemoryTrainingJobs, dict[str, MemoryTrainingJobs]]:
    """The daemon's own jobs, and what is behind those of the others; each has a job churn-1."""
    own, inner = MemoryTrainingJobs(), dict[str, MemoryTrainingJobs]()
    own.put("churn-1")
    for account, region in PLACES:
        where = f"{account}/{region}"
        inner[where] = jobs = MemoryTrainingJobs()
        jobs.home = Home(account, region, confirmed=True)
        jobs.put("churn-1", arn=arn_of("churn-1", account=account, region=region))
        own.elsewhere[where] = AccountTrainingJobs(jobs, where)
    return own, inner


@pytest.fixture
async def scene(path: Path) -> AsyncIterator[FlowScene]:
    async with flow_scene(path, jobs=members()[0]) as made:
        yield made


def about(account: str, region: str = REGION, *, name: str = "churn-1", number: int = 1) -> Message:
    arn = arn_of(name, account=account, region=region)
    return message(event_body(name, arn=arn), f"{account}-{number}")


async def test_each_job_is_asked_about_in_its_account_and_region(path: Path) -> None:
    own, inner = members()
    async with flow_scene(path, jobs=own) as scene:
        for account, region in PLACES:
            outcome = await scene.process(about(account, region))
            assert outcome.kind == "synced", outcome
        assert not own.asked
        assert [jobs.asked for jobs in inner.values()] == [[("describe", "churn-1")]] * 3
        assert (await scene.process()).kind == "synced"
    assert own.asked == [("describe", "churn-1")]


async def test_tags_are_listed_in_the_account_of_the_job(path: Path) -> None:
    own, inner = members()
    arn = arn_of("churn-1", account=MEMBER)
    async with flow_scene(path, jobs=own) as scene:
        outcome = await scene.process(message(event_body(arn=arn, Tags=None)))
    assert outcome.kind == "synced"
    assert inner[f"{MEMBER}/{REGION}"].asked == [("describe", "churn-1"), ("tags", arn)]


async def test_equal_names_in_two_accounts_are_two_jobs(scene: FlowScene) -> None:
    outcomes = [await scene.process(about(account)) for account in (ACCOUNT, MEMBER, ACCOUNT)]
    assert [outcome.kind for outcome in outcomes] == ["synced", "synced", "duplicate"]
    assert {row.job_arn for row in await scene.rows()} == {
        arn_of("churn-1"),
        arn_of("churn-1", account=MEMBER),
    }
    assert {run.arn.text for run in scene.target.runs} == {
        arn_of("churn-1"),
        arn_of("churn-1", account=MEMBER),
    }


@pytest.mark.parametrize(
    ("account", "region"), [("999999999999", REGION), (MEMBER, FRANKFURT), (ACCOUNT, "us-east-1")]
)
async def test_what_is_not_configured_is_rejected_or_skipped(
    path: Path, account: str, region: str
) -> None:
    async with flow_scene(path, jobs=members()[0]) as scene:
        outcome = await scene.process(about(account, region))
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.FOREIGN_ACCOUNT
    rules = FlowRules(skip_unknown_accounts=True)
    async with flow_scene(path, jobs=members()[0], rules=rules) as scene:
        outcome = await scene.process(about(account, region))
    assert isinstance(outcome, Skipped)
    assert outcome.reason is Reason.UNKNOWN_ACCOUNT
    assert account in outcome.detail


def test_a_member_is_found_although_the_own_account_is_not_known_yet() -> None:
    own, _ = members()
    own.home = Home(None, REGION)
    assert (
        jobs_of(own, JobArn.parse(arn_of("a", account=MEMBER)))
        is own.elsewhere[f"{MEMBER}/{REGION}"]
    )
    assert jobs_of(own, JobArn.parse(arn_of("a"))) is own
    assert jobs_of(own, JobArn.parse(arn_of("a", region="us-east-1"))) is None
    assert jobs_of(own, None) is own


def test_a_job_of_another_partition_is_of_no_configured_account() -> None:
    own, _ = members()
    arn = arn_of("a", account=MEMBER).replace("arn:aws:", "arn:aws-cn:")
    assert jobs_of(own, JobArn.parse(arn)) is None


async def test_a_fault_says_whose_it_is() -> None:
    inner = MemoryTrainingJobs()
    inner.home = Home(MEMBER, REGION)
    gone = JobRefused(Reason.JOB_GONE, "SageMaker does not have it")
    jobs = AccountTrainingJobs(inner, f"{MEMBER}/{REGION}")
    inner.faults["describe"] = deque([DENIAL, KeyError("odd"), gone])
    for reason in (Reason.ACCESS_DENIED, Reason.NOT_THE_API):
        with pytest.raises(EdgeFault) as caught:
            await jobs.describe("churn-1")
        assert caught.value.where == f"{MEMBER}/{REGION}"
        assert caught.value.reason is reason
        assert caught.value.detail.startswith(f"account {MEMBER} in {REGION}: ")
    with pytest.raises(JobRefused):
        await jobs.describe("unknown")


# One account is denied
# ---


class Denied:
    """A scene in which one account denies access, with three slots that this test hands out."""

    def __init__(self, scene: FlowScene, inner: MemoryTrainingJobs) -> None:
        self.scene = scene
        self.inner = inner
        self.where = f"{DENIED}/{REGION}"
        self.back = scene.back_elsewhere[self.where]
        self.back.clear()
        inner.faults["describe"] = deque([DENIAL] * 1000)
        self.tasks: list[asyncio.Task[None]] = []

    async def receive(self, received: Message) -> None:
        """As a poller does: a slot first."""
        async with asyncio.timeout(5):
            assert await self.scene.slots.take(1) == 1
        before = len(self.scene.outcomes)
        self.tasks.append(self.scene.start(received)[1])
        await until(lambda: len(self.scene.outcomes) > before)

    def allow(self) -> None:
        self.inner.faults.clear()
        self.back.set()


@pytest.fixture
async def denied(path: Path) -> AsyncIterator[Denied]:
    own, inner = members()
    jobs = inner[f"{DENIED}/{REGION}"]
    for number in range(300):
        jobs.put(f"job-{number}", arn=arn_of(f"job-{number}", account=DENIED))
    async with flow_scene(path, jobs=own) as scene:
        scene.slots.give_back(3)
        yield Denied(scene, jobs)


def of_denied(number: int) -> Message:
    return about(DENIED, name=f"job-{number}", number=number)


async def test_its_messages_are_held_without_slots_and_go_on_by_themselves(denied: Denied) -> None:
    scene = denied.scene
    for number in range(60):
        await denied.receive(of_denied(number))
    # only those that ran into it have asked
    assert 1 <= len(denied.inner.asked) <= 3
    assert not scene.queue.batches
    assert len(scene.in_flight) == 60
    await denied.receive(about(MEMBER))
    await until(lambda: ("210987654321-1", "synced") in kinds(scene))
    assert not scene.breakers.any_open
    denied.allow()
    async with asyncio.timeout(5):
        await asyncio.gather(*denied.tasks)
    assert sum(kind == "synced" for _, kind in kinds(scene)) == 61
    assert len(scene.queue.deleted) == 61
    assert await scene.slots.take(9) == 3


async def test_what_comes_back_goes_before_what_is_received(denied: Denied) -> None:
    for number in range(8):
        await denied.receive(of_denied(number))
    # a long poll holds all slots
    await until(lambda: denied.scene.slots._free == 3)
    assert await denied.scene.slots.take(9) == 3
    denied.allow()
    await a_while()
    denied.scene.slots.give_back(1)
    again = asyncio.create_task(denied.scene.slots.take(1))
    async with asyncio.timeout(5):
        await asyncio.gather(*denied.tasks)
    assert await again == 1


async def test_many_more_are_hidden_for_hours(denied: Denied) -> None:
    scene = denied.scene
    with mock.patch("daemon.pipeline.worker.MOST_PARKED", 5):
        for number in range(5):
            await denied.receive(of_denied(number))
        await until(lambda: scene.worker._parked == 5)
        await denied.receive(about(DENIED, name="job-9", number=9))
        await until(lambda: bool(scene.queue.batches))
    [(_, outcome)] = [each for each in scene.outcomes if each[1].kind != "held"]
    assert isinstance(outcome, Deferred)
    assert outcome.reason is Reason.ACCOUNT_UNAVAILABLE
    assert outcome.delay_seconds is not None
    assert 1800 <= outcome.delay_seconds <= 3600
    await denied.receive(about(MEMBER))
    await until(lambda: ("210987654321-1", "synced") in kinds(scene))


async def test_a_stop_gives_them_back(denied: Denied) -> None:
    for number in range(7):
        await denied.receive(of_denied(number))
    await until(lambda: denied.scene.slots._free == 3)
    for delivery in denied.scene.in_flight:
        delivery.give_back()
    async with asyncio.timeout(5):
        await asyncio.gather(*denied.tasks)
    assert not len(denied.scene.in_flight)
    assert await denied.scene.slots.take(9) == 3


async def test_a_breaker_that_has_closed_meanwhile_is_not_opened_by_what_was_known_before(
    denied: Denied,
) -> None:
    scene = denied.scene
    await denied.receive(of_denied(0))
    opened = len(scene.faults)
    await denied.receive(of_denied(1))
    assert len(scene.faults) == opened
    denied.allow()
    async with asyncio.timeout(5):
        await asyncio.gather(*denied.tasks)
    assert not any(breaker.is_open for breaker in scene.breakers)


async def test_only_when_all_accounts_are_denied_is_the_edge_open(scene: FlowScene) -> None:
    for where in ["", *scene.jobs.elsewhere]:
        assert not scene.breakers.any_open
        (scene.back_elsewhere[where] if where else scene.back[Edge.SAGEMAKER]).clear()
        scene.breakers.trip(DENIAL.of(where) if where else DENIAL)
    assert scene.breakers.is_open(Edge.SAGEMAKER)
    waiting = asyncio.create_task(scene.breakers.wait_closed())
    await a_while()
    assert not waiting.done()
    scene.back_elsewhere[f"{MEMBER}/{REGION}"].set()
    async with asyncio.timeout(5):
        await waiting
    assert scene.breakers.fault_of(f"{DENIED}/{REGION}") is not None
    assert scene.breakers.fault_of(f"{MEMBER}/{REGION}") is None


async def test_slots_go_to_those_who_come_back_first() -> None:
    slots = Slots(1)
    await slots.take(1)
    back = [asyncio.create_task(slots.take_again()) for _ in range(2)]
    await a_while()
    poller = asyncio.create_task(slots.take(10))
    for each in back:
        assert not each.done()
        slots.give_back(1)
        await a_while()
        assert each.done()
        assert not poller.done()
    slots.give_back(2)
    assert await poller == 2


async def test_one_who_does_not_come_back_after_all_leaves_its_slot_to_the_pollers() -> None:
    slots = Slots(1)
    await slots.take(1)
    back = asyncio.create_task(slots.take_again())
    await a_while()
    poller = asyncio.create_task(slots.take(1))
    await a_while()
    back.cancel()
    await a_while()
    slots.give_back(1)
    async with asyncio.timeout(5):
        assert await poller == 1


def kinds(scene: FlowScene) -> list[tuple[str, str]]:
    return [(message_id, outcome.kind) for message_id, outcome in scene.outcomes]

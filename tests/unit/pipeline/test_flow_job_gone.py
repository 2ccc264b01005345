"""A job that is deleted in SageMaker, or whose name is used again, during its write: never half a
run, never two.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import stamina

from daemon.checkpoint.ports import JobState
from daemon.demo.modeldb_v2.store import new_id
from daemon.errors import JobRefused
from daemon.outcome import Deferred, Duplicate, Held, Rejected, Synced
from daemon.pipeline.step import Step
from daemon.reasons import Edge, Reason
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from tests.support.flow_scene import (
    CREATED,
    TAGS,
    MemoryTrainingJobs,
    edge_fault,
    event_body,
    flow_scene,
    mark_of,
    message,
)
from tests.support.modeldb_v1_connections import nothing_left_behind, until
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.modeldb_v1_target import Permit, target_on, wrong
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.modeldb_v2_target import Settling, target_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from daemon.pipeline.delivery import Delivery
    from daemon.targets.ports import Target
    from daemon.training_job.training_run import TrainingRun
    from tests.support.flow_scene import FlowScene

CREATE = "createExperimentRun"
DESCRIBED: dict[str, Any] = {
    "HyperParameters": {"eta": "0.2"},
    "InputDataConfig": [
        {
            "ChannelName": name,
            "DataSource": {
                "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://data/{name}"}
            },
        }
        for name in ("train", "validation")
    ],
    "FinalMetricDataList": [
        {"MetricName": "train:auc", "Value": 0.5, "Timestamp": CREATED},
        {"MetricName": "validation:auc", "Value": 0.25, "Timestamp": CREATED},
    ],
}
GONE = Rejected(Reason.JOB_GONE, "no such job")


@pytest.fixture(autouse=True)
async def _nothing_is_left_behind() -> AsyncIterator[None]:
    async with nothing_left_behind():
        yield


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


@pytest.fixture
async def v1() -> AsyncIterator[ModelDbV1StandIn]:
    async with ModelDbV1StandIn() as server:
        yield server


@pytest.fixture
async def v2() -> AsyncIterator[ModelDbV2StandIn]:
    async with ModelDbV2StandIn() as server:
        server.faults.database_answer_seconds = 0.01
        yield server


class SageMaker(MemoryTrainingJobs):
    """Has the job ``churn-1``, and forgets it."""

    def __init__(self) -> None:
        super().__init__()
        self.put("churn-1", **DESCRIBED)

    async def expected(self) -> TrainingRun:
        """What is to be in the target, by what is described now."""
        tags = read_tags(TAGS, TagKeys())
        assert isinstance(tags, JobTags)
        return training_run(DescribedJob.of(await self.describe("churn-1")), tags, TAGS, ())

    def delete(self) -> None:
        self.faults["describe"] = deque([JobRefused(Reason.JOB_GONE, "no such job")] * 9)

    def use_the_name_again(self) -> None:
        self.put("churn-1", CreationTime=CREATED + timedelta(hours=1))

    def delete_after_describe(self) -> None:
        self.faults["tags"] = deque([JobRefused(Reason.JOB_GONE, "no such job")] * 9)


def daemon_on(
    folder: Path, jobs: SageMaker, target: Target
) -> AbstractAsyncContextManager[FlowScene]:
    """A daemon with a new checkpoint, or with the one that its predecessor left."""
    return flow_scene(folder / "checkpoint.db", age_seconds=0, jobs=jobs, target=target)


async def held_mid_write(daemon: FlowScene, delivery: Delivery) -> None:
    outcome = await daemon.flow.process(delivery)
    assert isinstance(outcome, Held)
    assert outcome.fault.edge is Edge.TARGET
    assert (await daemon.row()).state is JobState.WRITING


async def killed_mid_write_v1(path: Path, jobs: SageMaker, server: ModelDbV1StandIn) -> None:
    """Before the model, so that ModelDB has a run and nothing in it, and only SageMaker knows what
    belongs there.
    """
    server.faults.drop_before_execution(method="storeFitEvent")
    async with (
        target_on(server.port, metadata_store=True) as target,
        daemon_on(path, jobs, target) as daemon,
    ):
        await held_mid_write(daemon, daemon.receive())


async def killed_mid_write_v2(
    path: Path, jobs: SageMaker, server: ModelDbV2StandIn, *, carried_out: bool = True
) -> None:
    if carried_out:
        server.faults.lose_next_answers(1, operation=CREATE)
    else:
        server.faults.refuse_next(
            1, 503, {"code": 14, "message": "transport is closing"}, operation=CREATE
        )
    async with target_of(server.url) as target, daemon_on(path, jobs, target) as daemon:
        await held_mid_write(daemon, daemon.receive())


def add_double(server: ModelDbV2StandIn) -> None:
    """As a second create without an answer makes it."""
    [row] = server.runs()
    server.store.runs.insert(
        copy.deepcopy(row) | {"id": new_id(), "date_created": str(int(row["date_created"]) + 1)}
    )


@pytest.fixture(params=[SageMaker.delete, SageMaker.use_the_name_again])
def vanish(request: pytest.FixtureRequest) -> Callable[[SageMaker], None]:
    """The two ways in which a job leaves its name."""
    way: Callable[[SageMaker], None] = request.param
    return way


# Held, then deleted: this process still knows what was to be written
# ---


@pytest.mark.parametrize(
    "lost", ["storeExperimentRunEvent", "storeFitEvent", "storeDataFrame", "storeMetricEvent"]
)
async def test_v1_held_mid_write(
    tmp_path: Path, v1: ModelDbV1StandIn, lost: str, vanish: Callable[[SageMaker], None]
) -> None:
    # ModelDB goes down between two of the calls of a run; while the message is held, the job is
    # deleted. A rejection would leave the run without its model or metrics forever.
    jobs = SageMaker()
    expected = await jobs.expected()
    v1.faults.drop_before_answer(method=lost)
    async with (
        target_on(v1.port, metadata_store=True) as target,
        daemon_on(tmp_path, jobs, target) as daemon,
    ):
        delivery = daemon.receive()
        await held_mid_write(daemon, delivery)
        vanish(jobs)
        outcome = await daemon.flow.process(delivery)
        row = await daemon.row()
    assert isinstance(outcome, Synced)
    assert wrong(v1, [expected], metadata_store=True) == []
    assert (row.state, row.unanswered_writes) == (JobState.SYNCED, 0)
    assert row.target_ids == outcome.target_ids


@pytest.mark.parametrize("carried_out", [True, False])
async def test_v2_held_mid_write(
    tmp_path: Path, v2: ModelDbV2StandIn, vanish: Callable[[SageMaker], None], *, carried_out: bool
) -> None:
    # The answer of the create is lost, with the create or after it; while the message is held, the
    # job is deleted. A rejection would put the message among the dead letters although its run is
    # there, or may still come.
    jobs = SageMaker()
    if carried_out:
        v2.faults.lose_next_answers(1, operation=CREATE)
    else:
        v2.faults.refuse_next(
            1, 503, {"code": 14, "message": "transport is closing"}, operation=CREATE
        )
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        delivery = daemon.receive()
        await held_mid_write(daemon, delivery)
        vanish(jobs)
        outcome = await daemon.flow.process(delivery)
        row = await daemon.row()
    assert isinstance(outcome, Synced)
    [run] = v2.runs()
    assert outcome.target_ids["run_id"] == run["id"]
    assert (row.state, row.unanswered_writes) == (JobState.SYNCED, 0)


async def test_deleted_between_describe_and_list_tags(tmp_path: Path, v1: ModelDbV1StandIn) -> None:
    # The second attempt still gets a description, and the job is deleted right before ListTags,
    # which refuses it then.
    jobs = SageMaker()
    expected = await jobs.expected()
    v1.faults.drop_before_answer(method="storeFitEvent")
    async with (
        target_on(v1.port, metadata_store=True) as target,
        daemon_on(tmp_path, jobs, target) as daemon,
    ):
        delivery = daemon.receive(message(event_body(Tags=None)))
        await held_mid_write(daemon, delivery)
        jobs.delete_after_describe()
        assert isinstance(await daemon.flow.process(delivery), Synced)
    assert wrong(v1, [expected], metadata_store=True) == []


async def test_another_outage_after_the_job_has_gone(tmp_path: Path, v1: ModelDbV1StandIn) -> None:
    # Goes on from outage to outage: each attempt after the deletion finds the run of the first.
    jobs = SageMaker()
    expected = await jobs.expected()
    v1.faults.drop_before_answer(method="storeExperimentRunEvent")
    async with (
        target_on(v1.port, metadata_store=True) as target,
        daemon_on(tmp_path, jobs, target) as daemon,
    ):
        delivery = daemon.receive()
        await held_mid_write(daemon, delivery)
        jobs.delete()
        for lost in ("storeFitEvent", "storeMetricEvent"):
            v1.faults.drop_before_answer(method=lost)
            await held_mid_write(daemon, delivery)
        assert isinstance(await daemon.flow.process(delivery), Synced)
    assert wrong(v1, [expected], metadata_store=True) == []


async def test_held_before_anything_was_begun(tmp_path: Path, v2: ModelDbV2StandIn) -> None:
    # The outage comes before the intent of the first create: nothing was begun, and a job that is
    # gone then is rejected as ever.
    jobs = SageMaker()
    v2.faults.database_down = True
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        delivery = daemon.receive()
        assert isinstance(await daemon.flow.process(delivery), Held)
        v2.faults.database_down = False
        jobs.delete()
        asked = v2.requests.total()
        assert await daemon.flow.process(delivery) == GONE
    assert v2.requests.total() == asked
    assert v2.runs() == []


# Killed, then deleted: the target alone knows
# ---


async def test_v2_killed_mid_write(
    tmp_path: Path, v2: ModelDbV2StandIn, vanish: Callable[[SageMaker], None]
) -> None:
    # The create is carried out, its answer never read, and the daemon killed; the job is deleted
    # before the next one starts. A run of V2 is complete or not there: so this job is synced.
    jobs, settling = SageMaker(), Settling()
    await killed_mid_write_v2(tmp_path, jobs, v2)
    vanish(jobs)
    async with target_of(v2.url, settling) as target, daemon_on(tmp_path, jobs, target) as daemon:
        outcome = await daemon.process(message(receive_count=2))
        row = await daemon.row()
    assert isinstance(outcome, Synced)
    assert outcome.reason is Reason.FOUND_IN_TARGET
    assert "deleted in SageMaker" in outcome.detail
    [run] = v2.runs()
    assert outcome.target_ids["run_id"] == run["id"]
    assert settling.slept == [30.0]
    assert (row.state, row.unanswered_writes, row.detail) == (JobState.SYNCED, 0, outcome.detail)


async def test_v2_two_creates_are_healed_to_one(tmp_path: Path, v2: ModelDbV2StandIn) -> None:
    # A create without an answer is carried out late, when the next daemon already looks for it: it
    # has to wait for that, and then there are two, of which one is deleted.
    jobs, settling = SageMaker(), Settling()
    await killed_mid_write_v2(tmp_path, jobs, v2)
    jobs.delete()
    [first] = v2.runs()

    async def late() -> None:
        add_double(v2)

    settling.during = late
    async with target_of(v2.url, settling) as target, daemon_on(tmp_path, jobs, target) as daemon:
        delivery = daemon.receive(message(receive_count=2))
        outcome = await daemon.flow.process(delivery)
    assert isinstance(outcome, Synced)
    assert [run["id"] for run in v2.runs()] == [first["id"]] == [outcome.target_ids["run_id"]]
    assert delivery.job.healed == 1


async def test_v2_a_create_that_comes_in_the_settle_time_is_found(
    tmp_path: Path, v2: ModelDbV2StandIn
) -> None:
    # Looked for at once, nothing would be there, and the message would be rejected while its run
    # comes.
    jobs, settling = SageMaker(), Settling()
    await killed_mid_write_v2(tmp_path, jobs, v2)
    jobs.delete()
    [row] = v2.runs()
    stored = v2.store.runs.by_id(row["id"])
    assert stored is not None
    v2.store.runs.delete(stored)

    async def late() -> None:
        v2.store.runs.insert(copy.deepcopy(row) | {"id": new_id()})

    settling.during = late
    async with target_of(v2.url, settling) as target, daemon_on(tmp_path, jobs, target) as daemon:
        assert isinstance(await daemon.process(), Synced)


async def test_v2_nothing_there(
    tmp_path: Path, v2: ModelDbV2StandIn, vanish: Callable[[SageMaker], None]
) -> None:
    # The create was lost on its way: after the settle time it will not come any more, so nothing is
    # unanswered.
    jobs, settling = SageMaker(), Settling()
    await killed_mid_write_v2(tmp_path, jobs, v2, carried_out=False)
    vanish(jobs)
    async with target_of(v2.url, settling) as target, daemon_on(tmp_path, jobs, target) as daemon:
        outcome = await daemon.process()
        row = await daemon.row()
        await daemon.process(message(receive_count=2))
    assert isinstance(outcome, Rejected)
    assert outcome.reason in {Reason.JOB_GONE, Reason.JOB_REPLACED}
    assert "run" not in outcome.detail
    assert (row.state, row.unanswered_writes) == (JobState.REJECTED, 0)
    assert settling.slept == [30.0]  # not again for the second delivery
    assert v2.runs() == []


async def test_v2_down_during_the_lookup(tmp_path: Path, v2: ModelDbV2StandIn) -> None:
    # An outage of the target holds this message as any other; the row still says that a create is
    # unanswered.
    jobs = SageMaker()
    await killed_mid_write_v2(tmp_path, jobs, v2)
    jobs.delete()
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        delivery = daemon.receive()
        v2.faults.database_down = True
        await held_mid_write(daemon, delivery)
        assert delivery.job.step is Step.SYNC
        assert delivery.job.outcome_unknown
        v2.faults.database_down = False
        assert isinstance(await daemon.flow.process(delivery), Synced)


async def test_v1_killed_mid_write(
    tmp_path: Path, v1: ModelDbV1StandIn, vanish: Callable[[SageMaker], None]
) -> None:
    # Only the killed daemon and SageMaker knew what is missing in the run, so the rejection says
    # where it is. The same when the message is received again because the dead-letter queue failed.
    jobs = SageMaker()
    await killed_mid_write_v1(tmp_path, jobs, v1)
    vanish(jobs)
    async with (
        target_on(v1.port, metadata_store=True) as target,
        daemon_on(tmp_path, jobs, target) as daemon,
    ):
        for receive_count in (2, 3):
            outcome = await daemon.process(message(receive_count=receive_count))
            assert isinstance(outcome, Rejected)
            assert outcome.reason in {Reason.JOB_GONE, Reason.JOB_REPLACED}
            assert "run_id 1" in outcome.detail
            assert "may be incomplete" in outcome.detail
            row = await daemon.row()
            assert (row.state, row.detail) == (JobState.REJECTED, outcome.detail)
    [run] = v1.runs
    assert run["id"] == 1


async def test_v1_nothing_there(tmp_path: Path, v1: ModelDbV1StandIn) -> None:
    # The intent was written, and the call that makes the run never arrived.
    jobs = SageMaker()
    v1.faults.drop_before_execution(method="storeExperimentRunEvent")
    async with (
        target_on(v1.port, metadata_store=True) as target,
        daemon_on(tmp_path, jobs, target) as daemon,
    ):
        await held_mid_write(daemon, daemon.receive())
    jobs.delete()
    async with (
        target_on(v1.port, metadata_store=True) as target,
        daemon_on(tmp_path, jobs, target) as daemon,
    ):
        assert await daemon.process() == GONE
        row = await daemon.row()
    assert (row.state, row.unanswered_writes) == (JobState.REJECTED, 0)
    assert v1.runs == []


async def test_v1_a_run_that_is_still_being_stored_is_found(
    tmp_path: Path, v1: ModelDbV1StandIn
) -> None:
    # The attempt is cancelled while the server works on the run, on a connection that other jobs go
    # on using. The message is received again, its job is gone: read over another connection, the
    # run would not be there yet.
    jobs = SageMaker()
    async with (
        target_on(v1.port, metadata_store=True) as target,
        daemon_on(tmp_path, jobs, target) as daemon,
    ):
        hold = v1.faults.hold_before_execution(method="storeExperimentRunEvent")
        delivery = daemon.receive()
        attempt = asyncio.create_task(daemon.flow.process(delivery))
        await hold.reached.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        daemon.in_flight.finish(delivery, Deferred(Reason.STOPPING))
        daemon.in_flight.remove(delivery)
        jobs.delete()
        again = asyncio.create_task(daemon.process(message(receive_count=2)))
        await until(lambda: len(jobs.asked) == 2)
        hold.release()
        outcome = await again
    assert isinstance(outcome, Rejected)
    assert "run_id 1" in outcome.detail


async def test_v1_a_process_that_is_not_the_writer_leaves_it_to_the_writer(
    tmp_path: Path, v1: ModelDbV1StandIn
) -> None:
    # Only the writer can know that nothing is being written any more.
    jobs = SageMaker()
    await killed_mid_write_v1(tmp_path, jobs, v1)
    jobs.delete()
    permit = Permit()
    permit.holds = False
    async with (
        target_on(v1.port, metadata_store=True, permit=permit) as target,
        daemon_on(tmp_path, jobs, target) as daemon,
    ):
        outcome = await daemon.process()
        assert (outcome.kind, outcome.reason) == ("deferred", Reason.STANDING_BY)
        assert (await daemon.row()).state is JobState.WRITING


# What is not this job's half-written run
# ---


async def test_nothing_was_ever_begun(tmp_path: Path, v2: ModelDbV2StandIn) -> None:
    jobs = SageMaker()
    jobs.delete()
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        assert await daemon.process() == GONE
        assert await daemon.checkpoint.job(mark_of("churn-1")) is None
    assert not v2.requests


async def test_the_half_written_run_of_an_older_job_of_this_name_is_not_this_jobs(
    tmp_path: Path, v2: ModelDbV2StandIn
) -> None:
    # The name was used twice and both jobs are gone. The message of the second must not become
    # synced by the run of the first.
    jobs = SageMaker()
    await killed_mid_write_v2(tmp_path, jobs, v2)
    jobs.delete()
    later = event_body(CreationTime=round((CREATED + timedelta(seconds=1)).timestamp() * 1000))
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        assert await daemon.process(message(later, "m-2")) == GONE
        assert (await daemon.row()).state is JobState.WRITING
        assert isinstance(await daemon.process(), Synced)


async def test_a_message_without_a_creation_time_means_whatever_is_half_written(
    tmp_path: Path, v2: ModelDbV2StandIn
) -> None:
    jobs = SageMaker()
    await killed_mid_write_v2(tmp_path, jobs, v2)
    jobs.delete()
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        assert isinstance(await daemon.process(message(event_body(CreationTime=None))), Synced)


async def test_what_was_begun_in_another_target_is_not_judged_by_this_one(
    tmp_path: Path, v1: ModelDbV1StandIn, v2: ModelDbV2StandIn
) -> None:
    # The configuration names another ModelDB since. That this one has no such run says nothing
    # about the other.
    jobs = SageMaker()
    await killed_mid_write_v1(tmp_path, jobs, v1)
    jobs.delete()
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        assert await daemon.process() == GONE
        rows = {row.target: row.state for row in await daemon.rows()}
        assert rows == {"modeldb-v1": JobState.WRITING, "modeldb-v2": JobState.REJECTED}
    assert not v2.requests


async def test_a_checkpoint_that_cannot_be_read_holds(tmp_path: Path, v2: ModelDbV2StandIn) -> None:
    jobs = SageMaker()
    await killed_mid_write_v2(tmp_path, jobs, v2)
    jobs.delete()
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        daemon.fail_checkpoint("described", edge_fault(Edge.CHECKPOINT, Reason.STORAGE))
        delivery = daemon.receive()
        outcome = await daemon.flow.process(delivery)
        assert isinstance(outcome, Held)
        assert (outcome.fault.edge, outcome.reason) == (Edge.CHECKPOINT, Reason.STORAGE)
        assert isinstance(await daemon.flow.process(delivery), Synced)


async def test_a_message_of_a_synced_job_is_a_duplicate_also_when_the_job_is_gone(
    tmp_path: Path, v2: ModelDbV2StandIn, vanish: Callable[[SageMaker], None]
) -> None:
    # Killed between the record and the deletion of the message, or two events: by the second
    # delivery the job has been deleted. A job that is in ModelDB must not become a dead letter.
    jobs = SageMaker()
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        assert isinstance(await daemon.process(), Synced)
        vanish(jobs)
        again = await daemon.process()
    assert isinstance(again, Duplicate)
    assert again.reason is Reason.ALREADY_SYNCED
    assert again.target_ids["run_id"] == v2.runs()[0]["id"]


async def test_a_message_without_a_creation_time_is_no_duplicate_of_an_earlier_job_of_its_name(
    tmp_path: Path, v2: ModelDbV2StandIn
) -> None:
    # The job that is recorded may be another one than the message's: taken for done, the message
    # would vanish without a word.
    jobs = SageMaker()
    async with target_of(v2.url) as target, daemon_on(tmp_path, jobs, target) as daemon:
        assert isinstance(await daemon.process(), Synced)
        jobs.delete()
        assert await daemon.process(message(event_body(CreationTime=None))) == GONE


@pytest.mark.parametrize("kind", ["modeldb-v1", "modeldb-v2"])
async def test_a_job_synced_by_an_earlier_version_is_found_also_when_it_is_gone(
    tmp_path: Path, v1: ModelDbV1StandIn, v2: ModelDbV2StandIn, kind: str
) -> None:
    # The row does not say to which address it was synced, so the target is asked. V1's answer alone
    # does not prove that the run is complete; the row does.
    jobs = SageMaker()
    opened = target_on(v1.port, metadata_store=True) if kind == "modeldb-v1" else target_of(v2.url)
    async with opened as target, daemon_on(tmp_path, jobs, target) as daemon:
        assert isinstance(await daemon.process(), Synced)
        ids = (await daemon.row()).target_ids
        await daemon.checkpoint._write(
            lambda connection: connection.execute("UPDATE jobs SET place = ''")
        )
        jobs.delete()
        outcome = await daemon.process(message(event_body(), "m-2"))
        assert isinstance(outcome, Synced)
        assert (outcome.reason, outcome.target_ids) == (Reason.FOUND_IN_TARGET, ids)
        assert (await daemon.row()).done
        assert isinstance(await daemon.process(message(event_body(), "m-3")), Duplicate)
        assert len(await daemon.rows()) == 1

"""Exactly one complete run and one model version, wherever an attempt ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from daemon.errors import DaemonError
from daemon.training_job.training_run import Channel
from tests.support.mlflow_target import ENDS, InterruptedClient, active, deleted, target_of
from tests.support.target_jobs import MemoryJournal, job, job_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.targets.mlflow.target import MlflowTarget
    from daemon.training_job.training_run import TrainingRun
    from tests.support.mlflow_stand_in import MlflowStandIn
    from tests.support.mlflow_target import TargetScene

MODEL = "s3://models/churn/output/model.tar.gz"
CREATE = "runs/create"
REGISTER = "model-versions/create"


def whole_job(name: str = "churn-1", project: str = "customer-churn") -> TrainingRun:
    channel = Channel("train", "s3://data/train", "S3Prefix")
    return job(name, model_location=MODEL, channels=(channel,), project_name=project)


def after_a_kill(journal: MemoryJournal) -> MemoryJournal:
    """The journal of the next process: the checkpoint counts what was begun, not what was answered
    after that.
    """
    after = MemoryJournal(unanswered_writes=len(journal.begun), look_up_first=True)
    after.steps = journal.steps
    return after


def resumed(journal: MemoryJournal) -> MemoryJournal:
    """The journal of the next attempt of the same process."""
    journal.look_up_first = bool(journal.begun)
    return journal


def refuse_half_a_run(server: MlflowStandIn, run: TrainingRun) -> None:
    """Asserts that the server has exactly one complete run of a job, with one version."""
    runs = [
        each
        for each in active(server)
        if each["tags"]["sagemaker_training_job_arn"] == run.mark.arn
    ]
    assert len(runs) == 1, f"{len(runs)} runs"
    [found] = runs
    assert found["info"]["status"] == "FINISHED"
    assert found["params"] == {"eta": "0.2"}
    assert set(found["metrics"]) == {"train/auc"}
    assert len(found["inputs"]["dataset_inputs"]) == 1
    versions = [
        each
        for each in server.model.model_versions()
        if {tag["key"]: tag["value"] for tag in each["tags"]}["sagemaker_training_job_arn"]
        == run.mark.arn
    ]
    assert [each["run_id"] for each in versions] == [found["info"]["run_id"]]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("next_journal", [resumed, after_a_kill])
async def test_an_attempt_may_end_at_every_call(
    server: MlflowStandIn, end: str, next_journal: Callable[[MemoryJournal], MemoryJournal]
) -> None:
    async with target_of(server.url, client=InterruptedClient) as target:
        client = target._client
        assert isinstance(client, InterruptedClient)
        number, reached = 0, True
        while reached:
            number += 1
            run = whole_job(f"churn-{number}", f"project-{number}")
            journal = MemoryJournal()
            client.calls.clear()
            client.at, client.end = number, end
            ended = await _ends(target, run, journal)
            reached, client.at = len(client.calls) >= number, 0
            if ended:
                journal = next_journal(journal)
                done = await target.sync(run, journal)
                assert done.complete
            assert journal.unanswered_writes == 0
            refuse_half_a_run(server, run)
    assert number > 9, "the job ended before all of its calls"
    assert deleted(server) == []


async def _ends(target: MlflowTarget, run: TrainingRun, journal: MemoryJournal) -> bool:
    """Whether an attempt does not complete."""
    try:
        await target.sync(run, journal)
    except (DaemonError, asyncio.CancelledError):
        return True
    return False


async def test_a_create_whose_answer_is_lost_is_found_by_its_mark(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    scene.server.faults.lose_next_answers(1, operation=CREATE)
    with pytest.raises(DaemonError):
        await scene.sync(run=whole_job(), journal=journal)
    assert journal.unanswered_writes == 1
    done = await scene.sync(run=whole_job(), journal=resumed(journal))

    assert not done.created
    refuse_half_a_run(scene.server, whole_job())
    assert scene.settling.slept == [], "the found run accounts for the create"


async def test_a_create_that_may_still_be_processed_is_waited_for(
    scene: TargetScene, other: TargetScene
) -> None:
    run = whole_job()

    async def arrives() -> None:
        scene.settling.during = None
        await other.sync(run=run)

    scene.settling.during = arrives
    done = await scene.sync(run=run, journal=MemoryJournal(unanswered_writes=1))

    assert not done.created
    assert scene.settling.slept == [30.0]
    refuse_half_a_run(scene.server, run)


async def test_without_a_trace_of_the_create_the_run_is_made_after_the_settle_time(
    scene: TargetScene,
) -> None:
    journal = MemoryJournal(unanswered_writes=1)
    done = await scene.sync(run=whole_job(), journal=journal)

    assert done.created
    assert scene.settling.slept == [30.0]
    assert journal.unanswered_writes == 0
    refuse_half_a_run(scene.server, whole_job())


async def test_a_version_whose_answer_is_lost_is_found_by_its_run(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    scene.server.faults.lose_next_answers(1, operation=REGISTER)
    with pytest.raises(DaemonError):
        await scene.sync(run=whole_job(), journal=journal)
    assert journal.unanswered_writes == 2
    done = await scene.sync(run=whole_job(), journal=resumed(journal))

    assert done.ids["model_version"] == "1"
    assert scene.settling.slept == []
    refuse_half_a_run(scene.server, whole_job())


async def test_duplicates_are_healed_and_the_first_is_kept(scene: TargetScene) -> None:
    run = whole_job()
    first = await scene.sync(run=run)
    doubles = [await _double(scene, first.ids["run_id"]) for _ in range(2)]
    done = await scene.sync(run=run, journal=MemoryJournal(look_up_first=True))

    assert done.ids["run_id"] == first.ids["run_id"]
    assert done.healed == 2
    assert scene.settling.slept == [30.0]
    refuse_half_a_run(scene.server, run)
    assert {each["info"]["run_id"]: each["tags"] for each in deleted(scene.server)}.keys() == set(
        doubles
    )
    assert all(
        each["tags"]["sagemaker_sync_double_of"] == first.ids["run_id"]
        for each in deleted(scene.server)
    )


async def test_healed_duplicates_do_not_answer_for_a_run_that_is_gone_for_good(
    scene: TargetScene,
) -> None:
    run = whole_job()
    first = await scene.sync(run=run)
    await _double(scene, first.ids["run_id"])
    await scene.sync(run=run, journal=MemoryJournal(look_up_first=True))
    _gc(scene, first.ids["run_id"])
    done = await scene.sync(run=run, journal=MemoryJournal(look_up_first=True))

    assert done.created


@pytest.mark.parametrize("call", ["runs/set-tag", "model-versions/delete", "runs/delete"])
async def test_healing_that_is_interrupted_is_completed(scene: TargetScene, call: str) -> None:
    run = whole_job()
    first = await scene.sync(run=run)
    await _double(scene, first.ids["run_id"], with_version=True)
    scene.server.faults.lose_next_answers(1, operation=call)
    journal = MemoryJournal(look_up_first=True, unanswered_writes=2)
    with contextlib.suppress(DaemonError):  # the HTTP library sends a lost DELETE again
        await scene.sync(run=run, journal=journal)
    done = await scene.sync(run=run, journal=journal)

    assert done.ids["run_id"] == first.ids["run_id"]
    refuse_half_a_run(scene.server, run)


async def test_of_double_versions_the_lowest_stays(scene: TargetScene) -> None:
    run = whole_job()
    first = await scene.sync(run=run)
    await _version(scene, first.ids["run_id"])
    done = await scene.sync(run=run, journal=MemoryJournal(unanswered_writes=3))

    assert done.ids["model_version"] == "1"
    refuse_half_a_run(scene.server, run)


async def test_versions_that_people_registered_from_the_run_stay(scene: TargetScene) -> None:
    run = whole_job()
    first = await scene.sync(run=run)
    await scene.client.create_model_version(
        "churn-xgb",
        source=MODEL,
        run_id=first.ids["run_id"],
        run_link=None,
        description="",
        tags={},
    )
    await scene.sync(run=run, journal=MemoryJournal(unanswered_writes=3))

    assert len(scene.server.model.model_versions()) == 2


async def test_a_run_that_vanishes_while_its_create_settles_is_not_made_again_at_once(
    scene: TargetScene,
) -> None:
    run = whole_job()
    first = await scene.sync(run=run)

    async def vanishes() -> None:
        _gc(scene, first.ids["run_id"])

    scene.settling.during = vanishes
    fault = await job_fault(scene.sync(run=run, journal=MemoryJournal(unanswered_writes=3)))

    assert "existed and is gone" in fault.detail
    assert active(scene.server) == []


async def test_two_processes_at_one_job_end_with_one_run(
    scene: TargetScene, other: TargetScene
) -> None:
    """As when a lease ended while its holder's create was under way."""
    run = whole_job()
    scene.server.faults.overlap_next(2, operation=CREATE)
    await asyncio.gather(scene.sync(run=run), other.sync(run=run))
    assert len(active(scene.server)) == 2
    done = await scene.sync(run=run, journal=MemoryJournal(unanswered_writes=2))

    assert done.healed == 1
    refuse_half_a_run(scene.server, run)


def _gc(scene: TargetScene, run_id: str) -> None:
    """Removes a run for good, as `mlflow gc` does."""
    store = scene.server.model.store
    run = store.runs.pop(run_id)
    store.runs_of[run.experiment_id].remove(run)


async def test_a_duplicate_that_another_process_just_deleted_is_not_counted(
    scene: TargetScene,
) -> None:
    run = whole_job()
    first = await scene.sync(run=run)
    double = await _double(scene, first.ids["run_id"])
    seen = await scene.target._runs.anywhere(run.mark)  # before the other process
    await scene.client.delete_run(double)

    kept, healed = await scene.target._runs.keep_first(seen.active, run.mark)
    assert (kept.id, healed) == (first.ids["run_id"], 0)


async def test_a_version_that_people_delete_before_the_run_is_complete_is_not_made_again(
    scene: TargetScene, journal: MemoryJournal
) -> None:
    scene.server.faults.refuse_next(1, 503, UNAVAILABLE, operation="runs/update")
    with pytest.raises(DaemonError):
        await scene.sync(run=whole_job(), journal=journal)
    await scene.client.delete_model_version("churn-xgb", "1")
    await scene.sync(run=whole_job(), journal=resumed(journal))

    [found] = active(scene.server)
    assert found["info"]["status"] == "FINISHED"
    assert scene.server.model.model_versions() == []


UNAVAILABLE = {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no database"}


async def _double(scene: TargetScene, run_id: str, *, with_version: bool = False) -> str:
    """Makes a complete copy of a run with a later stamp, as an overlapping create does."""
    run = await scene.client.get_run(run_id)
    tags: Mapping[str, str] = {**run.tags, "sagemaker_sync_written": "2999-01-01T00:00:00.000Z"}
    double = await scene.client.create_run(
        run.experiment_id, run_name=run.name, start_time=run.start_time, tags=tags
    )
    if with_version:
        await _version(scene, double.id)
    return double.id


async def _version(scene: TargetScene, run_id: str) -> None:
    run = await scene.client.get_run(run_id)
    mark = {key: run.tags[key] for key in ("sagemaker_training_job_arn", "sagemaker_creation_time")}
    await scene.client.create_model_version(
        "churn-xgb", source=MODEL, run_id=run_id, run_link=None, description="", tags=mark
    )

"""The story that the flow leaves in the checkpoint: complete, bounded, without secrets, and without
writes of its own where nothing is wrong.
"""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from daemon.errors import JobFault, JobRefused
from daemon.pipeline.flow import FlowRules
from daemon.reasons import Edge, Reason
from daemon.story import StoryEvent as Event
from tests.support.flow_scene import (
    TAGS,
    a_while,
    arn_of,
    edge_fault,
    event_body,
    flow_scene,
    message,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.flow_scene import FlowScene

ARN = arn_of("churn-1")
SECRET = "hunter2hunter2"
WRITES = (
    "begin_write",
    "note_steps",
    "note_story",
    "record_synced",
    "record_deferred",
    "record_rejected",
    "record_skipped",
)


async def told(scene: FlowScene, arn: str = ARN) -> list[str]:
    return [str(entry.what) for entry in await scene.checkpoint.story(arn)]


async def last_detail(scene: FlowScene) -> str:
    return (await scene.checkpoint.story(ARN))[-1].detail


def counted(scene: FlowScene) -> list[str]:
    """The writes of the checkpoint from now on, but for claims."""
    calls: list[str] = []
    for name in WRITES:
        real = getattr(scene.checkpoint, name)

        async def call(*args: Any, _name: str = name, _real: Any = real, **members: Any) -> Any:
            calls.append(_name)
            return await _real(*args, **members)

        setattr(scene.checkpoint, name, call)
    return calls


async def test_a_synced_job_has_its_whole_story_without_a_write_of_its_own(
    scene: FlowScene,
) -> None:
    calls = counted(scene)
    await scene.handle(message(event_body(Tags=None), receive_count=2))
    assert calls == ["begin_write", "record_synced"]
    story = await scene.checkpoint.story(ARN)
    assert [(entry.what, entry.message_id, entry.detail) for entry in story] == [
        (Event.RECEIVED, "m-1", "receive 2, sent 2025-11-20 09:00:00Z"),
        (Event.CLAIMED, "", ""),
        (Event.DESCRIBED, "", "Completed"),
        (Event.TAGS_READ, "", "by ListTags: complete"),
        (Event.WRITE_BEGUN, "", ""),
        (Event.OUTCOME, "m-1", "synced (created), run id-of-churn-1"),
    ]
    assert story[1].owner
    assert (await scene.row()).project == "churn"


async def test_a_duplicate_adds_to_the_story_and_tells_its_origin(scene: FlowScene) -> None:
    await scene.handle()
    await scene.handle(message(message_id="m-2", attributes={"origin": "backfill"}))
    story = await scene.checkpoint.story(ARN)
    assert [(entry.what, entry.detail) for entry in story[6:]] == [
        (Event.RECEIVED, "receive 1, sent 2025-11-20 09:00:00Z, origin backfill"),
        (Event.CLAIMED, ""),
        (Event.DESCRIBED, "Completed"),
        (Event.OUTCOME, "duplicate (already_synced)"),
    ]


async def test_a_message_that_joins_is_told_in_the_story_of_the_first(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=True)
    _, first = scene.start()
    await waiting.reached.wait()
    _, second = scene.start(message(message_id="m-2"))
    await a_while()
    waiting.go_on.set()
    await asyncio.gather(first, second)
    story = await scene.checkpoint.story(ARN)
    assert [(entry.what, entry.message_id) for entry in story[-3:]] == [
        (Event.RECEIVED, "m-2"),
        (Event.JOINED, "m-2"),
        (Event.OUTCOME, "m-1"),
    ]


@pytest.mark.parametrize(
    ("tags", "tags_told", "outcome"),
    [
        ({"team": "a"}, "by ListTags: the sync tag is absent", "skipped (not_tagged): churn-1 has"),
        (
            {"MODEL_DB_SYNC": "", "MODEL_DB_PROJECT_NAME": "churn"},
            "by ListTags: missing MODEL_DB_PROJECT_USER, ",
            "rejected (tags_incomplete): missing or blank tags",
        ),
    ],
)
async def test_a_job_that_is_not_synced_tells_why(
    scene: FlowScene, tags: Mapping[str, str], tags_told: str, outcome: str
) -> None:
    scene.jobs.put("churn-1", tags=tags)
    await scene.handle(message(event_body(Tags=None)))
    story = await scene.checkpoint.story(ARN)
    assert [entry.what for entry in story[-2:]] == [Event.TAGS_READ, Event.OUTCOME]
    assert story[-2].detail.startswith(tags_told)
    assert story[-1].detail.startswith(outcome)


async def test_events_of_other_statuses_leave_no_story(scene: FlowScene) -> None:
    scene.jobs.put("churn-1", TrainingJobStatus="Stopped")
    for body in (event_body(TrainingJobStatus="Failed"), event_body(TrainingJobStatus=None)):
        assert (await scene.handle(message(body))).kind == "skipped"
    assert await told(scene) == []


async def test_a_rejection_before_a_claim_is_told(scene: FlowScene) -> None:
    foreign = arn_of("churn-1", account="210987654321")
    await scene.handle()
    await scene.handle(message(event_body(arn=foreign), "m-2"))
    assert await told(scene, foreign) == [Event.RECEIVED, Event.OUTCOME]


async def test_a_hold_is_told_at_once_and_once_however_often_it_is_tried(
    scene: FlowScene,
) -> None:
    calls = counted(scene)
    scene.back[Edge.TARGET].clear()
    for _ in range(3):
        scene.target.then_raise(edge_fault())
    _, task = scene.start()
    await scene.waiting_for(Edge.TARGET)
    await until(lambda: calls == ["note_story"])
    assert (await told(scene))[-1] == Event.HELD
    assert await last_detail(scene) == "target unavailable: the target does not work"
    for holds in (1, 2, 3):
        # it may be tried and held more than once before the edge is taken away again
        await until(lambda holds=holds: len(scene.outcomes) >= holds)  # type: ignore[misc] # bound
        scene.back[Edge.TARGET].set()
        await until(lambda: not scene.breakers[Edge.TARGET].is_open)
        if holds < 3:
            scene.back[Edge.TARGET].clear()
    await task
    assert [outcome.kind for _, outcome in scene.outcomes] == ["held", "held", "held", "synced"]
    assert calls == ["note_story", "begin_write", "record_synced"]
    assert await told(scene) == [
        "received",
        "claimed",
        "described",
        "tags_read",
        "held",
        "write_begun",
        "outcome",
    ]


async def test_a_checkpoint_that_cannot_take_the_note_is_no_further_fault(
    scene: FlowScene,
) -> None:
    scene.fail_checkpoint("note_story", edge_fault(Edge.CHECKPOINT, Reason.STORAGE))
    scene.target.then_raise(edge_fault())
    assert (await scene.handle()).kind == "synced"
    assert [fault.edge for fault in scene.faults] == [Edge.TARGET]
    assert Event.HELD in await told(scene)  # with the next write


async def test_a_hold_by_the_checkpoint_is_not_written_to_it(scene: FlowScene) -> None:
    calls = counted(scene)
    scene.fail_checkpoint("record_synced", edge_fault(Edge.CHECKPOINT, Reason.STORAGE))
    assert (await scene.handle()).kind == "synced"
    assert "note_story" not in calls
    assert (await told(scene))[-3:] == [Event.HELD, Event.WRITE_BEGUN, Event.OUTCOME]


async def test_a_message_that_is_given_back_says_why(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=False)
    delivery, task = scene.start()
    await waiting.reached.wait()
    delivery.give_back()
    await task
    assert (await told(scene))[-1] == Event.GIVEN_BACK
    assert await last_detail(scene) == "stopping"


@pytest.mark.parametrize("refused", [True, False])
async def test_secrets_never_reach_the_story(path: Path, *, refused: bool) -> None:
    badge = "badge-no=ab12cd34ef"
    async with flow_scene(path, rules=FlowRules(redact=("badge*",))) as scene:
        text = f"password={SECRET} {badge} AKIAIOSFODNN7EXAMPLE {'x' * 1000}"
        error = JobRefused if refused else JobFault
        reason = Reason.TARGET_REFUSED if refused else Reason.TARGET_FAULT
        scene.target.then_raise(error(reason, text))
        scene.jobs.put(
            "churn-1",
            tags=TAGS | {"MODEL_DB_PROJECT_NAME": f"api_key={SECRET}"},
            HyperParameters={"password": SECRET},
        )
        await scene.handle(message(event_body(Tags=None), attributes={"origin": f"token={SECRET}"}))
        story = await scene.checkpoint.story(ARN)
        assert max(len(entry.detail) for entry in story) == 300
    with closing(sqlite3.connect(path)) as connection:
        kept = str(connection.execute("SELECT entries FROM stories").fetchall())
    assert "[redacted" in kept
    for secret in (SECRET, "ab12cd34ef", "AKIAIOSFODNN7EXAMPLE"):
        assert secret not in kept


async def test_every_attempt_tells_its_outcome(scene: FlowScene) -> None:
    scene.target.then_raise(JobFault(Reason.TARGET_FAULT, "503"))
    await scene.handle()
    await scene.handle(message(receive_count=2))
    details = [
        entry.detail for entry in await scene.checkpoint.story(ARN) if entry.what is Event.OUTCOME
    ]
    assert details == [
        "deferred (target_fault): 503",
        "synced (created), run id-of-churn-1",
    ]

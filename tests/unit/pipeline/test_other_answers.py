"""The flow asks for metric series and tuning jobs once, before the target is touched, and goes on
without them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from structlog.testing import capture_logs

from daemon.errors import EdgeFault, JobFault, JobRefused
from daemon.outcome import Duplicate, Rejected, Skipped, Synced
from daemon.reasons import Edge, Reason
from daemon.training_job.metric_series import MetricSeries
from daemon.training_job.tuning_job import TuningJob
from tests.support.flow_scene import TAGS, edge_fault, event_body, message, without

if TYPE_CHECKING:
    from tests.support.flow_scene import FlowScene

SERIES = (MetricSeries("loss", (0, 1), (0.5, 0.25)),)
PARENT = TuningJob("hpo-1")
BOTH = [("metric_series", "churn-1"), ("tuning_job", "churn-1")]


async def test_series_parent_and_notes_are_in_the_run(scene: FlowScene) -> None:
    scene.jobs.series = (SERIES, ("one note",))
    scene.jobs.parent = (PARENT, ("another",))
    assert isinstance(await scene.process(), Synced)
    [run] = scene.target.runs
    assert (run.metric_series, run.tuning, run.notes) == (SERIES, PARENT, ("one note", "another"))
    assert scene.jobs.other_calls == BOTH


async def test_they_are_asked_for_before_the_create(scene: FlowScene) -> None:
    waiting = scene.target.then_wait(begun=True)
    _, task = scene.start()
    await waiting.reached.wait()
    assert scene.jobs.other_calls == BOTH
    waiting.go_on.set()
    await task


async def test_a_duplicate_asks_for_nothing(scene: FlowScene) -> None:
    await scene.process()
    scene.jobs.other_calls.clear()
    assert isinstance(await scene.process(message(message_id="m-2")), Duplicate)
    assert scene.jobs.other_calls == []


@pytest.mark.parametrize(
    ("body", "tags", "outcome"),
    [
        (event_body(Tags=None), {}, Skipped),
        (event_body(Tags=None), without("MODEL_DB_MODEL_NAME"), Rejected),
        (event_body(TrainingJobStatus="Failed"), TAGS, Skipped),
        (event_body("gone"), TAGS, Rejected),
        ("no event", TAGS, Rejected),
    ],
)
async def test_a_job_that_is_not_synced_asks_for_nothing(
    scene: FlowScene, body: str, tags: dict[str, str], outcome: type
) -> None:
    scene.jobs.put("churn-1", tags=tags)
    scene.jobs.faults["describe"] = deque(
        [JobRefused(Reason.JOB_GONE, "gone")] if "gone" in body else []
    )
    assert isinstance(await scene.process(message(body)), outcome)
    assert scene.jobs.other_calls == []


async def test_a_hold_does_not_ask_again_and_writes_the_same_run(scene: FlowScene) -> None:
    scene.jobs.series = (SERIES, ("one note",))
    scene.jobs.parent = (PARENT, ())
    scene.back[Edge.TARGET].clear()
    scene.target.then_raise(edge_fault(), begun=1)
    _, task = scene.start()
    await scene.waiting_for(Edge.TARGET)
    scene.jobs.series = ((), ("throttled",))
    scene.jobs.parent = (None, ("throttled",))
    scene.back[Edge.TARGET].set()
    await task
    first, second = scene.target.runs
    assert first == second
    assert scene.jobs.other_calls == BOTH


@pytest.mark.parametrize("call", ["metric_series", "tuning_job"])
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a bug"),
        TimeoutError(),
        OSError("no route"),
        KeyError("Status"),
        EdgeFault(Edge.SAGEMAKER, Reason.ACCESS_DENIED, "denied"),
        JobFault(Reason.SAGEMAKER_FAULT, "odd"),
        JobRefused(Reason.JOB_REFUSED, "refused"),
        ValueError("odd"),
        RecursionError(),
        UnicodeDecodeError("utf-8", b"", 0, 1, "odd"),
    ],
)
async def test_a_bug_there_costs_no_more_than_a_note(
    scene: FlowScene, call: str, error: Exception
) -> None:
    scene.jobs.faults[call] = deque([error])
    with capture_logs() as logs:
        assert isinstance(await scene.process(), Synced)
    [run] = scene.target.runs
    assert run.notes == (f"metric series and tuning job not read: {type(error).__name__}",)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["internal error"]
    assert scene.faults == []


async def test_a_write_that_was_interrupted_asks_anew(scene: FlowScene) -> None:
    scene.target.then_raise(edge_fault(), begun=1)
    assert (await scene.process()).kind == "held"
    scene.jobs.series = (SERIES, ())
    assert isinstance(await scene.process(message(message_id="m-2")), Synced)
    assert scene.target.runs[-1].metric_series == SERIES


async def test_a_stop_while_they_are_awaited_gives_the_message_back(scene: FlowScene) -> None:
    asked = asyncio.Event()

    async def silent(_description: object) -> tuple[tuple[MetricSeries, ...], tuple[str, ...]]:
        asked.set()
        await asyncio.Event().wait()
        return (), ()

    with mock.patch.object(scene.jobs, "metric_series", silent):
        delivery, task = scene.start()
        await asked.wait()
        delivery.give_back()
        async with asyncio.timeout(5):
            await task
    assert scene.outcomes[-1][1].reason is Reason.STOPPING
    assert scene.target.runs == []

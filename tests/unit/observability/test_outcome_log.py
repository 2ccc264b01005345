"""One log line and one count for every outcome, without secrets."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from daemon.errors import EdgeFault
from daemon.observability.logs import configure_logging
from daemon.observability.metrics import Metrics
from daemon.observability.outcome_log import OutcomeReporter
from daemon.outcome import Deferred, Duplicate, Held, Rejected, Skipped, Synced
from daemon.pipeline.delivery import Delivery
from daemon.pipeline.step import Step
from daemon.reasons import Edge, Reason
from daemon.training_job.event import TrainingJobEvent, parse_event
from tests.support.flow_scene import event_body, message
from tests.support.json_lines import json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.outcome import Outcome

EVENT_TIME = 1763629200.0
"""2025-11-20T09:00:00Z."""


class ReportScene:
    def __init__(self) -> None:
        self.stream = io.StringIO()
        configure_logging("debug", "json", self.stream)
        self.metrics = Metrics(version="1", target="modeldb-v2")
        self.reporter = OutcomeReporter(self.metrics)

    def report(self, delivery: Delivery, outcome: Outcome) -> dict[str, Any]:
        """The one line that the report made."""
        before = len(self.stream.getvalue())
        self.reporter.report(delivery, outcome)
        [line] = json_lines(self.stream.getvalue()[before:])
        return line

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"modeldb_sync_{name}", labels) or 0.0


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReportScene]:
    monkeypatch.setattr("daemon.observability.outcome_log.wall", lambda: EVENT_TIME + 90.0)
    yield ReportScene()
    structlog.reset_defaults()


async def delivery_of(body: str | None = None, **members: Any) -> Delivery:
    """A delivery whose job has these attributes."""
    delivery = Delivery(message(body, receive_count=3), 30)
    event = parse_event(delivery.message.body)
    delivery.job.event = event if isinstance(event, TrainingJobEvent) else None
    for name, value in members.items():
        setattr(delivery.job, name, value)
    return delivery


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (Synced(Reason.CREATED, {"run_id": "r-1"}), "info"),
        (Duplicate(Reason.ALREADY_SYNCED, {"run_id": "r-1"}), "info"),
        (Skipped(Reason.NOT_TAGGED, "no tag"), "info"),
        (Rejected(Reason.TAGS_INCOMPLETE, "no MODEL_DB_MODEL_TYPE"), "warning"),
        (Deferred(Reason.NOT_TERMINAL, "InProgress"), "warning"),
        (Held(EdgeFault(Edge.TARGET, Reason.UNAVAILABLE, "database is down")), "warning"),
    ],
)
async def test_one_line_and_one_count_for_each_outcome(
    scene: ReportScene, outcome: Outcome, level: str
) -> None:
    delivery = await delivery_of(durations={Step.DESCRIBE: 0.0123, Step.SYNC: 1.5})
    delivery.received_at = time.monotonic() - 4
    line = scene.report(delivery, outcome)
    assert (line["event"], line["level"]) == ("job outcome", level)
    assert (line["message_id"], line["job"], line["receive_count"]) == ("m-1", "churn-1", 3)
    assert (line["outcome"], line["reason"]) == (outcome.kind, outcome.reason)
    assert (line["describe_seconds"], line["sync_seconds"]) == (0.012, 1.5)
    assert 4 <= line["seconds"] < 10
    assert line.get("detail", "") == outcome.detail
    assert line.get("run_id") == ("r-1" if isinstance(outcome, Synced | Duplicate) else None)
    assert line.get("edge") == ("target" if isinstance(outcome, Held) else None)
    assert scene.sample("jobs_total", outcome=outcome.kind, reason=outcome.reason) == 1


async def test_a_synced_job_is_logged_with_its_age_notes_and_healed_duplicates(
    scene: ReportScene,
) -> None:
    delivery = await delivery_of(notes=("name shortened",), healed=2)
    line = scene.report(delivery, Synced(Reason.CREATED, {"run_id": "r-1"}))
    assert (line["notes"], line["healed"], line["event_to_sync_seconds"]) == (
        ["name shortened"],
        2,
        90.0,
    )
    assert scene.sample("duplicate_runs_healed_total") == 2
    assert (
        scene.sample("event_to_sync_seconds_count"),
        scene.sample("event_to_sync_seconds_sum"),
    ) == (1, 90.0)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (event_body(envelope={"replay-name": "again"}), Synced(Reason.CREATED)),
        (event_body(envelope={"time": None}), Synced(Reason.CREATED)),
        (event_body(), Duplicate(Reason.JOINED)),
        (event_body(), Deferred(Reason.TARGET_FAULT)),
        (event_body(), Held(EdgeFault(Edge.TARGET, Reason.THROTTLED, ""))),
    ],
)
async def test_the_age_counts_for_fresh_events_that_were_synced_only(
    scene: ReportScene, body: str, outcome: Outcome
) -> None:
    line = scene.report(await delivery_of(body), outcome)
    assert "event_to_sync_seconds" not in line
    assert scene.sample("event_to_sync_seconds_count") == 0


async def test_the_age_of_a_message_that_no_event_brought_does_not_count(
    scene: ReportScene,
) -> None:
    delivery = Delivery(replace(message(event_body()), attributes={"origin": "redrive"}), 30)
    event = parse_event(delivery.message.body)
    assert isinstance(event, TrainingJobEvent)
    delivery.job.event = event

    line = scene.report(delivery, Synced(Reason.CREATED))

    assert line["origin"] == "redrive"
    assert "event_to_sync_seconds" not in line
    assert scene.sample("event_to_sync_seconds_count") == 0


async def test_a_clock_that_is_behind_makes_no_negative_age(
    scene: ReportScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.observability.outcome_log.wall", lambda: EVENT_TIME - 5)
    line = scene.report(await delivery_of(), Synced(Reason.CREATED))
    assert line["event_to_sync_seconds"] == 0


async def test_a_message_that_names_no_job_has_a_line_too(scene: ReportScene) -> None:
    line = scene.report(await delivery_of("no event"), Rejected(Reason.MALFORMED_BODY, "not JSON"))
    assert (line["job"], line["message_id"], line["reason"]) == (None, "m-1", "malformed_body")


async def test_nothing_of_the_body_is_in_the_line(scene: ReportScene) -> None:
    body = event_body(
        HyperParameters={"db_password": "hunter2"},
        Environment={"KEY": "hunter3"},
        SecondaryStatus="hunter4",
    )
    for outcome in (
        Synced(Reason.CREATED),
        Rejected(Reason.TAGS_INCOMPLETE, "no tag"),
        Held(EdgeFault(Edge.TARGET, Reason.THROTTLED, "")),
    ):
        scene.report(await delivery_of(body), outcome)
    assert "hunter" not in scene.stream.getvalue()
    assert "m-1/3" not in scene.stream.getvalue()  # the receipt handle is a key to the message

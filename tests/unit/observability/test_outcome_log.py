"""One log line and one count for every outcome, with what a person needs and no secret."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from daemon.intake.in_flight import Entry
from daemon.observability.logs import configure_logging
from daemon.observability.metrics import Metrics
from daemon.observability.outcome_log import OutcomeReporter
from daemon.outcome import Deferred, Duplicate, Edge, Held, Reason, Rejected, Skipped, Synced
from daemon.training_job.event import TrainingJobEvent, parse_event
from tests.support.flow_doubles import event_body, message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.outcome import Outcome

EVENT_TIME = 1763629200.0
"""2025-11-20T09:00:00Z."""


class Desk:
    def __init__(self) -> None:
        self.stream = io.StringIO()
        configure_logging("debug", "json", self.stream)
        self.metrics = Metrics(version="1", target="modeldb-v2")
        self.reporter = OutcomeReporter(self.metrics, clock=lambda: EVENT_TIME + 90.0)

    def report(self, entry: Entry, outcome: Outcome) -> dict[str, Any]:
        """The one line that the report made."""
        before = len(self.stream.getvalue())
        self.reporter.report(entry, outcome)
        [line] = self.stream.getvalue()[before:].splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"modeldb_sync_{name}", labels) or 0.0


@pytest.fixture
def desk() -> Iterator[Desk]:
    yield Desk()
    structlog.reset_defaults()


async def entry_of(body: str | None = None, **members: Any) -> Entry:
    entry = Entry(message(body, receive_count=3), 30)
    event = parse_event(entry.message.body)
    entry.event = event if isinstance(event, TrainingJobEvent) else None
    for name, value in members.items():
        setattr(entry, name, value)
    return entry


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (Synced(Reason.CREATED, {"run_id": "r-1"}), "info"),
        (Duplicate(Reason.ALREADY_SYNCED, {"run_id": "r-1"}), "info"),
        (Skipped(Reason.NOT_TAGGED, "no tag"), "info"),
        (Rejected(Reason.TAGS_INCOMPLETE, "no MODEL_DB_MODEL_TYPE"), "warning"),
        (Deferred(Reason.NOT_TERMINAL, "InProgress"), "warning"),
        (Held(Reason.UNAVAILABLE, Edge.TARGET, "database is down"), "warning"),
    ],
)
async def test_one_line_and_one_count_for_each_outcome(
    desk: Desk, outcome: Outcome, level: str
) -> None:
    entry = await entry_of(durations={"describe": 0.0123, "sync": 1.5})
    entry.received_at = time.monotonic() - 4
    line = desk.report(entry, outcome)
    assert (line["event"], line["level"]) == ("job outcome", level)
    assert (line["message_id"], line["job"], line["receive_count"]) == ("m-1", "churn-1", 3)
    assert (line["outcome"], line["reason"]) == (outcome.kind, outcome.reason)
    assert (line["describe_seconds"], line["sync_seconds"]) == (0.012, 1.5)
    assert 4 <= line["seconds"] < 10
    assert line.get("detail", "") == outcome.detail
    assert line.get("run_id") == ("r-1" if isinstance(outcome, Synced | Duplicate) else None)
    assert line.get("edge") == ("target" if isinstance(outcome, Held) else None)
    assert desk.sample("jobs_total", outcome=outcome.kind, reason=outcome.reason) == 1


async def test_a_synced_job_tells_its_age_notes_and_healed_doubles(desk: Desk) -> None:
    entry = await entry_of(notes=("name shortened",), healed=2)
    line = desk.report(entry, Synced(Reason.CREATED, {"run_id": "r-1"}))
    assert (line["notes"], line["healed"], line["event_to_sync_seconds"]) == (
        ["name shortened"],
        2,
        90.0,
    )
    assert desk.sample("duplicate_runs_healed_total") == 2
    assert (
        desk.sample("event_to_sync_seconds_count"),
        desk.sample("event_to_sync_seconds_sum"),
    ) == (1, 90.0)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (event_body(envelope={"replay-name": "again"}), Synced(Reason.CREATED)),
        (event_body(envelope={"time": None}), Synced(Reason.CREATED)),
        (event_body(), Duplicate(Reason.JOINED)),
        (event_body(), Deferred(Reason.TARGET_FAULT)),
        (event_body(), Held(Reason.THROTTLED, Edge.TARGET)),
    ],
)
async def test_the_age_counts_for_fresh_events_that_were_synced_only(
    desk: Desk, body: str, outcome: Outcome
) -> None:
    line = desk.report(await entry_of(body), outcome)
    assert "event_to_sync_seconds" not in line
    assert desk.sample("event_to_sync_seconds_count") == 0


async def test_a_clock_that_is_behind_makes_no_negative_age(desk: Desk) -> None:
    desk.reporter = OutcomeReporter(desk.metrics, clock=lambda: EVENT_TIME - 5)
    assert desk.report(await entry_of(), Synced(Reason.CREATED))["event_to_sync_seconds"] == 0


async def test_a_message_that_names_no_job_has_a_line_too(desk: Desk) -> None:
    line = desk.report(await entry_of("no event"), Rejected(Reason.MALFORMED_BODY, "not JSON"))
    assert (line["job"], line["message_id"], line["reason"]) == (None, "m-1", "malformed_body")


async def test_nothing_of_the_body_is_in_the_line(desk: Desk) -> None:
    body = event_body(
        HyperParameters={"db_password": "hunter2"},
        Environment={"KEY": "hunter3"},
        SecondaryStatus="hunter4",
    )
    for outcome in (
        Synced(Reason.CREATED),
        Rejected(Reason.TAGS_INCOMPLETE, "no tag"),
        Held(Reason.THROTTLED, Edge.TARGET),
    ):
        desk.report(await entry_of(body), outcome)
    assert "hunter" not in desk.stream.getvalue()
    assert "m-1/3" not in desk.stream.getvalue()  # the receipt handle is a key to the message

"""The metrics as Prometheus reads them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families

from daemon.aws.ports import Message, QueueState
from daemon.intake.in_flight import InFlight
from daemon.observability.metrics import HEARTBEAT_RESULTS, Metrics
from daemon.operations.reconcile import Verdict
from daemon.outcome import REASONS
from daemon.pipeline.step import Step
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = 1_700_000_000.0

CONTRACT = {
    "modeldb_sync_messages_received": (),
    "modeldb_sync_jobs": ("outcome", "reason"),
    "modeldb_sync_step_duration_seconds": ("step",),
    "modeldb_sync_event_to_sync_seconds": (),
    "modeldb_sync_messages_in_flight": (),
    "modeldb_sync_account_breaker_open": ("account", "region"),
    "modeldb_sync_breaker_open": ("edge",),
    "modeldb_sync_standing_by": (),
    "modeldb_sync_queue_messages": ("state",),
    "modeldb_sync_dead_letter_messages": (),
    "modeldb_sync_oldest_message_seconds": (),
    "modeldb_sync_last_poll_timestamp_seconds": (),
    "modeldb_sync_target_requests": ("operation", "result"),
    "modeldb_sync_aws_requests": ("operation", "result", "service"),
    "modeldb_sync_heartbeats": ("result",),
    "modeldb_sync_duplicate_runs_healed": (),
    "modeldb_sync_reconcile_jobs": ("result",),
    "modeldb_sync_reconcile_last_success_timestamp_seconds": (),
    "modeldb_sync_reconcile_fault": (),
    "modeldb_sync_reconcile_period_seconds": (),
    "modeldb_sync_checkpoint_rows": ("state",),
    "modeldb_sync_build_info": ("target", "version"),
}


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> Metrics:
    monkeypatch.setattr("daemon.intake.in_flight.wall", lambda: NOW)
    monkeypatch.setattr("daemon.observability.metrics.wall", lambda: NOW)
    return Metrics(version="1.2.3", target="modeldb-v2")


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((f"modeldb_sync_{name}", tuple(sorted(labels.items()))))


def use_everything(metrics: Metrics) -> None:
    metrics.received(2)
    metrics.step(Step.SYNC, 0.02)
    metrics.heartbeat("renewed")
    metrics.target_request("createExperimentRun", "ok")
    metrics.aws_request("sqs", "ReceiveMessage", "ok")
    metrics.queue(QueueState(3, 2, 1, 30, 10, "http://dead", 4))
    metrics.rows({"synced": 7, "rejected": 0})
    metrics.jobs.labels("synced", Reason.CREATED).inc()
    metrics.event_to_sync_seconds.observe(2)
    metrics.duplicate_runs_healed.inc(2)
    metrics.reconciled(Verdict.ENQUEUED)
    metrics.breaker_open.labels(Edge.TARGET).set(True)
    metrics.account_breaker_open.labels("210987654321", "eu-west-1").set(True)


def test_names_and_labels_are_the_contract(metrics: Metrics) -> None:
    use_everything(metrics)
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        if family.name.startswith("modeldb_sync_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            found[family.name] = labels
    assert found == {name: set(labels) for name, labels in CONTRACT.items()}


def test_recorded_values_are_shown(metrics: Metrics) -> None:
    use_everything(metrics)
    assert value(metrics, "messages_received_total") == 2
    assert value(metrics, "last_poll_timestamp_seconds") == NOW
    assert value(metrics, "step_duration_seconds_count", step="sync") == 1
    assert value(metrics, "step_duration_seconds_bucket", step="sync", le="0.01") == 0
    assert value(metrics, "step_duration_seconds_bucket", step="sync", le="0.025") == 1
    assert value(metrics, "heartbeats_total", result="renewed") == 1
    assert (
        value(metrics, "target_requests_total", operation="createExperimentRun", result="ok") == 1
    )
    assert (
        value(metrics, "aws_requests_total", service="sqs", operation="ReceiveMessage", result="ok")
        == 1
    )
    assert [
        value(metrics, "queue_messages", state=state)
        for state in ("visible", "in_flight", "delayed")
    ] == [3, 2, 1]
    assert value(metrics, "dead_letter_messages") == 4
    assert value(metrics, "checkpoint_rows", state="synced") == 7
    assert value(metrics, "checkpoint_rows", state="rejected") == 0
    assert value(metrics, "jobs_total", outcome="synced", reason="created") == 1
    assert value(metrics, "event_to_sync_seconds_bucket", le="2.5") == 1
    assert value(metrics, "event_to_sync_seconds_bucket", le="1.0") == 0
    assert value(metrics, "duplicate_runs_healed_total") == 2
    assert value(metrics, "reconcile_jobs_total", result="enqueued") == 1
    assert value(metrics, "reconcile_jobs_total", result="too_young") == 0
    assert value(metrics, "breaker_open", edge="target") == 1
    assert value(metrics, "build_info", version="1.2.3", target="modeldb-v2") == 1


def test_an_empty_poll_is_a_sign_of_life(metrics: Metrics) -> None:
    assert value(metrics, "last_poll_timestamp_seconds") == 0
    metrics.received(0)
    assert value(metrics, "last_poll_timestamp_seconds") == NOW
    assert value(metrics, "messages_received_total") == 0


def test_bounded_labels_are_there_from_the_start(metrics: Metrics) -> None:
    found = samples(metrics)
    for edge in Edge:
        assert found["modeldb_sync_breaker_open", (("edge", edge.value),)] == 0
    for result in HEARTBEAT_RESULTS:
        assert found["modeldb_sync_heartbeats_total", (("result", result),)] == 0
    for step in ("describe", "validate", "sync", "record"):
        assert found["modeldb_sync_step_duration_seconds_count", (("step", step),)] == 0
    for outcome, reasons in REASONS.items():
        for reason in reasons:
            assert (
                found["modeldb_sync_jobs_total", (("outcome", outcome), ("reason", reason.value))]
                == 0
            )


def test_what_is_not_known_yet_is_not_shown_as_zero(metrics: Metrics) -> None:
    assert value(metrics, "queue_messages", state="visible") is None
    assert math.isnan(value(metrics, "dead_letter_messages") or 0)
    metrics.queue(QueueState(0, 0, 0, 30, None, None, 5))
    metrics.queue(QueueState(0, 0, 0, 30, None, None, None))
    assert math.isnan(value(metrics, "dead_letter_messages") or 0)


async def test_the_ledger_is_looked_at_when_asked(metrics: Metrics) -> None:
    def message(name: str, sent_at: float | None) -> Message:
        return Message(name, "handle", "{}", 1, sent_at)

    ledger = InFlight()
    metrics.watch_in_flight(ledger)
    assert (value(metrics, "messages_in_flight"), value(metrics, "oldest_message_seconds")) == (
        0,
        0,
    )
    first = ledger.add(message("a", NOW - 90), 30)
    ledger.add(message("b", NOW - 10), 30)
    ledger.add(message("c", None), 30)
    assert (value(metrics, "messages_in_flight"), value(metrics, "oldest_message_seconds")) == (
        3,
        90,
    )
    assert first is not None
    ledger.remove(first)
    assert (value(metrics, "messages_in_flight"), value(metrics, "oldest_message_seconds")) == (
        2,
        10,
    )
    ledger.add(message("d", NOW + 5), 30)


async def test_a_clock_that_is_behind_shows_no_negative_age(metrics: Metrics) -> None:
    ledger = InFlight()
    metrics.watch_in_flight(ledger)
    ledger.add(Message("a", "handle", "{}", 1, NOW + 5), 30)
    assert value(metrics, "oldest_message_seconds") == 0


def test_two_daemons_in_one_process_do_not_share(metrics: Metrics) -> None:
    other = Metrics(version="1", target="x")
    metrics.received(5)
    assert value(other, "messages_received_total") == 0


def test_the_process_is_measured(metrics: Metrics) -> None:
    text = metrics.render()[0].decode()
    assert re.search(r"^process_resident_memory_bytes \d", text, re.MULTILINE)
    assert "python_info{" in text


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain;version=nonsense", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=nonsense", "text/plain; version=0.0.4"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0",
        ),
    ],
)
def test_the_format_follows_the_accept_header(
    metrics: Metrics, accept: str, content_type: str
) -> None:
    use_everything(metrics)
    text, found = metrics.render(accept)
    assert found.startswith(content_type)
    read = parse_open_metrics if "openmetrics" in found else text_string_to_metric_families
    names: Mapping[str, object] = {family.name: family for family in read(text.decode())}
    assert "modeldb_sync_jobs" in names


def test_no_series_of_start_times(metrics: Metrics) -> None:
    use_everything(metrics)
    assert "_created" not in metrics.render()[0].decode()

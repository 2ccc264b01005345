"""`/healthz` fails only for hung or dead loops; `/readyz` also for edges that need an operator."""

from __future__ import annotations

import pytest

from daemon.errors import EdgeFault
from daemon.intake.breaker import Breaker, Breakers
from daemon.observability.health import liveness_report, readiness_report
from daemon.observability.watchdog import Watchdog
from daemon.reasons import Edge, Reason
from tests.support.checkpoint_calls import FakeClock
from tests.support.flow_scene import CountingBackoff


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    made = FakeClock()
    monkeypatch.setattr("daemon.observability.watchdog.monotonic", made)
    return made


async def _passes() -> None: ...


def breakers(*, unproven: Edge | None = None) -> Breakers:
    return Breakers(
        Breaker(edge, _passes, CountingBackoff(), lambda _open: None, proven=edge is not unproven)
        for edge in Edge
    )


def fault(edge: Edge, reason: Reason = Reason.UNREACHABLE, *, curable: bool = True) -> EdgeFault:
    return EdgeFault(edge, reason, "no answer", curable=curable)


def test_alive_while_every_loop_rests_or_is_within_its_time(clock: FakeClock) -> None:
    watchdog = Watchdog()
    watchdog.pulse("poller 1").work(35)
    watchdog.pulse("heartbeat").rest()
    clock.now += 34
    report = liveness_report(watchdog)
    assert (report.ok, report.state) == (True, "alive")
    assert dict(report.checks) == {"poller 1": "ok", "heartbeat": "ok"}


def test_a_loop_that_rests_is_alive_for_as_long_as_it_takes(clock: FakeClock) -> None:
    watchdog = Watchdog()
    watchdog.pulse("poller 1").work(35)
    watchdog.pulse("poller 1").rest()
    clock.now += 1e6
    assert liveness_report(watchdog).ok


def test_a_loop_beyond_its_time_hangs(clock: FakeClock) -> None:
    watchdog = Watchdog()
    watchdog.pulse("poller 1").work(35)
    watchdog.pulse("heartbeat").rest()
    clock.now += 45
    report = liveness_report(watchdog)
    assert (report.ok, report.state) == (False, "hanging")
    assert dict(report.checks) == {"poller 1": "hangs: 10 s past its deadline", "heartbeat": "ok"}
    watchdog.pulse("poller 1").work(35)
    assert liveness_report(watchdog).ok


def test_a_dead_loop_is_no_life() -> None:
    watchdog = Watchdog()
    watchdog.pulse("heartbeat").dead = True
    report = liveness_report(watchdog)
    assert not report.ok
    assert report.checks["heartbeat"] == "ended"


def test_ready_when_every_edge_works() -> None:
    report = readiness_report(breakers(), stopping=False)
    assert (report.ok, report.state, set(report.checks.values())) == (True, "ready", {"ok"})
    assert set(report.checks) == {"target", "sagemaker", "queue", "checkpoint"}


def test_not_ready_while_it_stops() -> None:
    report = readiness_report(breakers(), stopping=True)
    assert (report.ok, report.state) == (False, "stopping")


@pytest.mark.parametrize("edge", [Edge.TARGET, Edge.SAGEMAKER])
@pytest.mark.parametrize("reason", [Reason.UNREACHABLE, Reason.UNAVAILABLE, Reason.THROTTLED])
def test_paused_and_ready_during_an_outage_that_will_pass(edge: Edge, reason: Reason) -> None:
    all_of_them = breakers()
    all_of_them.trip(fault(edge, reason))
    report = readiness_report(all_of_them, stopping=False)
    assert (report.ok, report.state) == (True, "paused")
    assert report.checks[edge.value] == f"{reason}: no answer"


@pytest.mark.parametrize("edge", [Edge.QUEUE, Edge.CHECKPOINT])
def test_not_ready_without_queue_or_checkpoint(edge: Edge) -> None:
    all_of_them = breakers()
    all_of_them.trip(fault(edge))
    report = readiness_report(all_of_them, stopping=False)
    assert (report.ok, report.state) == (False, "not ready")


@pytest.mark.parametrize("edge", [Edge.TARGET, Edge.SAGEMAKER])
@pytest.mark.parametrize(
    "reason", [Reason.CREDENTIALS, Reason.ACCESS_DENIED, Reason.NOT_THE_API, Reason.NOT_FOUND]
)
def test_not_ready_while_an_operator_must_fix_something(edge: Edge, reason: Reason) -> None:
    all_of_them = breakers()
    all_of_them.trip(fault(edge, reason))
    assert not readiness_report(all_of_them, stopping=False).ok


def test_not_ready_while_waiting_cannot_help() -> None:
    all_of_them = breakers()
    all_of_them.trip(fault(Edge.TARGET, Reason.UNAVAILABLE, curable=False))
    assert not readiness_report(all_of_them, stopping=False).ok


def test_not_ready_while_rejected_messages_cannot_leave_the_queue() -> None:
    denied = fault(Edge.QUEUE, Reason.ACCESS_DENIED)
    report = readiness_report(breakers(), stopping=False, dead_letter_fault=denied)
    assert (report.ok, report.state) == (False, "not ready")
    assert report.checks["dead_letters"] == "access_denied: no answer"


@pytest.mark.parametrize(
    ("edge", "state"),
    [
        (Edge.QUEUE, "not ready"),
        (Edge.CHECKPOINT, "not ready"),
        (Edge.TARGET, "paused"),
        (Edge.SAGEMAKER, "paused"),
    ],
)
def test_ready_when_queue_and_checkpoint_have_worked_once(edge: Edge, state: str) -> None:
    report = readiness_report(breakers(unproven=edge), stopping=False)
    assert (report.ok, report.state, report.checks[edge.value]) == (
        state == "paused",
        state,
        "not asked yet",
    )


def test_what_keeps_reconcile_from_working_is_said_and_says_nothing_of_readiness() -> None:
    said = "access_denied: permission sagemaker:ListTrainingJobs is missing"
    report = readiness_report(breakers(), stopping=False, reconcile=said)
    assert (report.ok, report.state) == (True, "ready")
    assert report.checks["reconcile"] == said
    assert "reconcile" not in readiness_report(breakers(), stopping=False).checks

"""What `/healthz` and `/readyz` say.

Healthy: every loop goes round. An outage outside is no reason to be killed.
Ready: the queue has answered and the checkpoint can be written. A target or SageMaker that is down
for a while leaves the daemon ready (it holds what it has and says so); what a person must mend (a
wrong address, credentials, permissions) and an edge that has never worked since the start do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.observability.http import HealthReport
from daemon.outcome import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.intake.breaker import Breaker
    from daemon.observability.watchdog import Watchdog

FOR_A_PERSON = frozenset(
    {Reason.CREDENTIALS, Reason.ACCESS_DENIED, Reason.NOT_THE_API, Reason.NOT_FOUND}
)


def liveness_report(watchdog: Watchdog) -> HealthReport:
    checks = watchdog.checks()
    ok = all(words == "ok" for words in checks.values())
    return HealthReport(ok, "alive" if ok else "hanging", checks)


def readiness_report(
    breakers: Mapping[Edge, Breaker], *, stopping: bool, standing_by_for: str = ""
) -> HealthReport:
    """What `/readyz` says.

    Args:
        standing_by_for: the process that is the writer of a target that takes one writer only; ""
            where this one works.
    """
    checks = {edge.value: _words(breaker) for edge, breaker in breakers.items()}
    if standing_by_for:
        checks["writer"] = (
            f"process {standing_by_for} is the writer; this one takes over when it ends"
        )
    ok = not stopping and not any(_keeps_from_ready(breaker) for breaker in breakers.values())
    if stopping:
        state = "stopping"
    elif any(breaker.is_open for breaker in breakers.values()):
        state = "paused" if ok else "not ready"
    else:
        state = "standing by" if standing_by_for else "ready"
    return HealthReport(ok, state, checks)


def _keeps_from_ready(breaker: Breaker) -> bool:
    if not breaker.is_open:
        return False
    needs_person = breaker.fault is not None and (
        not breaker.fault.curable or breaker.fault.reason in FOR_A_PERSON
    )
    return breaker.edge in {Edge.QUEUE, Edge.CHECKPOINT} or not breaker.proven or needs_person


def _words(breaker: Breaker) -> str:
    if not breaker.is_open:
        return "ok"
    if breaker.fault is None:
        return "not asked yet"
    return f"{breaker.fault.reason}: {breaker.fault.detail}"

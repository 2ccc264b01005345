"""The answers of `/healthz` and `/readyz`.

Healthy: no loop hangs. An outage elsewhere is no reason to restart the daemon.
Ready: the queue has answered and the checkpoint is writable. An outage of the target or of
SageMaker, also one since before the start, leaves the daemon ready: it holds its messages, or waits
to receive the first, and reports so. Not ready: an operator must act (wrong address, credentials,
permissions; a dead-letter queue that takes no rejected message).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.observability.http import HealthReport
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daemon.errors import EdgeFault
    from daemon.intake.breaker import Breaker
    from daemon.observability.watchdog import Watchdog

NEEDS_OPERATOR = frozenset(
    {Reason.CREDENTIALS, Reason.ACCESS_DENIED, Reason.NOT_THE_API, Reason.NOT_FOUND}
)


def liveness_report(watchdog: Watchdog) -> HealthReport:
    """The answer of `/healthz`."""
    checks = watchdog.checks()
    ok = all(words == "ok" for words in checks.values())
    return HealthReport(ok, "alive" if ok else "hanging", checks)


def readiness_report(
    breakers: Iterable[Breaker],
    *,
    stopping: bool,
    standing_by: str = "",
    dead_letter_fault: EdgeFault | None = None,
    reconcile: str = "",
) -> HealthReport:
    """The answer of `/readyz`.

    Args:
        breakers: of all edges.
        stopping: the daemon is shutting down.
        standing_by: why this process is not the writer of a single-writer target; "" if it may
            write.
        dead_letter_fault: why rejected messages cannot leave the queue; None if they can.
        reconcile: why jobs whose event was lost are not found; "" if they are. Says nothing of
            readiness.
    """
    breakers = list(breakers)
    checks = {breaker.name: _words(breaker) for breaker in breakers}
    # an edge with several breakers, one for each account, is open when all of them are
    working = {breaker.edge for breaker in breakers if not breaker.is_open}
    whole = [breaker for breaker in breakers if breaker.edge not in working]
    if standing_by:
        checks["writer"] = standing_by
    if dead_letter_fault is not None:
        checks["dead_letters"] = f"{dead_letter_fault.reason}: {dead_letter_fault.detail}"
    if reconcile:
        checks["reconcile"] = reconcile
    ok = (
        not stopping
        and dead_letter_fault is None
        and not any(_keeps_from_ready(breaker) for breaker in whole)
    )
    if stopping:
        state = "stopping"
    elif whole:
        state = "paused" if ok else "not ready"
    elif not ok:
        state = "not ready"
    else:
        state = "standing by" if standing_by else "ready"
    return HealthReport(ok, state, checks)


def _keeps_from_ready(breaker: Breaker) -> bool:
    needs_operator = breaker.fault is not None and (
        not breaker.fault.curable or breaker.fault.reason in NEEDS_OPERATOR
    )
    return breaker.edge in {Edge.QUEUE, Edge.CHECKPOINT} or needs_operator


def _words(breaker: Breaker) -> str:
    if not breaker.is_open:
        return "ok"
    if breaker.fault is None:
        return "not asked yet"
    return f"{breaker.fault.reason}: {breaker.fault.detail}"

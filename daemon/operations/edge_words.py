"""What is waited for while an edge is unavailable, in one line for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from daemon.clock import monotonic, wall
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.intake.breaker import Breaker

_NAMES: Mapping[Edge, str] = {
    Edge.TARGET: "ModelDB",
    Edge.SAGEMAKER: "SageMaker",
    Edge.QUEUE: "the queue",
    Edge.CHECKPOINT: "the checkpoint",
}
_STATES: Mapping[Reason, str] = {
    Reason.UNREACHABLE: "is unreachable",
    Reason.UNAVAILABLE: "is unavailable",
    Reason.THROTTLED: "throttles requests",
    Reason.CREDENTIALS: "does not accept the credentials",
    Reason.ACCESS_DENIED: "denies access",
    Reason.NOT_THE_API: "does not answer as its API does",
    Reason.OTHER_WRITER: "has another writer",
    Reason.NOT_FOUND: "does not exist",
    Reason.STORAGE: "cannot be read or written",
}


def waiting_for(breaker: Breaker) -> str:
    """Which edge is waited for, since when, and why.

    Args:
        breaker: an open one.
    """
    name, fault = _NAMES[breaker.edge], breaker.fault
    since = datetime.fromtimestamp(wall() - (monotonic() - breaker.changed_at), UTC)
    if fault is None:
        return f"{name} has not answered a first probe since {since:%H:%M:%S} UTC: waiting"
    state = _STATES.get(fault.reason, "does not work")
    return f"{name} {state} since {since:%H:%M:%S} UTC: waiting ({fault.detail})"

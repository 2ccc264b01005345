"""The state of the daemon as plain data: what the status page and ``/api/status`` show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.clock import monotonic, wall
from daemon.redaction.redactor import without_shapes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from daemon.intake.breaker import Breaker
    from daemon.intake.queue_monitor import QueueMonitor
    from daemon.observability.activity import Minute
    from daemon.operations.fleet import Replica
    from daemon.reasons import Edge
    from daemon.targets.place import TargetPlace


@dataclass(frozen=True, slots=True)
class EdgeStatus:
    """One of the four external systems, or what SageMaker has of one account and region."""

    edge: Edge
    works: bool
    since: float
    """Epoch seconds."""
    reason: str = ""
    """A `Reason`; "" while it works, and before its first answer."""
    detail: str = ""
    where: str = ""
    """``<account>/<region>`` whose jobs it is about; "": the daemon's own, or the whole edge."""


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """What the queue said last."""

    visible: int
    in_flight: int
    delayed: int
    dead_letters: int | None
    """None: there is no dead-letter queue, or it does not tell."""
    asked_at: float
    """Epoch seconds."""


@dataclass(frozen=True, slots=True)
class ReconcileStatus:
    """The search for jobs whose event was lost."""

    ended_at: float | None
    """Epoch seconds: the end of its last complete pass, by any process; None before the first."""
    enqueued: int
    """Jobs that this process has found and sent to the queue."""
    fault: str = ""
    """Why it does not work now; "" if it does."""


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon at one moment."""

    state: str
    """``ready``, ``paused``, ``standing by``, ``not ready`` or ``stopping``, as in ``/readyz``."""
    since: float
    """Epoch seconds: since when it is so, as far as the edges tell."""
    now: float
    """Epoch seconds."""
    started_at: float
    """Epoch seconds."""
    version: str
    target: TargetPlace
    edges: Sequence[EdgeStatus]
    standing_by: str = ""
    """Why this process is not the writer of its ModelDB V1; "" if it is or need not be."""
    dead_letter_fault: str = ""
    """Why rejected messages cannot leave the queue; "" if they can."""
    hanging: Sequence[str] = ()
    """Loops that hang or have ended, with what is wrong."""
    held_here: int = 0
    """Messages received and not yet acknowledged."""
    oldest_message_seconds: float | None = None
    """Age of the oldest of them since it was sent."""
    queue: QueueStatus | None = None
    """None before the queue's first answer."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Jobs in the checkpoint by state; empty before they were first counted."""
    reconcile: ReconcileStatus | None = None
    """None: it is switched off, or not begun."""
    replicas: Sequence[Replica] = ()
    """The daemons of this target, this one first; empty before they were first looked at."""
    minutes: Sequence[Minute] = ()
    """The last hour."""
    counted_since: float = 0.0
    """Epoch seconds: what is older in `minutes` comes from the checkpoint, without latencies."""

    @property
    def broken(self) -> Sequence[EdgeStatus]:
        """The edges that do not work."""
        return [each for each in self.edges if not each.works]


def edges_status(breakers: Iterable[Breaker]) -> Sequence[EdgeStatus]:
    """The state of each edge, in words that hold nothing of the shape of a secret."""
    ahead = wall() - monotonic()
    return [
        EdgeStatus(
            breaker.edge,
            works=not breaker.is_open,
            since=ahead + breaker.changed_at,
            reason=breaker.fault.reason if breaker.is_open and breaker.fault else "",
            detail=without_shapes(breaker.fault.detail)
            if breaker.is_open and breaker.fault
            else "",
            where=breaker.where,
        )
        for breaker in breakers
    ]


def queue_status(monitor: QueueMonitor | None) -> QueueStatus | None:
    """The queue's last answer; None before the first."""
    if monitor is None or monitor.state is None:
        return None
    state = monitor.state
    return QueueStatus(
        state.visible, state.in_flight, state.delayed, state.dead_letter_messages, monitor.asked_at
    )


def state_since(state: str, edges: Sequence[EdgeStatus], started_at: float) -> float:
    """Since when the daemon is in a state, as far as the edges tell: in an outage since its first
    edge failed, otherwise since the last one recovered.
    """
    broken = [each.since for each in edges if not each.works]
    if state == "ready":  # others may be working while one account is not
        return max([started_at, *(each.since for each in edges if each.works)])
    return min(broken, default=started_at)

"""What can become of a message: six outcomes, and the closed set of reasons of each.

The words are part of the contract: they are metric labels, log fields, checkpoint values and
dead-letter attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from daemon.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.errors import EdgeFault


REASONS: Mapping[str, tuple[Reason, ...]] = {
    "synced": (Reason.CREATED, Reason.FOUND_IN_TARGET, Reason.REPAIRED),
    "duplicate": (Reason.ALREADY_SYNCED, Reason.JOINED),
    "skipped": (
        Reason.OTHER_EVENT,
        Reason.STATUS_NOT_CONFIGURED,
        Reason.NOT_TAGGED,
        Reason.UNKNOWN_ACCOUNT,
    ),
    "rejected": (
        Reason.MALFORMED_BODY,
        Reason.TAGS_INCOMPLETE,
        Reason.JOB_GONE,
        Reason.JOB_REPLACED,
        Reason.FOREIGN_ACCOUNT,
        Reason.JOB_REFUSED,
        Reason.TARGET_REFUSED,
    ),
    "deferred": (
        Reason.NOT_TERMINAL,
        Reason.CLAIMED_ELSEWHERE,
        Reason.LEASE_LOST,
        Reason.NAME_LOCKED,
        Reason.TARGET_FAULT,
        Reason.SAGEMAKER_FAULT,
        Reason.DEAD_LETTER_FAILED,
        Reason.STANDING_BY,
        Reason.STOPPING,
        Reason.INTERNAL_ERROR,
        Reason.HELD_TOO_LONG,
        Reason.ACCOUNT_UNAVAILABLE,
    ),
    "held": (
        Reason.UNREACHABLE,
        Reason.UNAVAILABLE,
        Reason.THROTTLED,
        Reason.CREDENTIALS,
        Reason.ACCESS_DENIED,
        Reason.NOT_THE_API,
        Reason.OTHER_WRITER,
        Reason.NOT_FOUND,
        Reason.STORAGE,
    ),
}
"""The reasons of each kind of outcome. Each reason belongs to exactly one kind."""


@dataclass(frozen=True, slots=True)
class Synced:
    """The run is in the target, complete."""

    kind: ClassVar[str] = "synced"
    reason: Reason
    target_ids: Mapping[str, str] = field(default_factory=dict)
    """The target's own ids, for example ``{"project_id": …, "experiment_id": …, "run_id": …}``."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The job is already synced."""

    kind: ClassVar[str] = "duplicate"
    reason: Reason
    target_ids: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not to be synced; nothing else happens."""

    kind: ClassVar[str] = "skipped"
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A permanent failure: retrying cannot help. The message becomes a dead letter."""

    kind: ClassVar[str] = "rejected"
    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """This job may succeed later; the message is hidden for a while and received again."""

    kind: ClassVar[str] = "deferred"
    reason: Reason
    detail: str = ""
    delay_seconds: float | None = None
    """How long to hide the message; None: by the configured backoff and the receive count."""


@dataclass(frozen=True, slots=True)
class Held:
    """An edge is unavailable; the message is kept in flight until it recovers."""

    kind: ClassVar[str] = "held"
    fault: EdgeFault
    known: bool = False
    """No call was made, because the breaker is open."""

    @property
    def reason(self) -> Reason:
        return self.fault.reason

    @property
    def detail(self) -> str:
        return self.fault.detail


Outcome = Synced | Duplicate | Skipped | Rejected | Deferred | Held

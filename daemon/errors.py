"""The errors that this program raises on purpose. Their type decides the outcome of a message.

| error | what failed | outcome |
|---|---|---|
| `EdgeFault` | a whole edge | held until the edge recovers; the edge's circuit breaker opens |
| `JobFault` | this job, perhaps for a while | deferred |
| `JobRefused` | this job, permanently | rejected |
| `SetupFault` | the configuration or the machine | none: the program ends with status 2 |

Error texts never contain secrets: they quote responses, never requests, and lose whatever has the
shape of a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.reasons import Reason
from daemon.redaction.redactor import without_shapes

if TYPE_CHECKING:
    from daemon.reasons import Edge

_OF_THE_WHOLE_EDGE = frozenset(
    {
        Reason.THROTTLED,
        Reason.CREDENTIALS,
        Reason.STORAGE,
        Reason.UNREACHABLE,
        Reason.UNAVAILABLE,
        Reason.NOT_THE_API,
    }
)
"""Reasons that say nothing about the job whose call failed, however often it does."""


class DaemonError(Exception):
    """Base of every error this program raises on purpose."""


class SetupFault(DaemonError):
    """The program cannot start as configured or installed (wrong setting, corrupt checkpoint)."""


class EdgeFault(DaemonError):
    """An edge is unavailable for all jobs.

    Args:
        edge: which one.
        reason: one of ``REASONS["held"]`` in `daemon.outcome`.
        detail: what was seen and what to do, in one line.
        curable: False if the configuration looks wrong, which only a person can change (a web page
            instead of the API, a queue that does not exist). Found before the first receive, it
            ends `run` with status 2.
        may_be_the_jobs: whether the job of the call may be the cause, when the call keeps failing
            for it and works for others; None: decided by the reason.
        where: ``<account>/<region>`` of SageMaker's jobs that cannot be asked about, if they are
            those of an entry of ``accounts``; "": the daemon's own, or the whole edge.
    """

    def __init__(
        self,
        edge: Edge,
        reason: Reason,
        detail: str,
        *,
        curable: bool = True,
        may_be_the_jobs: bool | None = None,
        where: str = "",
    ) -> None:
        detail = without_shapes(detail)
        super().__init__(f"{edge}: {reason}: {detail}")
        self.edge = edge
        self.where = where
        self.reason = reason
        self.detail = detail
        self.curable = curable
        self.may_be_the_jobs = (
            reason not in _OF_THE_WHOLE_EDGE if may_be_the_jobs is None else may_be_the_jobs
        )

    def of(self, where: str) -> EdgeFault:
        """The same fault, of the jobs of one account and region, which its detail names."""
        account, _, region = where.partition("/")
        return EdgeFault(
            self.edge,
            self.reason,
            f"account {account} in {region}: {self.detail}",
            curable=self.curable,
            may_be_the_jobs=self.may_be_the_jobs,
            where=where,
        )


class JobFault(DaemonError):
    """This one job cannot be processed now; other jobs can.

    Args:
        reason: one of ``REASONS["deferred"]``.
        detail: what was seen, in one line.
        delay_seconds: how long to wait, if known (the end of a lease); None: the configured
            backoff.
    """

    def __init__(self, reason: Reason, detail: str, *, delay_seconds: float | None = None) -> None:
        detail = without_shapes(detail)
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.delay_seconds = delay_seconds


class JobRefused(DaemonError):
    """This one job cannot be synced; retrying cannot help.

    Args:
        reason: one of ``REASONS["rejected"]``.
        detail: what an operator needs to fix it, in one line.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        detail = without_shapes(detail)
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

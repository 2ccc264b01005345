"""The errors that this program raises on purpose. Their type decides the outcome of a message.

| error | what failed | outcome |
|---|---|---|
| `EdgeFault` | a whole edge | held until the edge recovers; the edge's circuit breaker opens |
| `JobFault` | this job, perhaps for a while | deferred |
| `JobRefused` | this job, permanently | rejected |
| `SetupFault` | the configuration or the machine | none: the program ends with status 2 |

Error texts never contain secrets: they quote responses, never requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.reasons import Edge, Reason


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
        curable: False if waiting cannot help because the configuration is wrong (a web page
            instead of the API, a queue that does not exist). Found before the first receive, it
            ends `run` with status 2.
    """

    def __init__(self, edge: Edge, reason: Reason, detail: str, *, curable: bool = True) -> None:
        super().__init__(f"{edge}: {reason}: {detail}")
        self.edge = edge
        self.reason = reason
        self.detail = detail
        self.curable = curable


class JobFault(DaemonError):
    """This one job cannot be processed now; other jobs can.

    Args:
        reason: one of ``REASONS["deferred"]``.
        detail: what was seen, in one line.
        delay_seconds: how long to wait, if known (the end of a lease); None: the configured
            backoff.
    """

    def __init__(self, reason: Reason, detail: str, *, delay_seconds: float | None = None) -> None:
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
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

"""The typed errors of the edges: whose fault it is decides what happens to the message.

| error | whose fault | what the message gets |
|---|---|---|
| `EdgeFault` | the whole edge's | held until the edge is back; the edge's breaker opens |
| `JobFault` | this job's, may pass | deferred |
| `JobRefused` | this job's, for good | rejected |
| `SetupFault` | the configuration's or the machine's | none yet: the program ends with status 2 |

Texts never contain secrets: edges build them from what the far side said, never from what was sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.outcome import Edge, Reason


class DaemonError(Exception):
    """Base of every error this program raises on purpose."""


class SetupFault(DaemonError):
    """Something a person must change before the program can start (configuration, a corrupt
    checkpoint file).
    """


class EdgeFault(DaemonError):
    """An edge does not work for anybody right now.

    Args:
        edge: which one.
        reason: one of the reasons under "held" in `daemon.outcome.Reason`.
        detail: what was seen and what to do, in one line.
        curable: False when waiting cannot help because the configuration is wrong (a web page
            instead of the API, a queue that does not exist): `run` then ends with status 2 if that
            is found before the first receive.
    """

    def __init__(self, edge: Edge, reason: Reason, detail: str, *, curable: bool = True) -> None:
        super().__init__(f"{edge}: {reason}: {detail}")
        self.edge = edge
        self.reason = reason
        self.detail = detail
        self.curable = curable


class JobFault(DaemonError):
    """This one job cannot be worked on now; other jobs can.

    Args:
        reason: one of the reasons under "deferred".
        detail: what was seen, in one line.
        delay_seconds: how long to wait, where the far side tells (a lease's end); None: the
            configured back-off.
    """

    def __init__(self, reason: Reason, detail: str, *, delay_seconds: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.delay_seconds = delay_seconds


class JobRefused(DaemonError):
    """This one job will never work as it is.

    Args:
        reason: one of the reasons under "rejected".
        detail: what a person needs to mend it, in one line.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

"""Watchdog for the daemon's background loops; backs `/healthz`.

A loop that waits for external input (a slot, a breaker, the next message) is healthy; one that
exceeds the deadline it has set itself is reported as hung. An outage must never look like a hang,
or the daemon would be restarted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Mapping


class Pulse:
    """The sign of life of one loop."""

    def __init__(self) -> None:
        self._deadline: float | None = None
        self.dead = False

    def rest(self) -> None:
        """The loop waits for something that may never happen."""
        self._deadline = None

    def work(self, limit_seconds: float) -> None:
        """The loop begins something that must end within this time."""
        self._deadline = monotonic() + limit_seconds

    @property
    def overdue_seconds(self) -> float:
        """How long the loop has exceeded its deadline; 0 if it has not."""
        return 0.0 if self._deadline is None else max(0.0, monotonic() - self._deadline)


class Watchdog:
    """The pulses of all loops."""

    def __init__(self) -> None:
        self._pulses: dict[str, Pulse] = {}

    def pulse(self, name: str) -> Pulse:
        """The pulse of a loop, created at the first call."""
        return self._pulses.setdefault(name, Pulse())

    def checks(self) -> Mapping[str, str]:
        """Each loop with "ok" or what is wrong with it."""
        return {name: _words(pulse) for name, pulse in self._pulses.items()}


def _words(pulse: Pulse) -> str:
    if pulse.dead:
        return "ended"
    overdue = pulse.overdue_seconds
    return f"hangs: {overdue:.0f} s past its deadline" if overdue else "ok"

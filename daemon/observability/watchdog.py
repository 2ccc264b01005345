"""Is every loop of the daemon still going round? What `/healthz` is made of.

A loop that waits for something outside (a slot, a breaker, the next message) rests and is alive for
as long as it takes; a loop that has said it would be through within a time and is not, hangs. An
outage must never look like a hang: it would get the daemon killed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.clock import monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Pulse:
    """The sign of life of one loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._deadline: float | None = None
        self.dead = False

    def rest(self) -> None:
        """The loop waits for something that may take for ever."""
        self._deadline = None

    def work(self, limit_seconds: float) -> None:
        """The loop begins something that ends within a time, whatever the outside does."""
        self._deadline = self._clock() + limit_seconds

    @property
    def overdue_seconds(self) -> float:
        """0 while all is well."""
        return 0.0 if self._deadline is None else max(0.0, self._clock() - self._deadline)


class Watchdog:
    """The pulses of all loops."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._pulses: dict[str, Pulse] = {}

    def pulse(self, name: str) -> Pulse:
        """The pulse of a loop, made at the first call."""
        if name not in self._pulses:
            self._pulses[name] = Pulse(self._clock)
        return self._pulses[name]

    def checks(self) -> Mapping[str, str]:
        """Each loop with "ok" or what is wrong with it."""
        return {name: _words(pulse) for name, pulse in self._pulses.items()}


def _words(pulse: Pulse) -> str:
    if pulse.dead:
        return "ended"
    overdue = pulse.overdue_seconds
    return f"hangs: {overdue:.0f} s over its time" if overdue else "ok"

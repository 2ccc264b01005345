"""How long a lease lasts, by the clocks of the process that holds it."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.clock import monotonic, wall


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by both clocks. The monotonic one stands still while a virtual machine is suspended, and
    the wall clock can be set back: whichever says that more time has passed counts.
    """

    monotonic: float
    wall: float

    @classmethod
    def now(cls) -> Moment:
        return cls(monotonic(), wall())


class LeaseClock:
    """The end of the lease of one claim, as its holder knows it: never later than the store's.

    Args:
        asked_at: from before the claim was taken.
        seconds: of the lease.
    """

    def __init__(self, asked_at: Moment, seconds: float) -> None:
        self._end = asked_at
        self.extend(asked_at, seconds)

    def extend(self, asked_at: Moment, seconds: float) -> None:
        """The lease was renewed. Nobody else had the claim in between, even if it had ended: a
        renewal finds the same fence.

        Args:
            asked_at: from before the renewal.
            seconds: of the lease.
        """
        self._end = Moment(asked_at.monotonic + seconds, asked_at.wall + seconds)

    def end(self) -> None:
        """The claim is known to be lost."""
        self._end = Moment(float("-inf"), float("-inf"))

    @property
    def valid(self) -> bool:
        """True while nobody else can have the claim."""
        now = Moment.now()
        return now.monotonic < self._end.monotonic and now.wall < self._end.wall

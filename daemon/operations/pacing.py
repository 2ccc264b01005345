"""The pace of requests to an API that throttles."""

from __future__ import annotations

import asyncio

from daemon.clock import monotonic

LEAST_SECONDS = 1.0
MOST_SECONDS = 60.0
_SLOWER = 2.0
_FASTER = 0.9
"""Per request that worked: after a throttled one, the former pace is back within a few of them."""


class Pace:
    """Lets one request start per period. A throttled request doubles the period, each one that
    works shortens it by a tenth, down to the shortest.

    Args:
        least_seconds: the shortest period, from start to start.
        most_seconds: the longest one.

    Attributes:
        period: seconds between two starts, now.
        throttles: how many requests were throttled.
    """

    def __init__(
        self, least_seconds: float = LEAST_SECONDS, most_seconds: float = MOST_SECONDS
    ) -> None:
        self.period = least_seconds
        self.throttles = 0
        self._least = least_seconds
        self._most = most_seconds
        self._last: float | None = None

    async def wait(self) -> None:
        """Returns when the next request may start; to be called right before it, by one task."""
        if self._last is not None:
            await asyncio.sleep(max(0.0, self._last + self.period - monotonic()))
        self._last = monotonic()

    def throttled(self) -> None:
        """The request was throttled."""
        self.throttles += 1
        self.period = min(self.period * _SLOWER, self._most)

    def worked(self) -> None:
        """The request was not throttled."""
        self.period = max(self.period * _FASTER, self._least)

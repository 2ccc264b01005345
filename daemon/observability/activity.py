"""The last hour in minutes: how many messages ended how, and how late jobs were recorded.

Bounded: 60 minutes, each with a count for every outcome and a histogram of a few hundred classes.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.clock import wall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MINUTES = 60

_LEAST_SECONDS = 0.05
_MOST_SECONDS = 2_000_000.0
_CLASSES_PER_DOUBLING = 8
"""A quantile is off by at most 9 %."""


@dataclass(frozen=True, slots=True)
class Minute:
    """What happened in one minute."""

    at: float
    """Its beginning, in epoch seconds."""
    outcomes: Mapping[str, int]
    """Number of messages by kind of outcome."""
    median_seconds: float | None
    """From the event to the durable outcome; None: no job whose event tells was synced."""
    slow_seconds: float | None
    """The same, of the slowest twentieth."""


@dataclass(slots=True)
class _Bucket:
    minute: int
    outcomes: Counter[str] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)


class Activity:
    """Counts by the minute.

    Attributes:
        since: when this process began to count, in epoch seconds.
    """

    def __init__(self) -> None:
        self.since = wall()
        self._buckets: deque[_Bucket] = deque(maxlen=MINUTES)

    def note(self, outcome: str, event_to_sync_seconds: float | None = None) -> None:
        """Counts one outcome.

        Args:
            outcome: its kind.
            event_to_sync_seconds: from the event to the durable outcome, where that is measured.
        """
        minute = int(wall() // 60)
        # a clock that is set back counts into the newest minute
        if not self._buckets or self._buckets[-1].minute < minute:
            self._buckets.append(_Bucket(minute))
        bucket = self._buckets[-1]
        bucket.outcomes[outcome] += 1
        if event_to_sync_seconds is not None:
            bucket.latencies[_class_of(event_to_sync_seconds)] += 1

    def count(self, outcome: str) -> int:
        """How many messages ended like this in the last 60 minutes, in this process."""
        first = int(wall() // 60) - MINUTES + 1
        return sum(bucket.outcomes[outcome] for bucket in self._buckets if bucket.minute >= first)

    def last_hour(self, before: Mapping[int, Mapping[str, int]] | None = None) -> Sequence[Minute]:
        """The last 60 minutes, the current one last; those in which nothing happened are there.

        Args:
            before: counts of what was before this process, by minutes since the epoch.
        """
        now = int(wall() // 60)
        known = {bucket.minute: bucket for bucket in self._buckets}
        before = before or {}
        minutes = []
        for minute in range(now - MINUTES + 1, now + 1):
            bucket = known.get(minute) or _Bucket(minute)
            outcomes = Counter(before.get(minute, {})) + bucket.outcomes
            minutes.append(
                Minute(
                    minute * 60.0,
                    dict(outcomes),
                    _quantile(bucket.latencies, 0.5),
                    _quantile(bucket.latencies, 0.95),
                )
            )
        return minutes


def _class_of(seconds: float) -> int:
    bounded = min(max(seconds, _LEAST_SECONDS), _MOST_SECONDS)
    return round(math.log2(bounded) * _CLASSES_PER_DOUBLING)


def _quantile(latencies: Counter[int], part: float) -> float | None:
    left = math.ceil(latencies.total() * part)
    for each in sorted(latencies):
        left -= latencies[each]
        if left <= 0:
            return float(2 ** (each / _CLASSES_PER_DOUBLING))
    return None

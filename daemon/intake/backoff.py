"""Exponential backoff with jitter and a maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `initial_seconds` to `max_seconds`, each shortened at random by up to
    half, so that messages that failed together do not return together.
    """

    initial_seconds: float
    max_seconds: float
    random: random.Random

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the given number of failed attempts (1 or more)."""
        # 2**32 exceeds any maximum in use
        doublings = min(max(attempt - 1, 0), 32)
        longest = min(self.initial_seconds * 2.0**doublings, self.max_seconds)
        return longest * (0.5 + self.random.random() / 2)

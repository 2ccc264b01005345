"""How long to wait before the next try: exponential, with jitter, never above a maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds that double from `initial_seconds` to `max_seconds`, each shortened at
    random by up to half.

    The jitter keeps messages that failed together from coming back together.
    """

    initial_seconds: float
    max_seconds: float
    random: random.Random

    def delay(self, attempt: int) -> float:
        """The pause after a number of failed attempts (1 for the first)."""
        # beyond, any maximum in use is long passed, and 2**n only grows
        doublings = min(max(attempt - 1, 0), 32)
        longest = min(self.initial_seconds * 2.0**doublings, self.max_seconds)
        return longest * (0.5 + self.random.random() / 2)

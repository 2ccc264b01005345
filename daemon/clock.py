"""The two clocks of the program. Every other module asks here, so that a simulation can move them
for all of it.

The monotonic clock measures how long something takes in this process; the wall clock dates what
other processes read, and may jump.
"""

from __future__ import annotations

import time


def monotonic() -> float:
    """Seconds since some moment; never goes back."""
    return time.monotonic()


def wall() -> float:
    """Epoch seconds, as the machine's clock has them now."""
    return time.time()

"""The two clocks of the program. No other module reads the machine's clocks, so that a simulation
can replace them.

The monotonic clock measures durations within this process. The wall clock dates what other
processes read, and may jump.
"""

from __future__ import annotations

import time


def monotonic() -> float:
    """Seconds since an arbitrary moment; never goes back."""
    return time.monotonic()


def wall() -> float:
    """Epoch seconds."""
    return time.time()

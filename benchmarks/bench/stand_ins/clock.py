"""AWS's clock, which is ahead of the participants'.

The daemon asks the target for runs of a job before it writes one, unless the job has ended at least
five minutes after the daemon has opened its checkpoint (within that time clocks may disagree). So a
fair look at a daemon that has been running for a while would begin five minutes after each start.
It trusts AWS's clock to be ahead by the same five minutes: one that is nearly so far ahead lets
what is sent two seconds after the start be as late.
"""

from __future__ import annotations

import time

AHEAD_SECONDS = 299.0
SETTLED_SECONDS = 3.0
"""So long after its start a participant is past all that, if AWS's clock is ahead."""


def aws_time() -> float:
    """Epoch seconds."""
    return time.time() + AHEAD_SECONDS

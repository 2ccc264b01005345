"""The daemon with next to no pauses between probes, between botocore's retries, and before it looks
for jobs without an event.

``python -m`` this instead of ``daemon``.
"""

from __future__ import annotations

from botocore.retries.standard import ExponentialBackoff

from daemon import app
from daemon.__main__ import main
from daemon.operations import reconcile_loop

if __name__ == "__main__":
    app.PROBE_BACKOFF = (0.005, 0.01)
    reconcile_loop.START_SECONDS = reconcile_loop.AGAIN_SECONDS = 0.05
    setattr(ExponentialBackoff, "delay_amount", lambda _self, _context: 0)  # noqa: B010 - untyped on purpose
    raise SystemExit(main())

"""The daemon with next to no pauses between probes and botocore's retries.

``python -m`` this instead of ``daemon``.
"""

from __future__ import annotations

from botocore.retries.standard import ExponentialBackoff

from daemon import app
from daemon.__main__ import main

if __name__ == "__main__":
    app.PROBE_BACKOFF = (0.005, 0.01)
    setattr(ExponentialBackoff, "delay_amount", lambda _self, _context: 0)  # noqa: B010 - untyped on purpose
    raise SystemExit(main())

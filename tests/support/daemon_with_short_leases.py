"""The daemon with leases and pauses that end within seconds, for tests with several of them.

``python -m`` this instead of ``daemon``. All replicas of a test are on one host, so their clocks
need not be allowed to differ by much, and the servers answer at once, so the writer of a ModelDB V1
need not wait for a call's deadline.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from daemon import app
from daemon.__main__ import main
from daemon.checkpoint import writer_lease
from daemon.checkpoint.dynamodb import opening
from daemon.checkpoint.dynamodb.store import open_dynamodb_checkpoint
from daemon.operations import reconcile_loop

LEASE_SECONDS = 4.0
CLOCK_SKEW_SECONDS = 0.5
CALL_SECONDS = 1.0
WRITER_SPARE_SECONDS = 2.0
RECONCILE_AGAIN_SECONDS = 3.0


def _short_writer_lease(*arguments: Any, **options: Any) -> writer_lease.WriterLeaseKeeper:
    return writer_lease.WriterLeaseKeeper(*arguments, **options | {"call_seconds": CALL_SECONDS})


if __name__ == "__main__":
    app.LEASE_SECONDS = LEASE_SECONDS
    app.PROBE_BACKOFF = (0.2, 2.0)
    reconcile_loop.START_SECONDS = reconcile_loop.AGAIN_SECONDS = RECONCILE_AGAIN_SECONDS
    writer_lease.SPARE_SECONDS = WRITER_SPARE_SECONDS
    writer_lease.RENEW_SECONDS = writer_lease.STAND_BY_SECONDS = 0.5
    setattr(app, "WriterLeaseKeeper", _short_writer_lease)  # noqa: B010 - a function for a class
    setattr(  # noqa: B010 - the same
        opening,
        "open_dynamodb_checkpoint",
        partial(open_dynamodb_checkpoint, clock_skew_seconds=CLOCK_SKEW_SECONDS),
    )
    raise SystemExit(main())

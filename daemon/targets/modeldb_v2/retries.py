"""The one error of ModelDB V2 that is retried at once."""

from __future__ import annotations

import stamina

from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind


def _is_bare_500(error: Exception) -> bool:
    return isinstance(error, ApiError) and error.kind is ApiErrorKind.BARE_500


retrying = stamina.AsyncRetryingCaller(
    attempts=3, timeout=None, wait_initial=0.5, wait_max=2.0, wait_jitter=0.5
).on(_is_bare_500)
"""Retries a call that ended in ``500 {"code":2}``: the first calls on dead pooled connections get
that when the database is just back. Other errors are raised at once, because an outage lasts longer
than any retry should. Only for idempotent calls.
"""

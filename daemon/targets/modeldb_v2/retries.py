"""The one answer of ModelDB V2 that is tried again at once."""

from __future__ import annotations

import stamina

from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind


def _says_nothing(error: Exception) -> bool:
    return isinstance(error, ApiError) and error.kind is ApiErrorKind.BARE_500


patiently = stamina.AsyncRetryingCaller(
    attempts=3, timeout=None, wait_initial=0.5, wait_max=2.0, wait_jitter=0.5
).on(_says_nothing)
"""Awaits a call again when it ended in ``500 {"code":2}``: that is what the first calls on dead
pooled connections get when the database is just back. Everything else is for the caller, because an
outage lasts longer than any retry should.

Only for calls that may be carried out twice.
"""

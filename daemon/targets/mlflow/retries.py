"""The errors of MLflow that are retried at once."""

from __future__ import annotations

import stamina

from daemon.targets.mlflow.errors import ApiError, ApiErrorKind


def _is_absent(error: Exception) -> bool:
    return isinstance(error, ApiError) and error.kind is ApiErrorKind.ABSENT


until_visible = stamina.AsyncRetryingCaller(
    attempts=4, timeout=None, wait_initial=0.5, wait_max=2.0, wait_jitter=0.5
).on(_is_absent)
"""Retries a call that names something that exists and was answered with "does not exist": a server
whose reads come from a replica does not see at once what it has just created. Such an answer was
given before anything was written, so creates can be repeated, too.
"""


def _is_absent_or_a_race(error: Exception) -> bool:
    return _is_absent(error) or (
        isinstance(error, ApiError) and error.kind is ApiErrorKind.DATABASE_REFUSED
    )


until_recorded = stamina.AsyncRetryingCaller(
    attempts=4, timeout=None, wait_initial=0.2, wait_max=1.0, wait_jitter=0.5
).on(_is_absent_or_a_race)
"""Retries a runs/log-inputs, also one that the database refused: of two jobs that name the same
data set at once, both insert it, and the server answers one of them with the error of the unique
key. The next time it finds the data set.
"""

"""The one error of ModelDB V2 that is retried at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import stamina

from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Value = TypeVar("Value")


def _is_bare_500(error: Exception) -> bool:
    return isinstance(error, ApiError) and error.kind is ApiErrorKind.BARE_500


_retrying = stamina.AsyncRetryingCaller(
    attempts=3, timeout=None, wait_initial=0.5, wait_max=2.0, wait_jitter=0.5
).on(_is_bare_500)


async def retrying(call: Callable[[], Awaitable[Value]]) -> Value:
    """The result of a call that is made again if it ended in ``500 {"code":2}``: the first calls on
    dead pooled connections get that when the database is just back. Other errors are raised at
    once, because an outage lasts longer than any retry should.

    Args:
        call: must be idempotent; made at most three times.
    """
    try:
        return await call()
    except ApiError as error:
        if not _is_bare_500(error):
            raise
        failed: ApiError | None = error

    # A call through stamina costs 0.1 ms and leaves a cycle of garbage, so only one that has failed
    # goes through it. The first attempt that it sees is the one that was made.
    async def again() -> Value:
        nonlocal failed
        if failed is not None:
            first, failed = failed, None
            raise first
        return await call()

    return await _retrying(again)

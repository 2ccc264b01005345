"""MLflow clients of scripted servers (`tests.support.modeldb_v2_scripted.serving`)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.http.session import HttpSession
from daemon.targets.mlflow.client import HINTS, MlflowClient
from daemon.targets.mlflow.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from daemon.targets.http.session import RequestSigner

SESSION_OPTIONS: dict[str, Any] = {
    "headers": {},
    "tls": None,
    "timeout_seconds": 10.0,
    "max_concurrency": 4,
}


@contextlib.asynccontextmanager
async def asking(
    url: str,
    *,
    signer: RequestSigner | None = None,
    observe: Callable[[str, str], None] = lambda _operation, _result: None,
    **options: Any,
) -> AsyncIterator[MlflowClient]:
    session = HttpSession(HINTS, **SESSION_OPTIONS | options)
    client = MlflowClient(session, url, signer=signer, observe=observe)
    try:
        yield client
    finally:
        await client.aclose()


async def error_of(call: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await call
    return caught.value

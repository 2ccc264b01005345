"""The SageMaker clients of other accounts and regions, each opened at its first call."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from types_aiobotocore_sagemaker import SageMakerClient

    from daemon.aws.metric_series import MetricsClient


@dataclass(frozen=True, slots=True)
class MemberClients:
    """Those of one account and region; as in `daemon.aws.clients.AwsClients`."""

    account: str
    region: str
    partition: str
    sagemaker: SageMakerClient
    sagemaker_listing: SageMakerClient
    sagemaker_metrics: MetricsClient | None


class LateClient:
    """Stands for a client of botocore's, which it opens at the first call. Belongs to one event
    loop.

    Args:
        create: makes the client.
    """

    def __init__(self, create: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._create = create
        self._opened = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        async def call(**request: Any) -> Any:  # noqa: ANN401 - botocore's
            return await getattr(await self._open(), operation)(**request)

        return call

    async def _open(self) -> Any:  # noqa: ANN401 - botocore makes it at run time
        async with self._opening:
            if self._client is None:
                self._client = await self._opened.enter_async_context(self._create())
            return self._client

    async def aclose(self) -> None:
        """Closes the client, if it was opened."""
        await self._opened.aclose()

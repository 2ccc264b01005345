"""Waiting for one thing unless another comes first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

Result = TypeVar("Result")


async def unless(event: asyncio.Event, wait: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of `wait`; None if the event was set first, which cancels it."""
    waiting = asyncio.ensure_future(wait)
    stopping = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else None
    finally:
        waiting.cancel()
        stopping.cancel()
        await asyncio.gather(waiting, stopping, return_exceptions=True)

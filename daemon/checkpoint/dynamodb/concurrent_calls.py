"""Several calls of the table for one call of the checkpoint."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable
    from typing import Any

T = TypeVar("T")

AT_ONCE = 16
"""Calls of the table for one call of the checkpoint."""


async def each_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Awaits calls, `AT_ONCE` at a time; all of them, before one that failed is raised.

    Args:
        calls: each is made only when its turn comes, so a cancellation leaves none unawaited.
    """
    waiting = enumerate(calls)
    answers: dict[int, T] = {}
    faults: list[Exception] = []

    async def work() -> None:
        for number, call in waiting:
            try:
                answers[number] = await call
            except Exception as fault:  # noqa: BLE001 - raised below
                faults.append(fault)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    if faults:
        raise faults[0]
    return [answers[number] for number in sorted(answers)]

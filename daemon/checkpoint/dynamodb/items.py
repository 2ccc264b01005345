"""Decisions on single items that belong to no document: read, decide by the rules, write on
condition that nobody else has changed the item meanwhile, otherwise the same again.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from daemon.checkpoint.dynamodb.partitions import pauses, too_busy
from daemon.checkpoint.dynamodb.table import (
    EXPIRES_AT,
    PARTITION_KEY,
    SORT_KEY,
    VERSION,
    ConditionFailed,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from daemon.checkpoint.dynamodb.table import Item, Table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ItemDecision(Generic[T]):
    """What comes of a rule."""

    answer: T
    attributes: Item | None = None
    """Of the item as it is to be, without keys and version; None: it stays as it is."""
    delete: bool = False


class Items:
    """Items of a table.

    Args:
        table: where they are.
        keep_seconds: how long those that expire are kept.
        jitter: of the pauses between attempts.
    """

    def __init__(self, table: Table, *, keep_seconds: float, jitter: random.Random) -> None:
        self.table = table
        self._keep_seconds = keep_seconds
        self._jitter = jitter

    def expiring(self, attributes: Item, *, since: float) -> Item:
        """The attributes of an item that may go when it was kept for long enough."""
        return {**attributes, EXPIRES_AT: math.ceil(since + self._keep_seconds)}

    async def decide(
        self, partition: str, sort: str, rule: Callable[[Item | None], ItemDecision[T]]
    ) -> T:
        """Carries out a decision about one item.

        Args:
            partition: of the item.
            sort: its sort key.
            rule: called with the item, again for each attempt; may raise.

        Raises:
            EdgeFault: the table's, or others were quicker each time.
        """
        attempts = pauses(self._jitter)
        while True:
            item = await self.table.get(partition, sort)
            decision = rule(item)
            version = None if item is None else int(item[VERSION])
            try:
                if decision.delete and version is not None:
                    await self.table.delete(partition, sort, expected=version)
                elif decision.attributes is not None:
                    item = {**decision.attributes, PARTITION_KEY: partition, SORT_KEY: sort}
                    item[VERSION] = (version or 0) + 1
                    await self.table.put(item, expected=version)
            except ConditionFailed:
                pause = next(attempts, None)
                if pause is None:
                    raise too_busy(partition) from None
                await asyncio.sleep(pause)
            else:
                return decision.answer

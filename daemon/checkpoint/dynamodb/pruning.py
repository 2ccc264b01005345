"""Deletes what is old where the table does not do so by itself (TTL): found by the indexes, each
item deleted or written on condition that nobody has changed it meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.concurrent_calls import each_of
from daemon.checkpoint.dynamodb.documents import (
    document_item,
    document_of,
    is_document,
    mirrors,
)
from daemon.checkpoint.dynamodb.messages import message_of
from daemon.checkpoint.dynamodb.table import (
    PARTITION_KEY,
    SORT_KEY,
    VERSION,
    ConditionFailed,
    Index,
)
from daemon.checkpoint.ports import JobState
from daemon.checkpoint.rules import NEVER_PRUNED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.checkpoint.dynamodb.table import Item, Table

PRUNED_AT_ONCE = 250
"""Entries of one hash key of the index."""


class Pruning:
    """Deletes from a table.

    Args:
        table: to delete from.
        keep_seconds: how long a document is kept that is written.
    """

    def __init__(self, table: Table, *, keep_seconds: float) -> None:
        self._table = table
        self._keep_seconds = keep_seconds

    async def jobs(self, older_than: float, *, now: float) -> int:
        """Deletes rows of jobs, stories, and what is left of claims and locks, of all targets.

        Args:
            older_than: what was last changed before this moment, in epoch seconds.
            now: epoch seconds.

        Returns:
            How many were deleted, some at a time; 0: no more are left.
        """
        states = [state.value for state in JobState if state not in NEVER_PRUNED]
        found = await self._old([*states, keys.WITHOUT_ROW], older_than)
        partitions = dict.fromkeys(str(item[PARTITION_KEY]) for item in found)
        return sum(await each_of(self._partition(each, older_than, now=now) for each in partitions))

    async def messages(self, older_than: float) -> int:
        """As `jobs`, for rejected messages."""
        found = await self._old([keys.MESSAGE], older_than)
        return sum(await each_of(self._message(item, older_than) for item in found))

    async def _old(self, states: Sequence[str], older_than: float) -> list[Item]:
        pages = await each_of(
            self._table.index(
                Index.BY_OUTCOME, key, before=older_than, newest_first=False, limit=PRUNED_AT_ONCE
            )
            for state in states
            for key in keys.outcomes(state)
        )
        return [item for page in pages for item in page.items]

    async def _message(self, found: Item, older_than: float) -> int:
        partition, sort = str(found[PARTITION_KEY]), str(found[SORT_KEY])
        item = await self._table.get(partition, sort)
        if item is None or message_of(item).rejected_at >= older_than:
            return 0
        return int(await self._deleted(item))

    async def _partition(self, partition: str, older_than: float, *, now: float) -> int:
        items = await self._table.partition(partition)
        further = {str(item[SORT_KEY]): item for item in items if not is_document(item)}
        pruned = 0
        needed: set[str] = set()
        for item in items:
            if not is_document(item):
                continue
            document = document_of(item)
            left = document.without_old(older_than)
            if not left.rows and not left.stories:
                left = left.without_ended(before=older_than)
            gone = len(document.rows) + len(document.stories) - len(left.rows) - len(left.stories)
            if left.empty:
                gone = max(1, gone) if await self._deleted(item) else 0
            elif left != document:
                written = document_item(left, partition, now=now, keep_seconds=self._keep_seconds)
                gone = gone if await self._put(written, item) else 0
            left = left if gone else document
            needed |= mirrors(left, partition, keep_seconds=self._keep_seconds).keys()
            pruned += gone
        for sort in further.keys() - needed:
            await self._deleted(further[sort])
        return pruned

    async def _put(self, item: dict[str, str | float | int], before: Item) -> bool:
        version = int(before[VERSION])
        try:
            await self._table.put({**item, VERSION: version + 1}, expected=version)
        except ConditionFailed:
            return False
        return True

    async def _deleted(self, item: Item) -> bool:
        try:
            await self._table.delete(
                str(item[PARTITION_KEY]), str(item[SORT_KEY]), expected=int(item[VERSION])
            )
        except ConditionFailed:
            return False
        return True

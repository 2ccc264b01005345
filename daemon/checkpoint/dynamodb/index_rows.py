"""Rows from the indexes, newest change first: those of several hash keys merged by time, page by
page, so that a question costs about as much as its answer is long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from daemon.checkpoint.dynamodb.table import CHANGED_AT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.checkpoint.dynamodb.table import Index, Item, Table

T = TypeVar("T")

LARGEST_PAGE = 1000
SMALLEST_PAGE = 20


class _Stream:
    """The items of one hash key, newest first."""

    def __init__(
        self, table: Table, index: Index, key: str, after: float, before: float | None, size: int
    ) -> None:
        self._table = table
        self._index = index
        self._key = key
        self._after = after
        self._before = before
        self._size = size
        self._items: deque[Item] = deque()
        self._next: str | None = None
        self._begun = False

    async def fill(self) -> None:
        """Reads on until there is an item, or no more."""
        while not self._items and not (self._begun and self._next is None):
            page = await self._table.index(
                self._index,
                self._key,
                after=self._after,
                before=self._before,
                limit=self._size,
                page=self._next,
            )
            self._begun = True
            self._items.extend(page.items)
            self._next = page.next
            self._size = LARGEST_PAGE

    @property
    def newest(self) -> float | None:
        """When the next item was changed; None: there is none."""
        return float(self._items[0][CHANGED_AT]) if self._items else None

    def pop(self) -> Item:
        return self._items.popleft()


async def newest(
    table: Table,
    index: Index,
    hash_keys: Sequence[str],
    decode: Callable[[Item], T],
    wanted: Callable[[T], bool] = lambda _row: True,
    *,
    limit: int | None,
    after: float = 0.0,
    before: float | None = None,
) -> list[T]:
    """The newest wanted rows. Where the last of them was changed at the same moment as others,
    those, too.

    Args:
        table: that has the index.
        index: to be asked.
        hash_keys: of the index.
        decode: what an item says.
        wanted: which rows count.
        limit: how many of them are enough; None: all.
        after: only what was changed at this moment or later, in epoch seconds.
        before: only what was changed before this moment.
    """
    if limit is not None and limit <= 0:
        return []
    share = LARGEST_PAGE if limit is None else 2 * limit // len(hash_keys)
    size = min(LARGEST_PAGE, max(SMALLEST_PAGE, share))
    streams = [_Stream(table, index, key, after, before, size) for key in hash_keys]
    await asyncio.gather(*(stream.fill() for stream in streams))
    found: list[T] = []
    last = float("inf")
    while True:
        heads = [(at, number) for number, each in enumerate(streams) if (at := each.newest)]
        if not heads:
            return found
        at, number = max(heads)
        if limit is not None and len(found) >= limit and at < last:
            return found
        row = decode(streams[number].pop())
        if wanted(row):
            found.append(row)
            last = at
        await streams[number].fill()

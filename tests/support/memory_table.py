"""A DynamoDB table in memory: a test double for `daemon.checkpoint.dynamodb.table.Table`.

It does what the store relies on, one call at a time, and refuses what DynamoDB refuses: items and
keys that are too large, empty keys, values of other types. Its indexes show a change at once, and
it never throttles; a test that wants otherwise puts that in front. It passes the tests of
`tests/unit/checkpoint/dynamodb/test_table.py` like the tables on servers.
"""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING

from daemon.checkpoint.dynamodb.table import (
    CHANGED_AT,
    PARTITION_KEY,
    ROW,
    SORT_KEY,
    VERSION,
    WRITE_ID,
    ConditionFailed,
    Index,
    Page,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.checkpoint.dynamodb.table import Item

ITEM_LIMIT = 400 * 1024
PARTITION_KEY_LIMIT = 2048
SORT_KEY_LIMIT = 1024


class MemoryItems:
    """What a table holds: several `MemoryTable` share it, as processes share a table."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self.writes = 0


class MemoryTable:
    """One process's access to a table.

    Args:
        held: what the table holds.
    """

    def __init__(self, held: MemoryItems) -> None:
        self.held = held

    async def get(self, partition: str, sort: str) -> Item | None:
        await asyncio.sleep(0)
        return self.held.items.get((partition, sort))

    async def partition(self, partition: str, *, consistent: bool = True) -> Sequence[Item]:
        await asyncio.sleep(0)
        return [item for (pk, _), item in sorted(self.held.items.items()) if pk == partition]

    async def put(self, item: Item, *, expected: int | None) -> None:
        await asyncio.sleep(0)
        stored = {name: _stored(value) for name, value in item.items()}
        _require_storable(stored)
        key = (str(item[PARTITION_KEY]), str(item[SORT_KEY]))
        if self._version(key) != expected:
            raise ConditionFailed
        self.held.writes += 1
        self.held.items[key] = {**stored, WRITE_ID: str(self.held.writes)}

    async def delete(self, partition: str, sort: str, *, expected: int) -> None:
        await asyncio.sleep(0)
        if self._version((partition, sort)) not in {None, expected}:
            raise ConditionFailed
        self.held.writes += 1
        self.held.items.pop((partition, sort), None)

    async def index(
        self,
        index: Index,
        key: str,
        *,
        after: float = 0.0,
        before: float | None = None,
        newest_first: bool = True,
        limit: int = 1000,
        page: str | None = None,
    ) -> Page:
        await asyncio.sleep(0)
        found = [
            (item[CHANGED_AT], *place)
            for place, item in self.held.items.items()
            if item.get(index.hash_key) == key
            and after <= float(item[CHANGED_AT]) < (float("inf") if before is None else before)
        ]
        found.sort(reverse=newest_first)
        if page is not None:
            last = tuple(json.loads(page))
            found = [each for each in found if (each < last if newest_first else each > last)]
        shown = [self.held.items[pk, sk] for _, pk, sk in found[:limit]]
        following = json.dumps(found[limit - 1]) if len(found) > limit else None
        return Page([_projected(item, index) for item in shown], following)

    async def count(self, index: Index, key: str) -> int:
        await asyncio.sleep(0)
        return sum(item.get(index.hash_key) == key for item in self.held.items.values())

    async def aclose(self) -> None:
        pass

    def _version(self, key: tuple[str, str]) -> int | None:
        item = self.held.items.get(key)
        return None if item is None else int(item[VERSION])


def _projected(item: Item, index: Index) -> Item:
    """What an index has of an item: the keys of both, and the row."""
    names = (PARTITION_KEY, SORT_KEY, index.hash_key, CHANGED_AT, ROW)
    return {name: item[name] for name in names if name in item}


def _stored(value: str | float) -> str | float:
    """A value as it comes back: text that UTF-8 cannot hold is replaced."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _require_storable(item: Item) -> None:
    size = 0
    for name, value in item.items():
        if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"DynamoDB cannot store {name}={value!r}")
        size += len(name.encode()) + (len(value.encode()) if isinstance(value, str) else 21)
    if size > ITEM_LIMIT:
        raise ValueError(f"an item of {size} bytes")
    for name, longest in ((PARTITION_KEY, PARTITION_KEY_LIMIT), (SORT_KEY, SORT_KEY_LIMIT)):
        if not 0 < len(str(item[name]).encode()) <= longest:
            raise ValueError(f"the key {name}={item[name]!r}")
    for index in Index:
        if item.get(index.hash_key) == "":
            raise ValueError(f"an empty {index.hash_key}")

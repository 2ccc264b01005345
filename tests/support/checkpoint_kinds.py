"""The stores that the tests of `tests/checkpoint` run on: each opens a checkpoint as one more
process would, for any target.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from daemon.checkpoint.dynamodb.aws_table import open_aws_table
from daemon.checkpoint.dynamodb.store import open_dynamodb_checkpoint
from daemon.checkpoint.dynamodb.table import PARTITION_KEY, Index
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from tests.support.checkpoint_calls import checkpoints_at
from tests.support.memory_table import MemoryItems, MemoryTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from daemon.aws.dynamodb import DynamoDbPlace
    from daemon.checkpoint.dynamodb.table import Item, Page, Table
    from daemon.checkpoint.ports import Checkpoint
    from daemon.targets.place import TargetPlace
    from tests.support.checkpoint_calls import FakeClock

    OpenFor = Callable[[TargetPlace], Awaitable[Checkpoint]]
    Start = Callable[[], Awaitable[Checkpoint]]

KEEP_DAYS = 400


class CheckpointKind(Protocol):
    """Opens checkpoints, which are closed when the context ends."""

    def __call__(
        self, clock: FakeClock, path: Path
    ) -> contextlib.AbstractAsyncContextManager[OpenFor]: ...


@contextlib.asynccontextmanager
async def sqlite(clock: FakeClock, path: Path) -> AsyncIterator[OpenFor]:
    opened: list[Checkpoint] = []

    async def open_for(target: TargetPlace) -> Checkpoint:
        opened.append(await open_sqlite_checkpoint(path, target, busy_seconds=0.2))
        return opened[-1]

    with checkpoints_at(clock):
        yield open_for
        for checkpoint in opened:
            await checkpoint.aclose()


@contextlib.asynccontextmanager
async def dynamodb(
    clock: FakeClock, open_table: Callable[[], Awaitable[Table]]
) -> AsyncIterator[OpenFor]:
    """The store on a table; its processes have one clock, so that their answers are SQLite's."""
    opened: list[Checkpoint] = []

    async def open_for(target: TargetPlace) -> Checkpoint:
        opened.append(
            await open_dynamodb_checkpoint(
                await open_table(),
                target,
                keep_days=KEEP_DAYS,
                expires=False,
                clock_skew_seconds=0.0,
                clock=clock,
                ahead=lambda: 0.0,
            )
        )
        return opened[-1]

    yield open_for
    for checkpoint in opened:
        await checkpoint.aclose()


@contextlib.asynccontextmanager
async def dynamodb_in_memory(clock: FakeClock, path: Path) -> AsyncIterator[OpenFor]:
    held = MemoryItems()

    async def open_table() -> Table:
        return MemoryTable(held)

    async with dynamodb(clock, open_table) as open_for:
        yield open_for


class PartOfTable:
    """A table of its own for each test, within one: every key begins with the test's name."""

    def __init__(self, table: Table, name: str) -> None:
        self._table = table
        self._name = f"{name}/"

    async def get(self, partition: str, sort: str) -> Item | None:
        item = await self._table.get(self._name + partition, sort)
        return None if item is None else self._inside(item)

    async def partition(self, partition: str, *, consistent: bool = True) -> Sequence[Item]:
        found = await self._table.partition(self._name + partition, consistent=consistent)
        return [self._inside(item) for item in found]

    async def put(self, item: Item, *, expected: int | None) -> None:
        named = {key: self._name + str(item[key]) for key in _NAMED if key in item}
        await self._table.put({**item, **named}, expected=expected)

    async def delete(self, partition: str, sort: str, *, expected: int) -> None:
        await self._table.delete(self._name + partition, sort, expected=expected)

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
        found = await self._table.index(
            index,
            self._name + key,
            after=after,
            before=before,
            newest_first=newest_first,
            limit=limit,
            page=page,
        )
        return replace(found, items=[self._inside(item) for item in found.items])

    async def count(self, index: Index, key: str) -> int:
        return await self._table.count(index, self._name + key)

    async def aclose(self) -> None:
        """The table is closed by who opened it."""

    def _inside(self, item: Item) -> Item:
        named = {key: str(item[key]).removeprefix(self._name) for key in _NAMED if key in item}
        return {**item, **named}


_NAMED = (PARTITION_KEY, Index.BY_OUTCOME.hash_key, Index.BY_GROUP.hash_key)


@contextlib.asynccontextmanager
async def dynamodb_on(
    place: DynamoDbPlace, clock: FakeClock, _path: Path
) -> AsyncIterator[OpenFor]:
    """On a server's table, which is there."""
    table = await open_aws_table(place)
    part = PartOfTable(table, uuid.uuid4().hex)

    async def open_table() -> Table:
        return part

    async with dynamodb(clock, open_table) as open_for:
        yield open_for
    await table.aclose()

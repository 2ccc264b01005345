"""Processes with clocks of their own that share a DynamoDB table in memory, which records what each
asks of it and fails on demand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.checkpoint.dynamodb.claims import CLOCK_SKEW_SECONDS
from daemon.checkpoint.dynamodb.store import DynamoDbCheckpoint, open_dynamodb_checkpoint
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason
from tests.support.checkpoint_calls import TARGET, FakeClock
from tests.support.memory_table import MemoryItems, MemoryTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.checkpoint.dynamodb.table import Item, Page
    from daemon.targets.place import TargetPlace

KEEP_DAYS = 400
FAULT = EdgeFault(Edge.CHECKPOINT, Reason.THROTTLED, "checkpoint: too many requests")


class WatchedTable(MemoryTable):
    """A table that tells what was asked of it."""

    def __init__(self, held: MemoryItems) -> None:
        super().__init__(held)
        self.calls: list[str] = []
        self.refused: set[str] = set()
        """Partition keys whose writes fail, and are not carried out."""
        self.unanswered: set[str] = set()
        """Partition keys whose writes are carried out, but fail for the caller, once."""

    async def get(self, partition: str, sort: str) -> Item | None:
        self.calls.append("get")
        return await super().get(partition, sort)

    async def partition(self, partition: str, *, consistent: bool = True) -> Sequence[Item]:
        self.calls.append("partition" if consistent else "partition, perhaps old")
        return await super().partition(partition, consistent=consistent)

    async def put(self, item: Item, *, expected: int | None) -> None:
        self.calls.append("put")
        if item["pk"] in self.refused:
            raise FAULT
        await super().put(item, expected=expected)
        if item["pk"] in self.unanswered:
            self.unanswered.discard(str(item["pk"]))
            raise FAULT

    async def delete(self, partition: str, sort: str, *, expected: int) -> None:
        self.calls.append("delete")
        if partition in self.refused:
            raise FAULT
        await super().delete(partition, sort, expected=expected)

    async def index(self, *args: object, **kwargs: object) -> Page:
        self.calls.append("index")
        return await super().index(*args, **kwargs)  # type: ignore[arg-type] # passed on


@dataclass
class Process:
    checkpoint: DynamoDbCheckpoint
    table: WatchedTable
    clock: FakeClock

    def asked(self) -> list[str]:
        """What was asked of the table since the last time."""
        calls, self.table.calls = self.table.calls, []
        return calls


@dataclass
class Processes:
    """Starts processes on one table."""

    held: MemoryItems = field(default_factory=MemoryItems)
    started: list[Process] = field(default_factory=list)

    async def start(
        self,
        clock: FakeClock | None = None,
        *,
        skew_seconds: float = CLOCK_SKEW_SECONDS,
        target: TargetPlace = TARGET,
        expires: bool = False,
        keep_days: float = KEEP_DAYS,
    ) -> Process:
        clock = clock or FakeClock()
        table = WatchedTable(self.held)
        checkpoint = await open_dynamodb_checkpoint(
            table,
            target,
            keep_days=keep_days,
            expires=expires,
            clock_skew_seconds=skew_seconds,
            clock=clock,
            ahead=lambda: 0.0,
        )
        process = Process(checkpoint, table, clock)
        process.asked()
        self.started.append(process)
        return process

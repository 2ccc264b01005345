"""Several hosts with one checkpoint: a table in DynamoDB, clocks that differ, and processes that
are paused.
"""

from __future__ import annotations

import json
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from daemon.aws.dynamodb import DynamoDbPlace
from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.aws_table import AwsTable
from daemon.checkpoint.dynamodb.documents import document_of
from daemon.checkpoint.dynamodb.store import open_dynamodb_checkpoint
from daemon.checkpoint.dynamodb.table import EXPIRES_AT, ROW
from daemon.checkpoint.ports import JobState
from tests.simulation.claim_watch import ClaimWatch, WatchedCheckpoint
from tests.simulation.dynamodb import SimulatedDynamoDb, SimulatedDynamoDbClient
from tests.simulation.loop import HostClock
from tests.simulation.network import SimulatedNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpoint.ports import Checkpoint
    from daemon.targets.place import TargetPlace
    from tests.simulation.dynamodb import WireItem
    from tests.simulation.loop import Process, VirtualLoop

FURTHEST_SECONDS = 15.0
"""So far is the clock of a host off at most: two of them are twice as far apart."""
MOST_DRIFT = 0.002
KEEP_DAYS = 30


class Hosts:
    """What the hosts of a history share, and their clocks.

    Args:
        wrong: told what must not happen and has happened.

    Attributes:
        dynamodb: the service.
        network: between it and the processes.
        watch: on what they believe of their claims.
    """

    def __init__(
        self,
        loop: VirtualLoop,
        seeded: random.Random,
        record: Callable[[str], None],
        wrong: Callable[[str], None],
    ) -> None:
        self.dynamodb = SimulatedDynamoDb(loop, seeded, loop.true_wall)
        self.network = SimulatedNetwork(loop, seeded, record)
        self.watch = ClaimWatch(loop, wrong)
        self.dynamodb.watchers.append(self._look)
        self._wrong = wrong
        self._loop = loop
        self._random = seeded

    def new_clock(self) -> HostClock:
        """The clock of another host."""
        ahead = self._random.uniform(-FURTHEST_SECONDS, FURTHEST_SECONDS)
        if self._random.random() < 0.4:
            ahead = self._random.choice([-FURTHEST_SECONDS, FURTHEST_SECONDS])
        drift = self._random.choice([0.0, self._random.uniform(-MOST_DRIFT, MOST_DRIFT)])
        clock = HostClock(0.0, drift, FURTHEST_SECONDS)
        clock.step_to(ahead, self._loop.time())
        return clock

    async def open_checkpoint(self, target: TargetPlace, process: Process) -> Checkpoint:
        """The checkpoint of a process."""
        watched: Any = WatchedCheckpoint(await self._open(target), self.watch, process)
        return watched  # type: ignore[no-any-return] # it passes on what it does not watch

    async def use_once(self, target: TargetPlace) -> None:
        """A process opens the checkpoint and closes it."""
        checkpoint = await self._open(target)
        await checkpoint.aclose()

    def kept_messages(self) -> list[tuple[str, str, str, str]]:
        """See `tests.simulation.rejections.kept_messages`."""
        kept = [item for item in self.dynamodb.items if keys.BODY in item]
        rows = [(json.loads(item[ROW]["S"]), item[keys.BODY]["S"]) for item in kept]
        rows.sort(key=lambda each: (each[0]["rejected_at"], each[0]["message_id"]))
        return [
            (str(row["message_id"]), body, str(row["reason"]), str(row["detail"]))
            for row, body in rows
        ]

    def gone(self, process: Process) -> None:
        """A process was killed."""
        self.watch.gone(process)

    def calm(self) -> None:
        """Ends all faults."""
        self.dynamodb.calm()
        self.network.chances, self.network.silent = {}, frozenset()

    def _look(self, _before: WireItem | None, after: WireItem | None) -> None:
        """Nobody knows what became of a write that is under way but the row that says so."""
        if after is None or EXPIRES_AT not in after or keys.DOCUMENT not in after:
            return
        texts = {name: value["S"] for name, value in after.items() if "S" in value}
        for row in document_of(texts).rows.values():
            if row.state is JobState.WRITING:
                self._wrong(f"{row.job_name} is being written, and its row may expire")

    async def _open(self, target: TargetPlace) -> Checkpoint:
        client: Any = SimulatedDynamoDbClient(self.dynamodb, self.network, self._random)
        table = AwsTable(client, DynamoDbPlace("checkpoint"), AsyncExitStack())
        jitter = random.Random(self._random.random())
        return await open_dynamodb_checkpoint(table, target, keep_days=KEEP_DAYS, jitter=jitter)

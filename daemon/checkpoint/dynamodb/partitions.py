"""Decisions on documents: read, decide by the rules, write on condition that nobody else has
changed the document meanwhile, otherwise the same again.

This process knows the documents on which it has claims, so it decides without reading. That is
safe: what it knows may be old, but then its write fails. A refusal writes nothing, so none is
given before the document was read again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.documents import (
    Document,
    document_item,
    document_of,
    is_document,
    mirrors,
)
from daemon.checkpoint.dynamodb.table import ROW, SORT_KEY, VERSION, ConditionFailed
from daemon.errors import EdgeFault, JobFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from daemon.checkpoint.dynamodb.table import Item, Table
    from daemon.checkpoint.ports import JobRecord
    from daemon.targets.place import TargetPlace

T = TypeVar("T")

ATTEMPTS = 12
"""At a change that others are quicker with. One of them succeeds each time, so many replicas at one
name need some."""
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Partition:
    """The documents of one name in all targets, as they were read."""

    own: Document
    """That of this target."""
    version: int | None
    """Of its item; None: there is none yet."""
    others: tuple[Document, ...] = ()
    mirrors: Mapping[str, Item] = field(default_factory=dict)
    """The items of further rows of this target, by sort key."""

    @property
    def rows(self) -> list[JobRecord]:
        """Of all targets."""
        return [row for document in (self.own, *self.others) for row in document.rows.values()]


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What comes of a rule."""

    answer: T
    document: Document | None = None
    """As it is to be; None: as it is."""
    certain: bool = False
    """An answer without a change that needs no second look at the document."""


def pauses(jitter: random.Random) -> Iterator[float]:
    """Seconds to wait before each next attempt, growing and jittered; as many as may follow."""
    longest = FIRST_PAUSE_SECONDS
    for _ in range(ATTEMPTS - 1):
        yield longest * (0.5 + jitter.random() / 2)
        longest = min(2 * longest, LONGEST_PAUSE_SECONDS)


def too_busy(partition: str) -> EdgeFault:
    """Others were quicker at each attempt."""
    return EdgeFault(
        Edge.CHECKPOINT,
        Reason.THROTTLED,
        f"checkpoint: {partition} was changed by others at each of {ATTEMPTS} attempts; too many "
        "processes want the same name at once",
    )


class Partitions:
    """The documents of a table, seen from one target.

    Args:
        table: where they are.
        target: whose documents are changed.
        clock: epoch seconds.
        keep_seconds: how long a document is kept after its last change.
        jitter: of the pauses between attempts.
    """

    def __init__(
        self,
        table: Table,
        target: TargetPlace,
        *,
        clock: Callable[[], float],
        keep_seconds: float,
        jitter: random.Random,
    ) -> None:
        self._table = table
        self._target = target
        self._clock = clock
        self._keep_seconds = keep_seconds
        self._jitter = jitter
        self._key = keys.document_key(target)
        self._known: dict[str, Partition] = {}
        self._pins: Counter[str] = Counter()
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()

    def pin(self, partition: str) -> None:
        """From now on the partition is remembered as this process last saw it."""
        self._pins[partition] += 1

    def unpin(self, partition: str) -> None:
        """Ends one `pin`."""
        self._pins[partition] -= 1
        if self._pins[partition] <= 0:
            del self._pins[partition]
            self._known.pop(partition, None)

    def known(self, partition: str) -> Partition | None:
        """What is remembered of a partition."""
        return self._known.get(partition)

    async def read(self, partition: str, *, consistent: bool = True) -> Partition:
        """A partition as it is now."""
        return self._seen(await self._table.partition(partition, consistent=consistent))

    async def decide(
        self, partition: str, rule: Callable[[Partition], Decision[T]], *, afresh: bool = False
    ) -> T:
        """Carries out a decision about the document of this target.

        Args:
            partition: of the document.
            rule: called with the partition, again for each attempt; may refuse with a `JobFault`.
            afresh: do not decide by what is remembered.

        Raises:
            JobFault: the rule's.
            EdgeFault: the table's, after which the change may be carried out or not; or others were
                quicker each time.
        """
        async with self._turn(partition):
            remembered = None if afresh else self._known.get(partition)
            if remembered is not None:
                with contextlib.suppress(JobFault, ConditionFailed):
                    decision = rule(remembered)
                    if await self._carry_out(partition, remembered, decision) or decision.certain:
                        return decision.answer
            attempts = pauses(self._jitter)
            while True:
                seen = await self.read(partition)
                self._remember(partition, seen)
                decision = rule(seen)
                try:
                    await self._carry_out(partition, seen, decision)
                except ConditionFailed:
                    pause = next(attempts, None)
                    if pause is None:
                        raise too_busy(partition) from None
                    await asyncio.sleep(pause)
                else:
                    return decision.answer

    async def _carry_out(self, partition: str, seen: Partition, decision: Decision[Any]) -> bool:
        """Whether there was something to write."""
        if decision.document is None or decision.document == seen.own:
            return False
        await self._write(partition, seen, decision.document)
        return True

    async def _write(self, partition: str, seen: Partition, document: Document) -> None:
        """Writes a document instead of the one that was seen.

        A further row has an item of its own before the document's own item no longer shows it, so
        the indexes never miss one; for a moment they may have it twice.
        """
        now = self._clock()
        self._known.pop(partition, None)  # until it is certain what was carried out
        document = document.without_old(now - self._keep_seconds)
        further = mirrors(document, partition, keep_seconds=self._keep_seconds)
        kept = dict(seen.mirrors)
        for sort, item in further.items():
            before = kept.get(sort)
            if before is None or before[ROW] != item[ROW]:
                version = None if before is None else int(before[VERSION])
                kept[sort] = {**item, VERSION: (version or 0) + 1}
                await self._table.put(kept[sort], expected=version)
        written = None if document.empty else (seen.version or 0) + 1
        if written is not None:
            item = document_item(document, partition, now=now, keep_seconds=self._keep_seconds)
            await self._table.put({**item, VERSION: written}, expected=seen.version)
        elif seen.version is not None:
            await self._table.delete(partition, self._key, expected=seen.version)
        for sort in kept.keys() - further.keys():
            await self._forget(partition, kept.pop(sort))
        self._remember(partition, Partition(document, written, seen.others, kept))

    async def _forget(self, partition: str, item: Item) -> None:
        """Deletes the item of a further row, which is no more, or the document's latest again. A
        fault does no harm: readers take the newest of two.
        """
        with contextlib.suppress(ConditionFailed, EdgeFault):
            await self._table.delete(partition, str(item[SORT_KEY]), expected=int(item[VERSION]))

    def _remember(self, partition: str, seen: Partition) -> None:
        if partition in self._pins:
            self._known[partition] = seen

    def _seen(self, items: Sequence[Item]) -> Partition:
        own = Partition(Document(self._target), None)
        others, further = [], {}
        for item in items:
            sort = str(item[SORT_KEY])
            if not is_document(item):
                if sort.startswith(keys.row_prefix(self._key)):
                    further[sort] = item
            elif sort == self._key:
                own = Partition(document_of(item), int(item[VERSION]))
            else:
                others.append(document_of(item))
        return replace(own, others=tuple(others), mirrors=further)

    @contextlib.asynccontextmanager
    async def _turn(self, partition: str) -> AsyncIterator[None]:
        """One decision of this process about a partition at a time: two would only disturb each
        other.
        """
        lock = self._locks.setdefault(partition, asyncio.Lock())
        self._waiting[partition] += 1
        try:
            async with lock:
                yield
        finally:
            self._waiting[partition] -= 1
            if not self._waiting[partition]:
                del self._waiting[partition], self._locks[partition]

"""The DynamoDB table of the checkpoint as its store sees it: what one table can do, and no more.

Every rule of the checkpoint changes one item, conditional on the item being as it was read: its
``version``. So single-item conditional writes suffice, which every implementation of DynamoDB's API
has; transactions, which cost twice as much, are not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PARTITION_KEY = "pk"
SORT_KEY = "sk"
VERSION = "version"
"""Number attribute of every item: 1 when it is new, one more with each write."""
WRITE_ID = "write_id"
"""String attribute: which write the item comes from, so that a writer whose answer was lost
recognises its own."""
EXPIRES_AT = "expires_at"
"""Number attribute: from when on DynamoDB may delete the item (TTL), in epoch seconds. An item
without it stays."""
CHANGED_AT = "changed_at"
"""Number attribute: range key of both indexes, in epoch seconds."""
ROW = "row"
"""String attribute: a row as JSON. The only attribute that the indexes hold beside the keys."""

Item: TypeAlias = "Mapping[str, str | float | int]"
"""Attributes by name: strings and numbers, among them `PARTITION_KEY` and `SORT_KEY`."""


class Index(StrEnum):
    """The global secondary indexes. Their items appear there a moment after the write."""

    BY_OUTCOME = "by_outcome"
    """Hash key ``outcome``: ``<state>#<shard>`` of jobs, ``message#<shard>`` of rejected
    messages."""
    BY_GROUP = "by_group"
    """Hash key ``group``: ``project#<name in lower case>`` of jobs, ``message-about#<ARN>`` of
    rejected messages."""

    @property
    def hash_key(self) -> str:
        """The name of its hash key."""
        return self.value.removeprefix("by_")


class ConditionFailed(Exception):
    """The stored item is not as the condition says; nothing was written."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some items of an index, and where to go on."""

    items: Sequence[Item]
    next: str | None = None
    """To be given to the next call; None: there are no more."""


class Table(Protocol):
    """One object per process, safe for concurrent calls.

    Every method raises `daemon.errors.EdgeFault` with `Edge.CHECKPOINT` when the table cannot be
    asked, throttles, or does not answer in time. After that a write may or may not have been
    carried out, now or a little later; a later write that was conditional on the version before
    it makes it fail.
    """

    async def get(self, partition: str, sort: str) -> Item | None:
        """One item, strongly consistent."""

    async def partition(self, partition: str, *, consistent: bool = True) -> Sequence[Item]:
        """All items of a partition, in the order of their sort keys."""

    async def put(self, item: Item, *, expected: int | None) -> None:
        """Writes the whole item.

        Args:
            item: with its new `VERSION`; a `WRITE_ID` is added. A write that was carried out
                although its answer was lost is recognised by that when it is tried again.
            expected: the version that the stored item must have; None: there must be none.

        Raises:
            ConditionFailed: the stored item has another version, or there is one.
        """

    async def delete(self, partition: str, sort: str, *, expected: int) -> None:
        """Deletes an item.

        Raises:
            ConditionFailed: the stored item has another version. One that is gone is fine.
        """

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
        """Items of one hash key of an index, eventually consistent.

        Args:
            index: which one.
            key: the value of its hash key.
            after: only items with `CHANGED_AT` at this moment or later, in epoch seconds.
            before: only items with `CHANGED_AT` before this moment.
            newest_first: the order, by `CHANGED_AT`.
            limit: at most so many.
            page: `Page.next` of the call before.
        """

    async def count(self, index: Index, key: str) -> int:
        """How many items a hash key of an index has, eventually consistent. Reads all their keys
        (about 0.1 kB each), so it is for once an hour, not for each scrape.
        """

    async def aclose(self) -> None:
        """Closes the connections."""

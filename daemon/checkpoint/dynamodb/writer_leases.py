"""Writer leases: one item for each server, which is never deleted, so terms never go back."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from daemon.checkpoint import rules
from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.items import ItemDecision
from daemon.checkpoint.dynamodb.table import ROW
from daemon.checkpoint.ports import WriterElsewhere, WriterLease
from daemon.checkpoint.rules import WriterLeaseRow

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpoint.dynamodb.claims import HeldClaims
    from daemon.checkpoint.dynamodb.items import Items
    from daemon.checkpoint.dynamodb.table import Item

A = TypeVar("A", bound="WriterLeaseRow | WriterElsewhere | None")


class WriterLeases:
    """The part of the checkpoint that is about single-writer servers.

    Args:
        items: of the table.
        claims: of this process, which know how late a lease of another ends.
        clock: epoch seconds.
    """

    def __init__(self, items: Items, claims: HeldClaims, clock: Callable[[], float]) -> None:
        self._items = items
        self._claims = claims
        self._clock = clock
        self._held: dict[str, WriterLease] = {}

    async def take(
        self, server_id: str, lease_seconds: float, *, grace_seconds: float
    ) -> WriterLease | WriterElsewhere:
        def rule(held: WriterLeaseRow | None) -> WriterLeaseRow | WriterElsewhere:
            return rules.take_writer_lease(
                self._claims.seen_writer(held),
                server_id,
                self._claims.owner,
                now=self._clock(),
                lease_seconds=lease_seconds,
                grace_seconds=grace_seconds,
            )

        taken = await self._decide(server_id, rule)
        if not isinstance(taken, WriterLeaseRow):
            return taken
        self._held[server_id] = taken.lease
        return taken.lease

    async def renew(self, lease: WriterLease, lease_seconds: float) -> bool:
        renewed = await self._decide(
            lease.server_id,
            lambda held: rules.renew_writer_lease(
                held, lease, lease_until=self._clock() + lease_seconds
            ),
        )
        if renewed is None:
            self._held.pop(lease.server_id, None)
        return renewed is not None

    async def release(self, lease: WriterLease) -> None:
        await self._decide(lease.server_id, lambda held: rules.release_writer_lease(held, lease))
        self._held.pop(lease.server_id, None)

    async def end_all(self) -> None:
        """Ends what this process holds and has not released."""

        def ended(held: WriterLeaseRow | None, lease: WriterLease) -> WriterLeaseRow | None:
            if held is None or held.lease != lease:
                return None
            return rules.end_writer_lease(held, now=self._clock())

        for server_id, lease in list(self._held.items()):
            await self._decide(server_id, partial(ended, lease=lease))
            del self._held[server_id]

    async def _decide(self, server_id: str, rule: Callable[[WriterLeaseRow | None], A]) -> A:
        """Stores what a rule makes of a lease, if that is one, and returns it."""

        def of_item(item: Item | None) -> ItemDecision[A]:
            row = rule(None if item is None else _row(item))
            if not isinstance(row, WriterLeaseRow):
                return ItemDecision(row)
            lease = row.lease
            stored = [lease.server_id, lease.owner, lease.term, row.lease_until]
            return ItemDecision(row, {ROW: json.dumps(stored)})

        return await self._items.decide(keys.writer_partition(server_id), keys.LEASE, of_item)


def _row(item: Item) -> WriterLeaseRow:
    server_id, owner, term, lease_until = json.loads(str(item[ROW]))
    return WriterLeaseRow(WriterLease(server_id, owner, term), lease_until)

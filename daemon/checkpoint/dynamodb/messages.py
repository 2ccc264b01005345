"""Rejected messages: one item each, whatever the target."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from daemon.checkpoint import rules
from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.index_rows import newest
from daemon.checkpoint.dynamodb.items import ItemDecision
from daemon.checkpoint.dynamodb.table import CHANGED_AT, ROW, Index
from daemon.checkpoint.ports import RejectedMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.checkpoint.dynamodb.items import Items
    from daemon.checkpoint.dynamodb.table import Item
    from daemon.reasons import Reason

BODY_LIMIT = 350_000
"""Bytes of a body that are kept: an item has 400 kB at most."""

_BODY_BYTES = "body_bytes"
"""Of the whole body. In the row, so that an index says whether there is one."""


class RejectedMessages:
    """The part of the checkpoint that is about rejected messages.

    Args:
        items: of the table.
        clock: epoch seconds.
    """

    def __init__(self, items: Items, clock: Callable[[], float]) -> None:
        self._items = items
        self._clock = clock

    async def reject(self, message_id: str, *, job_arn: str, reason: Reason, detail: str) -> None:
        await self._change(
            message_id,
            lambda known: rules.reject_message(
                known, message_id, job_arn=job_arn, reason=reason, detail=detail, now=self._clock()
            ),
        )

    async def keep_body(self, message_id: str, body: str) -> None:
        """Keeps as much of a body as an item can hold; `detail` says what is missing."""
        await self._change(
            message_id, lambda known: rules.keep_body(known, message_id, body, now=self._clock())
        )

    async def forget_body(self, message_id: str) -> None:
        await self._change(
            message_id, lambda known: None if known is None else rules.forget_body(known)
        )

    async def find(self, message_id: str) -> RejectedMessage | None:
        item = await self._items.table.get(keys.message_partition(message_id), keys.REJECTED)
        return None if item is None else _shown(_message(item))

    async def newest(self, limit: int) -> Sequence[RejectedMessage]:
        return await self._found(Index.BY_OUTCOME, keys.outcomes(keys.MESSAGE), limit)

    async def about(self, job_arn: str) -> Sequence[RejectedMessage]:
        """The newest first."""
        return await self._found(Index.BY_GROUP, [keys.message_group(job_arn)], None)

    async def _found(
        self, index: Index, hash_keys: Sequence[str], limit: int | None
    ) -> Sequence[RejectedMessage]:
        found = await newest(self._items.table, index, hash_keys, _message, limit=limit)
        found.sort(key=lambda each: (-each[0].rejected_at, each[0].message_id))
        return await asyncio.gather(*(self._with_body(each) for each in found[:limit]))

    async def _with_body(self, found: tuple[RejectedMessage, int]) -> RejectedMessage:
        """The indexes have no bodies, and few messages have one."""
        message, size = found
        if not size:
            return message
        whole = await self.find(message.message_id)
        return message if whole is None else whole

    async def _change(
        self,
        message_id: str,
        change: Callable[[RejectedMessage | None], RejectedMessage | None],
    ) -> None:
        def rule(item: Item | None) -> ItemDecision[None]:
            known, size = (None, 0) if item is None else _message(item)
            message = change(known)
            if message is None:
                return ItemDecision(None)
            if known is None or message.body != known.body:
                size = 0 if message.body is None else len(message.body.encode())
            attributes = _attributes(message, size)
            return ItemDecision(None, self._items.expiring(attributes, since=message.rejected_at))

        await self._items.decide(keys.message_partition(message_id), keys.REJECTED, rule)


def _attributes(message: RejectedMessage, size: int) -> dict[str, str | float | int]:
    members = asdict(replace(message, body=None))
    del members["body"]
    row = json.dumps({**members, _BODY_BYTES: size})
    found: dict[str, str | float | int] = {
        ROW: row,
        CHANGED_AT: message.rejected_at,
        "outcome": keys.outcome(keys.MESSAGE, keys.message_partition(message.message_id)),
    }
    if message.job_arn:
        found["group"] = keys.message_group(message.job_arn)
    if message.body is not None:
        found[keys.BODY] = message.body.encode()[:BODY_LIMIT].decode(errors="ignore")
    return found


def message_of(item: Item) -> RejectedMessage:
    """The message of an item, or of its entry in an index, where the body is missing."""
    return _shown(_message(item))


def _message(item: Item) -> tuple[RejectedMessage, int]:
    """The message of an item as it was recorded, and how many bytes its whole body had."""
    members = json.loads(str(item[ROW]))
    size = members.pop(_BODY_BYTES)
    body = item.get(keys.BODY)
    return RejectedMessage(**members, body=None if body is None else str(body)), size


def _shown(found: tuple[RejectedMessage, int]) -> RejectedMessage:
    """The message, which says if a part of its body is missing."""
    message, size = found
    if size <= BODY_LIMIT or message.body is None:
        return message
    missing = f"only the first {BODY_LIMIT} of the body's {size} bytes were kept"
    return replace(message, detail="; ".join(filter(None, [message.detail, missing])))

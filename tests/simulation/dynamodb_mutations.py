"""The rules of the checkpoint in DynamoDB and of its hosts, each broken on purpose, for
`tests.simulation.mutations`.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest import mock

from daemon.checkpoint import rules
from daemon.checkpoint.dynamodb import aws_table
from daemon.checkpoint.dynamodb.aws_table import AwsTable
from daemon.checkpoint.dynamodb.claims import HeldClaims
from daemon.checkpoint.dynamodb.messages import RejectedMessages
from daemon.checkpoint.dynamodb.partitions import Partitions
from daemon.checkpoint.dynamodb.table import VERSION, ConditionFailed
from daemon.checkpoint.rules import ClaimRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from daemon.checkpoint.dynamodb.documents import Document


def unconditional_put() -> AbstractContextManager[object]:
    def always(_expected: object, *, or_none: bool = False) -> dict[str, Any]:
        del or_none
        return {
            "ConditionExpression": "attribute_not_exists(#nothing)",
            "ExpressionAttributeNames": {"#nothing": "nothing"},
        }

    return mock.patch.object(aws_table, "_condition", always)


@contextlib.contextmanager
def fence_not_compared() -> Iterator[None]:
    """Whoever once held a claim writes on."""

    def require_lease(_held: Any, given: Any, *, now: float) -> ClaimRow:
        return ClaimRow(given, now + 60.0)

    with (
        mock.patch.object(rules, "require_lease", require_lease),
        mock.patch.object(rules, "may_record_synced", return_value=True),
    ):
        yield


def unwritten_claim_not_compared() -> AbstractContextManager[object]:
    def unwritten(_self: HeldClaims, _document: Document, held: Any) -> ClaimRow | None:
        return None if held.above is None else ClaimRow(held.claim, held.lease_until)

    return mock.patch.object(HeldClaims, "_unwritten", unwritten)


def written_over_after_a_second_look() -> AbstractContextManager[object]:
    """The decision of the first look is written with the version of the second one."""
    real = Partitions._write

    async def write(self: Partitions, partition: str, seen: Any, document: Any) -> None:
        try:
            await real(self, partition, seen, document)
        except ConditionFailed:
            await real(self, partition, await self.read(partition), document)

    return mock.patch.object(Partitions, "_write", write)


def bodies_not_kept() -> AbstractContextManager[object]:
    async def keep(_self: RejectedMessages, _message_id: str, _body: str) -> None: ...

    return mock.patch.object(RejectedMessages, "keep_body", keep)


def stale_document_decides() -> AbstractContextManager[object]:
    """A write is conditional on the newest version, not on that of what was decided on."""
    real = AwsTable.put

    async def put(self: AwsTable, item: Any, *, expected: int | None) -> None:
        stored = await self.get(str(item["pk"]), str(item["sk"]))
        version = None if stored is None else int(stored[VERSION])
        newer = max(int(item[VERSION]), (version or 0) + 1)
        await real(self, {**item, VERSION: newer}, expected=version)

    return mock.patch.object(AwsTable, "put", put)


def claims_of_others_have_ended() -> AbstractContextManager[object]:
    late = HeldClaims._late

    def seen(self: HeldClaims, held: Any, owner: str) -> Any:
        if isinstance(held, ClaimRow) and owner != self.owner:
            return replace(held, lease_until=0.0)
        return late(self, held, owner)

    return mock.patch.object(HeldClaims, "_late", seen)


def writers_of_others_not_seen() -> AbstractContextManager[object]:
    def seen_writer(_self: HeldClaims, _held: Any) -> None: ...

    return mock.patch.object(HeldClaims, "seen_writer", seen_writer)

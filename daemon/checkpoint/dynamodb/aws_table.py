"""The table of the checkpoint in DynamoDB."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from botocore.exceptions import ClientError

from daemon.aws.dynamodb import checkpoint_fault, open_dynamodb
from daemon.aws.errors import AWS_ERRORS, DYNAMODB, OddAnswerError, error_code, observed, unobserved
from daemon.checkpoint.dynamodb.table import (
    CHANGED_AT,
    EXPIRES_AT,
    PARTITION_KEY,
    SORT_KEY,
    VERSION,
    WRITE_ID,
    ConditionFailed,
    Page,
)
from daemon.checkpoint.dynamodb.table_setup import TableAdministration
from daemon.errors import EdgeFault
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daemon.aws.dynamodb import DynamoDbClient, DynamoDbPlace
    from daemon.aws.errors import Observe
    from daemon.checkpoint.dynamodb.table import Index, Item

CALL_SECONDS = 12.0
"""For one call with its retries, and with the wait for a connection."""

_CONDITION_FAILED = "ConditionalCheckFailedException"


async def open_aws_table(place: DynamoDbPlace, observe: Observe = unobserved) -> AwsTable:
    """A table with a client of its own; the caller closes it. Calls nothing.

    Args:
        place: where the table is.
        observe: called after each call.

    Raises:
        SetupFault: no region, or a value that botocore rejects.
        EdgeFault: an AWS file cannot be used now.
    """
    stack = AsyncExitStack()
    client = await stack.enter_async_context(open_dynamodb(place))
    return AwsTable(client, place, stack, observe)


class AwsTable:
    """A `daemon.checkpoint.dynamodb.table.Table`.

    Args:
        client: of DynamoDB.
        place: where the table is.
        closing: closes the client.
        observe: called after each call.
    """

    def __init__(
        self,
        client: DynamoDbClient,
        place: DynamoDbPlace,
        closing: AsyncExitStack,
        observe: Observe = unobserved,
    ) -> None:
        self.place = place
        self._client = client
        self._closing = closing
        self._observe = observe

    async def get(self, partition: str, sort: str) -> Item | None:
        answer = await self._call("GetItem", Key=_key(partition, sort), ConsistentRead=True)
        found = answer.get("Item")
        return None if found is None else _decoded(found)

    async def partition(self, partition: str, *, consistent: bool = True) -> Sequence[Item]:
        request: dict[str, Any] = {
            "KeyConditionExpression": "#pk = :pk",
            "ExpressionAttributeNames": {"#pk": PARTITION_KEY},
            "ExpressionAttributeValues": {":pk": {"S": partition}},
            "ConsistentRead": consistent,
        }
        items: list[Item] = []
        while True:
            answer = await self._call("Query", **request)
            items += map(_decoded, answer.get("Items") or ())
            if not (last := answer.get("LastEvaluatedKey")):
                return items
            request["ExclusiveStartKey"] = last

    async def put(self, item: Item, *, expected: int | None) -> None:
        write_id = uuid4().hex
        try:
            await self._call(
                "PutItem",
                Item=_encoded({**item, WRITE_ID: write_id}),
                **_condition(expected),
            )
        except ConditionFailed:
            # the first attempt may have been carried out, and only its answer was lost
            stored = await self.get(str(item[PARTITION_KEY]), str(item[SORT_KEY]))
            if stored is None or stored.get(WRITE_ID) != write_id:
                raise

    async def delete(self, partition: str, sort: str, *, expected: int) -> None:
        await self._call(
            "DeleteItem", Key=_key(partition, sort), **_condition(expected, or_none=True)
        )

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
        # a key condition has one range, with both ends in it
        last = math.inf if before is None else math.nextafter(before, -math.inf)
        if last < after:
            return Page(())
        condition = "#hash = :hash AND #at >= :after"
        values: dict[str, Any] = {":hash": {"S": key}, ":after": _value(after)}
        if before is not None:
            condition = "#hash = :hash AND #at BETWEEN :after AND :last"
            values[":last"] = _value(last)
        request: dict[str, Any] = {
            "IndexName": index.value,
            "KeyConditionExpression": condition,
            "ExpressionAttributeNames": {"#hash": index.hash_key, "#at": CHANGED_AT},
            "ExpressionAttributeValues": values,
            "ScanIndexForward": not newest_first,
            "Limit": limit,
        }
        if page is not None:
            request["ExclusiveStartKey"] = json.loads(page)
        answer = await self._call("Query", **request)
        following = answer.get("LastEvaluatedKey")
        return Page(
            [_decoded(item) for item in answer.get("Items") or ()],
            json.dumps(following) if following else None,
        )

    async def count(self, index: Index, key: str) -> int:
        request: dict[str, Any] = {
            "IndexName": index.value,
            "KeyConditionExpression": "#hash = :hash",
            "ExpressionAttributeNames": {"#hash": index.hash_key},
            "ExpressionAttributeValues": {":hash": {"S": key}},
            "Select": "COUNT",
        }
        counted = 0
        while True:
            answer = await self._call("Query", **request)
            counted += int(answer.get("Count") or 0)
            if not (last := answer.get("LastEvaluatedKey")):
                return counted
            request["ExclusiveStartKey"] = last

    async def expires(self) -> bool:
        """Whether DynamoDB deletes expired items by itself. False also where that cannot be found
        out for want of a permission: to delete what is gone already costs little.

        Raises:
            EdgeFault: DynamoDB cannot be asked now, or has no such table.
        """
        table = TableAdministration(self._client, self.place, self._observe)
        try:
            expires_by = await table.expires_by()
        except EdgeFault as fault:
            if fault.reason is Reason.ACCESS_DENIED:
                return False
            raise
        return expires_by == EXPIRES_AT

    async def aclose(self) -> None:
        await self._closing.aclose()

    async def _call(self, operation: str, **request: Any) -> Mapping[str, Any]:  # noqa: ANN401 - botocore's
        """Makes a call.

        Raises:
            ConditionFailed: the condition does not hold.
            EdgeFault: any other error.
        """
        methods = {
            "GetItem": self._client.get_item,
            "PutItem": self._client.put_item,
            "DeleteItem": self._client.delete_item,
            "Query": self._client.query,
        }
        try:
            with observed(self._observe, DYNAMODB, operation):
                try:
                    async with asyncio.timeout(CALL_SECONDS):
                        return await methods[operation](TableName=self.place.table, **request)
                except TimeoutError:
                    raise EdgeFault(
                        Edge.CHECKPOINT,
                        Reason.UNREACHABLE,
                        f"{self.place}: no answer within {CALL_SECONDS:g} s: check network, proxy "
                        "and checkpoint.endpoint_url",
                    ) from None
        except ClientError as error:
            if error_code(error) == _CONDITION_FAILED:
                raise ConditionFailed(f"{operation} of {self.place}") from error
            raise checkpoint_fault(error, self.place) from error
        except AWS_ERRORS as error:
            raise checkpoint_fault(error, self.place) from error


def _key(partition: str, sort: str) -> dict[str, Any]:
    return {PARTITION_KEY: {"S": partition}, SORT_KEY: {"S": sort}}


def _condition(expected: int | None, *, or_none: bool = False) -> dict[str, Any]:
    if expected is None:
        return {
            "ConditionExpression": "attribute_not_exists(#pk)",
            "ExpressionAttributeNames": {"#pk": PARTITION_KEY},
        }
    names = {"#version": VERSION}
    condition = "#version = :expected"
    if or_none:
        condition += " OR attribute_not_exists(#pk)"
        names["#pk"] = PARTITION_KEY
    return {
        "ConditionExpression": condition,
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":expected": _value(expected)},
    }


def _encoded(item: Item) -> dict[str, dict[str, str]]:
    return {name: _value(value) for name, value in item.items()}


def _value(value: str | float) -> dict[str, str]:
    if isinstance(value, str):
        # what UTF-8 cannot hold, DynamoDB cannot keep
        return {"S": value.encode("utf-8", "replace").decode()}
    return {"N": repr(value)}


def _decoded(item: Mapping[str, Mapping[str, Any]]) -> Item:
    """Reads an item of the answer.

    Raises:
        EdgeFault: it is none of this program's.
    """
    return {name: _plain(value) for name, value in item.items()}


def _plain(value: Mapping[str, Any]) -> str | float | int:
    if "S" in value:
        return str(value["S"])
    number = str(value.get("N", ""))
    try:
        return int(number) if number.lstrip("-").isdecimal() else float(number)
    except ValueError:
        raise checkpoint_fault(OddAnswerError("an attribute of a type of its own")) from None

"""How the checkpoint's table is to be, how one is set up, and what may be done with it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from daemon.aws.dynamodb import checkpoint_fault
from daemon.aws.errors import AWS_ERRORS, DYNAMODB, error_code, observed, unobserved
from daemon.checkpoint.dynamodb.table import (
    CHANGED_AT,
    EXPIRES_AT,
    PARTITION_KEY,
    ROW,
    SORT_KEY,
    Index,
)
from daemon.clock import monotonic
from daemon.errors import EdgeFault
from daemon.http_date import clock_ahead
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from daemon.aws.dynamodb import DynamoDbClient, DynamoDbPlace
    from daemon.aws.errors import Observe

CREATE_SECONDS = 300.0
"""How long a new table may take until it can be used; usually some seconds."""
NOTHING = {PARTITION_KEY: {"S": "check#"}, SORT_KEY: {"S": "check#"}}
"""Key of an item that never exists."""

_ACTIVE = "ACTIVE"
_PAUSES = (0.1, 3.0)
_UNKNOWN_OPERATION = {"UnknownOperationException", "InvalidAction", "NotImplemented"}


@dataclass(frozen=True, slots=True)
class Capacity:
    """Provisioned capacity, of the table and of each index."""

    read: int
    write: int


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a table or index: name and type (S, N, B) of hash key and range key."""

    hash_key: tuple[str, str]
    range_key: tuple[str, str] | None
    projected: frozenset[str] | None = None
    """Of an index: further attributes in it; None: all, or it is a table."""

    def __str__(self) -> str:
        both = [self.hash_key, *([self.range_key] if self.range_key else [])]
        keys = ", ".join(f"{name} ({kind})" for name, kind in both)
        if self.projected is None:
            return keys
        return f"{keys} with {', '.join(sorted(self.projected)) or 'keys only'}"


TABLE_KEYS = Keys((PARTITION_KEY, "S"), (SORT_KEY, "S"))
INDEX_KEYS: Mapping[str, Keys] = {
    index.value: Keys((index.hash_key, "S"), (CHANGED_AT, "N"), frozenset({ROW})) for index in Index
}


@dataclass(frozen=True, slots=True)
class TableSetup:
    """How a table is set up. What the service does not tell is None."""

    status: str
    keys: Keys
    indexes: Mapping[str, Keys] = field(default_factory=dict)
    capacity: Capacity | None = None
    """None: on-demand."""
    deletion_protection: bool | None = None
    expires_by: str | None = None
    """The attribute of TTL; "": TTL is off."""
    point_in_time_recovery: bool | None = None
    clock_ahead_seconds: float | None = None
    """How far the service's clock is ahead of this machine's, to about a second."""
    replicas: int = 0
    """Of a global table."""

    @property
    def differences(self) -> list[str]:
        """What keeps the table from being this program's, in words."""
        found = []
        if self.keys != TABLE_KEYS:
            found.append(f"its keys are {self.keys}, not {TABLE_KEYS}")
        for name, wanted in INDEX_KEYS.items():
            keys = self.indexes.get(name)
            if keys is None:
                found.append(f"index {name} is missing: {wanted}")
            elif not _serves(keys, wanted):
                found.append(f"index {name} has {keys}, not {wanted}")
        return found


def _serves(keys: Keys, wanted: Keys) -> bool:
    """Whether an index has the keys, and holds the wanted attributes, perhaps more."""
    same = (keys.hash_key, keys.range_key) == (wanted.hash_key, wanted.range_key)
    return same and (keys.projected is None or keys.projected >= (wanted.projected or frozenset()))


class TableAdministration:
    """Reads how a table is set up, tests permissions, makes a table.

    Every method raises `EdgeFault` of the checkpoint when DynamoDB refuses or does not answer.

    Args:
        client: of DynamoDB.
        place: where the table is.
        observe: called after each call.
    """

    def __init__(
        self, client: DynamoDbClient, place: DynamoDbPlace, observe: Observe = unobserved
    ) -> None:
        self._client = client
        self._place = place
        self._observe = observe

    async def setup(self) -> TableSetup | None:
        """How the table is set up; None: there is none."""
        try:
            answer = await self._ask("DescribeTable", self._client.describe_table)
        except EdgeFault as fault:
            if fault.reason is Reason.NOT_FOUND:
                return None
            raise
        table: Mapping[str, Any] = answer.get("Table") or {}
        types = {
            each.get("AttributeName"): each.get("AttributeType", "")
            for each in table.get("AttributeDefinitions") or ()
        }
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return TableSetup(
            status=str(table.get("TableStatus")),
            keys=_keys(table, types),
            indexes={
                str(index.get("IndexName")): _keys(index, types, projected=_projected(index))
                for index in table.get("GlobalSecondaryIndexes") or ()
            },
            capacity=_capacity(table),
            deletion_protection=table.get("DeletionProtectionEnabled"),
            clock_ahead_seconds=clock_ahead(headers.get("date")),
            replicas=len(table.get("Replicas") or ()),
        )

    async def expires_by(self) -> str | None:
        """The attribute of TTL; "": TTL is off; None: this DynamoDB has no TTL."""
        answer = await self._ask_if_known("DescribeTimeToLive", self._client.describe_time_to_live)
        if answer is None:
            return None
        told: Mapping[str, Any] = answer.get("TimeToLiveDescription") or {}
        on = told.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
        return str(told.get("AttributeName") or "") if on else ""

    async def point_in_time_recovery(self) -> bool | None:
        """Whether it is on; None: this DynamoDB has none."""
        answer = await self._ask_if_known(
            "DescribeContinuousBackups", self._client.describe_continuous_backups
        )
        if answer is None:
            return None
        told = answer.get("ContinuousBackupsDescription") or {}
        recovery = told.get("PointInTimeRecoveryDescription") or {}
        return bool(recovery.get("PointInTimeRecoveryStatus") == "ENABLED")

    async def create(self, capacity: Capacity | None) -> None:
        """Makes the table and waits until it can be used.

        Args:
            capacity: None: on-demand.

        Raises:
            EdgeFault: it cannot be made, or not be used in time.
        """
        try:
            await self._call("CreateTable", self._client.create_table, **_definition(capacity))
        except AWS_ERRORS as error:
            # it is there by now: another process was quicker, or the answer of a try was lost
            if error_code(error) != "ResourceInUseException":
                raise checkpoint_fault(error, self._place) from error
        deadline = monotonic() + CREATE_SECONDS
        pause, longest = _PAUSES
        while (made := await self.setup()) is None or made.status != _ACTIVE:
            if monotonic() > deadline:
                text = f"{self._place}: it is not ACTIVE after {CREATE_SECONDS:g} s; try again"
                raise EdgeFault(Edge.CHECKPOINT, Reason.UNAVAILABLE, text)
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    async def switch_on_expiry(self) -> bool:
        """Switches TTL on. False: this DynamoDB has none."""
        answer = await self._ask_if_known(
            "UpdateTimeToLive",
            self._client.update_time_to_live,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": EXPIRES_AT},
        )
        return answer is not None

    async def switch_on_recovery(self) -> bool:
        """Switches point-in-time recovery on. False: this DynamoDB has none."""
        answer = await self._ask_if_known(
            "UpdateContinuousBackups",
            self._client.update_continuous_backups,
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
        )
        return answer is not None

    def harmless_calls(self) -> Mapping[str, Awaitable[None]]:
        """A call for each permission of the daemon that changes nothing, by IAM action. Each
        raises `EdgeFault` if it is refused. All are to be awaited.
        """
        exists = {
            "ConditionExpression": "attribute_exists(#pk)",
            "ExpressionAttributeNames": {"#pk": PARTITION_KEY},
        }
        nothing = {
            "KeyConditionExpression": "#hash = :hash",
            "ExpressionAttributeValues": {":hash": {"S": "check#"}},
            "Limit": 1,
        }
        client = self._client
        return {
            "dynamodb:GetItem": self._permitted("GetItem", client.get_item, Key=NOTHING),
            "dynamodb:PutItem": self._permitted("PutItem", client.put_item, Item=NOTHING, **exists),
            "dynamodb:DeleteItem": self._permitted(
                "DeleteItem", client.delete_item, Key=NOTHING, **exists
            ),
            "dynamodb:Query": self._permitted(
                "Query",
                client.query,
                ExpressionAttributeNames={"#hash": PARTITION_KEY},
                **nothing,
            ),
            **{
                f"dynamodb:Query of index {index}": self._permitted(
                    "Query",
                    client.query,
                    IndexName=index.value,
                    ExpressionAttributeNames={"#hash": index.hash_key},
                    **nothing,
                )
                for index in Index
            },
        }

    async def _permitted(
        self,
        operation: str,
        call: Callable[..., Awaitable[Mapping[str, Any]]],
        **request: Any,  # noqa: ANN401 - botocore's
    ) -> None:
        try:
            await self._call(operation, call, **request)
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise checkpoint_fault(error, self._place) from error
        except AWS_ERRORS as error:
            raise checkpoint_fault(error, self._place) from error

    async def _ask(
        self,
        operation: str,
        call: Callable[..., Awaitable[Mapping[str, Any]]],
        **request: Any,  # noqa: ANN401 - the same
    ) -> Mapping[str, Any]:
        try:
            return await self._call(operation, call, **request)
        except AWS_ERRORS as error:
            raise checkpoint_fault(error, self._place) from error

    async def _ask_if_known(
        self,
        operation: str,
        call: Callable[..., Awaitable[Mapping[str, Any]]],
        **request: Any,  # noqa: ANN401 - the same
    ) -> Mapping[str, Any] | None:
        """None: this implementation of DynamoDB's API lacks the operation."""
        try:
            return await self._call(operation, call, **request)
        except AWS_ERRORS as error:
            if isinstance(error, ClientError) and error_code(error) in _UNKNOWN_OPERATION:
                return None
            raise checkpoint_fault(error, self._place) from error

    async def _call(
        self,
        operation: str,
        call: Callable[..., Awaitable[Mapping[str, Any]]],
        **request: Any,  # noqa: ANN401 - the same
    ) -> Mapping[str, Any]:
        with observed(self._observe, DYNAMODB, operation):
            return await call(TableName=self._place.table, **request)


def _definition(capacity: Capacity | None) -> dict[str, Any]:
    """The request that makes the table."""
    throughput = (
        {"BillingMode": "PAY_PER_REQUEST"}
        if capacity is None
        else {"BillingMode": "PROVISIONED", **_throughput(capacity)}
    )
    types = {
        name: kind
        for keys in (TABLE_KEYS, *INDEX_KEYS.values())
        for name, kind in (keys.hash_key, keys.range_key or keys.hash_key)
    }
    return {
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": kind} for name, kind in types.items()
        ],
        "KeySchema": _key_schema(TABLE_KEYS),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": name,
                "KeySchema": _key_schema(keys),
                "Projection": {
                    "ProjectionType": "INCLUDE",
                    "NonKeyAttributes": sorted(keys.projected or ()),
                },
                **({} if capacity is None else _throughput(capacity)),
            }
            for name, keys in INDEX_KEYS.items()
        ],
        "DeletionProtectionEnabled": True,
        **throughput,
    }


def _throughput(capacity: Capacity) -> dict[str, Any]:
    units = {"ReadCapacityUnits": capacity.read, "WriteCapacityUnits": capacity.write}
    return {"ProvisionedThroughput": units}


def _key_schema(keys: Keys) -> list[dict[str, str]]:
    parts = [("HASH", keys.hash_key), ("RANGE", keys.range_key)]
    return [{"AttributeName": key[0], "KeyType": kind} for kind, key in parts if key is not None]


def _keys(
    described: Mapping[str, Any],
    types: Mapping[str, str],
    *,
    projected: frozenset[str] | None = None,
) -> Keys:
    names = {each.get("KeyType"): each.get("AttributeName") for each in described["KeySchema"]}
    hash_name, range_name = str(names.get("HASH")), names.get("RANGE")
    return Keys(
        (hash_name, types.get(hash_name, "")),
        None if range_name is None else (range_name, types.get(range_name, "")),
        projected,
    )


def _projected(index: Mapping[str, Any]) -> frozenset[str] | None:
    projection: Mapping[str, Any] = index.get("Projection") or {}
    if projection.get("ProjectionType") == "ALL":
        return None
    return frozenset(projection.get("NonKeyAttributes") or ())


def _capacity(table: Mapping[str, Any]) -> Capacity | None:
    mode = (table.get("BillingModeSummary") or {}).get("BillingMode")
    units = table.get("ProvisionedThroughput") or {}
    if mode == "PAY_PER_REQUEST" or not units.get("WriteCapacityUnits"):
        return None
    return Capacity(int(units.get("ReadCapacityUnits") or 0), int(units["WriteCapacityUnits"]))

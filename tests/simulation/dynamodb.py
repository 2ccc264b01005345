"""DynamoDB as the checkpoint uses it: one table whose items are written one at a time, on a
condition, and two indexes that lag behind it.

`SimulatedDynamoDb` is the service, which outlives all processes. `SimulatedDynamoDbClient` is the
client of one process, for `daemon.checkpoint.dynamodb.aws_table.AwsTable`; a request that has left
is carried out whatever becomes of the process. `tests.simulation.test_dynamodb_model` gives the
same calls to this service, to moto's server and to dynalite.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from daemon.checkpoint.dynamodb.table import (
    CHANGED_AT,
    EXPIRES_AT,
    PARTITION_KEY,
    SORT_KEY,
    Index,
)
from tests.simulation.aws_calls import AwsCaller, Fault, FaultAnswers, Refusal, ServiceFaults

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping, Sequence

    from tests.simulation.loop import VirtualLoop
    from tests.simulation.network import SimulatedNetwork

T = TypeVar("T")
Key = tuple[str, str]
WireItem = dict[str, dict[str, str]]
"""Attributes as on the wire: ``{"S": text}`` or ``{"N": number}``."""

READ_SECONDS = 3.0
"""As `daemon.aws.dynamodb` sets it."""
LATEST_DELETION_SECONDS = 2 * 86400.0
"""So late DynamoDB may delete an item that has expired."""
LONGEST_LAG = 2.0
ITEMS_A_PAGE = 25
"""Of a query. The service has a limit of 1 MB."""

_EQUAL = re.compile(r"(#\w+) = (:\w+)")
_AT_LEAST = re.compile(r"(#\w+) >= (:\w+)")
_BETWEEN = re.compile(r"(#\w+) BETWEEN (:\w+) AND (:\w+)")
_ABSENT = re.compile(r"attribute_not_exists\((#\w+)\)")
_CONDITION_FAILED = Fault("ConditionalCheckFailedException", "The conditional request failed", 400)
_ANSWERS = FaultAnswers(
    throttled=Fault("ThrottlingException", "Throughput exceeds the current capacity", 400),
    failing=(
        Fault("InternalServerError", "Internal server error", 500),
        Fault("ServiceUnavailable", "Service unavailable", 503),
    ),
    credentials_expired=Fault("ExpiredTokenException", "The security token has expired", 400),
    denied=lambda operation: Fault("AccessDeniedException", f"not allowed: {operation}", 400),
)


@dataclass(slots=True)
class TableFaults:
    """What is wrong with the table alone.

    Attributes:
        slow: the part of the partitions that is slow, from 0 to 1.
        slow_seconds: the longest that a request of one of those takes.
        longest_lag: of the indexes, in seconds.
    """

    slow: float = 0.0
    slow_seconds: float = 0.0
    longest_lag: float = LONGEST_LAG


class SimulatedDynamoDb:
    """The service, with one table.

    Args:
        clock: seconds since the epoch, by the service's clock.

    Attributes:
        faults: of the service; may be changed at any time.
        table_faults: the same of the table.
        watchers: told of each item before (None: there was none) and after a write (None: it was
            deleted).
        counts: what was carried out, by operation.
    """

    def __init__(
        self, loop: VirtualLoop, seeded: random.Random, clock: Callable[[], float]
    ) -> None:
        self.faults = ServiceFaults()
        self.table_faults = TableFaults()
        self.watchers: list[Callable[[WireItem | None, WireItem | None], None]] = []
        self.counts: Counter[str] = Counter()
        self._loop = loop
        self._random = seeded
        self._clock = clock
        self._items: dict[str, dict[str, WireItem]] = defaultdict(dict)
        self._shown: dict[Key, WireItem] = {}
        self._on_the_way: dict[Key, deque[tuple[float, WireItem | None]]] = defaultdict(deque)
        self._deletions: dict[Key, float] = {}

    def calm(self) -> None:
        """Ends all faults."""
        self.faults.end()
        self.table_faults = TableFaults()

    def seconds_of(self, partition: str) -> float:
        """How long a request of a partition takes, beyond its way there and back."""
        faults = self.table_faults
        if (sum(partition.encode()) % 97) / 97 >= faults.slow:
            return 0.0
        return self._random.uniform(0, faults.slow_seconds)

    @property
    def items(self) -> Sequence[WireItem]:
        """All that are there now."""
        return [item for each in self._items.values() for item in each.values()]

    def clear(self) -> None:
        """The table is deleted and made anew."""
        for each in (self._items, self._shown, self._on_the_way, self._deletions):
            each.clear()

    def put_back(self, items: Sequence[WireItem]) -> None:
        """The table is as a backup has it."""
        self.clear()
        for item in items:
            self._write(_key_of(item), item)

    def get_item(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carries out GetItem."""
        self._expire()
        partition, sort = _key_of(request["Key"])
        item = self._items[partition].get(sort)
        return {} if item is None else {"Item": dict(item)}

    def put_item(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carries out PutItem."""
        item: WireItem = dict(request["Item"])
        self._require(request, _key_of(item))
        self._write(_key_of(item), item)
        return {}

    def delete_item(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carries out DeleteItem."""
        partition, sort = _key_of(request["Key"])
        self._require(request, (partition, sort))
        if sort in self._items[partition]:
            self._write((partition, sort), None)
        return {}

    def query(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Carries out Query, of the table or an index."""
        self._expire()
        range_key = SORT_KEY
        items: Sequence[WireItem] = self.items
        if "IndexName" in request:
            range_key = CHANGED_AT
            hash_key = Index(request["IndexName"]).hash_key
            shown = self._of_indexes().values()
            items = [each for each in shown if hash_key in each and range_key in each]
        holds = _key_condition(request)
        backwards = not request.get("ScanIndexForward", True)

        def place(item: WireItem) -> tuple[Any, ...]:
            return (_value(item[range_key]), *_key_of(item))

        found = sorted((each for each in items if holds(each)), key=place, reverse=backwards)
        if start := request.get("ExclusiveStartKey"):
            last = place(start)
            found = [each for each in found if place(each) != last]
            found = [each for each in found if (place(each) < last) is backwards]
        limit = min(request.get("Limit", ITEMS_A_PAGE), ITEMS_A_PAGE)
        answer: dict[str, Any] = {"Count": len(found[:limit])}
        if request.get("Select") != "COUNT":
            answer["Items"] = [dict(each) for each in found[:limit]]
        if len(found) > limit:
            keys = {PARTITION_KEY, SORT_KEY, range_key}
            answer["LastEvaluatedKey"] = {key: found[limit - 1][key] for key in sorted(keys)}
        return answer

    def _require(self, request: Mapping[str, Any], key: Key) -> None:
        self._expire()
        held = self._items[key[0]].get(key[1], {})
        if not _holds(request["ConditionExpression"], request, held):
            raise Refusal(
                _CONDITION_FAILED.code, _CONDITION_FAILED.message, _CONDITION_FAILED.http_status
            )

    def _of_indexes(self) -> dict[Key, WireItem]:
        now = self._loop.time()
        for key, waiting in self._on_the_way.items():
            while waiting and waiting[0][0] <= now:
                _, item = waiting.popleft()
                if item is None:
                    self._shown.pop(key, None)
                else:
                    self._shown[key] = item
        return self._shown

    def _write(self, key: Key, item: WireItem | None) -> None:
        partition, sort = key
        before = self._items[partition].get(sort)
        if item is None:
            self._items[partition].pop(sort, None)
        else:
            self._items[partition][sort] = item
        waiting = self._on_the_way[key]
        due = self._loop.time() + self._random.uniform(0, self.table_faults.longest_lag)
        waiting.append((max(due, waiting[-1][0] if waiting else 0.0), item))
        self._deletions.pop(key, None)
        if item is not None and EXPIRES_AT in item:
            late = self._random.uniform(0, LATEST_DELETION_SECONDS)
            self._deletions[key] = float(item[EXPIRES_AT]["N"]) + late
        for watcher in self.watchers:
            watcher(before, item)

    def _expire(self) -> None:
        now = self._clock()
        for key in [key for key, at in self._deletions.items() if at <= now]:
            self._write(key, None)


@dataclass
class _PartitionNetwork:
    """The network to a partition, which may be slow."""

    network: SimulatedNetwork
    service: SimulatedDynamoDb
    partition: str

    async def call(self, name: str, carry_out: Callable[[], T]) -> T:
        """See `tests.simulation.aws_calls.Network.call`."""
        seconds = self.service.seconds_of(self.partition)

        def counted() -> T:
            self.service.counts[name] += 1
            return carry_out()

        return await self.network.call(name, counted, seconds)


class SimulatedDynamoDbClient:
    """A `daemon.aws.dynamodb.DynamoDbClient`, of one process."""

    def __init__(
        self, service: SimulatedDynamoDb, network: SimulatedNetwork, seeded: random.Random
    ) -> None:
        self._service = service
        self._network = network
        self._random = seeded

    async def get_item(self, **request: Any) -> dict[str, Any]:
        return await self._call("GetItem", request["Key"], self._service.get_item, request)

    async def put_item(self, **request: Any) -> dict[str, Any]:
        return await self._call("PutItem", request["Item"], self._service.put_item, request)

    async def delete_item(self, **request: Any) -> dict[str, Any]:
        return await self._call("DeleteItem", request["Key"], self._service.delete_item, request)

    async def query(self, **request: Any) -> dict[str, Any]:
        return await self._call("Query", {}, self._service.query, request)

    async def _call(
        self,
        operation: str,
        key: Mapping[str, Mapping[str, str]],
        carry_out: Callable[[Mapping[str, Any]], dict[str, Any]],
        request: Mapping[str, Any],
    ) -> dict[str, Any]:
        partition = key[PARTITION_KEY]["S"] if key else ""
        caller = AwsCaller(
            "dynamodb",
            _PartitionNetwork(self._network, self._service, partition),
            self._service.faults,
            _ANSWERS,
            self._random,
            read_seconds=READ_SECONDS,
        )
        return await caller.call(operation, partial(carry_out, request))


def _key_of(item: Mapping[str, Mapping[str, str]]) -> Key:
    return item[PARTITION_KEY]["S"], item[SORT_KEY]["S"]


def _value(given: Mapping[str, str]) -> float | bytes:
    """For comparison: numbers as such, texts by their bytes."""
    return float(given["N"]) if "N" in given else given["S"].encode()


def _holds(expression: str, request: Mapping[str, Any], item: WireItem) -> bool:
    """Whether an item is as a condition says, which joins some with OR."""
    names = request["ExpressionAttributeNames"]
    for each in expression.split(" OR "):
        if absent := _ABSENT.fullmatch(each):
            if names[absent[1]] not in item:
                return True
        elif equal := _EQUAL.fullmatch(each):
            wanted = request["ExpressionAttributeValues"][equal[2]]
            if names[equal[1]] in item and _value(item[names[equal[1]]]) == _value(wanted):
                return True
        else:
            raise AssertionError(each)
    return False


def _key_condition(request: Mapping[str, Any]) -> Callable[[WireItem], bool]:
    """Whether an item is one of those that a query asks for."""
    names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
    expression = request["KeyConditionExpression"]
    conditions: list[Callable[[WireItem], bool]] = []

    def within(name: str, low: Any, high: Any) -> None:
        conditions.append(
            lambda item: low <= _value(item[name]) and (high is None or _value(item[name]) <= high)
        )

    for equal in _EQUAL.finditer(expression):
        wanted = _value(values[equal[2]])
        within(names[equal[1]], wanted, wanted)
    for least in _AT_LEAST.finditer(expression):
        within(names[least[1]], _value(values[least[2]]), None)
    for between in _BETWEEN.finditer(expression):
        within(names[between[1]], _value(values[between[2]]), _value(values[between[3]]))
    left = expression
    for form in (_BETWEEN, _EQUAL, _AT_LEAST):
        left = form.sub("", left)
    if left.strip(" AND"):
        raise AssertionError(expression)
    return lambda item: all(holds(item) for holds in conditions)

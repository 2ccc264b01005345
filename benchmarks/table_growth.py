"""What a job costs in a DynamoDB table of a thousand jobs and of many.

    python -m benchmarks.table_growth --large 100000

Two tables in one dynalite: that of DYNALITE_URL, or one that is started in memory. As in
`benchmarks.checkpoint_growth`, both hold the same kind of rows, and in turns both take new jobs as
the flow does. Prints the requests of a job, the capacity units that they consume (dynalite counts
those of the table, AWS those of its indexes, too), and the time, which says something of dynalite
only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiobotocore.session import get_session

from benchmarks.bench.shared_checkpoint import dynamodb_at
from benchmarks.bench.world import free_port
from benchmarks.checkpoint_growth import PROJECTS, TARGET, ratio, sync_one, take
from daemon.aws.dynamodb import DynamoDbPlace, open_dynamodb
from daemon.checkpoint.dynamodb.aws_table import AwsTable
from daemon.checkpoint.dynamodb.store import open_dynamodb_checkpoint
from daemon.checkpoint.dynamodb.table_setup import TableAdministration
from tests.support.daemon_process import CREDENTIALS, REGION

if TYPE_CHECKING:
    from daemon.checkpoint.ports import Checkpoint

KEEP_DAYS = 400.0
BATCH = 25
"""Items of one BatchWriteItem at most."""
AT_ONCE = 8
_MODEL = "model-of-the-rows"


@dataclass
class Figures:
    """Of one table.

    Attributes:
        wall: milliseconds of a job, one entry a round.
        jobs: how many it took.
        requests: by operation.
        units: capacity units by operation, as the server counts them.
    """

    wall: list[float] = field(default_factory=list)
    jobs: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)

    def per_job(self) -> str:
        """The requests of a job and their units, as text."""
        return ", ".join(
            f"{count / self.jobs:.2f} {operation} ({self.units[operation] / self.jobs:.2f} units)"
            for operation, count in sorted(self.requests.items())
        )


async def main() -> None:
    """Fills both tables, runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=300, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.update(CREDENTIALS)
    async with dynamodb_at(free_port()) as endpoint:
        figures = await compare(
            endpoint, arguments.small, arguments.large, arguments.jobs, arguments.rounds
        )
    for rows, each in figures.items():
        print(
            f"{rows:,} jobs: {statistics.median(each.wall):.2f} ms a job "
            f"({min(each.wall):.2f} to {max(each.wall):.2f}); {each.per_job()}"
        )
    small, large = figures[arguments.small], figures[arguments.large]
    print(f"ratio of the medians: {ratio(small.wall, large.wall):.2f} in time")


async def compare(
    endpoint: str, small: int, large: int, jobs: int, rounds: int
) -> dict[int, Figures]:
    """Figures by the number of jobs in the table."""
    figures: dict[int, Figures] = {}
    async with contextlib.AsyncExitStack() as stack:
        checkpoints: dict[int, Checkpoint] = {}
        for rows in (small, large):
            place = DynamoDbPlace(f"jobs-{rows}", REGION, endpoint)
            client: Any = await stack.enter_async_context(open_dynamodb(place))
            await TableAdministration(client, place).create(None)
            begun = time.perf_counter()
            await fill(place, client, rows)
            print(f"{rows:,} jobs filled in {time.perf_counter() - begun:.0f} s", flush=True)
            checkpoints[rows] = await open_dynamodb_checkpoint(
                AwsTable(client, place, contextlib.AsyncExitStack()), TARGET, keep_days=KEEP_DAYS
            )
            stack.push_async_callback(checkpoints[rows].aclose)
            figures[rows] = Figures()
            _count(client, figures[rows])
        for _ in range(rounds):
            for rows, checkpoint in checkpoints.items():
                begun = time.perf_counter()
                await take(checkpoint, jobs)
                figures[rows].wall.append((time.perf_counter() - begun) / jobs * 1e3)
                figures[rows].jobs += jobs
    return figures


async def fill(place: DynamoDbPlace, client: Any, rows: int) -> None:  # noqa: ANN401 - botocore's
    """Copies of the item of one job, which is written as the flow writes it.

    Args:
        place: of the table.
        client: the daemon's, for the first job.
        rows: how many jobs the table has afterwards.
    """
    table = AwsTable(client, place, contextlib.AsyncExitStack())
    checkpoint = await open_dynamodb_checkpoint(table, TARGET, keep_days=KEEP_DAYS)
    await sync_one(checkpoint, _MODEL)
    await checkpoint.aclose()
    async with get_session().create_client(
        "dynamodb", region_name=place.region, endpoint_url=place.endpoint_url
    ) as writer:
        found = await writer.query(
            TableName=place.table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": f"job#{_MODEL}"}},
        )
        (model,) = found["Items"]
        numbers = iter(range(1, rows))

        async def write() -> None:
            while batch := list(itertools.islice(numbers, BATCH)):
                puts = [{"PutRequest": {"Item": _copy(model, number)}} for number in batch]
                asked = {place.table: puts}
                while asked:
                    answer = await writer.batch_write_item(RequestItems=asked)
                    asked = answer.get("UnprocessedItems") or {}

        await asyncio.gather(*(write() for _ in range(AT_ONCE)))


def _copy(model: dict[str, dict[str, str]], number: int) -> dict[str, dict[str, str]]:
    """The model's item under another name, in no order, with another project and shard."""
    name = f"job-{number * 2654435761 % 4294967296:08x}"
    item = {
        key: {kind: value.replace(_MODEL, name) for kind, value in each.items()}
        for key, each in model.items()
    }
    item["outcome"] = {"S": f"{item['outcome']['S'].partition('#')[0]}#{number % 4}"}
    item["group"] = {"S": f"project#project-{number % PROJECTS}"}
    item["changed_at"] = {"N": repr(float(item["changed_at"]["N"]) - number / 10)}
    return item


def _count(client: Any, figures: Figures) -> None:  # noqa: ANN401 - botocore's
    """Counts the client's requests, and lets DynamoDB say what they consume."""

    def ask(params: dict[str, Any], **_: object) -> dict[str, Any]:
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def note(parsed: dict[str, Any], model: Any, **_: object) -> None:  # noqa: ANN401 - botocore's
        figures.requests[model.name] += 1
        figures.units[model.name] += parsed.get("ConsumedCapacity", {}).get("CapacityUnits", 0)

    client.meta.events.register("provide-client-params.dynamodb", ask)
    client.meta.events.register("after-call.dynamodb", note)


if __name__ == "__main__":
    asyncio.run(main())

"""The daemon with a DynamoDB checkpoint, and dynalite, which it is measured with."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from typing import TYPE_CHECKING

import daemon.config.settings
from benchmarks.bench.contestants import AGE_SECONDS, Daemon
from benchmarks.bench.environments import HERE, NodeEnvironment
from daemon.aws.dynamodb import DynamoDbPlace, open_dynamodb
from daemon.checkpoint.dynamodb.aws_table import open_aws_table
from daemon.checkpoint.dynamodb.items import Items
from daemon.checkpoint.dynamodb.table_setup import TableAdministration
from daemon.checkpoint.dynamodb.target_use import TargetUse
from tests.support.daemon_process import CREDENTIALS, REGION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.bench.contestants import Assignment

DYNALITE = NodeEnvironment("dynalite", HERE / "stand_ins" / "dynalite")
AVAILABLE = hasattr(daemon.config.settings, "DynamoDbSettings")
_KEEP_SECONDS = 400 * 86400.0
_START_SECONDS = 30
_PAUSE_SECONDS = 0.1


class DaemonOnDynamoDb(Daemon):
    """The daemon with a table of its own in dynalite, as old as the file of the other one."""

    key = "daemon-dynamodb"
    label = "this daemon, DynamoDB"

    async def _checkpoint(self, assignment: Assignment) -> dict[str, object]:
        os.environ.update(CREDENTIALS)
        place = DynamoDbPlace(f"{assignment.project}-checkpoint", REGION, assignment.dynamodb)
        async with open_dynamodb(place) as client:
            await TableAdministration(client, place).create(None)
        table = await open_aws_table(place)
        now = time.time()
        moments = [now - AGE_SECONDS]
        use = TargetUse(
            Items(table, keep_seconds=_KEEP_SECONDS, jitter=random.Random()),  # noqa: S311 - jitter, no secret
            assignment.place,
            lambda: moments[-1],
            skew_seconds=0,
            clock_ahead=lambda: 0.0,
        )
        await use.open()
        moments.append(now)
        await use.note()
        await table.aclose()
        return {
            "kind": "dynamodb",
            "table": place.table,
            "region": REGION,
            "endpoint_url": assignment.dynamodb,
        }


@contextlib.asynccontextmanager
async def dynamodb_at(port: int) -> AsyncIterator[str]:
    """The endpoint of a dynalite of its own, in memory; that in DYNALITE_URL if there is one.

    Args:
        port: free.

    Raises:
        RuntimeError: dynalite could not be installed.
        TimeoutError: it does not answer.
    """
    if known := os.environ.get("DYNALITE_URL"):
        yield known
        return
    await DYNALITE.make()
    program = DYNALITE.folder / "node_modules" / ".bin" / "dynalite"
    delays = [word for what in ("create", "delete", "update") for word in (f"--{what}TableMs", "0")]
    process = await asyncio.create_subprocess_exec(
        str(program),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *delays,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_START_SECONDS):
            await _listening(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def _listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            writer.close()
            return

"""A process of its own that works on a checkpoint, for tests with several processes: ``python
checkpoint_process.py VERB PATH …``.

It prints a line for everything that has been acknowledged to it, with one write call each, so that
a kill never loses one.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import Claim
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint
from daemon.errors import EdgeFault
from tests.support.checkpoint_calls import TARGET, arn_of, begin, claimed, mark_of, synced

if TYPE_CHECKING:
    from daemon.checkpoint.sqlite.store import SqliteCheckpoint

WORKERS = 16
OPENINGS_APART = 0.04


def say(*words: object) -> None:
    os.write(sys.stdout.fileno(), (" ".join(map(str, words)) + "\n").encode())


async def open_many(path: Path, rounds: int, start_at: float) -> None:
    """Opens a new file per round, at the same moment as the other processes."""
    for number in range(rounds):
        await asyncio.sleep(max(0.0, start_at + number * OPENINGS_APART - time.time()))
        checkpoint = await open_sqlite_checkpoint(path.with_name(f"{number}-{path.name}"), TARGET)
        await claimed(checkpoint, arn_of(os.getpid()))
        await checkpoint.aclose()
    say("done")


async def race(path: Path, jobs: int) -> None:
    """Holds the claim of every job once, and says when each began and was about to end."""
    checkpoint = await open_sqlite_checkpoint(path, TARGET, busy_seconds=20)
    todo = [arn_of(number) for number in range(jobs)]
    random.shuffle(todo)

    async def work() -> None:
        while todo:
            arn = todo.pop()
            claim = await checkpoint.claim(arn, 3600)
            if not isinstance(claim, Claim):
                todo.insert(0, arn)
                continue
            say("begin", arn, os.getpid(), claim.fence)
            await checkpoint.job(mark_of(0))
            say("end", arn, os.getpid(), claim.fence)
            await checkpoint.release(claim)

    await asyncio.gather(*(work() for _ in range(WORKERS)))
    await checkpoint.aclose()


async def hold(path: Path, jobs: int) -> None:
    """Claims jobs for an hour, begins to write the first of them, and stays."""
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    claims = [await claimed(checkpoint, arn_of(number)) for number in range(jobs)]
    await checkpoint.renew(claims, 3600)
    await begin(checkpoint, claims[0], mark_of(0), lock_name="run/0")
    await checkpoint.lock_name(claims[1], "project/churn", 3600)
    say("holding", claims[0].owner)
    await asyncio.Event().wait()


async def write_alone(path: Path, lease_seconds: float) -> None:
    """Takes the writer lease of a server, and keeps it when it closes on a line of stdin."""
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    say(
        "writer",
        (await checkpoint.take_writer_lease("modeldb", lease_seconds, grace_seconds=0)).owner,
    )
    await asyncio.to_thread(sys.stdin.readline)
    await checkpoint.aclose()


async def sync_one(checkpoint: SqliteCheckpoint, number: int) -> None:
    claim = await claimed(checkpoint, arn_of(number))
    record = await begin(checkpoint, claim, mark_of(number), lock_name=f"run/{number}")
    say("writing", number, record.unanswered_writes)
    await synced(checkpoint, claim, mark_of(number), run_id=f"r-{number}")
    say("synced", number)


async def write(path: Path, first: int) -> None:
    """Syncs one job after the other until it is killed."""
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    numbers = iter(range(first, sys.maxsize))

    async def work() -> None:
        for number in numbers:
            await sync_one(checkpoint, number)

    await asyncio.gather(*(work() for _ in range(WORKERS)))


async def fill_up(path: Path, bytes_more: int) -> None:
    """Syncs jobs until no file may grow any more, and continues once they may again."""
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_more, hard))
    number = 0
    try:
        while True:
            await sync_one(checkpoint, number)
            number += 1
    except EdgeFault as fault:
        say("fault", fault)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        await checkpoint.probe()
    except EdgeFault:
        say("still")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for later in range(number, number + 50):
        await sync_one(checkpoint, later)
    await checkpoint.aclose()


if __name__ == "__main__":
    verb, path, *numbers = sys.argv[1:]
    match verb:
        case "open_many":
            asyncio.run(open_many(Path(path), int(numbers[0]), float(numbers[1])))
        case "race":
            asyncio.run(race(Path(path), int(numbers[0])))
        case "hold":
            asyncio.run(hold(Path(path), int(numbers[0])))
        case "write_alone":
            asyncio.run(write_alone(Path(path), float(numbers[0])))
        case "write":
            asyncio.run(write(Path(path), int(numbers[0])))
        case "fill_up":
            asyncio.run(fill_up(Path(path), int(numbers[0])))

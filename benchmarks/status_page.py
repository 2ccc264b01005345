"""What the status page costs at a million rows: ``python -m benchmarks.status_page``.

One process, as in the daemon: the checkpoint with its writes on one side, the HTTP server with the
page on the other, and a probe that measures how long the event loop was blocked. The requests come
from a process of their own. Prints, for each address: the time of an answer, the longest and the
99th percentile of the loop's blocks while it was made (``block``: how late the loop came back, with
what other programs of the machine took; ``work``: processor time of the loop's own thread between
two looks), and the time of a claim and a record beside
it, compared with the same without requests.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import Claim
from daemon.checkpoint.sqlite.store import SqliteCheckpoint, open_sqlite_checkpoint
from daemon.clock import wall
from daemon.reasons import Reason
from daemon.training_job.identity import JobMark
from tests.support.page_scenes import (
    TARGET,
    FixedSource,
    arn_of,
    busy,
    make_checkpoint,
    of_each_kind,
    record,
    served,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

SECONDS_APART = 0.05
PROBE_SECONDS = 0.001
CLIENT = """
import sys, time, urllib.request
base, path, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
end, took, number = time.monotonic() + seconds, [], 0
while time.monotonic() < end:
    number += 1
    begun = time.monotonic()
    separator = "&" if "?" in path else "?"
    with urllib.request.urlopen(f"{base}{path}{separator}n={number}") as answer:
        size = len(answer.read())
    took.append(time.monotonic() - begun)
    time.sleep(0.02)
took.sort()
print(len(took), size, took[len(took) // 2], took[-1])
"""


@dataclass
class Measured:
    """Seconds."""

    blocks: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    writes: list[float] = field(default_factory=list)

    def line(self, name: str, client: str) -> str:
        requests, size, median, slowest = (float(each) for each in client.split())
        blocks, work, writes = sorted(self.blocks), sorted(self.work), sorted(self.writes)
        return (
            f"{name:<34} {requests:>5.0f} {size / 1024:>6.0f} {median * 1e3:>8.1f} "
            f"{slowest * 1e3:>8.1f} {part(work, 0.99) * 1e3:>7.2f} {work[-1] * 1e3:>7.2f} "
            f"{part(blocks, 0.99) * 1e3:>8.2f} {blocks[-1] * 1e3:>8.2f} "
            f"{part(writes, 0.5) * 1e3:>9.2f} {part(writes, 0.99) * 1e3:>8.2f}"
        )


def part(values: Sequence[float], wanted: float) -> float:
    """A quantile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * wanted))]


async def probe(measured: Measured) -> None:
    """Notes how much later than wanted the loop comes back, and what it has worked meanwhile."""
    while True:
        begun, worked = time.perf_counter(), time.thread_time()
        await asyncio.sleep(PROBE_SECONDS)
        measured.work.append(time.thread_time() - worked)
        measured.blocks.append(max(0.0, time.perf_counter() - begun - PROBE_SECONDS))


async def claim_and_record(checkpoint: SqliteCheckpoint, name: str) -> None:
    """What the daemon writes about a job, at least."""
    arn = arn_of(name)
    claim = await checkpoint.claim(arn, 60)
    assert isinstance(claim, Claim)
    await checkpoint.record_skipped(
        claim,
        JobMark(arn, "2025-11-28T11:02:07.050Z"),
        name,
        reason=Reason.NOT_TAGGED,
        message_id="m",
    )


async def write(checkpoint: SqliteCheckpoint, measured: Measured, prefix: str) -> None:
    """Claims and records jobs, one after the other."""
    number = 0
    while True:
        number += 1
        begun = time.perf_counter()
        await claim_and_record(checkpoint, f"{prefix}-{number}")
        measured.writes.append(time.perf_counter() - begun)
        await asyncio.sleep(SECONDS_APART)


async def measure(
    name: str, path: str | None, port: int, checkpoint: SqliteCheckpoint, seconds: float
) -> None:
    measured = Measured()
    tasks = [
        asyncio.create_task(probe(measured)),
        asyncio.create_task(write(checkpoint, measured, f"bench-{len(name)}-{int(wall())}")),
    ]
    if path is None:
        await asyncio.sleep(seconds)
        output = "0 0 0 0"
    else:
        client = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            CLIENT,
            f"http://127.0.0.1:{port}",
            path,
            str(seconds),
            stdout=asyncio.subprocess.PIPE,
        )
        output = (await client.communicate())[0].decode()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    print(measured.line(name, output), flush=True)


async def run(rows: int, seconds: float, folder: Path) -> None:
    path = folder / "checkpoint.db"
    newest = wall() - 10
    if not path.exists():
        begun = time.monotonic()
        make_checkpoint(path, of_each_kind(rows, newest=newest, seconds=20))
        print(f"{rows:,} rows in {time.monotonic() - begun:.0f} s, {path.stat().st_size >> 20} MiB")
    checkpoint = await open_sqlite_checkpoint(path, TARGET)
    oldest = record(rows - 1, at=0).job_name
    addresses = {
        "nothing": None,
        "/": "/",
        "search: a recent job": "/?job=-00007",
        "search: nothing matches": "/?job=no-such-job",
        "search: the oldest by its name": f"/?job={oldest}",
        "search: a project": "/?project=fraud",
        "search: rejected": "/?outcome=rejected",
        "search: rejected, nothing matches": "/?outcome=rejected&job=no-such-job",
        "a job's page": f"/jobs/{record(rows // 2, at=0).job_arn}",
        "/api/status": "/api/status",
        "/api/jobs": "/api/jobs",
        "/api/jobs, 200 of them": "/api/jobs?limit=200",
        "/metrics": "/metrics",
        "nothing again": None,
    }
    print(
        f"{'':<34} {'asked':>5} {'KiB':>6} {'answer':>8} {'slowest':>8} {'work99':>7} "
        f"{'workmax':>7} {'block99':>8} {'blockmax':>8} {'write50':>9} {'write99':>8}   (ms)"
    )
    await claim_and_record(checkpoint, f"warm-{int(wall())}")  # the first one reads indexes
    async with served(FixedSource(busy(wall()).status), path) as server:
        for name, address in addresses.items():
            await measure(name, address, server.port, checkpoint, seconds)
    await checkpoint.aclose()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each address")
    parser.add_argument("--folder", type=Path, help="keeps the checkpoint there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        asyncio.run(run(arguments.rows, arguments.seconds, folder))


if __name__ == "__main__":
    main()

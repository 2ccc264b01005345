"""Jobs per second to a real ModelDB V1: this daemon's target beside the original Light API client,
in one run.

    python3 -m venv .venv-light-api .venv-light-api/bin/pip install --no-deps modeldb==0.0.1a30
    .venv-light-api/bin/pip install thrift future PyYAML MODELDB_V1_LAB=.../control-script
    .venv/bin/python benchmarks/modeldb_v1.py --light-api .venv-light-api/bin/python

(``--no-deps``: the package asks for one named sklearn, which cannot be installed any more.) The
control script starts and ends the server, see tests/real/modeldb_v1_lab.py. Three ways to write the
same jobs (10 hyperparameters, 2 channels, 5 metrics) take turns in each round, so that a machine
that gets slower meets them all:

* the original client, a job after the other, in the steps of AWS's sample (`light_api_job.py`);
* ours, a job after the other;
* ours, as many jobs at once as the daemon holds messages, over its one connection.

Ours is the whole of it: claim, journal and record in a SQLite checkpoint on the disk, and the
proofs that the run and the model are the job's own. Before the time is taken, each has written a
job to each project. The line between client and server has no delay, then that of ``--round-trip``,
made by `delayed_line.py` alike for both; it delays calls and answers, not the connect, of which the
original makes one per job. At the end every job of ours is looked for in the server's database.

Without MongoDB (``--no-mongo``) the original client ends no job; one job of it shows that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.modeldb_v1_jobs import PROJECTS, incomplete, run_of, some_jobs  # noqa: E402 - the path to the tree comes first
from daemon.app import LEASE_SECONDS  # noqa: E402 - the path to the tree comes first
from daemon.checkpoint.journal import Journal  # noqa: E402 - the path to the tree comes first
from daemon.checkpoint.ports import Claim  # noqa: E402 - the path to the tree comes first
from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint  # noqa: E402 - the path to the tree comes first
from daemon.reasons import Reason  # noqa: E402 - the path to the tree comes first
from daemon.targets.modeldb_v1.connection import Connection  # noqa: E402 - the path to the tree comes first
from daemon.targets.place import TargetPlace  # noqa: E402 - the path to the tree comes first
from tests.real.modeldb_v1_lab import LAB, LabServer, lab_server  # noqa: E402 - the path to the tree comes first
from tests.support.modeldb_v1_target import target_on  # noqa: E402 - the path to the tree comes first

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from daemon.targets.modeldb_v1.target import ModelDBV1Target
    from tests.support.daemon_process import Job

WANTED = 4.0
"""At least so many times the original's jobs per second, over the slow line."""
ORIGINAL, OURS_SINGLE, OURS = (
    "original client, one by one",
    "ours, one by one",
    "ours, many at once",
)


@dataclass(frozen=True)
class Row:
    """One way to write over one line: jobs per second of each round."""

    line: str
    way: str
    figures: list[float]


class Benchmark:
    """One server, and what has been written to it.

    Args:
        server: freshly started.
        home: a folder for checkpoints.
    """

    def __init__(self, server: LabServer, home: Path, arguments: argparse.Namespace) -> None:
        self._server = server
        self._home = home
        self._arguments = arguments
        self._written: list[Job] = []
        self._of_the_original = 0
        self._rounds = 0

    async def run(self) -> bool:
        """Prints the rounds and the table. Returns whether all is as it should be."""
        arguments = self._arguments
        print("warming up the server")
        await self._one_round(self._server.port, min(arguments.jobs, 20), [])
        rows: list[Row] = []
        for seconds in (0.0, arguments.round_trip):
            async with line_to(self._server.port, seconds) as port:
                name = f"{seconds * 1000:.0f} ms (seen: {await round_trip(port) * 1000:.1f})"
                rows += (added := [Row(name, way, []) for way in self._ways()])
                for _ in range(arguments.rounds):
                    await self._one_round(port, arguments.jobs, added)
        self._print_table(rows)
        if arguments.no_mongo:
            await self._one_job_of_the_original()
        return self._print_check()

    def _ways(self) -> list[str]:
        return [OURS_SINGLE, OURS] if self._arguments.no_mongo else [ORIGINAL, OURS_SINGLE, OURS]

    async def _one_round(self, port: int, count: int, rows: Sequence[Row]) -> None:
        self._rounds += 1
        given = []
        for number, way in enumerate(self._ways()):
            if way == ORIGINAL:
                seconds = await self._original(port, count)
            else:
                at_once = self._arguments.at_once if way == OURS else 1
                seconds = await self._ours(port, f"{self._rounds}-{number}", count, at_once)
            given.append(f"{way} {count / seconds:.1f}")
            if rows:
                rows[number].figures.append(count / seconds)
        if rows:
            print(
                f"{rows[0].line}: jobs/s of {', '.join(given)}; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )

    # --- the original client ----------------------------------------------------------------------

    async def _original(self, port: int, count: int) -> float:
        jobs = some_jobs("original", str(self._rounds), PROJECTS + count)
        done, seconds, error = await self._light_api(port, jobs, untimed=PROJECTS)
        assert not error, error
        self._of_the_original += done
        return seconds

    async def _light_api(
        self, port: int, jobs: Sequence[Job], *, untimed: int
    ) -> tuple[int, float, str]:
        """Jobs done, seconds that they took, and what ended it early."""
        asked = {
            "port": port,
            "untimed": untimed,
            "jobs": [{"description": job.description, "tags": job.tags} for job in jobs],
        }
        process = await asyncio.create_subprocess_exec(
            self._arguments.light_api,
            str(Path(__file__).with_name("light_api_job.py")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": ""},
        )
        output, _ = await process.communicate(json.dumps(asked).encode())
        given = json.loads(output)
        return given["done"], given["seconds"], given["error"]

    async def _one_job_of_the_original(self) -> None:
        _, seconds, error = await self._light_api(
            self._server.port, some_jobs("original", "single", 1), untimed=0
        )
        print(
            f"the original client without MongoDB, one job, after {seconds:.1f} s: "
            f"{error[:150] or 'stored'}"
        )

    # --- ours -------------------------------------------------------------------------------------

    async def _ours(self, port: int, name: str, count: int, at_once: int) -> float:
        jobs = some_jobs("ours", name, PROJECTS + count)
        self._written += jobs
        places = asyncio.Semaphore(at_once)
        checkpoint = await open_sqlite_checkpoint(
            self._home / f"{name}.db", TargetPlace("modeldb-v1", name)
        )

        async def one(job: Job) -> None:
            async with places:
                await write(target, checkpoint, job)

        try:
            async with target_on(port, metadata_store=not self._arguments.no_mongo) as target:
                for job in jobs[:PROJECTS]:
                    await one(job)
                begun = time.perf_counter()
                async with asyncio.TaskGroup() as group:
                    for job in jobs[PROJECTS:]:
                        group.create_task(one(job))
                return time.perf_counter() - begun
        finally:
            await checkpoint.aclose()

    # --- report

    def _print_table(self, rows: Sequence[Row]) -> None:
        arguments = self._arguments
        print(
            f"\nJobs per second; {arguments.rounds} rounds of {arguments.jobs} jobs, "
            f"{arguments.at_once} at once"
        )
        print(
            "\n| round trip | client | min | median | max | times the original | in each round "
            "|\n|---|---|---|---|---|---|---|"
        )
        for row in rows:
            figures = row.figures
            values = (min(figures), statistics.median(figures), max(figures))
            numbers = " | ".join(f"{value:.1f}" for value in values)
            print(f"| {row.line} | {row.way} | {numbers} | {ratios(row, rows)} |")
        if not arguments.no_mongo:
            ratio = median_ratio(rows[-1], rows)
            print(
                f"\nover the slow line: {ratio:.2f} times the original (wanted {WANTED:g}): "
                f"{'yes' if ratio >= WANTED else 'NO'}"
            )

    def _print_check(self) -> bool:
        wrong = incomplete(self._written, self._server, metadata_store=not self._arguments.no_mongo)
        for each in wrong[:10]:
            print(each)
        print(
            f"{len(self._written) - len(wrong)} of our {len(self._written)} jobs are in the server "
            "exactly once and complete"
        )
        fits, theirs = self._server.counts()["FitEvent"], self._of_the_original
        if self._arguments.no_mongo:
            return not wrong
        print(f"{fits} fits in the server: {len(self._written)} are ours, {theirs} the original's")
        return not wrong and fits == len(self._written) + theirs


async def write(target: ModelDBV1Target, checkpoint: SqliteCheckpoint, job: Job) -> None:
    """As the daemon does it, from the claim to the record."""
    run = run_of(job)
    claim = await checkpoint.claim(job.arn, LEASE_SECONDS)
    assert isinstance(claim, Claim)
    journal = Journal(
        checkpoint,
        claim,
        run.mark,
        job.name,
        await checkpoint.job(run.mark),
        look_up_first=False,
        lease_seconds=LEASE_SECONDS,
    )
    done = await target.sync(run, journal)
    assert done.created
    await checkpoint.record_synced(
        claim,
        run.mark,
        job.name,
        reason=Reason.CREATED,
        detail="",
        target_ids=done.ids,
        message_id=job.name,
    )


def original_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """The original's over the same line."""
    return next((each for each in rows if each.line == row.line and each.way == ORIGINAL), None)


def median_ratio(row: Row, rows: Sequence[Row]) -> float:
    original = original_of(row, rows)
    assert original is not None
    return statistics.median(row.figures) / statistics.median(original.figures)


def ratios(row: Row, rows: Sequence[Row]) -> str:
    original = original_of(row, rows)
    if original is None or original is row:
        return "- | -"
    each = [ours / theirs for ours, theirs in zip(row.figures, original.figures, strict=True)]
    return f"{median_ratio(row, rows):.2f} | {min(each):.2f} to {max(each):.2f}"


@contextlib.asynccontextmanager
async def line_to(server_port: int, seconds: float) -> AsyncIterator[int]:
    """The port to connect to."""
    if not seconds:
        yield server_port
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("delayed_line.py")),
        "--server",
        str(server_port),
        "--round-trip",
        str(seconds),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": ""},
    )
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.terminate()
        await process.wait()


async def round_trip(port: int) -> float:
    """Seconds of a call that costs the server nothing, the median of some."""
    connection = await Connection.open("127.0.0.1", port)
    seen = []
    for _ in range(20):
        begun = time.perf_counter()
        await connection.call("testConnection")
        seen.append(time.perf_counter() - begun)
    await connection.aclose()
    return statistics.median(seen)


async def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--light-api", required=True, help="the Python of the environment with the original client"
    )
    parser.add_argument("--no-mongo", action="store_true", help="a server without MongoDB")
    parser.add_argument(
        "--round-trip", type=float, default=0.02, help="of the slow line, in seconds"
    )
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--at-once",
        type=int,
        default=64,
        help="jobs of ours; the daemon's own number is queue.max_in_flight",
    )
    arguments = parser.parse_args()
    if not LAB:
        parser.error("MODELDB_V1_LAB names no control script")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    mongo = "without" if arguments.no_mongo else "with"
    print(
        f"ModelDB V1 {mongo} MongoDB; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} "
        "at the start"
    )
    with tempfile.TemporaryDirectory() as home:
        async with lab_server(mongo=not arguments.no_mongo) as server:
            good = await Benchmark(server, Path(home), arguments).run()
    print(f"load {os.getloadavg()[0]:.1f} at the end")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

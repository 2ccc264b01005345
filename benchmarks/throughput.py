"""Jobs per second and memory of the daemon, beside a bare loop that makes the same calls, in one
run.

    python benchmarks/throughput.py --sqs http://localhost:9324 # the stand-in for ModelDB,
    answering after 20 ms python benchmarks/throughput.py --sqs http://localhost:9324 --modeldb
    http://127.0.0.1:8080/v1

Each round makes a queue, fills it, lets one of the two empty it, and counts from the first job done
to the last. The two take turns, so that a machine that gets slower meets both. The daemon's
checkpoint is older than the look-back, as in its second day: each new job costs one receive, one
describe, one create, one delete in both programs. SQS should be a server that does not slow down
with depth (ElasticMQ, not moto).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from daemon.checkpoint.sqlite.store import open_sqlite_checkpoint  # noqa: E402 - the path to the tree comes first
from tests.support.checkpoint_calls import TARGET, checkpoints_at  # noqa: E402 - as above
from tests.support.daemon_process import FULL_TAGS, DaemonScene, Job, daemon_scene  # noqa: E402 - see above

BARE = Path(__file__).with_name("bare_loop.py")


@dataclass(frozen=True)
class Figure:
    """One round of one program."""

    jobs_per_second: float
    idle_rss_mb: float
    peak_rss_mb: float


async def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sqs", required=True, help="endpoint of an SQS server")
    parser.add_argument(
        "--modeldb", help="base URL of a ModelDB V2; default: the stand-in in a process of its own"
    )
    parser.add_argument("--latency", type=float, default=0.02, help="of the stand-in, in seconds")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--concurrency", type=int, default=4, help="requests to ModelDB at once, in both programs"
    )
    arguments = parser.parse_args()
    stand_in = None if arguments.modeldb else await start_stand_in(arguments.latency)
    url = arguments.modeldb or await first_line(stand_in)
    figures: dict[str, list[Figure]] = {"bare loop": [], "daemon": []}
    try:
        for number in range(arguments.rounds):
            for program, run in (("bare loop", run_bare), ("daemon", run_daemon)):
                with tempfile.TemporaryDirectory() as home:
                    async with daemon_scene(arguments.sqs, url, Path(home)) as scene:
                        jobs = await fill(scene, arguments.jobs)
                        figure = await run(scene, jobs, arguments)
                figures[program].append(figure)
                print(
                    f"round {number + 1}  {program:9}  {figure.jobs_per_second:7.1f} jobs/s  peak "
                    f"{figure.peak_rss_mb:.1f} MB"
                )
    finally:
        if stand_in is not None:
            stand_in.terminate()
            await stand_in.wait()
    bare, daemon = (
        statistics.median(each.jobs_per_second for each in figures[name]) for name in figures
    )
    last = figures["daemon"][-1]
    print(
        f"\nmedian of {arguments.rounds}: bare loop {bare:.1f} jobs/s, daemon {daemon:.1f} "
        f"jobs/s, ratio {daemon / bare:.2f}"
    )
    print(
        f"daemon RSS: {last.idle_rss_mb:.1f} MB before the first job, {last.peak_rss_mb:.1f} MB at "
        "most"
    )


async def start_stand_in(latency: float) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon.demo.modeldb_v2.server",
        "--port",
        str(free_port()),
        "--latency",
        str(latency),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )


async def first_line(process: asyncio.subprocess.Process | None) -> str:
    assert process is not None
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().split()[-1]


async def fill(scene: DaemonScene, count: int) -> list[Job]:
    """A queue full of finished jobs of one project and one model."""
    prefix = f"bench-{uuid.uuid4().hex[:8]}"
    await scene.make_queues(prefix, visibility=120)
    jobs = [
        Job(f"{prefix}-{number:05d}", FULL_TAGS | {"MODEL_DB_PROJECT_NAME": prefix})
        for number in range(count)
    ]
    scene.finish_jobs(jobs)
    await scene.send(job.event for job in jobs)
    return jobs


async def run_bare(scene: DaemonScene, jobs: list[Job], arguments: argparse.Namespace) -> Figure:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BARE),
        "--sqs",
        arguments.sqs,
        "--queue",
        scene.queue_url,
        "--sagemaker",
        scene.sagemaker.url,
        "--modeldb",
        scene.target["url"],
        "--project",
        jobs[0].tags["MODEL_DB_PROJECT_NAME"],
        "--jobs",
        str(len(jobs)),
        "--concurrency",
        str(arguments.concurrency),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    output, _ = await process.communicate()
    result = json.loads(output)
    return Figure(
        (result["jobs"] - 1) / (result["last"] - result["first"]), 0.0, result["peak_rss_mb"]
    )


async def run_daemon(scene: DaemonScene, jobs: list[Job], arguments: argparse.Namespace) -> Figure:
    old = time.time() - 30 * 86400
    with checkpoints_at(lambda: old):
        checkpoint = await open_sqlite_checkpoint(scene.home / "checkpoint.db", TARGET)
        await checkpoint.aclose()
    daemon = scene.daemon(
        free_port(),
        queue={"url": scene.queue_url, "wait_seconds": 1, "pollers": 2},
        target={"max_concurrency": arguments.concurrency},
    )
    await daemon.start()
    await daemon.logged(lambda line: line.get("event") == "started")
    idle = rss_mb(daemon.pid, "VmRSS")
    lines = await daemon.outcomes(len(jobs), seconds=600, outcome="synced")
    peak = rss_mb(daemon.pid, "VmHWM")
    assert await daemon.stop() == 0
    times = sorted(line["timestamp"] for line in lines)
    return Figure((len(times) - 1) / (seconds_of(times[-1]) - seconds_of(times[0])), idle, peak)


def seconds_of(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def rss_mb(pid: int, field: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) of a process, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    asyncio.run(main())

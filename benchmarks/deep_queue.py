"""Whether the daemon gets slower or larger while it empties a deep queue.

    python -m benchmarks.deep_queue --jobs 100000

The daemon with SQLite on the stand-ins of `benchmarks.bench`, one core for it and the other for
the rest, and a target that answers at once. Prints speed, processor time and memory for each tenth
of the jobs, and jobs against runs at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from benchmarks.bench.contestants import Daemon
from benchmarks.bench.figures import Account
from benchmarks.bench.machine import Cores
from benchmarks.bench.stand_ins.clock import SETTLED_SECONDS
from benchmarks.bench.targets import StandIn
from benchmarks.bench.world import open_round, open_world

TENTHS = 10
WARM_UP = 20
QUIET_SECONDS = 90.0
LOOK_SECONDS = 1.0
"""How often the runs are counted: a look costs more, the more there are."""


async def main() -> None:
    """Fills the queue of a daemon that runs already, and looks at each tenth."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    jobs = parser.parse_args().jobs
    daemon = Daemon()
    await daemon.environment.make()
    cores = Cores.here()
    cores.take_rest()
    async with open_world(cores) as world:
        await world.ask("latency", seconds=0)
        target = StandIn(world, daemon.kind, LOOK_SECONDS)
        async with open_round(world, daemon, target=target) as scene:
            await scene.send(scene.events(WARM_UP))
            running = await scene.start()
            await scene.until_runs(WARM_UP, QUIET_SECONDS)
            await asyncio.sleep(SETTLED_SECONDS)
            await scene.send(scene.events(jobs, WARM_UP))
            print(f"{jobs:,} messages sent, {await scene.count():,} runs", flush=True)
            print("      runs   jobs/s   CPU ms a job   RSS MB", flush=True)
            for tenth in range(1, TENTHS + 1):
                before, seen = running.usage(), await scene.count()
                runs = await scene.until_runs(WARM_UP + jobs * tenth // TENTHS, QUIET_SECONDS)
                if runs == seen:  # they were there when all had been sent
                    continue
                used = running.usage().cpu_seconds - before.cpu_seconds
                print(
                    f"{runs:>10,} {(runs - seen) / (time.time() - before.at):>8.1f} "
                    f"{used / (runs - seen) * 1000:>14.2f} {running.rss_mb():>8.1f}",
                    flush=True,
                )
            await scene.until_empty(QUIET_SECONDS)
            print(f"RSS at its most: {running.rss_mb(most=True):.1f} MB")
            await scene.stop()
            print(Account.of(scene.jobs, (job for job, _ in await scene.runs())))


if __name__ == "__main__":
    asyncio.run(main())

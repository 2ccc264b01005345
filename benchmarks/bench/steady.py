"""Events come at a steady rate: how long each takes to a run, and to a durable outcome."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from benchmarks.bench.drain import QUIET_SECONDS, WARM_UP
from benchmarks.bench.figures import Account, percentile
from benchmarks.bench.stand_ins.clock import SETTLED_SECONDS
from benchmarks.bench.world import open_round

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.bench.contestants import Contestant
    from benchmarks.bench.world import World


@dataclass(frozen=True)
class Percentiles:
    """Of seconds."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles:
        """Raises ValueError for none."""
        return cls(percentile(seconds, 50), percentile(seconds, 95), percentile(seconds, 99))


@dataclass(frozen=True)
class Steady:
    """One round.

    Attributes:
        sent_per_second: what the harness managed to send.
        to_run: from the send to the run's creation.
        to_outcome: from the send to the log line that follows the durable outcome; None for a
            participant that has none.
        account: jobs against runs.
    """

    sent_per_second: float
    to_run: Percentiles
    to_outcome: Percentiles | None
    account: Account


async def steady(world: World, contestant: Contestant, rate: float, seconds: float) -> Steady:
    """Sends events at a rate, after a few that warm the participant up.

    Args:
        world: where.
        contestant: who.
        rate: events a second.
        seconds: for how long.
    """
    async with open_round(world, contestant) as scene:
        await scene.send(scene.events(WARM_UP))
        running = await scene.start()
        await scene.until_runs(WARM_UP, QUIET_SECONDS)
        await asyncio.sleep(SETTLED_SECONDS)
        count = round(rate * seconds)
        events = scene.events(count, WARM_UP)
        names = scene.jobs[WARM_UP:]
        sent: dict[str, float] = {}
        begun = time.time()
        async with asyncio.TaskGroup() as group:
            for number, (name, event) in enumerate(zip(names, events, strict=True)):
                await asyncio.sleep(max(0.0, begun + number / rate - time.time()))
                sent[name] = time.time()
                group.create_task(scene.send([event]))
        took = time.time() - begun
        await scene.until_runs(WARM_UP + count, QUIET_SECONDS)
        await scene.until_empty(QUIET_SECONDS)
        await scene.stop()
        runs = await scene.runs()
        outcomes = outcome_times(running.lines())
    created = dict(reversed(runs))  # the first run of each job
    return Steady(
        sent_per_second=count / took,
        to_run=Percentiles.of([created[name] - at for name, at in sent.items() if name in created]),
        to_outcome=(
            Percentiles.of([outcomes[name] - at for name, at in sent.items() if name in outcomes])
            if outcomes
            else None
        ),
        account=Account.of(scene.jobs, (job for job, _ in runs)),
    )


def outcome_times(lines: Iterable[str]) -> Mapping[str, float]:
    """When the daemon logged that a job is synced, which it does after the outcome is durable: by
    the job's name, epoch seconds.
    """
    found: dict[str, float] = {}
    for line in lines:
        if '"job outcome"' not in line:
            continue
        entry = json.loads(line)
        if entry["outcome"] == "synced":
            found[entry["job"]] = datetime.fromisoformat(entry["timestamp"]).timestamp()
    return found

"""The story of the standby: two daemons on one checkpoint, a ModelDB V1 whose MongoDB goes, and a
writer that ends meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from typing import TYPE_CHECKING

from tests.soak.feed import Feed
from tests.soak.processes import SoakDaemon, Usage
from tests.soak.report import say
from tests.soak.soak_scene import make_daemon
from tests.soak.verdict import Verdict, judge_dead_letters, judge_v1, read_log

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from pathlib import Path
    from random import Random

    from tests.real.modeldb_v1_lab import LabServer
    from tests.soak.stories import Story
    from tests.support.daemon_process import DaemonScene

DRAIN_SECONDS = 600.0
STOP_SECONDS = 30.0
"""Above `shutdown.grace_seconds`."""


def last_term(log_file: Path) -> str:
    """When the process last became the writer; empty: never."""
    last = ""
    with log_file.open(encoding="utf-8") as lines:
        for line in lines:
            if '"this process is the writer"' in line:
                last = str(json.loads(line)["timestamp"])
    return last


async def standby(
    story: Story,
    scene: DaemonScene,
    server: LabServer,
    folder: Path,
    luck: Random,
    *,
    rate: float,
    until: float,
    began: float,
) -> None:
    """MongoDB goes, the writer ends while its fits wait for it, MongoDB comes back later.

    Args:
        server: has its MongoDB.
        rate: jobs a second.
        until: a time of the loop, after which no further round begins.
    """
    loop = asyncio.get_running_loop()
    feed = Feed(scene.queue_url.rsplit("/", 1)[1], scene, luck, rate)
    daemons = [make_daemon(scene, folder / f"standby-{number}.log") for number in (1, 2)]
    for daemon in daemons:
        await daemon.start()
    feeding = asyncio.create_task(feed.run(until))
    watching = asyncio.create_task(_look(story, daemons[0], began))
    ends: dict[str, int] = {"SIGTERM": 0, "SIGKILL": 0}
    try:
        await daemons[0].ready()
        await asyncio.sleep(5)
        while loop.time() < until - 20:
            terms = [last_term(daemon.log_file) for daemon in daemons]
            writer = daemons[terms.index(max(terms))]
            await server.run("mongo-stop")
            try:
                await asyncio.sleep(luck.uniform(0.5, 20))
                how = luck.choice(list(ends))
                ends[how] += 1
                await _end(story, writer, how)
                await asyncio.sleep(luck.uniform(0, 45))
                await writer.start()
                await asyncio.sleep(luck.uniform(0, 5))
            finally:
                await _mongo_back(server)
            await asyncio.sleep(luck.uniform(15, 60))
        await feeding
        try:
            await scene.drained(DRAIN_SECONDS)
        except TimeoutError:
            story.require(False, f"not drained: {await scene.depth()}")
    finally:
        feeding.cancel()
        watching.cancel()
        await asyncio.gather(feeding, watching, return_exceptions=True)
    for daemon in daemons:
        await _end(story, daemon, "SIGTERM", {0})
    verdict = Verdict()
    judge_v1(server, feed.books, verdict, folder / "standby-database")
    await judge_dead_letters(scene, feed.books, verdict)
    logs = [read_log(daemon.log_file) for daemon in daemons]
    story.figures = {
        "jobs": len(feed.books.jobs),
        "ends of the writer without MongoDB": ends,
        "terms": sum(log.terms for log in logs),
        "lost": len(verdict.lost),
        "twice": len(verdict.twice),
        "incomplete": len(verdict.incomplete),
        "dead letters that are wrong": len(verdict.dead_letters),
        "duplicates healed": sum(log.healed for log in logs),
        "highest receive count": max(log.highest_receive_count for log in logs),
        "outcomes": dict(sorted((logs[0].outcomes + logs[1].outcomes).items())),
    }
    story.violations += [
        f"standby: {each}"
        for each in [*verdict.violations, *(words for log in logs for words in log.violations)]
    ]


async def _end(
    story: Story, daemon: SoakDaemon, how: str, statuses: AbstractSet[int] = frozenset({0, 1})
) -> None:
    loop = asyncio.get_running_loop()
    if daemon.process.returncode is not None:
        story.require(False, f"a daemon ended by itself, with status {daemon.process.returncode}")
        return
    if how == "SIGKILL":
        await daemon.kill()
        return
    asked = loop.time()
    daemon.signal(signal.SIGTERM)
    try:
        status = await daemon.ended(STOP_SECONDS)
    except TimeoutError:
        story.require(False, f"SIGTERM: not ended within {STOP_SECONDS:g} s, killed")
        await daemon.kill()
        return
    # 1: the stop left something behind, which a call without an answer is
    story.require(status in statuses, f"SIGTERM: exit status {status}")
    say(f"standby: SIGTERM, status {status} after {loop.time() - asked:.1f} s")


async def _mongo_back(server: LabServer) -> None:
    """Tries again: on a busy machine its start may take longer than the script waits."""
    for _ in range(3):
        with contextlib.suppress(AssertionError):
            await server.run("mongo-start")
            return
        await server.run("mongo-stop")
    await server.run("mongo-start")


async def _look(story: Story, daemon: SoakDaemon, began: float) -> None:
    while True:
        usage = Usage.of(daemon.pid, (asyncio.get_running_loop().time() - began) / 60)
        if usage is not None:
            story.samples.append(usage)
        await asyncio.sleep(5)

"""A story in episodes, in each of which an edge fails for a while: the disk hangs, AWS throttles, a
proxy gives odd answers. That must not use up the receives of good jobs, whose queue allows few.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from tests.soak.feed import Books, Feed
from tests.soak.http_fault_proxy import HttpFaultProxy, Mischief
from tests.soak.processes import SoakDaemon, Usage
from tests.soak.report import say
from tests.soak.soak_scene import make_daemon
from tests.soak.verdict import Verdict, judge_dead_letters, judge_v2, read_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from collections.abc import Set as AbstractSet
    from random import Random

    from tests.soak.stories import Story
    from tests.support.daemon_process import DaemonScene

MAX_RECEIVE_COUNT = 8
STOP_SECONDS = 26.0
"""`shutdown.grace_seconds`, and a moment."""
DRAIN_SECONDS = 240.0
LONG_SECONDS = 1200.0
"""A run in which every kind of episode has room to come more than once."""
SHIM = Path(__file__).parent / "hanging_disk" / "hanging_disk.c"
SHARES = {"good": 92, "untagged": 4, "malformed": 2, "tags_incomplete": 2}
OF_THE_JOB_ITSELF = ("target_fault", "sagemaker_fault", "internal_error", "held_too_long")
"""Reasons to defer that blame a job."""


class Episode(StrEnum):
    """What goes wrong for a while."""

    HUNG_DISK = "hung disk"
    STOP_WITH_HUNG_DISK = "stop with a hung disk"
    THROTTLED = "SageMaker throttles"
    THROTTLED_QUEUE = "SageMaker and SQS throttle"
    ODD_SAGEMAKER = "odd SageMaker"
    ODD_QUEUE = "odd SQS"
    ODD_TARGET = "odd ModelDB"
    ODD_ALL = "odd answers of all"


ALLOWED_RECEIVES = {
    Episode.HUNG_DISK: 1,
    Episode.STOP_WITH_HUNG_DISK: 3,
    Episode.THROTTLED: 1,
    Episode.THROTTLED_QUEUE: 5,
    Episode.ODD_SAGEMAKER: 1,
    Episode.ODD_QUEUE: 5,
    Episode.ODD_TARGET: 1,
    Episode.ODD_ALL: 5,
}
"""Where SQS fails, neither the renewal of a message nor its deletion is certain. What a stop gives
back, its last long poll may receive once more."""


def hanging_disk(folder: Path) -> Path | None:
    """The compiled helper; None: there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = folder / "hanging_disk.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl"], check=True
    )
    return library


@dataclass
class Patient:
    """The scene of the story."""

    story: Story
    scene: DaemonScene
    daemon: SoakDaemon
    luck: Random
    sqs: HttpFaultProxy
    sagemaker: HttpFaultProxy
    target: HttpFaultProxy
    hangs_while: Path
    url: str

    @contextlib.asynccontextmanager
    async def suffering(self, episode: Episode) -> AsyncIterator[None]:
        with contextlib.ExitStack() as faults:
            match episode:
                case Episode.HUNG_DISK | Episode.STOP_WITH_HUNG_DISK:
                    self.hangs_while.touch()
                    faults.callback(self.hangs_while.unlink)
                case Episode.THROTTLED:
                    faults.enter_context(self.sagemaker.misbehaving(Mischief.THROTTLED, 0.9))
                case Episode.THROTTLED_QUEUE:
                    faults.enter_context(self.sagemaker.misbehaving(Mischief.THROTTLED, 0.9))
                    faults.enter_context(self.sqs.misbehaving(Mischief.THROTTLED, 0.5))
                case Episode.ODD_SAGEMAKER:
                    faults.enter_context(self.sagemaker.misbehaving(Mischief.ODD, 0.5))
                case Episode.ODD_QUEUE:
                    faults.enter_context(self.sqs.misbehaving(Mischief.ODD, 0.3))
                case Episode.ODD_TARGET:
                    faults.enter_context(self.target.misbehaving(Mischief.ODD, 0.3))
                case Episode.ODD_ALL:
                    for proxy in (self.sqs, self.sagemaker, self.target):
                        faults.enter_context(proxy.misbehaving(Mischief.ODD, 0.2))
            yield

    async def open_breakers(self) -> set[str]:
        """Of the edges that are unavailable now."""
        try:
            async with asyncio.timeout(5):
                metrics = await self.daemon.metrics()
        except (aiohttp.ClientError, OSError):
            return set()
        begins = "modeldb_sync_breaker_open{edge="
        return {
            name.removeprefix(begins).rstrip("}")
            for name, value in metrics.items()
            if name.startswith(begins) and value
        }

    async def live(self, episode: Episode, number: int, seconds: float, rate: float) -> Books:
        """One episode, and the time until the queue is empty again."""
        loop = asyncio.get_running_loop()
        story, daemon = self.story, self.daemon
        name = f"{self.scene.queue_url.rsplit('/', 1)[1]}-{number:02d}"
        feed = Feed(name, self.scene, self.luck, rate, SHARES, copies=2, spread=5)
        words = f"episode {number}, {episode}"
        opened: set[str] = set()
        healthy: Counter[int] = Counter()
        feeding = asyncio.create_task(feed.run(loop.time() + seconds))
        await asyncio.sleep(2)
        async with self.suffering(episode):
            end = loop.time() + seconds
            stop_at = loop.time() + self.luck.uniform(3, seconds * 0.7)
            while loop.time() < end:
                opened |= await self.open_breakers()
                healthy[await daemon.status("/healthz")] += 1
                if episode is Episode.STOP_WITH_HUNG_DISK and loop.time() > stop_at:
                    stop_at = float("inf")
                    await self.stop(words, {0, 1})
                    break
                await asyncio.sleep(1)
        story.require(not healthy.keys() - {0, 200}, f"{words}: /healthz {dict(healthy)}")
        if episode is Episode.STOP_WITH_HUNG_DISK:
            await daemon.start()
        else:
            story.require(
                daemon.process.returncode is None,
                f"{words}: the daemon ended, with status {daemon.process.returncode}",
            )
            if daemon.process.returncode is not None:
                await daemon.start()
        if episode is Episode.HUNG_DISK:
            story.require(
                "checkpoint" in opened, f"{words}: the checkpoint's breaker stayed closed"
            )
        await feeding
        back = loop.time()
        try:
            await self.scene.drained(DRAIN_SECONDS)
        except TimeoutError:
            story.require(False, f"{words}: not drained, {await self.scene.depth()}")
        drained = loop.time() - back
        jobs = frozenset(job.name for job in feed.books.jobs)
        log = read_log(daemon.log_file, jobs)
        story.require(
            log.highest_receive_count <= ALLOWED_RECEIVES[episode],
            f"{words}: highest receive count {log.highest_receive_count}",
        )
        blamed = {
            words: count
            for words, count in log.of_jobs.items()
            if words.startswith("deferred/") and words.endswith(OF_THE_JOB_ITSELF)
        }
        story.require(not blamed, f"{words}: {blamed}")
        verdict = Verdict()
        await judge_v2(self.url, feed.projects, feed.books, verdict)
        story.violations += [f"{words}: {each}" for each in verdict.violations]
        figures = {
            "seconds": round(seconds),
            "jobs": len(jobs),
            "lost": len(verdict.lost),
            "twice": len(verdict.twice),
            "highest receive count": log.highest_receive_count,
            "seconds until drained": round(drained, 1),
            "breakers opened": ", ".join(sorted(opened)) or "none",
        }
        story.figures[words] = figures
        say(f"edges: {words}: {figures}, {dict(log.of_jobs)}")
        return feed.books

    async def stop(self, words: str, statuses: AbstractSet[int]) -> None:
        """SIGTERM. The status is 1 where the stop left something behind."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        self.daemon.signal(signal.SIGTERM)
        try:
            status = await self.daemon.ended(STOP_SECONDS)
        except TimeoutError:
            self.story.require(False, f"{words}: not ended within {STOP_SECONDS:g} s, killed")
            await self.daemon.kill()
            return
        self.story.require(status in statuses, f"{words}: exit status {status}")
        say(f"edges: {words}: status {status}, {loop.time() - asked:.1f} s after SIGTERM")


async def edge_episodes(
    story: Story,
    scene: DaemonScene,
    proxies: tuple[HttpFaultProxy, HttpFaultProxy, HttpFaultProxy],
    url: str,
    folder: Path,
    luck: Random,
    *,
    rate: float,
    until: float,
    began: float,
) -> None:
    """Episodes in a random order; every kind has had its turn before one is repeated.

    Args:
        proxies: before SQS, SageMaker and ModelDB.
        url: of ModelDB itself.
        until: a time of the loop, after which no further episode begins.
    """
    loop = asyncio.get_running_loop()
    sqs, sagemaker, target = proxies
    checkpoint = folder / "edges-disk"
    checkpoint.mkdir()
    hangs_while = folder / "edges-disk-hangs"
    library = hanging_disk(folder)
    daemon = make_daemon(
        scene,
        folder / "edges.log",
        checkpoint=checkpoint / "checkpoint.db",
        aws={"sqs_endpoint_url": sqs.url, "sagemaker_endpoint_url": sagemaker.url},
    )
    episodes = list(Episode)
    if library is None:
        say("edges: no C compiler, so no disk hangs")
        episodes = [each for each in episodes if "disk" not in each]
    else:
        daemon.environment = {
            **daemon.environment,
            "LD_PRELOAD": str(library),
            "HANGING_DISK": str(checkpoint),
            "HANGING_DISK_WHILE": str(hangs_while),
        }
    patient = Patient(story, scene, daemon, luck, sqs, sagemaker, target, hangs_while, url)
    await daemon.start()

    async def look() -> None:
        while True:
            usage = Usage.of(daemon.pid, (loop.time() - began) / 60)
            if usage is not None:
                story.samples.append(usage)
            await asyncio.sleep(5)

    looking = asyncio.create_task(look())
    sent = Books()
    total = until - loop.time()
    try:
        await daemon.ready()
        left: list[Episode] = []
        number = 0
        while loop.time() < until:
            if not left:
                left = luck.sample(episodes, len(episodes))
            number += 1
            seconds = min(luck.uniform(20, 90), max(15.0, total / len(episodes)))
            episode = left.pop()
            if episode in {Episode.THROTTLED, Episode.THROTTLED_QUEUE} and total > LONG_SECONDS:
                seconds *= 2  # throttling lasts
            books = await patient.live(episode, number, seconds, rate)
            sent.poison |= books.poison
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    await patient.stop("the end", {0})
    verdict = Verdict()
    await judge_dead_letters(scene, sent, verdict)
    story.figures["dead letters that are wrong"] = len(verdict.dead_letters)
    for name, proxy in (("SQS", sqs), ("SageMaker", sagemaker), ("ModelDB", target)):
        story.figures[f"calls of {name} hit"] = dict(proxy.struck)
    story.violations += [
        f"edges: {each}" for each in verdict.violations + read_log(daemon.log_file).violations
    ]

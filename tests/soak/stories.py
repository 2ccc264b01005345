"""Two measured stories. Their daemons are never killed: their use of resources must not grow."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.soak.feed import Books, Feed
from tests.soak.processes import SoakDaemon, Usage
from tests.soak.soak_scene import make_daemon
from tests.soak.verdict import Verdict, judge_dead_letters, judge_v2, read_log
from tests.support.daemon_process import FULL_TAGS, Job
from tests.support.tcp_fault_proxy import Fault

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from tests.support.daemon_process import DaemonScene
    from tests.support.tcp_fault_proxy import FaultProxy

EVENTS_A_SECOND = 5.0
WARM_UP_SECONDS = 30.0
TRICKLE = 0.5
"""Jobs a second that keep the daemon working after the outage, so that its memory can be looked
at."""
CATCH_UP_SECONDS = 1800.0


@dataclass
class Story:
    """The results of a story."""

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    samples: list[Usage] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """The measured part is over."""

    def require(self, holds: bool, words: str) -> None:  # noqa: FBT001 - an assertion that does not end the story
        if not holds:
            self.violations.append(f"{self.name}: {words}")


@contextlib.asynccontextmanager
async def sampled(story: Story, daemon: SoakDaemon, began: float) -> Any:
    """The daemon is started, is looked at again and again, and must not end before the block
    does.
    """
    loop = asyncio.get_running_loop()

    async def look() -> None:
        while (usage := Usage.of(daemon.pid, (loop.time() - began) / 60)) is not None:
            story.samples.append(usage)
            await asyncio.sleep(5)

    await daemon.start()
    looking = asyncio.create_task(look())
    try:
        await daemon.ready()
        yield
        story.require(
            daemon.process.returncode is None,
            f"the daemon ended, with status {daemon.process.returncode}",
        )
        in_flight = await daemon.left_in_flight()
        story.require(in_flight == 0, f"{in_flight} messages in flight at the end")
        looking.cancel()  # what it uses while it stops says nothing
        status = await daemon.stop()
        story.require(status == 0, f"exit status {status}")
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def outage(
    story: Story,
    scene: DaemonScene,
    proxy: FaultProxy,
    url: str,
    folder: Path,
    luck: Random,
    *,
    seconds: float,
    began: float,
    until: float,
) -> None:
    """ModelDB is down while events continue to arrive, one in a hundred of them invalid.

    Args:
        scene: its target is behind the proxy.
        url: of ModelDB itself.
        seconds: how long it is down.
        until: the daemon goes on with a trickle until then.
    """
    loop = asyncio.get_running_loop()
    daemon = make_daemon(scene, folder / "outage.log")
    name = f"{scene.queue_url.rsplit('/', 1)[1]}"
    feed = Feed(
        f"{name}-down",
        scene,
        luck,
        EVENTS_A_SECOND,
        {"good": 99, "malformed": 1},
        copies=1,
        spread=0,
    )
    after = Feed(f"{name}-after", scene, luck, TRICKLE, {"good": 1}, copies=2)
    async with sampled(story, daemon, began):
        feeding = asyncio.create_task(feed.run(loop.time() + WARM_UP_SECONDS + seconds))
        await asyncio.sleep(WARM_UP_SECONDS)
        before = Usage.of(daemon.pid, (loop.time() - began) / 60)
        async with proxy.failing(Fault.REFUSED):
            await asyncio.sleep(seconds)
            held = [
                usage
                for usage in story.samples
                if before is not None and usage.minute > before.minute
            ]
            waiting = await scene.depth()
        back = loop.time()
        await feeding
        try:
            await scene.drained(CATCH_UP_SECONDS)
        except TimeoutError:
            story.require(
                False, f"not caught up within {CATCH_UP_SECONDS:g} s: {await scene.depth()}"
            )
        caught_up = loop.time() - back
        story.over.set()
        verdict = Verdict()
        await judge_v2(url, feed.projects, feed.books, verdict)
        jobs = frozenset(job.name for job in feed.books.jobs)
        log = read_log(daemon.log_file, jobs)
        story.require(
            log.highest_receive_count == 1, f"highest receive count {log.highest_receive_count}"
        )
        await after.run(max(until, loop.time() + 10))
        await scene.drained(300)
        await judge_dead_letters(scene, feed.books, verdict)
        story.figures = {
            "seconds down": round(seconds),
            "messages": feed.books.messages,
            "poison": len(feed.books.poison),
            "waiting at its end": sum(waiting.values()),
            "seconds until caught up": round(caught_up, 1),
            "lost": len(verdict.lost),
            "twice": len(verdict.twice),
            "dead letters that are wrong": len(verdict.dead_letters),
            "highest receive count": log.highest_receive_count,
            "RSS before, MiB": before.rss_mib if before is not None else None,
            "RSS while it was down, first and highest, MiB": [
                held[0].rss_mib,
                max(each.rss_mib for each in held),
            ]
            if held
            else None,
            "jobs afterwards": len(after.books.jobs),
        }
        later = Verdict()
        await judge_v2(url, after.projects, after.books, later)
        story.violations += [
            f"outage: {each}"
            for each in verdict.violations + later.violations + read_log(daemon.log_file).violations
        ]


async def hour(
    story: Story, scene: DaemonScene, url: str, folder: Path, *, until: float, began: float
) -> None:
    """One message is held, because SageMaker throttles, until a time of the loop."""
    loop = asyncio.get_running_loop()
    daemon = make_daemon(scene, folder / "hour.log")
    name = scene.queue_url.rsplit("/", 1)[1]
    job = Job(name, FULL_TAGS | {"MODEL_DB_PROJECT_NAME": name})
    scene.finish_jobs([job])
    async with sampled(story, daemon, began):
        with scene.sagemaker.failing("DescribeTrainingJob", "describe-throttled.json"):
            await scene.send([job.event])
            sent = loop.time()
            while loop.time() < until:
                await asyncio.sleep(min(30, max(0, until - loop.time())))
                # 0: not within 5 s, which says something of the machine alone
                answer = await daemon.status("/healthz")
                story.require(
                    answer in {0, 200}, f"not healthy after {loop.time() - sent:.0f} s: {answer}"
                )
            held_seconds = loop.time() - sent
            depth = await scene.depth()
        story.require(depth["in_flight"] == 1 and depth["visible"] == 0, f"not held: {depth}")
        metrics = await daemon.metrics()
        await scene.drained(180)
        verdict = Verdict()
        await judge_v2(url, [name], Books(jobs=[job]), verdict)
        log = read_log(daemon.log_file)
        story.require(
            log.highest_receive_count == 1, f"highest receive count {log.highest_receive_count}"
        )
        story.require(
            metrics["modeldb_sync_messages_received_total"] == 1, "received more than once"
        )
        story.figures = {
            "minutes held": round(held_seconds / 60, 1),
            "heartbeats": {
                result: int(metrics[f"modeldb_sync_heartbeats_total{{result={result}}}"])
                for result in ("renewed", "stale", "failed")
            },
            "highest receive count": log.highest_receive_count,
            "runs": 1 - len(verdict.lost) + len(verdict.twice),
            "requests to SageMaker": scene.sagemaker.count("DescribeTrainingJob"),
        }
        story.violations += [f"hour: {each}" for each in verdict.violations + log.violations]

"""The soak test: an hour of chaos with the real daemon and real servers. `make soak MINUTES=60`, or
`python -m tests.soak --help`.

It needs servers that nobody else uses; exit status 2 names a missing one:

    ELASTICMQ_URL    an SQS server, such as ElasticMQ: http://127.0.0.1:9324
    MODELDB_V2_URL   a ModelDB V2: http://127.0.0.1:8080/v1
    MODELDB_V2_LAB   its control script (SCRIPT stop|start backend), with MODELDB_V2_STATE where it
                     has several servers; without one its back end is not restarted
    MODELDB_V1_LAB   a control script that starts a ModelDB V1 (see tests/real/modeldb_v1_lab.py)

Two scenes run at the same time, one with ModelDB V2 and one with V1, each with its own queue,
dead-letter queue, SageMaker stub and checkpoint. Jobs arrive at a steady rate, each event two or
three times in any order; some jobs have no sync tag, some messages are invalid, some jobs are still
running when their event arrives. Meanwhile the daemon is killed, stopped and restarted, its
checkpoint is deleted, its disk fills up (as root, who may mount a small one), its wall clock steps
(`stepped_clock`), SageMaker throttles and fails, the connection to ModelDB fails in the ways of
`tests.support.tcp_fault_proxy`, and the servers themselves are restarted. At the end all faults are
removed: a last stretch with jobs runs, the queues drain, and ModelDB is read. Each job that is
tagged and completed must have exactly one complete run, no other job may have any, and the
dead-letter queue must have exactly the invalid messages.

Two further stories are measured with daemons that are never killed: `outage` (ModelDB V2 down for
ten minutes, at five events a second) and `hour` (one message held for an hour). See `stories`. Two
more are about single edges: `edge_episodes` (a disk that hangs, throttling, odd answers of SQS,
SageMaker and ModelDB V2, on a queue that allows few receives) and `standby` (two daemons, and a
ModelDB V1 whose MongoDB goes before its writer ends).

The report goes to standard output, and as JSON into the file named by --json. Exit status 1:
something is wrong; logs, checkpoints and the database of ModelDB V1 are kept in a folder that the
report names. --seed decides what happens in which order and after which delays; how processes
interleave differs from run to run.

The daemon runs from the working directory: do not edit it during a run, or run a copy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from tests.real.modeldb_v1_lab import LAB as V1_LAB
from tests.real.modeldb_v1_lab import LabServer, lab_server
from tests.soak import chaos
from tests.soak.edge_episodes import MAX_RECEIVE_COUNT as FEW_RECEIVES
from tests.soak.edge_episodes import edge_episodes
from tests.soak.feed import Feed
from tests.soak.http_fault_proxy import HttpFaultProxy
from tests.soak.report import Report, arena_report, say
from tests.soak.soak_scene import (
    MAX_RECEIVE_COUNT,
    V1_TARGET,
    V2_TARGET,
    VISIBILITY_SECONDS,
    SmallDisk,
    SoakScene,
)
from tests.soak.standby import standby
from tests.soak.stories import Story, hour, outage
from tests.soak.verdict import Verdict, judge_dead_letters, judge_v1, judge_v2, read_log
from tests.support.daemon_process import DaemonScene, daemon_scene
from tests.support.tcp_fault_proxy import Fault, FaultProxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

NEEDED = ("ELASTICMQ_URL", "MODELDB_V2_URL", "MODELDB_V1_LAB")
DRAIN_SECONDS = 900.0
V2_FAULTS = tuple(Fault)
V1_FAULTS = tuple(fault for fault in Fault if fault is not Fault.UNAVAILABLE)
V1_PACE = chaos.Pace(process=(40, 90), line=(20, 50))
"""A ModelDB V1 has deadlines of half a minute, and a daemon that starts reads what is there before
it writes."""


@dataclasses.dataclass
class Ground:
    """The state shared by all parts of one run."""

    options: argparse.Namespace
    folder: Path
    parts: contextlib.AsyncExitStack
    name: str
    began: float

    def luck(self, purpose: str) -> Random:
        return Random(f"{self.options.seed} {purpose}")

    async def scene(
        self, name: str, target: dict[str, Any], max_receive_count: int = MAX_RECEIVE_COUNT
    ) -> DaemonScene:
        home = self.folder / name
        home.mkdir()
        made = await self.parts.enter_async_context(
            daemon_scene(os.environ["ELASTICMQ_URL"], target, home)
        )
        await made.make_queues(
            f"{self.name}-{name}",
            visibility=VISIBILITY_SECONDS,
            max_receive_count=max_receive_count,
        )
        return made


@dataclasses.dataclass
class Battle:
    """A scene, and the faults injected into it."""

    scene: SoakScene
    proxy: FaultProxy
    feed: Feed
    faults: Sequence[Fault]
    restart_server: Callable[[], Awaitable[None]] | None
    pace: chaos.Pace

    async def rage(self, ground: Ground, server_may_restart: asyncio.Event) -> None:
        """Injects faults until cancelled."""
        name = self.scene.name
        async with asyncio.TaskGroup() as loops:
            loops.create_task(
                chaos.processes(self.scene, ground.luck(f"{name} processes"), self.pace)
            )
            loops.create_task(
                chaos.line(
                    self.scene, self.proxy, ground.luck(f"{name} line"), self.pace, self.faults
                )
            )
            loops.create_task(
                chaos.sagemaker(self.scene, ground.luck(f"{name} SageMaker"), self.pace)
            )
            loops.create_task(chaos.clock(self.scene, ground.luck(f"{name} clock"), self.pace))
            if self.restart_server is not None:
                luck = ground.luck(f"{name} server")
                loops.create_task(
                    chaos.server(
                        self.scene, self.restart_server, luck, self.pace, server_may_restart
                    )
                )


async def lab_v2(*arguments: str) -> None:
    """Runs the control script, retrying: it sometimes takes a part that has just started for ended
    (see .ci/run).
    """
    errors = b""
    for _ in range(5):
        process = await asyncio.create_subprocess_exec(
            os.environ["MODELDB_V2_LAB"],
            *arguments,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode == 0:
            return
    raise RuntimeError(errors.decode())


async def restart_v2() -> None:
    await lab_v2("stop", "backend")
    await asyncio.sleep(3)
    await lab_v2("start", "backend")


async def open_battle(
    ground: Ground,
    name: str,
    upstream: int,
    target_of: Callable[[int], dict[str, Any]],
    faults: Sequence[Fault],
    restart_server: Callable[[], Awaitable[None]] | None,
    pace: chaos.Pace,
    rate: float,
) -> Battle:
    proxy = await ground.parts.enter_async_context(
        FaultProxy(upstream, ground.luck(f"{name} proxy"))
    )
    place = await ground.scene(name, target_of(proxy.port))
    disk = ground.parts.enter_context(SmallDisk(ground.folder / f"{name}-disk"))
    scene = SoakScene(name, place, ground.folder, disk, ground.began)
    feed = Feed(f"{ground.name}-{name}", place, ground.luck(f"{name} feed"), rate)
    return Battle(scene, proxy, feed, faults, restart_server, pace)


async def fight(
    ground: Ground,
    battles: Sequence[Battle],
    chaos_until: float,
    until: float,
    allowed: asyncio.Event,
) -> None:
    """Chaos, then a stretch of work without faults, then the queues drain."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as running:
        for battle in battles:
            await battle.scene.start()
            for work in (battle.scene.watch(), battle.scene.sample()):
                running.push_async_callback(ended, asyncio.create_task(work))
        running.push_async_callback(ended, asyncio.create_task(tell(battles)))
        feeds = [asyncio.create_task(battle.feed.run(until)) for battle in battles]
        raging = [asyncio.create_task(battle.rage(ground, allowed)) for battle in battles]
        await asyncio.wait(
            [*raging, *feeds],
            timeout=chaos_until - loop.time(),
            return_when=asyncio.FIRST_EXCEPTION,
        )
        for each in raging:
            await ended(each)
        for battle in battles:
            async with battle.scene.calm:  # a restart of the server outlives the chaos
                battle.scene.happened.counts["faults that hit, of the proxy"] = (
                    battle.proxy.struck.total()
                )
        await asyncio.gather(*feeds)
        for battle in battles:
            try:
                await battle.scene.base.drained(max(1.0, until + DRAIN_SECONDS - loop.time()))
            except TimeoutError:
                battle.scene.wrong(
                    f"the queue is not drained {DRAIN_SECONDS:g} s after the last job: "
                    f"{await battle.scene.base.depth()}"
                )
            in_flight = await battle.scene.daemon.left_in_flight()
            if in_flight:
                battle.scene.wrong(f"{in_flight:g} messages in flight at the end")


async def tell(battles: Sequence[Battle]) -> None:
    """Prints the progress once a minute."""
    while True:
        await asyncio.sleep(60)
        for battle in battles:
            scene, books = battle.scene, battle.feed.books
            done = ", ".join(
                f"{what} {count}" for what, count in sorted(scene.happened.counts.items())
            )
            waiting = sum((await scene.base.depth()).values())
            usage = scene.samples[-1] if scene.samples else "-"
            say(
                f"minute {scene.minute:.1f}, {scene.name}: {len(books.jobs)} jobs, {waiting} "
                f"messages waiting; {usage}; {done}"
            )
            for words in scene.happened.violations:
                say(f"  wrong: {words}")


async def ended(task: asyncio.Task[None]) -> None:
    """Cancels a loop; reports the error of one that failed."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def soak(options: argparse.Namespace, folder: Path) -> Report:
    loop = asyncio.get_running_loop()
    seconds = options.minutes * 60
    report = Report(options.seed, options.minutes, str(folder))
    async with contextlib.AsyncExitStack() as parts:
        ground = Ground(options, folder, parts, f"soak-{int(time.time())}", loop.time())
        v2_url = os.environ["MODELDB_V2_URL"]
        v2_port = int(v2_url.split("://", 1)[1].split("/", 1)[0].rsplit(":", 1)[1])
        v2_path = "/" + v2_url.split("://", 1)[1].partition("/")[2]

        def v2_target(port: int) -> dict[str, Any]:
            return {"url": f"http://127.0.0.1:{port}{v2_path}", **V2_TARGET}

        v1: LabServer = await parts.enter_async_context(lab_server(mongo=options.mongo))

        def v1_target(port: int) -> dict[str, Any]:
            return {**v1.target, "port": port, **V1_TARGET}

        async def restart_v1() -> None:
            await v1.run("kill")
            await asyncio.sleep(3)
            await v1.up()

        restart = restart_v2 if os.environ.get("MODELDB_V2_LAB") else None
        battles = [
            await open_battle(
                ground,
                "v2",
                v2_port,
                v2_target,
                V2_FAULTS,
                restart,
                chaos.Pace().times(options.pace),
                options.rate,
            ),
            await open_battle(
                ground,
                "v1",
                v1.port,
                v1_target,
                V1_FAULTS,
                restart_v1,
                V1_PACE.times(options.pace),
                options.rate,
            ),
        ]
        until = ground.began + seconds
        chaos_until = until - min(300.0, seconds / 4)
        allowed = asyncio.Event()
        stories = [Story("outage"), Story("hour")] if options.stories else []
        edges: list[Story] = []
        async with asyncio.TaskGroup() as tasks:
            if options.edges:
                edges = await edge_stories(ground, tasks, v2_url, chaos_until)
            if stories:
                await measured_stories(
                    ground, tasks, stories, v2_port, v2_url, v2_target, until, allowed
                )
            else:
                allowed.set()
            if options.battles:
                tasks.create_task(fight(ground, battles, chaos_until, until, allowed))
        chaos_minute = (chaos_until - ground.began) / 60
        for battle in battles if options.battles else ():
            await judged(ground, battle, v1, v2_url, chaos_minute, report)
        for story in [*stories, *edges]:
            report.add_story(story)
    return report


async def judged(
    ground: Ground, battle: Battle, v1: LabServer, v2_url: str, chaos_minute: float, report: Report
) -> None:
    """Compares what there is at the end with what was sent, and stops the daemon."""
    verdict = Verdict()
    if battle.scene.name == "v2":
        await judge_v2(v2_url, battle.feed.projects, battle.feed.books, verdict)
    else:
        judge_v1(v1, battle.feed.books, verdict, ground.folder / "v1-database")
    await judge_dead_letters(battle.scene.base, battle.feed.books, verdict)
    log = read_log(battle.scene.log_file)
    report.add(
        arena_report(battle.scene, battle.proxy, battle.feed.books, verdict, log, chaos_minute)
    )
    if status := await battle.scene.daemon.stop():
        battle.scene.wrong(f"exit status {status} at the end")
    if battle.scene.disk.mounted:
        shutil.copytree(
            battle.scene.disk.folder,
            ground.folder / f"{battle.scene.name}-checkpoint",
            ignore_dangling_symlinks=True,
        )


async def measured_stories(
    ground: Ground,
    tasks: asyncio.TaskGroup,
    stories: Sequence[Story],
    v2_port: int,
    v2_url: str,
    v2_target: Callable[[int], dict[str, Any]],
    until: float,
    allowed: asyncio.Event,
) -> None:
    """Begins `outage` and `hour`; see `stories`."""
    parts, folder = ground.parts, ground.folder
    seconds = until - ground.began
    proxy = await parts.enter_async_context(FaultProxy(v2_port, ground.luck("outage proxy")))
    calm, held = (
        await ground.scene("outage", v2_target(proxy.port)),
        await ground.scene("hour", v2_target(v2_port)),
    )
    tasks.create_task(
        outage(
            stories[0],
            calm,
            proxy,
            v2_url,
            folder,
            ground.luck("outage feed"),
            seconds=min(600.0, seconds / 4),
            began=ground.began,
            until=until,
        )
    )
    hold_until = ground.began + min(3600.0, seconds)
    tasks.create_task(hour(stories[1], held, v2_url, folder, until=hold_until, began=ground.began))
    tasks.create_task(allow(stories[0].over, allowed))


async def to_its_end(story: Story, work: Awaitable[None]) -> None:
    """A story that breaks off is wrong, but the others go on."""
    try:
        await work
    except Exception as error:  # noqa: BLE001 - whatever it is, the report tells
        traceback.print_exc()
        story.violations.append(f"{story.name} broke off: {error!r}")


async def edge_stories(
    ground: Ground, tasks: asyncio.TaskGroup, v2_url: str, until: float
) -> list[Story]:
    """Begins the stories of the faults of an edge; see `edge_episodes` and `standby`."""
    parts, rate = ground.parts, ground.options.rate
    stories = [Story("edges"), Story("standby")]
    address, path = v2_url.rsplit("/", 1)
    sqs = await parts.enter_async_context(
        HttpFaultProxy(os.environ["ELASTICMQ_URL"], ground.luck("odd SQS"))
    )
    target = await parts.enter_async_context(HttpFaultProxy(address, ground.luck("odd ModelDB")))
    patient = await ground.scene(
        "edges", {"url": f"{target.url}/{path}", **V2_TARGET}, FEW_RECEIVES
    )
    sagemaker = await parts.enter_async_context(
        HttpFaultProxy(patient.sagemaker.url, ground.luck("odd SageMaker"))
    )
    tasks.create_task(
        to_its_end(
            stories[0],
            edge_episodes(
                stories[0],
                patient,
                (sqs, sagemaker, target),
                v2_url,
                ground.folder,
                ground.luck("edges"),
                rate=rate,
                until=until,
                began=ground.began,
            ),
        )
    )
    server = await parts.enter_async_context(lab_server(mongo=True))
    tasks.create_task(
        to_its_end(
            stories[1],
            standby(
                stories[1],
                await ground.scene("standby", {**server.target, **V1_TARGET}),
                server,
                ground.folder,
                ground.luck("standby"),
                rate=rate,
                until=until,
                began=ground.began,
            ),
        )
    )
    return stories


async def allow(over: asyncio.Event, allowed: asyncio.Event) -> None:
    """Allows a restart of the back end, except while the outage is measured."""
    await over.wait()
    allowed.set()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="Chaos with the real daemon and real servers."
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=60,
        help="of jobs and chaos; the drain comes on top (default 60)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of what happens when (default 1)")
    parser.add_argument(
        "--rate", type=float, default=1.0, help="jobs a second in each scene (default 1)"
    )
    parser.add_argument(
        "--pace", type=float, default=1.0, help="how much more often something breaks (default 1)"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave logs and state also where nothing is wrong"
    )
    parser.add_argument(
        "--stories",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the two measured stories",
    )
    parser.add_argument(
        "--edges",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the stories of a hung disk, throttling, odd answers, and a standby without MongoDB",
    )
    parser.add_argument(
        "--battles",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the two scenes whose daemons are killed and restarted",
    )
    parser.add_argument("--mongo", action="store_true", help="ModelDB V1 with its MongoDB")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        print(f"set {', '.join(missing)}: {__doc__}", file=sys.stderr)
        return 2
    assert V1_LAB
    folder = Path(tempfile.mkdtemp(prefix="modeldb-sync-soak-"))
    say(f"soak of {options.minutes:g} minutes, seed {options.seed}, logs in {folder}")
    report = asyncio.run(soak(options, folder))
    for line in report.lines():
        print(line)
    if options.json is not None:
        options.json.write_text(json.dumps(report.figures(), indent=1) + "\n")
    if report.violations:
        return 1
    if options.keep:
        return 0
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

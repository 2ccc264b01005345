"""The demo: the real daemon between an AWS emulator and a target, on one machine.

It ends with a check of itself: the target must have exactly one run for every completed, tagged
job, and nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import yaml

from daemon import __version__
from daemon.app import Daemon
from daemon.config.sources import load_settings
from daemon.demo.aws import DEAD_LETTER_QUEUE, QUEUE, RULE, embedded_aws, leave_the_real_aws_alone
from daemon.demo.playground import lose_an_event, suggestions, write_environment
from daemon.demo.results import NO_EVENT, Evidence, landings, logged_outcomes, scrape, shortcomings
from daemon.demo.sample_jobs import HOME, REGION, sample_story
from daemon.demo.screen import Screen
from daemon.demo.target import running_target
from daemon.errors import DaemonError, SetupFault
from daemon.observability.logs import configure_logging
from daemon.outcome import Duplicate, Held, Rejected, Skipped, Synced
from daemon.reasons import Edge, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from daemon.demo.aws import EmbeddedAws
    from daemon.demo.results import Figures
    from daemon.demo.sample_jobs import Act
    from daemon.demo.target import DemoTarget

PATIENCE_SECONDS = 20.0
"""The longest wait for a part of the story, which takes a few seconds."""
LOOK_SECONDS = 0.1
"""Between two scrapes of the metrics."""
OUTAGE_SECONDS = 1.0
POLL_SECONDS = 1
"""A stop waits for the running long poll."""

FINAL = (Synced.kind, Duplicate.kind, Skipped.kind, Rejected.kind)
INTERRUPTED = 130
"""The shell's status of a program that was ended by Ctrl-C."""


class DemoStuck(DaemonError):
    """An expected step did not happen in time."""


def run_demo(target: str, *, keep: bool) -> int:
    """Runs the demo and reports on standard output.

    Args:
        target: the kind of target, as ``target.kind`` of the configuration.
        keep: stay up afterwards, until SIGINT or SIGTERM.

    Returns:
        The exit status: 0 when the target has what the jobs demand, 1 when not, 130 when
            interrupted before the end.

    Raises:
        SetupFault: there is no place for temporary files.
        DaemonError: the daemon ended, or nobody reads the output.
    """
    leave_the_real_aws_alone()
    try:
        directory = Path(tempfile.mkdtemp(prefix="modeldb-sync-demo-"))
    except OSError as error:
        raise SetupFault(
            "the demo needs a directory for its log and checkpoint; set TMPDIR to one "
            f"({error.strerror})"
        ) from error
    files = _Files(directory)
    with files.log.open("w", encoding="utf-8", buffering=1) as log:
        configure_logging("info", "json", log)
        try:
            return asyncio.run(_until_signalled(Screen(), files, target, keep=keep))
        finally:
            # the file is closed; what ends late still has a place to complain
            configure_logging("error", "console")


async def _until_signalled(screen: Screen, files: _Files, target: str, *, keep: bool) -> int:
    signalled = asyncio.Event()

    def on_signal() -> None:
        if signalled.is_set():  # a second one ends at once
            os._exit(INTERRUPTED)
        signalled.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    shown = asyncio.Event()
    playing = asyncio.create_task(
        _play(screen, files, target, shown, stay_until=signalled if keep else None)
    )
    leaving = asyncio.create_task(signalled.wait())
    await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    if not shown.is_set() and not playing.done():
        screen.failure("interrupted; stopping")
        playing.cancel()
        await asyncio.wait({playing})
        return INTERRUPTED
    return await playing


async def _play(
    screen: Screen,
    files: _Files,
    target: str,
    shown: asyncio.Event,
    *,
    stay_until: asyncio.Event | None,
) -> int:
    """Starts the parts, plays the story, stops them.

    Args:
        target: the kind of target.
        shown: set when the result has been printed.
        stay_until: when to stop after that; None: at once.

    Returns:
        The exit status.
    """
    screen.title(f"sagemaker-modeldb-sync {__version__}, the demo")
    screen.detail("Everything runs in this process and talks to 127.0.0.1 only.")
    screen.detail("The AWS account and its credentials are made up.")
    async with _running_parts(screen, files, target) as parts:
        story = _Story(screen, parts)
        problems = await story.play()
        status = await story.show_result(problems)
        shown.set()
        if stay_until is not None:
            await _offer_the_verbs(screen, parts)
            await stay_until.wait()
            screen.step("stopping")
    return status


# --- the parts ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Files:
    """The files that a demo leaves behind."""

    directory: Path

    @property
    def log(self) -> Path:
        return self.directory / "daemon.log"

    @property
    def configuration(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def checkpoint(self) -> Path:
        return self.directory / "checkpoint.db"


@dataclass(frozen=True, slots=True)
class _Parts:
    """The running parts."""

    aws: EmbeddedAws
    target: DemoTarget
    http: aiohttp.ClientSession
    daemon_url: str
    files: _Files


@asynccontextmanager
async def _running_parts(screen: Screen, files: _Files, target: str) -> AsyncIterator[_Parts]:
    """Starts everything, and stops it in the opposite order when the block ends."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        aws = await stack.enter_async_context(embedded_aws())
        screen.step(f"AWS, embedded (moto): {aws.url}")
        screen.detail(f"EventBridge rule {RULE} -> SQS queue {QUEUE}")
        screen.detail(f"its redrive policy -> {DEAD_LETTER_QUEUE}")
        running = await stack.enter_async_context(running_target(target, http, files.directory))
        screen.step(running.title)
        _write_configuration(files, aws, running)
        port = await stack.enter_async_context(_running_daemon(files.configuration))
        parts = _Parts(aws, running, http, f"http://127.0.0.1:{port}", files)
        screen.step(f"the daemon: {parts.daemon_url}/metrics")
        screen.detail(f"its log: {files.log}")
        yield parts


def _write_configuration(files: _Files, aws: EmbeddedAws, target: DemoTarget) -> None:
    values = {
        "aws": {
            "region": REGION,
            "sqs_endpoint_url": aws.url,
            "sagemaker_endpoint_url": aws.url,
            "sts_endpoint_url": aws.url,
        },
        "queue": {"url": aws.queue_url, "wait_seconds": POLL_SECONDS},
        # the job whose event gets lost is left to the verbs
        "reconcile": {"every_seconds": 0},
        "target": dict(target.settings),
        "checkpoint": {"path": str(files.checkpoint)},
        "http": {"host": "127.0.0.1", "port": 0},
    }
    files.configuration.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


@asynccontextmanager
async def _running_daemon(configuration: Path) -> AsyncIterator[int]:
    """Runs the daemon, as configured, until the block ends. Gives the port of its metrics.

    Raises:
        BaseException: what made the daemon end by itself.
    """
    daemon = Daemon(
        load_settings(configuration, {}, secrets_dir=configuration.parent / "no-secrets")
    )
    running = asyncio.create_task(daemon.run())
    started = asyncio.create_task(daemon.started.wait())
    try:
        await asyncio.wait({running, started}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            yield daemon.http_port
    finally:
        started.cancel()
        daemon.stop()
        await running


# --- the story ------------------------------------------------------------------------------------


class _Story:
    """Plays the sample story and checks its result."""

    def __init__(self, screen: Screen, parts: _Parts) -> None:
        self._screen = screen
        self._aws = parts.aws
        self._target = parts.target
        self._http = parts.http
        self._daemon_url = parts.daemon_url
        self._log = parts.files.log
        self._story = sample_story(datetime.now(UTC))
        self._demanded = sum(job.demands == Synced.kind for job in self._story.jobs)
        self._sent = 0

    async def play(self) -> Sequence[str]:
        """Plays all acts. Returns why it could not finish; nothing when it could."""
        with self._screen.counting(self._demanded, f"runs in {self._target.system}"):
            try:
                await self._ordinary_jobs()
                await self._outage()
                await self._what_comes_late()
            except DemoStuck as stuck:
                return [str(stuck)]
        return []

    async def show_result(self, problems: Sequence[str]) -> int:
        """Shows what landed where, and compares it with what the jobs demand.

        Args:
            problems: what is known to be wrong already.

        Returns:
            The exit status.
        """
        evidence = Evidence(
            await self._target.runs(),
            await self._aws.dead_letters(),
            logged_outcomes(self._log),
            await self._look(),
            self._target.system,
        )
        screen = self._screen
        screen.title("What landed where")
        screen.table(
            landings(self._story, evidence),
            f"project / experiment / run in {evidence.system}, or why not",
        )
        screen.pairs(_headline(evidence))
        problems = [*problems, *shortcomings(self._story, evidence)]
        if problems:
            screen.failure(
                f"\nFAILED: {evidence.system} and the dead-letter queue do not have what the jobs "
                f"demand ({self._demanded} runs)"
            )
            for problem in problems:
                screen.failure(f"  {problem}")
            return 1
        runs = len(evidence.runs)
        screen.title(
            f"OK in {screen.seconds:.1f} s: {runs} runs in {evidence.system}, exactly one for each "
            "completed, tagged job"
        )
        return 0

    async def _ordinary_jobs(self) -> None:
        self._screen.title("Training jobs end in SageMaker")
        await self._perform(self._story.ordinary)
        await self._all_decided()

    async def _outage(self) -> None:
        screen, target = self._screen, self._target
        screen.title(f"{target.outage}, and more jobs end")
        target.go_down()
        await self._perform(self._story.during_outage)
        await self._until(
            f"the daemon holds messages because {target.system}'s database cannot be used",
            lambda figures: bool(
                figures.total("breaker_open", edge=Edge.TARGET)
                and figures.total("jobs_total", outcome=Held.kind)
            ),
        )
        await asyncio.sleep(OUTAGE_SECONDS)  # the outage itself
        held, waiting = (await self._look()).total("messages_in_flight"), await self._aws.waiting()
        healthz, readyz = await self._state("healthz"), await self._state("readyz")
        screen.step(
            f"the daemon is {healthz}, but {readyz}: {held} messages held, {waiting} left in the "
            "queue"
        )
        target.come_back()
        screen.step(
            f"{target.recovery}, but one answer is lost: has {target.system} written that run or "
            "not?"
        )
        await self._all_decided()
        for line in logged_outcomes(self._log):
            if line["reason"] == Reason.FOUND_IN_TARGET:
                found = f"its run was found in {target.system} and not written again"
                screen.detail(line["job"], found)

    async def _what_comes_late(self) -> None:
        self._screen.title("Later")
        await self._perform(self._story.afterwards)
        await self._all_decided()

    async def _perform(self, act: Act) -> None:
        for job in act.jobs:
            if job.home == HOME:
                await self._aws.put_job(job)
            self._screen.detail(job.name, job.about)
        for job in act.repeated:
            self._screen.detail(job.name, "its last event is delivered again")
        for body in act.bodies:
            self._screen.detail(NO_EVENT, f'a person sends "{body}"')
            await self._aws.send(body)
        await self._aws.put_events(act.events)
        self._sent += act.message_count

    async def _all_decided(self) -> None:
        figures = await self._until(
            f"all {self._sent} messages have an outcome",
            lambda figures: (
                _decided(figures) >= self._sent and not figures.total("messages_in_flight")
            ),
        )
        outcomes = ", ".join(
            f"{figures.total('jobs_total', outcome=outcome)} {outcome}" for outcome in FINAL
        )
        self._screen.step(f"{outcomes}; every message is acknowledged")

    async def _until(self, what: str, holds: Callable[[Figures], bool]) -> Figures:
        """The first scrape of the metrics for which a condition holds.

        Raises:
            DemoStuck: it did not hold in time.
            DaemonError: the daemon has ended.
        """
        deadline = self._screen.seconds + PATIENCE_SECONDS
        while not holds(figures := await self._look()):
            if self._screen.seconds > deadline:
                raise DemoStuck(
                    f"{PATIENCE_SECONDS:.0f} s were not enough until {what}; see {self._log}"
                )
            await asyncio.sleep(LOOK_SECONDS)
        return figures

    async def _look(self) -> Figures:
        try:
            figures = await scrape(self._http, f"{self._daemon_url}/metrics")
        except aiohttp.ClientError as error:
            raise DaemonError(f"the daemon does not answer; see its log: {self._log}") from error
        self._screen.count(
            self._target.run_count, f"{figures.total('messages_in_flight')} messages in flight"
        )
        return figures

    async def _state(self, page: str) -> str:
        async with self._http.get(f"{self._daemon_url}/{page}") as answer:
            return str(json.loads(await answer.text())["state"])


def _decided(figures: Figures) -> int:
    return sum(figures.total("jobs_total", outcome=outcome) for outcome in FINAL)


def _headline(evidence: Evidence) -> Sequence[tuple[str, str]]:
    figures = evidence.figures
    return [
        ("messages received", str(figures.total("messages_received_total"))),
        *((outcome, str(figures.total("jobs_total", outcome=outcome))) for outcome in FINAL),
        ("held during the outage", str(len(evidence.held))),
        (f"runs in {evidence.system}", str(len(evidence.runs))),
        ("dead letters", str(len(evidence.dead_letters))),
        ("highest receive count", str(evidence.highest_receive_count)),
        (
            "event to sync, median",
            f"{evidence.median_event_to_sync_seconds:.1f} s (event times have whole seconds)",
        ),
    ]


async def _offer_the_verbs(screen: Screen, parts: _Parts) -> None:
    """Shows where everything is, and what can be tried on it."""
    aws, files = parts.aws, parts.files
    lost = await lose_an_event(aws, datetime.now(UTC))
    environment = write_environment(files.directory, files.configuration, aws)
    screen.title("Still running. Ctrl-C or SIGTERM ends it.")
    screen.pairs(
        [
            ("the page", f"{parts.daemon_url}/"),
            ("metrics", f"{parts.daemon_url}/metrics"),
            ("alive?", f"{parts.daemon_url}/healthz"),
            ("ready?", f"{parts.daemon_url}/readyz"),
            *parts.target.places,
            ("SQS, SageMaker, EventBridge", aws.url),
            ("queue", aws.queue_url),
            ("dead-letter queue", aws.dead_letter_url),
            ("daemon's log", str(files.log)),
            ("configuration", str(files.configuration)),
        ]
    )
    screen.title("Try the verbs")
    screen.commands(suggestions(environment, lost, parts.target.system))

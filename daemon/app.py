"""The daemon: builds the parts, supervises them, stops them. The only module that knows all of
them.

Stopping has one path, whatever began it (SIGTERM, SIGINT, cancellation, a dead loop): one event,
then the steps of `Daemon._stop`, each with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

import structlog

from daemon import __version__
from daemon.checkpoint.writer_lease import WriterLeaseKeeper
from daemon.clock import monotonic, wall
from daemon.config.settings import settings_for_log
from daemon.errors import EdgeFault, SetupFault
from daemon.intake.acknowledgements import Acknowledgements
from daemon.intake.backoff import Backoff
from daemon.intake.breaker import Breaker
from daemon.intake.heartbeat import Heartbeat
from daemon.intake.in_flight import InFlight, Slots
from daemon.intake.poller import Poller
from daemon.observability.health import liveness_report, readiness_report
from daemon.observability.metrics import Metrics
from daemon.observability.outcome_log import OutcomeReporter
from daemon.observability.watchdog import Watchdog
from daemon.outcome import Edge
from daemon.pipeline.flow import EDGE_OF_STEP, Flow, FlowRules
from daemon.pipeline.worker import Worker
from daemon.supervisor import Supervisor
from daemon.wiring import ConfiguredParts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from daemon.aws.ports import Message, Queue, QueueState, TrainingJobs
    from daemon.checkpoint.ports import Checkpoint
    from daemon.config.settings import Settings
    from daemon.observability.http import HealthReport
    from daemon.targets.ports import Target
    from daemon.wiring import Parts

log = structlog.get_logger(__name__)

LEASE_SECONDS = 60.0
"""Of a claim; the heartbeat renews it several times within."""
SAMPLE_SECONDS = 30.0
"""Between two looks at the queue's depth."""
SAMPLE_DEADLINE_SECONDS = 600.0
"""Several requests, each with its own time-outs and tries: beyond it the sampler hangs."""
PRUNE_SECONDS = 6 * 3600.0
PROBE_BACKOFF = (1.0, 60.0)
"""Initial and longest pause between two probes of an edge, in seconds."""
ACKNOWLEDGE_BACKOFF = (0.2, 5.0)
CLOSE_SECONDS = 1.0
"""For each part that is closed at the end; with the deadlines in `_stop_parts` the whole stop stays
within the grace time."""
LEAST_VISIBILITY_SECONDS = 10
"""A queue with a shorter visibility timeout would show messages again before the heartbeat comes
round."""


class Daemon:
    """One run of the daemon, from `run` to its return.

    Args:
        settings: checked ones, from `daemon.config.settings.load_settings`.
        parts: what touches the outside; None: as the settings say.
        jitter: for the lengths of pauses; None: seeded by the system.

    Attributes:
        metrics: of this run.
        http_port: the port in use once `started` is set.
        started: set when everything is built and the first probes are under way.
    """

    def __init__(
        self, settings: Settings, parts: Parts | None = None, *, jitter: random.Random | None = None
    ) -> None:
        self._settings = settings
        self._parts = parts if parts is not None else ConfiguredParts(settings)
        self.metrics = Metrics(version=__version__, target=settings.target.kind)
        self.started = asyncio.Event()
        self.http_port = 0
        self._stop = asyncio.Event()
        self._watchdog = Watchdog()
        self._supervisor = Supervisor(self._stop, self._watchdog)
        self._in_flight = InFlight()
        self._slots = Slots(settings.queue.max_in_flight)
        self._reporter = OutcomeReporter(self.metrics)
        self._breakers: dict[Edge, Breaker] = {}
        self._writer: WriterLeaseKeeper | None = None
        self._queue_state: QueueState | None = None
        self._received = False
        self._setup_fault: SetupFault | None = None
        self._random = jitter if jitter is not None else random.Random()  # noqa: S311 - jitter, no secret

    def stop(self) -> None:
        """Begins the stop; `run` returns when it is done. To be called from the event loop's
        thread.
        """
        self._stop.set()

    async def run(self) -> None:
        """Runs until `stop`, a dead loop or cancellation.

        Raises:
            SetupFault: found before the first receive: something a person must change.
            BaseException: what made a loop end.
        """
        log.info("starting", version=__version__, settings=settings_for_log(self._settings))
        async with contextlib.AsyncExitStack() as closing:
            await self._build_and_serve(closing)
        log.info("stopped")
        if self._setup_fault is not None:
            raise self._setup_fault
        if self._supervisor.failure is not None:
            raise self._supervisor.failure

    async def _build_and_serve(self, closing: contextlib.AsyncExitStack) -> None:
        checkpoint = await self._parts.checkpoint()
        closing.push_async_callback(_closing, "checkpoint", checkpoint.aclose)
        queue, jobs = await closing.enter_async_context(self._parts.aws(self.metrics.aws_request))
        self._writer = self._make_writer(checkpoint)
        target = self._parts.target(self.metrics.target_request, self._writer)
        closing.push_async_callback(_closing, "target", target.aclose)

        self._make_breakers(queue, jobs, checkpoint, target)
        http = await self._parts.http(
            metrics=self.metrics, healthz=self._healthz, readyz=self._readyz
        )
        closing.push_async_callback(_closing, "http", http.aclose)
        self.http_port = http.port
        pollers = self._start(queue, jobs, checkpoint, target)
        log.info("started", http_port=http.port, account=jobs.home.account, region=jobs.home.region)
        self.started.set()
        try:
            await self._stop.wait()
        finally:  # a cancellation stops on the same path
            await self._stop_parts(pollers)

    def _make_writer(self, checkpoint: Checkpoint) -> WriterLeaseKeeper | None:
        """The right to write to the target, where it takes one writer only."""
        target = self._settings.target
        if target.kind != "modeldb-v1":
            self.metrics.standing_by.set(0)
            return None
        return WriterLeaseKeeper(
            checkpoint,
            target.writer_id,
            call_seconds=target.timeout_seconds,
            settle_seconds=target.settle_seconds,
            on_fault=self._on_fault,
            on_change=lambda holds: self.metrics.standing_by.set(0 if holds else 1),
        )

    def _make_breakers(
        self, queue: Queue, jobs: TrainingJobs, checkpoint: Checkpoint, target: Target
    ) -> None:
        async def probe_queue() -> None:
            self._queue_state = await queue.state()

        probes = {
            Edge.QUEUE: probe_queue,
            Edge.SAGEMAKER: jobs.probe,
            Edge.TARGET: target.probe,
            Edge.CHECKPOINT: checkpoint.probe,
        }
        for edge, probe in probes.items():
            gauge = self.metrics.breaker_open.labels(edge)
            backoff = Backoff(*PROBE_BACKOFF, self._random)
            self._breakers[edge] = Breaker(edge, probe, backoff, gauge.set)

    def _start(
        self, queue: Queue, jobs: TrainingJobs, checkpoint: Checkpoint, target: Target
    ) -> Sequence[asyncio.Task[None]]:
        """Starts every loop. Returns the pollers."""
        settings = self._settings
        acknowledgements = Acknowledgements(
            queue, Backoff(*ACKNOWLEDGE_BACKOFF, self._random), self._on_fault
        )
        flow = Flow(
            jobs,
            checkpoint,
            target,
            self._in_flight,
            FlowRules(
                statuses=frozenset(settings.jobs.statuses),
                tag_keys=settings.jobs.tag_keys.as_tag_keys(),
                redact=settings.jobs.redact,
                look_back_seconds=settings.reconcile.look_back_seconds,
                lease_seconds=LEASE_SECONDS,
            ),
            on_success=self._on_success,
            on_step=self.metrics.step,
        )
        worker = Worker(
            flow,
            queue,
            checkpoint,
            self._in_flight,
            self._slots,
            acknowledgements,
            self._breakers,
            dead_letter_url=lambda: (
                self._queue_state.dead_letter_url if self._queue_state is not None else None
            ),
            backoff=Backoff(
                settings.queue.retry.initial_seconds, settings.queue.retry.max_seconds, self._random
            ),
            settle_seconds=settings.target.settle_seconds,
            on_outcome=self._reporter.report,
            on_fault=self._on_fault,
        )
        heartbeat = Heartbeat(
            queue,
            checkpoint,
            self._in_flight,
            visibility_seconds=self._visibility_seconds,
            lease_seconds=LEASE_SECONDS,
            on_beat=self.metrics.heartbeat,
            on_fault=self._on_fault,
        )

        async def return_unstarted(messages: Sequence[Message]) -> None:
            # they are seen again when their visibility timeout ends
            with contextlib.suppress(EdgeFault):
                await queue.hide([(message.receipt_handle, 0) for message in messages])

        self.metrics.watch_in_flight(self._in_flight)
        loops = self._supervisor
        for edge, breaker in self._breakers.items():
            loops.loop(
                f"breaker {edge}",
                breaker.run(self._watchdog.pulse(f"breaker {edge}"), self._on_fault),
            )
        if self._writer is not None:
            loops.loop("writer", self._writer.run(self._watchdog.pulse("writer")))
        loops.loop("heartbeat", heartbeat.run(self._watchdog.pulse("heartbeat")))
        loops.loop("deletes", acknowledgements.run_deletes())
        loops.loop("hides", acknowledgements.run_hides())
        loops.loop("sampler", self._sample(queue, checkpoint))
        loops.loop("pruner", self._prune(checkpoint))
        pollers = []
        for number in range(1, settings.queue.pollers + 1):
            poller = Poller(
                queue,
                self._in_flight,
                self._slots,
                wait_seconds=settings.queue.wait_seconds,
                gate=self._may_receive,
                visibility_seconds=self._visibility_seconds,
                start=lambda entry: loops.job(worker.handle(entry)),
                return_unstarted=return_unstarted,
                on_receive=self._on_receive,
                on_fault=self._on_fault,
            )
            name = f"poller {number}"
            pollers.append(loops.loop(name, poller.run(self._stop, self._watchdog.pulse(name))))
        return pollers

    # --- what the parts tell ----------------------------------------------------------------------

    def _on_receive(self, count: int) -> None:
        self._received = True
        self.metrics.received(count)

    def _on_success(self, step: str, token: str) -> None:
        edge = EDGE_OF_STEP.get(step)
        if edge is not None:
            self._breakers[edge].succeeded(step, token)

    def _on_fault(self, fault: EdgeFault) -> None:
        self._breakers[fault.edge].trip(fault)
        if fault.curable:
            return
        log.error(
            "the configuration is wrong; waiting cannot help", edge=fault.edge, detail=fault.detail
        )
        if not self._received:
            self._setup_fault = SetupFault(fault.detail)
            self._stop.set()

    async def _may_receive(self) -> None:
        """Returns when every edge works and, where the target takes one writer only, this process
        is the writer.
        """
        while True:
            if self._writer is not None and not self._writer.holds:
                await self._writer.wait_held()
            elif closed := [breaker for breaker in self._breakers.values() if breaker.is_open]:
                await closed[0].wait_closed()
            else:
                return

    def _visibility_seconds(self) -> int:
        configured = self._settings.queue.visibility_seconds
        if configured is not None:
            return configured
        own = (
            self._queue_state.visibility_seconds
            if self._queue_state is not None
            else LEAST_VISIBILITY_SECONDS
        )
        return max(own, LEAST_VISIBILITY_SECONDS)

    def _healthz(self) -> HealthReport:
        return liveness_report(self._watchdog)

    def _readyz(self) -> HealthReport:
        standing_by_for = "" if self._writer is None else self._writer.standing_by_for
        return readiness_report(
            self._breakers, stopping=self._stop.is_set(), standing_by_for=standing_by_for
        )

    # --- housekeeping -----------------------------------------------------------------------------

    async def _sample(self, queue: Queue, checkpoint: Checkpoint) -> None:
        pulse = self._watchdog.pulse("sampler")
        while True:
            pulse.work(SAMPLE_DEADLINE_SECONDS)
            try:
                self._queue_state = await queue.state()
                self.metrics.queue(self._queue_state)
                self.metrics.rows(await checkpoint.row_counts())
            except EdgeFault as fault:
                self._on_fault(fault)
            pulse.rest()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _prune(self, checkpoint: Checkpoint) -> None:
        while True:
            try:
                pruned = await checkpoint.prune(
                    wall() - self._settings.checkpoint.keep_days * 86400
                )
                if pruned:
                    log.info("old checkpoint rows deleted", rows=pruned)
            except EdgeFault as fault:
                self._on_fault(fault)
            await asyncio.sleep(PRUNE_SECONDS)

    # --- stop -------------------------------------------------------------------------------------

    async def _stop_parts(self, pollers: Sequence[asyncio.Task[None]]) -> None:
        """Polls and what is in flight end side by side; then the loops; the parts are closed by the
        exit stack.
        """
        self._stop.set()
        begun = monotonic()
        grace = self._settings.shutdown.grace_seconds
        log.info("stopping", in_flight=len(self._in_flight), grace_seconds=grace)
        await asyncio.gather(self._end_polls(pollers, grace - 4), self._drain(max(1, grace - 6)))
        await self._supervisor.cancel_jobs()
        await self._supervisor.cancel_loops()
        log.info(
            "drained", left_in_flight=len(self._in_flight), seconds=round(monotonic() - begun, 2)
        )

    async def _end_polls(self, pollers: Sequence[asyncio.Task[None]], deadline: float) -> None:
        _, running = await asyncio.wait(pollers, timeout=deadline)
        if running:
            log.warning(
                "a long poll did not end in time; what it takes stays hidden for its visibility "
                "timeout"
            )

    async def _drain(self, deadline: float) -> None:
        for entry in self._in_flight:
            entry.give_back()
        try:
            async with asyncio.timeout(deadline):
                await self._in_flight.wait_empty()
                return
        except TimeoutError:
            log.warning("writes without an answer are left", count=len(self._in_flight))
        for entry in self._in_flight:
            entry.abandon()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._in_flight.wait_empty()


async def _closing(name: str, close: Callable[[], Awaitable[None]]) -> None:
    """Closes a part within its time; what cannot be closed is left to the end of the process."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await close()
    except TimeoutError:
        log.warning("a part did not close in time", part=name)
    except Exception:  # closing one part must not keep the next from being closed
        log.exception("a part failed to close", part=name)

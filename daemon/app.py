"""The daemon: builds its parts, supervises them, stops them. Only `daemon.app` and `daemon.wiring`
know all parts.

There is one stop path, whatever began the stop (SIGTERM, SIGINT, cancellation, a dead loop): one
event, then the steps of `Daemon._stop_parts` and the closing of each part, each with a deadline.
They fit into ``shutdown.grace_seconds``, even if every edge is silent and the disk hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import replace
from functools import partial
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

import structlog

from daemon import __version__
from daemon.checkpoint.pruner import run_pruner
from daemon.checkpoint.registry import (
    checkpoint_advice,
    jobs_of_others,
    on_network_disk,
    rows_are_cheap,
)
from daemon.checkpoint.writer_lease import WriterLeaseKeeper
from daemon.clock import monotonic, wall
from daemon.config.settings import settings_for_log
from daemon.errors import EdgeFault, SetupFault
from daemon.intake.acknowledgements import Acknowledgements
from daemon.intake.backoff import Backoff
from daemon.intake.breaker import Breaker, Breakers
from daemon.intake.foreign_messages import ForeignMessages
from daemon.intake.heartbeat import Heartbeat
from daemon.intake.in_flight import InFlight, Slots
from daemon.intake.poller import Poller
from daemon.intake.queue_monitor import QueueMonitor
from daemon.log_context import about_no_job
from daemon.observability.account_gauges import AccountBreakerGauges
from daemon.observability.activity import Activity
from daemon.observability.health import liveness_report, readiness_report
from daemon.observability.metrics import Metrics
from daemon.observability.outcome_log import OutcomeReporter
from daemon.observability.sampler import TABLE_COUNT_SECONDS, run_sampler
from daemon.observability.status import (
    ReconcileStatus,
    Status,
    edges_status,
    queue_status,
    state_since,
)
from daemon.observability.watchdog import Watchdog
from daemon.operations.fleet import Fleet, Replica
from daemon.operations.handed_over import DEAR_LOOK_SECONDS, LOOK_SECONDS, HandedOver
from daemon.operations.pacing import Pace
from daemon.operations.reconcile import ReconcileEdges
from daemon.operations.reconcile import Verdict as ReconcileVerdict
from daemon.operations.reconcile_loop import (
    FAILED_SECONDS,
    REQUEST_SECONDS,
    ReconcileLoop,
    Surroundings,
)
from daemon.operations.sync_one import SyncOne
from daemon.pipeline.flow import Flow
from daemon.pipeline.worker import Worker
from daemon.reasons import Edge
from daemon.supervisor import Supervisor
from daemon.wiring import ConfiguredParts, flow_rules, reconcile_rules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from daemon.aws.ports import Queue, TrainingJobs
    from daemon.checkpoint.ports import Checkpoint
    from daemon.config.settings import Settings
    from daemon.observability.http import HealthReport
    from daemon.targets.ports import Target
    from daemon.wiring import Parts

log = structlog.get_logger(__name__)

T = TypeVar("T")

LEASE_SECONDS = 60.0
"""Of a claim; the heartbeat renews it several times within."""
PROBE_BACKOFF = (1.0, 60.0)
"""Initial and longest pause between two probes of an edge, in seconds."""
ACKNOWLEDGE_BACKOFF = (0.2, 5.0)
"""The same between two attempts at an acknowledgement."""
STOP_RESERVE_SECONDS = 4.0
"""The end of the grace time, for cancelling what is left (`CANCEL_SECONDS`, twice) and closing the
parts (`CLOSE_SECONDS`, five times). Polls and messages in flight have the time before; what they
leave over is the checkpoint's, whose disk may be slow."""
ABANDON_SECONDS = 1.0
"""For the messages whose work was cut off to be given back."""
CANCEL_SECONDS = 0.4
CLOSE_SECONDS = 0.5


class Daemon:
    """One run of the daemon.

    Args:
        settings: from `daemon.config.sources.load_settings`.
        parts: the adapters; None: those of the settings.
        jitter: for backoff; None: seeded by the system.
        on_started: called when everything is built.
        on_stopping: called when the stop begins.

    Attributes:
        unclean: what the stop left behind, in words; empty after a clean stop.
        metrics: of this run.
        http_port: the port in use once `started` is set.
        started: set when everything is built and the first probes are running.
    """

    def __init__(
        self,
        settings: Settings,
        parts: Parts | None = None,
        *,
        jitter: random.Random | None = None,
        on_started: Callable[[], None] = lambda: None,
        on_stopping: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._on_started = on_started
        self._on_stopping = on_stopping
        self.unclean: list[str] = []
        self._parts = parts if parts is not None else ConfiguredParts(settings)
        self.metrics = Metrics(version=__version__, target=settings.target.kind)
        self.started = asyncio.Event()
        self.http_port = 0
        self._stop = asyncio.Event()
        self._stop_begun: float | None = None
        self._watchdog = Watchdog()
        self._supervisor = Supervisor(self._stop, self._watchdog)
        self._in_flight = InFlight()
        self._slots = Slots(settings.queue.max_in_flight)
        self._activity = Activity()
        self._reporter = OutcomeReporter(self.metrics, self._activity)
        self._breakers = Breakers(())
        self._foreign_messages = (
            ForeignMessages() if settings.queue.foreign_messages == "leave" else None
        )
        self._writer: WriterLeaseKeeper | None = None
        self._handed_over: HandedOver | None = None
        self._fleet: Fleet | None = None
        self._monitor: QueueMonitor | None = None
        self._reconcile: ReconcileLoop | None = None
        self._reconciled_at: float | None = None
        self._received = False
        self._setup_fault: SetupFault | None = None
        self._random = jitter if jitter is not None else random.Random()  # noqa: S311 - jitter, no secret

    def stop(self) -> None:
        """Begins the stop; `run` returns when it is complete. Not thread-safe."""
        self._stop.set()

    async def run(self) -> None:
        """Runs until `stop`, a dead loop or cancellation.

        Raises:
            SetupFault: a configuration error, found before the first receive.
            BaseException: the error that ended a loop.
        """
        log.info("starting", version=__version__, settings=settings_for_log(self._settings))
        async with contextlib.AsyncExitStack() as closing:
            await self._build_and_serve(closing)
        log.info("stopped", unclean=self.unclean)
        if self._setup_fault is not None:
            raise self._setup_fault
        if self._supervisor.failure is not None:
            raise self._supervisor.failure

    async def _build_and_serve(self, closing: contextlib.AsyncExitStack) -> None:
        self._breakers = self._make_breakers(dict.fromkeys(Edge, _never))
        http = await self._parts.http(
            metrics=self.metrics, healthz=self._healthz, readyz=self._readyz, status=self
        )
        closing.push_async_callback(self._close, "http", http.aclose)
        self.http_port = http.port
        checkpoint = await self._opened(lambda: self._parts.checkpoint(self.metrics.aws_request))
        if checkpoint is None:
            return
        closing.push_async_callback(
            self._close, "checkpoint", checkpoint.aclose, seconds=self._seconds_for_checkpoint
        )
        if rows_are_cheap(self._settings.checkpoint):
            await _say_what_is_recorded(checkpoint)
        self._fleet = Fleet(checkpoint, partial(self._replica, checkpoint.owner), self._on_fault)
        closing.push_async_callback(
            self._close, "note of this replica", self._leave_fleet, needed=False
        )
        if on_network_disk(self._settings.checkpoint):
            log.warning(
                "the checkpoint is on a network file system",
                detail=checkpoint_advice(self._settings.checkpoint),
            )
        self._writer = self._make_writer(checkpoint)
        target = self._parts.target(self.metrics.target_request, self._writer)
        closing.push_async_callback(self._close, "target", target.aclose)
        aws = contextlib.AsyncExitStack()
        closing.push_async_callback(self._close, "aws", aws.aclose)
        if self._stop.is_set():
            return
        opened = await self._opened(
            lambda: aws.enter_async_context(self._parts.aws(self.metrics.aws_request))
        )
        if opened is None:
            return
        queue, jobs = opened

        monitor = QueueMonitor(
            queue, self._settings.queue.visibility_seconds, self._settings.aws.account_id
        )
        self._monitor = monitor
        self._breakers = self._make_breakers(
            {
                Edge.QUEUE: monitor.refresh,
                Edge.SAGEMAKER: jobs.probe,
                Edge.TARGET: target.probe,
                Edge.CHECKPOINT: checkpoint.probe,
            },
            {where: others.probe for where, others in jobs.elsewhere.items()},
        )
        pollers = self._start(queue, monitor, jobs, checkpoint, target)
        log.info("started", http_port=http.port, account=jobs.home.account, region=jobs.home.region)
        self.started.set()
        self._on_started()
        try:
            await self._stop.wait()
        finally:  # a cancellation stops on the same path
            await self._stop_parts(pollers)

    async def _opened(self, opening: Callable[[], Awaitable[T]]) -> T | None:
        """Waits until a part can be opened: the files that configure the AWS clients can be used,
        the checkpoint's table answers. None: stopped before.

        Until then the edge's breaker says what is wrong.
        """
        while True:
            try:
                return await opening()
            except EdgeFault as fault:
                self._on_fault(fault)
                breaker = self._breakers[fault.edge]
                breaker.failed(fault)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(breaker.pause()):
                    await self._stop.wait()
            if self._stop.is_set():
                return None

    def _make_writer(self, checkpoint: Checkpoint) -> WriterLeaseKeeper | None:
        """Keeps the writer lease of a target that takes a single writer; None for the others."""
        terms = self._settings.target.single_writer
        if terms is None:
            self.metrics.standing_by.set(0)
            return None
        return WriterLeaseKeeper(
            checkpoint,
            terms.server_id,
            call_seconds=terms.call_seconds,
            settle_seconds=terms.settle_seconds,
            on_fault=self._on_fault,
            on_change=lambda holds: self.metrics.standing_by.set(0 if holds else 1),
        )

    def _make_breakers(
        self,
        probes: Mapping[Edge, Callable[[], Awaitable[object]]],
        elsewhere: Mapping[str, Callable[[], Awaitable[object]]] = MappingProxyType({}),
    ) -> Breakers:
        """The breakers.

        Args:
            probes: of the edges, that of SageMaker for the daemon's own account and region.
            elsewhere: SageMaker's probes of others, by ``<account>/<region>``.
        """
        backoff = Backoff(*PROBE_BACKOFF, self._random)
        if not elsewhere:
            return Breakers(
                Breaker(edge, probe, backoff, self.metrics.breaker_open.labels(edge).set)
                for edge, probe in probes.items()
            )
        shown = AccountBreakerGauges(self.metrics)
        of_sagemaker = {"": probes[Edge.SAGEMAKER], **elsewhere}
        return Breakers(
            [
                *(
                    Breaker(edge, probe, backoff, self.metrics.breaker_open.labels(edge).set)
                    for edge, probe in probes.items()
                    if edge is not Edge.SAGEMAKER
                ),
                *(
                    Breaker(Edge.SAGEMAKER, probe, backoff, partial(shown.set, where), where=where)
                    for where, probe in of_sagemaker.items()
                ),
            ]
        )

    def _make_flow(self, jobs: TrainingJobs, checkpoint: Checkpoint, target: Target) -> Flow:
        rules = replace(
            flow_rules(self._settings),
            lease_seconds=LEASE_SECONDS,
            shared_queue=self._foreign_messages is not None,
        )
        return Flow(
            jobs,
            checkpoint,
            target,
            self._in_flight,
            rules,
            unavailable=self._breakers.fault_of,
            on_success=self._breakers.succeeded,
            on_step=self.metrics.step,
        )

    def _make_worker(
        self,
        flow: Flow,
        queue: Queue,
        monitor: QueueMonitor,
        checkpoint: Checkpoint,
        acknowledgements: Acknowledgements,
    ) -> Worker:
        settings = self._settings
        retry = settings.queue.retry
        return Worker(
            flow,
            queue,
            checkpoint,
            self._in_flight,
            self._slots,
            acknowledgements,
            self._breakers,
            dead_letter_url=monitor.dead_letter_url,
            backoff=Backoff(retry.initial_seconds, retry.max_seconds, self._random),
            settle_seconds=settings.target.settle_seconds,
            foreign_messages=self._foreign_messages,
            on_outcome=self._reporter.report,
            on_fault=self._on_fault,
            on_dead_letter=monitor.dead_letter_answered,
        )

    def _start(
        self,
        queue: Queue,
        monitor: QueueMonitor,
        jobs: TrainingJobs,
        checkpoint: Checkpoint,
        target: Target,
    ) -> Sequence[asyncio.Task[None]]:
        """Starts every loop. Returns the pollers."""
        settings, loops, pulse = self._settings, self._supervisor, self._watchdog.pulse
        acknowledgements = Acknowledgements(
            queue, Backoff(*ACKNOWLEDGE_BACKOFF, self._random), self._on_fault
        )
        flow = self._make_flow(jobs, checkpoint, target)
        worker = self._make_worker(flow, queue, monitor, checkpoint, acknowledgements)
        heartbeat = Heartbeat(
            queue,
            checkpoint,
            self._in_flight,
            visibility_seconds=monitor.visibility_seconds,
            lease_seconds=LEASE_SECONDS,
            on_beat=self.metrics.heartbeat,
            on_fault=self._on_fault,
        )

        self.metrics.watch_in_flight(self._in_flight)
        for breaker in self._breakers:
            name = f"breaker {breaker.name}"
            loops.loop(name, breaker.run(pulse(name), self._on_fault))
        if self._writer is not None:
            loops.loop("writer", self._writer.run(pulse("writer")))
            self._handed_over = HandedOver(
                checkpoint,
                self._breakers,
                self._writer,
                outcome_of=worker.outcome_of,
                make_work=partial(
                    SyncOne, flow, jobs, checkpoint, self._in_flight, patience_seconds=inf
                ),
                start=loops.job,
                on_fault=self._on_fault,
                look_seconds=LOOK_SECONDS
                if rows_are_cheap(settings.checkpoint)
                else DEAR_LOOK_SECONDS,
            )
            loops.loop("handed over", self._handed_over.run(pulse("handed over")))
        loops.loop("heartbeat", heartbeat.run_messages(pulse("heartbeat")))
        loops.loop("claims", heartbeat.run_claims(pulse("claims")))
        loops.loop("deletes", acknowledgements.run_deletes(pulse("deletes")))
        loops.loop("hides", acknowledgements.run_hides(pulse("hides")))
        loops.loop(
            "sampler",
            run_sampler(
                monitor,
                checkpoint,
                self.metrics,
                self._on_fault,
                pulse("sampler"),
                count_every_seconds=0.0
                if rows_are_cheap(settings.checkpoint)
                else TABLE_COUNT_SECONDS,
            ),
        )
        loops.loop(
            "pruner",
            run_pruner(checkpoint, settings.checkpoint.keep_days, self._on_fault, pulse("pruner")),
        )
        if self._fleet is not None:
            loops.loop("fleet", self._fleet.run(pulse("fleet")))
        self._start_reconcile(queue, monitor, jobs, checkpoint)
        pollers = []
        for number in range(1, settings.queue.pollers + 1):
            poller = Poller(
                queue,
                self._in_flight,
                self._slots,
                wait_seconds=settings.queue.wait_seconds,
                gate=self._may_receive,
                visibility_seconds=monitor.visibility_seconds,
                start=lambda delivery: loops.job(worker.handle(delivery)),
                on_receive=self._on_receive,
                on_fault=self._on_fault,
            )
            name = f"poller {number}"
            pollers.append(loops.loop(name, poller.run(self._stop, pulse(name))))
        return pollers

    def _start_reconcile(
        self, queue: Queue, monitor: QueueMonitor, jobs: TrainingJobs, checkpoint: Checkpoint
    ) -> None:
        settings, metrics = self._settings, self.metrics
        metrics.reconcile_period.set(settings.reconcile.every_seconds)
        if not settings.reconcile.every_seconds:
            return
        pulse = self._watchdog.pulse("reconcile")
        self._reconcile = ReconcileLoop(
            ReconcileEdges(
                jobs,
                queue,
                checkpoint,
                may_go_on=lambda: (
                    not self._breakers.any_open and (self._writer is None or self._writer.holds)
                ),
                on_job=metrics.reconciled,
                on_request=lambda: pulse.work(REQUEST_SECONDS),
                lists=Pace(),
                describes=Pace(),
            ),
            reconcile_rules(settings),
            settings.reconcile.every_seconds,
            Surroundings(
                backlog_seconds=lambda: (
                    self._in_flight.oldest_seconds() if monitor.visible else None
                ),
                on_fault=self._on_fault,
                on_success=self._on_reconciled,
                on_failure=lambda fault: metrics.reconcile_fault.set(fault is not None),
            ),
            Backoff(*FAILED_SECONDS, self._random),
        )
        self._supervisor.loop("reconcile", self._reconcile.run(pulse))

    # --- callbacks of the parts -------------------------------------------------------------------

    def _on_receive(self, count: int) -> None:
        self._received = True
        self._breakers[Edge.QUEUE].worked()
        self.metrics.received(count)

    def _on_fault(self, fault: EdgeFault) -> None:
        breaker = self._breakers.of(fault)
        known = breaker.fault is not None and breaker.fault.detail == fault.detail
        with about_no_job():
            breaker.trip(fault)
            if not fault.curable:
                self._configuration_looks_wrong(fault, known=known)

    def _configuration_looks_wrong(self, fault: EdgeFault, *, known: bool) -> None:
        # an edge that has worked is configured rightly, also while this process only stands by
        # an account's may be that account's affair, and the others go on
        if not (self._received or fault.where or self._breakers[fault.edge].proven):
            log.error(
                "the configuration is wrong; stopping before the first receive",
                edge=fault.edge,
                detail=fault.detail,
            )
            self._setup_fault = SetupFault(fault.detail)
            self._stop.set()
        elif not known:
            log.error(
                "the configuration looks wrong; messages are held and the edge is tried again",
                edge=fault.edge,
                detail=fault.detail,
                longest_pause_seconds=PROBE_BACKOFF[1],
            )

    async def _may_receive(self) -> None:
        """Returns when every edge is available, this process is the writer (if one must be), and
        messages of others do not make it wait.
        """
        if self._foreign_messages is not None:
            await self._foreign_messages.pause()
        while True:
            if self._writer is not None and not self._writer.holds:
                await self._writer.wait_held()
            elif self._breakers.any_open:
                await self._breakers.wait_closed()
            else:
                return

    def _healthz(self) -> HealthReport:
        return liveness_report(self._watchdog)

    def _readyz(self) -> HealthReport:
        standing_by = "" if self._writer is None else self._writer.standing_by
        return readiness_report(
            self._breakers,
            stopping=self._stop.is_set(),
            standing_by=standing_by,
            dead_letter_fault=None if self._monitor is None else self._monitor.dead_letter_fault,
            reconcile="" if self._reconcile is None else self._reconcile.words,
        )

    def status(self, before: Mapping[int, Mapping[str, int]]) -> Status:
        """For the status page; see `daemon.observability.site.StatusSource`."""
        ready, alive = self._readyz(), self._healthz()
        edges = edges_status(self._breakers)
        return Status(
            state=ready.state,
            since=state_since(ready.state, edges, self.started_at),
            now=wall(),
            started_at=self.started_at,
            version=__version__,
            target=self._settings.target.target_place,
            edges=edges,
            standing_by=ready.checks.get("writer", ""),
            dead_letter_fault=ready.checks.get("dead_letters", ""),
            hanging=[f"{name}: {words}" for name, words in alive.checks.items() if words != "ok"],
            held_here=len(self._in_flight),
            oldest_message_seconds=self._in_flight.oldest_seconds(),
            queue=queue_status(self._monitor),
            reconcile=self._reconcile_status(),
            replicas=() if self._fleet is None else self._fleet.replicas,
            rows=self.metrics.row_counts,
            minutes=self._activity.last_hour(before),
            counted_since=self.started_at,
        )

    def _replica(self, owner: str) -> Replica:
        """What this replica is now, for the others."""
        edges = [each for each in edges_status(self._breakers) if not each.works]
        started = any(each.reason for each in edges) or not edges
        state = self._readyz().state
        return Replica(
            owner,
            __version__,
            self.started_at,
            state if started or state == "stopping" else "starting",
            ", ".join(f"{each.edge} {each.reason}" for each in edges if each.reason),
            len(self._in_flight),
            self._activity.count("synced"),
            wall(),
        )

    async def _leave_fleet(self) -> None:
        if self._fleet is not None:
            with contextlib.suppress(EdgeFault):  # it will seem to have vanished
                await self._fleet.leave()

    def _reconcile_status(self) -> ReconcileStatus | None:
        if self._reconcile is None:
            return None
        return ReconcileStatus(
            self._reconciled_at,
            self.metrics.reconcile_counts[ReconcileVerdict.ENQUEUED],
            self._reconcile.words,
        )

    def _on_reconciled(self, ended_at: float) -> None:
        self._reconciled_at = ended_at
        self.metrics.reconcile_last_success.set(ended_at)

    @property
    def started_at(self) -> float:
        """When this daemon was made, in epoch seconds."""
        return self._activity.since

    # --- stop -------------------------------------------------------------------------------------

    async def _stop_parts(self, pollers: Sequence[asyncio.Task[None]]) -> None:
        """Ends the polls and drains what is in flight concurrently, then ends the loops. The exit
        stack closes the parts.
        """
        self._stop.set()
        self._on_stopping()
        self._stop_begun = begun = monotonic()
        grace = self._settings.shutdown.grace_seconds
        log.info("stopping", in_flight=len(self._in_flight), grace_seconds=grace)
        seconds = grace - STOP_RESERVE_SECONDS
        await asyncio.gather(
            self._end_polls(pollers, seconds), self._drain(max(0.5, seconds - ABANDON_SECONDS))
        )
        if not await self._supervisor.cancel_jobs(CANCEL_SECONDS):
            self._left("tasks of messages")
        if not await self._supervisor.cancel_loops(CANCEL_SECONDS):
            self._left("loops")
        log.info(
            "drained", left_in_flight=len(self._in_flight), seconds=round(monotonic() - begun, 2)
        )

    def _left(self, what: str) -> None:
        self.unclean.append(what)

    async def _end_polls(self, pollers: Sequence[asyncio.Task[None]], deadline: float) -> None:
        _, running = await asyncio.wait(pollers, timeout=deadline)
        if running:
            self._left("a long poll")
            log.warning(
                "a long poll did not end in time; its messages stay hidden for their visibility "
                "timeout"
            )

    async def _drain(self, deadline: float) -> None:
        for delivery in self._in_flight:
            delivery.give_back()
        if self._handed_over is not None:
            self._handed_over.stop()
        try:
            async with asyncio.timeout(deadline):
                await self._in_flight.wait_empty()
                if self._handed_over is not None:
                    await self._handed_over.wait_idle()
                return
        except TimeoutError:
            log.warning("unanswered writes are left", count=len(self._in_flight))
        for delivery in self._in_flight:
            delivery.abandon()
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                await self._in_flight.wait_empty()
        except TimeoutError:
            self._left("messages in flight")

    def _seconds_for_checkpoint(self) -> float:
        """For the checkpoint to write what is waiting and to close. Half of the reserve is left for
        what follows: the end of the HTTP server and of the process.
        """
        if self._stop_begun is None:  # stopped during the start: nothing is waiting
            return CLOSE_SECONDS
        end = self._stop_begun + self._settings.shutdown.grace_seconds - STOP_RESERVE_SECONDS / 2
        return max(CLOSE_SECONDS, end - monotonic())

    async def _close(
        self,
        name: str,
        close: Callable[[], Awaitable[None]],
        *,
        seconds: Callable[[], float] = lambda: CLOSE_SECONDS,
        needed: bool = True,
    ) -> None:
        """Closes a part, within a time limit; the end of the process closes what is left open.

        Args:
            name: of the part.
            close: closes it.
            seconds: the limit, asked for when it begins.
            needed: False: the stop is clean without it, too.
        """
        closing = asyncio.ensure_future(close())
        try:
            await asyncio.wait([closing], timeout=seconds())
        finally:
            closing.cancel()  # no effect if it is done
        if not closing.done():
            if needed:
                self._left(name)
            log.warning("a part did not close in time", part=name)
        elif not closing.cancelled() and (error := closing.exception()) is not None:
            # the other parts must be closed as well
            log.error("a part failed to close", part=name, exc_info=error)


async def _never() -> None:
    """The probe of an edge before there is one."""


async def _say_what_is_recorded(checkpoint: Checkpoint) -> None:
    with contextlib.suppress(EdgeFault):  # its breaker will say what is wrong
        counts, target = await checkpoint.job_counts(), checkpoint.target
        log.info(
            "checkpoint opened",
            target=str(target),
            jobs=counts.get(target, 0),
            other_targets=jobs_of_others(counts, target),
        )

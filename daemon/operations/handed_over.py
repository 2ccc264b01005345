"""Jobs that another process hands over to this daemon: ``sync`` with a target that takes a single
writer, which is the daemon.

A request waits in the checkpoint. The daemon that is the writer takes it under a lease, which it
renews while it works, and takes its job through the flow (`daemon.operations.sync_one`) as a
delivery without a message: nothing is acknowledged, nothing becomes a dead letter. Otherwise it is
a delivery like any other: it counts as in flight, waits for a message of the same job, needs the
claim on the job, is held while an edge is down, and finishes a write that has begun before the
daemon stops.

    asked ── taken ── begun ── answered, once the outcome is durable
      ▲        │        │
      └────────┴────────┘  stop, no longer the writer; kill, when the lease ends

Whoever asked may withdraw a request until it is begun. After a kill in the middle, the next writer
takes it again, and finds in the target what was written.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from daemon.clock import monotonic
from daemon.errors import EdgeFault, SetupFault
from daemon.operations.edge_words import waiting_for
from daemon.operations.sync_one import JobName, SyncResult
from daemon.outcome import Deferred
from daemon.reasons import Edge, Reason
from daemon.story import StoryEvent, story_entry
from daemon.waiting import unless

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from daemon.checkpoint.ports import Checkpoint, SyncRequest
    from daemon.intake.breaker import Breakers
    from daemon.observability.watchdog import Pulse
    from daemon.operations.sync_one import SyncOne
    from daemon.outcome import Outcome
    from daemon.pipeline.delivery import Delivery

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks for requests."""
DEAR_LOOK_SECONDS = 5.0
"""The same where each look is paid for: 17,280 reads a day, by the writer alone. Below the time
that a request waits for a daemon (`daemon.operations.hand_over.TAKE_SECONDS`)."""
REQUEST_LEASE_SECONDS = 20.0
"""How long a request waits after its daemon was killed, unless that is known."""
LOOK_DEADLINE_SECONDS = 120.0
"""A longer look counts as hung. Exceeds the checkpoint's own deadlines."""
MOST_AT_ONCE = 16
"""Requests that are worked on at the same time."""
AGAIN_SECONDS = (1.0, 5.0)
"""Shortest and longest pause before a job is tried again that another process worked on."""

NEEDED = (Edge.CHECKPOINT, Edge.SAGEMAKER, Edge.TARGET)
"""The edges that a job without a message needs."""
TRIED_AGAIN = frozenset(
    {Reason.CLAIMED_ELSEWHERE, Reason.LEASE_LOST, Reason.NAME_LOCKED, Reason.HELD_TOO_LONG}
)
"""Pass by themselves."""


class Writer(Protocol):
    """Whether this process may write."""

    @property
    def holds(self) -> bool: ...

    async def wait_held(self) -> None: ...


class MakeWork(Protocol):
    """Makes what takes the job of one request through the flow."""

    def __call__(
        self,
        *,
        say: Callable[[str], None],
        attempts: Callable[[Delivery], Coroutine[object, object, Outcome | None]],
        hold: Callable[[EdgeFault], Coroutine[object, object, None]],
    ) -> SyncOne: ...


@dataclass(eq=False, slots=True)
class _Serving:
    """A request that this process has taken."""

    request: SyncRequest
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """It was withdrawn, or another process has taken it over."""
    renewed_at: float = field(default_factory=monotonic)
    said: str = ""
    """What its work waits for; "" for nothing."""
    progress: str = ""
    """The same as the checkpoint has it."""
    begun: bool = False
    work: SyncOne | None = None


class HandedOver:
    """Serves the requests of other processes.

    Args:
        checkpoint: where the requests are.
        breakers: requests wait while one that they need is open.
        writer: requests are taken only while this process is the writer.
        outcome_of: attempts a delivery until its outcome is final for this process, and durable.
        make_work: makes what takes a request's job through the flow.
        start: starts a task that ends by itself.
        on_fault: called with each fault of an edge.
        look_seconds: between two looks for requests.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        breakers: Breakers,
        writer: Writer,
        *,
        outcome_of: Callable[[Delivery], Coroutine[object, object, Outcome]],
        make_work: MakeWork,
        start: Callable[[Coroutine[object, object, None]], None],
        on_fault: Callable[[EdgeFault], None],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._checkpoint = checkpoint
        self._look_seconds = look_seconds
        self._breakers = breakers
        self._writer = writer
        self._outcome_of = outcome_of
        self._make_work = make_work
        self._start = start
        self._on_fault = on_fault
        self._stopping = asyncio.Event()
        self._serving: dict[str, _Serving] = {}
        self._taking = False
        self._idle = asyncio.Event()
        self._idle.set()

    def stop(self) -> None:
        """Takes nothing more; what is begun is finished or given back as messages are."""
        self._stopping.set()
        for serving in self._serving.values():
            if serving.work is not None:
                serving.work.stop()

    async def wait_idle(self) -> None:
        """Returns when every request is answered or given back."""
        await self._idle.wait()

    async def run(self, pulse: Pulse) -> None:
        """Takes requests until `stop`, and renews what it has taken. Ends only by cancellation."""
        while True:
            pulse.rest()
            await asyncio.sleep(self._look_seconds)
            if not self._serving:
                await self._writer.wait_held()
            pulse.work(LOOK_DEADLINE_SECONDS)
            try:
                await self._renew()
                if self._writer.holds:
                    await self._take()
            except EdgeFault as fault:
                self._on_fault(fault)

    async def _take(self) -> None:
        while len(self._serving) < MOST_AT_ONCE and not self._stopping.is_set():
            # A stop that comes now must wait: what is being taken is to be given back.
            self._taking = True
            self._idle.clear()
            try:
                request = await self._checkpoint.take_request(lease_seconds=REQUEST_LEASE_SECONDS)
                if request is None or request.request_id in self._serving:
                    return
                log.info(
                    "a job was handed over",
                    job=request.job,
                    force=request.force,
                    request_id=request.request_id,
                )
                serving = self._serving[request.request_id] = _Serving(request)
                self._start(self._serve(serving))
            finally:
                self._taking = False
                self._rest_if_idle()

    def _rest_if_idle(self) -> None:
        if not self._serving and not self._taking:
            self._idle.set()

    async def _renew(self) -> None:
        """Renews leases that are past a third, and says what the requests wait for."""
        for serving in list(self._serving.values()):
            progress = self._waiting_for() or serving.said
            due = monotonic() - serving.renewed_at > REQUEST_LEASE_SECONDS / 3
            if due or progress != serving.progress:
                await self._tell(serving, progress)

    async def _tell(self, serving: _Serving, progress: str) -> bool:
        """Renews a lease. False: the request was withdrawn, or another process has it."""
        at = monotonic()
        kept = await self._checkpoint.renew_request(
            serving.request.request_id,
            lease_seconds=REQUEST_LEASE_SECONDS,
            progress=progress,
            begun=serving.begun,
        )
        serving.renewed_at, serving.progress = at, progress
        if not kept:
            serving.lost.set()
        return kept

    def _waiting_for(self) -> str:
        """What requests wait for, in words; "" for nothing."""
        is_open = next((each for each in NEEDED if self._breakers.is_open(each)), None)
        return "" if is_open is None else waiting_for(self._breakers[is_open])

    # --- one request ------------------------------------------------------------------------------

    async def _serve(self, serving: _Serving) -> None:
        try:
            if await self._begin(serving):
                await self._finish(serving, await self._result(serving))
        except EdgeFault as fault:
            # the lease ends, and whoever is the writer then takes the request again
            self._on_fault(fault)
            log.info(
                "a handed-over job is left to its lease", request_id=serving.request.request_id
            )
        finally:
            self._serving.pop(serving.request.request_id, None)
            self._rest_if_idle()

    async def _begin(self, serving: _Serving) -> bool:
        """Waits until the edges work, and makes it durable that the request is begun: from then on
        it cannot be withdrawn. False: it is not to be begun.
        """
        while not serving.lost.is_set():
            is_open = next((each for each in NEEDED if self._breakers.is_open(each)), None)
            if is_open is None and not self._stopping.is_set():
                serving.begun = True
                return await self._tell(serving, "")
            if is_open is None or self._stopping.is_set():
                await self._give_back(serving)
                return False
            wait = unless(self._stopping, self._breakers[is_open].wait_closed())
            await unless(serving.lost, wait)
        return False

    async def _result(self, serving: _Serving) -> SyncResult:
        request = serving.request

        def say(sentence: str) -> None:
            serving.said = sentence

        async def attempts(delivery: Delivery) -> Outcome | None:
            how = "with --force" if request.force else ""
            entry = story_entry(StoryEvent.HANDED_OVER, how, at=request.asked_at)
            delivery.job.story.add(entry)
            return await self._final_outcome(delivery, say)

        try:
            wanted = JobName.parse(request.job)
        except SetupFault as fault:  # asked by another version of this program
            return SyncResult(request.job, "unknown_job", "", str(fault))
        serving.work = self._make_work(say=say, attempts=attempts, hold=self._hold)
        if self._stopping.is_set():
            serving.work.stop()
        try:
            return await serving.work.sync(wanted, force=request.force)
        except EdgeFault:
            raise
        except Exception as error:  # a bug must only fail this request
            log.exception("internal error", job=request.job)
            text = f"{type(error).__name__}; the daemon's log has the traceback"
            return SyncResult(request.job, "deferred", Reason.INTERNAL_ERROR.value, text)

    async def _final_outcome(
        self, delivery: Delivery, say: Callable[[str], None]
    ) -> Outcome | None:
        """The outcome to answer with; None: the daemon stops, or is not the writer any more."""
        while True:
            outcome = await self._outcome_of(delivery)
            if delivery.force and outcome.reason is Reason.JOINED:
                continue  # the other one was not to be repaired
            if not isinstance(outcome, Deferred):
                return outcome
            if outcome.reason in {Reason.STOPPING, Reason.STANDING_BY}:
                return None
            if outcome.reason not in TRIED_AGAIN:
                return outcome
            if delivery.released.is_set():
                return None  # held for too long: the request is taken anew
            say(f"waiting: {outcome.detail}")
            shortest, longest = AGAIN_SECONDS
            pause = min(max(shortest, outcome.delay_seconds or 0.0), longest)
            await unless(delivery.released, asyncio.sleep(pause))

    async def _hold(self, fault: EdgeFault) -> None:
        """Waits until an edge works again."""
        self._on_fault(fault)
        await self._breakers.of(fault).wait_closed()

    async def _give_back(self, serving: _Serving) -> None:
        request_id = serving.request.request_id
        await self._checkpoint.give_back_request(request_id)
        log.info("a handed-over job is given back", request_id=request_id)

    async def _finish(self, serving: _Serving, result: SyncResult) -> None:
        """Answers a request, or gives it back; waits for the checkpoint if it must."""
        request_id = serving.request.request_id
        while True:
            try:
                if result.outcome == "interrupted":
                    await self._give_back(serving)
                    return
                answer = json.dumps(result.as_document())
                kept = await self._checkpoint.answer_request(request_id, answer)
            except EdgeFault as fault:
                self._on_fault(fault)
                if self._stopping.is_set():
                    raise
                await unless(self._stopping, self._breakers[Edge.CHECKPOINT].wait_closed())
                continue
            log.info(
                "a handed-over job is done",
                request_id=request_id,
                outcome=result.outcome,
                reason=result.reason,
                answered=kept,
            )
            return

"""The flow and the intake without a network: fakes of the small protocols, and a scene that puts
them together.

`MemoryQueue`, `MemoryTrainingJobs` and `ScriptedTarget` stand for `Queue`, `TrainingJobs` and
`Target`; the checkpoint is the real one on a file. Failures are given beforehand; what was asked
can be looked at afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from unittest import mock

from daemon.aws.ports import Failed, Message, OutgoingMessage, QueueState, Sent
from daemon.checkpoint.ports import HistoryFilter
from daemon.checkpoint.sqlite.store import SqliteCheckpoint, open_sqlite_checkpoint
from daemon.errors import EdgeFault
from daemon.intake.acknowledgements import Acknowledgements
from daemon.intake.backoff import Backoff
from daemon.intake.breaker import Breaker, Breakers
from daemon.intake.foreign_messages import ForeignMessages
from daemon.intake.in_flight import InFlight, Slots
from daemon.observability.watchdog import Pulse
from daemon.pipeline.flow import Flow, FlowRules
from daemon.pipeline.worker import Worker
from daemon.reasons import Edge, Reason
from daemon.targets.place import TargetPlace
from daemon.targets.ports import Preview, Repair, TargetRun
from daemon.training_job.identity import Home, JobArn, JobMark
from tests.support.checkpoint_calls import TARGET, FakeClock, checkpoints_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from daemon.aws.ports import JobPage, TrainingJobs
    from daemon.checkpoint.ports import JobRecord
    from daemon.outcome import Outcome
    from daemon.pipeline.delivery import Delivery
    from daemon.targets.ports import Target, WriteJournal
    from daemon.training_job.metric_series import MetricSeries
    from daemon.training_job.training_run import TrainingRun
    from daemon.training_job.tuning_job import TuningJob

ACCOUNT = "123456789012"
REGION = "eu-west-1"
CREATED = datetime(2025, 11, 20, 8, 40, 0, 50_000, UTC)
ENDED = datetime(2025, 11, 20, 9, 0, tzinfo=UTC)
DEAD_LETTER_URL = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/modeldb-sync-dlq"
SETTLE_SECONDS = 30.0
DAY = 86400.0
TAGS = {
    "MODEL_DB_SYNC": "true",
    "MODEL_DB_PROJECT_NAME": "churn",
    "MODEL_DB_PROJECT_USER": "amara.okafor",
    "MODEL_DB_PROJECT_DESC": "Predicts who leaves",
    "MODEL_DB_MODEL_NAME": "churn-xgb",
    "MODEL_DB_MODEL_TYPE": "XGBoost",
}


def without(*keys: str) -> dict[str, str]:
    """All tags but some."""
    return {key: value for key, value in TAGS.items() if key not in keys}


def arn_of(name: str, *, account: str = ACCOUNT, region: str = REGION) -> str:
    return f"arn:aws:sagemaker:{region}:{account}:training-job/{name}"


def mark_of(name: str, created: datetime = CREATED) -> JobMark:
    return JobMark.of(JobArn.parse(arn_of(name)), created)


def edge_fault(edge: Edge = Edge.TARGET, reason: Reason = Reason.UNAVAILABLE) -> EdgeFault:
    return EdgeFault(edge, reason, f"the {edge} does not work")


def event_body(
    name: str = "churn-1",
    *,
    arn: str | None = None,
    envelope: Mapping[str, Any] | None = None,
    **detail: Any,
) -> str:
    """An EventBridge event of a completed job. Keywords are members of its detail; None leaves one
    out.
    """
    arn = arn or arn_of(name)
    members = {
        "TrainingJobName": name,
        "TrainingJobArn": arn,
        "TrainingJobStatus": "Completed",
        "CreationTime": round(CREATED.timestamp() * 1000),
        "Tags": TAGS,
        **detail,
    }
    _, _, _, region, account, _ = arn.split(":", 5)
    return json.dumps(
        {
            "version": "0",
            "id": "844e2571-85d4-695f-b930-0153b71dcb42",
            "resources": [arn],
            "detail-type": "SageMaker Training Job State Change",
            "source": "aws.sagemaker",
            "account": account,
            "region": region,
            "time": f"{ENDED:%Y-%m-%dT%H:%M:%SZ}",
            "detail": {key: value for key, value in members.items() if value is not None},
            **(envelope or {}),
        }
    )


def message(
    body: str | None = None,
    message_id: str = "m-1",
    *,
    receive_count: int = 1,
    attributes: Mapping[str, str] | None = None,
    sent_at: float | None = None,
) -> Message:
    """One receive of a message, by default of the event of ``churn-1``."""
    body = event_body() if body is None else body
    return Message(
        message_id,
        f"{message_id}/{receive_count}",
        body,
        receive_count,
        ENDED.timestamp() if sent_at is None else sent_at,
        attributes or {},
    )


async def until(condition: Callable[[], object]) -> None:
    """Lets everything else run until something is so."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def a_while() -> None:
    """Lets everything that can go on without a timer go on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def _nothing(_call: str) -> None: ...


class CountingPulse(Pulse):
    """How often a loop has gone round."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = 0
        self.rests = 0

    def rest(self) -> None:
        self.rests += 1
        super().rest()

    def work(self, limit_seconds: float) -> None:
        self.rounds += 1
        super().work(limit_seconds)


class CountingBackoff(Backoff):
    """Does not pause, and notes the attempt that each pause is for."""

    def __init__(self) -> None:
        super().__init__(0, 0, random.Random(1))
        object.__setattr__(self, "asked", [])

    asked: list[int]

    def delay(self, attempt: int) -> float:
        self.asked.append(attempt)
        return 0.0


class MemoryQueue:
    """A `Queue` whose receives are answered by the test.

    Attributes:
        answers: what each receive returns or raises; a receive without one waits.
        receives: the limit of each receive that has begun.
        deleted, hidden: every handle, and (handle, seconds), that was asked for and not refused.
        batches: (call, number of entries) of each batch.
        refusals: by handle, or body of a message to be sent: what the next batches say of it.
        faults: by call (receive, delete, hide, send_batch, send, state): what the next calls raise;
            `send` is of dead letters.
        sent: each message that was sent to the queue and not refused.
        dead_letters: (url, body, attributes) of each message that was sent there.
        witness: awaited before each delete, hide and send, with the call's name.
    """

    def __init__(self) -> None:
        self.own_visibility_seconds = 30
        self.own_max_receive_count: int | None = None
        self.own_dead_letter_url: str | None = None
        self.own_dead_letter_fault: EdgeFault | None = None
        self.answers: asyncio.Queue[Sequence[Message] | EdgeFault] = asyncio.Queue()
        self.receives: list[int] = []
        self.deleted: list[str] = []
        self.hidden: list[tuple[str, int]] = []
        self.batches: list[tuple[str, int]] = []
        self.refusals: dict[str, deque[Failed]] = {}
        self.faults: dict[str, deque[Exception]] = {}
        self.sent: list[OutgoingMessage] = []
        self.dead_letters: list[tuple[str, str, Mapping[str, str]]] = []
        self.witness: Callable[[str], Awaitable[None]] = _nothing

    async def receive(
        self, *, limit: int, wait_seconds: int, visibility_seconds: int
    ) -> Sequence[Message]:
        self.receives.append(limit)
        answer = await self.answers.get()
        if isinstance(answer, EdgeFault):
            raise answer
        return answer

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[Failed | None]:
        await self._begin("delete", len(receipt_handles))
        answers = [self._refusal(handle) for handle in receipt_handles]
        self.deleted += [
            handle
            for handle, failed in zip(receipt_handles, answers, strict=True)
            if failed is None
        ]
        return answers

    async def hide(self, entries: Sequence[tuple[str, int]]) -> Sequence[Failed | None]:
        await self._begin("hide", len(entries))
        answers = [self._refusal(handle) for handle, _ in entries]
        self.hidden += [
            entry for entry, failed in zip(entries, answers, strict=True) if failed is None
        ]
        return answers

    async def send(self, entries: Sequence[OutgoingMessage]) -> Sequence[Sent | Failed]:
        await self._begin("send_batch", len(entries))
        answers: list[Sent | Failed] = []
        for entry in entries:
            refusal = self._refusal(entry.body)
            if refusal is None:
                self.sent.append(entry)
            answers.append(refusal or Sent(f"sent-{len(self.sent)}"))
        return answers

    async def send_dead_letter(self, url: str, body: str, attributes: Mapping[str, str]) -> None:
        await self._begin("send", 1)
        self.dead_letters.append((url, body, attributes))

    async def state(self) -> QueueState:
        await self._begin("state", 1)
        own = self.own_visibility_seconds
        return QueueState(
            0,
            0,
            0,
            own,
            self.own_max_receive_count,
            self.own_dead_letter_url,
            None,
            self.own_dead_letter_fault,
            f"arn:aws:sqs:{REGION}:{ACCOUNT}:modeldb-sync",
        )

    async def _begin(self, call: str, entries: int) -> None:
        await self.witness(call)
        self.batches.append((call, entries))
        if self.faults.get(call):
            raise self.faults[call].popleft()

    def _refusal(self, handle: str) -> Failed | None:
        waiting = self.refusals.get(handle)
        return waiting.popleft() if waiting else None


class MemoryTrainingJobs:
    """`TrainingJobs` of a dictionary.

    Attributes:
        home: where the jobs are.
        elsewhere: those of other accounts and regions.
        faults: by call (describe, tags): what the next calls raise.
        asked: (call, argument) of every call that a run cannot do without.
        other_calls: (call, job name) of every other one.
        series: of every job, with notes.
        parent: likewise.
    """

    def __init__(self) -> None:
        self.home = Home(ACCOUNT, REGION)
        self.elsewhere: dict[str, TrainingJobs] = {}
        self.faults: dict[str, deque[Exception]] = {}
        self.asked: list[tuple[str, str]] = []
        self.other_calls: list[tuple[str, str]] = []
        self.series: tuple[tuple[MetricSeries, ...], tuple[str, ...]] = ((), ())
        self.parent: tuple[TuningJob | None, tuple[str, ...]] = (None, ())
        self._descriptions: dict[str, Mapping[str, Any]] = {}
        self._tags: dict[str, Mapping[str, str]] = {}

    def put(
        self,
        name: str,
        *,
        arn: str | None = None,
        tags: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """Makes a job. Keywords are members of its description; its tags are listed under the
        described ARN alone.
        """
        arn = arn or arn_of(name)
        described = {
            "TrainingJobName": name,
            "TrainingJobArn": arn,
            "TrainingJobStatus": "Completed",
            "CreationTime": CREATED,
            "LastModifiedTime": ENDED,
        }
        self._descriptions[name] = described | members
        self._tags[arn] = TAGS if tags is None else tags

    async def describe(self, name: str) -> Mapping[str, Any]:
        self._begin("describe", name)
        return self._descriptions[name]

    async def tags(self, arn: str) -> Mapping[str, str]:
        self._begin("tags", arn)
        return self._tags[arn]

    async def list_page(
        self, *, created_after: float, created_before: float, token: str | None = None
    ) -> JobPage:
        raise NotImplementedError

    async def metric_series(
        self, description: Mapping[str, Any]
    ) -> tuple[tuple[MetricSeries, ...], tuple[str, ...]]:
        self._begin_other("metric_series", description)
        return self.series

    async def tuning_job(
        self, description: Mapping[str, Any]
    ) -> tuple[TuningJob | None, tuple[str, ...]]:
        self._begin_other("tuning_job", description)
        return self.parent

    async def probe(self) -> None: ...

    def _begin_other(self, call: str, description: Mapping[str, Any]) -> None:
        self.other_calls.append((call, description["TrainingJobName"]))
        if self.faults.get(call):
            raise self.faults[call].popleft()

    def _begin(self, call: str, argument: str) -> None:
        self.asked.append((call, argument))
        if self.faults.get(call):
            raise self.faults[call].popleft()


class ScriptedTarget:
    """A `Target` that does what the test says, attempt by attempt, and then creates a run as a
    target should.

    Attributes:
        script: the next attempts.
        runs: the run of every attempt.
        attempts: (unanswered writes, look up first) as every attempt found them.
        created: names of the jobs that were created.
    """

    kind = "modeldb-v2"

    def __init__(self) -> None:
        self.script: deque[Callable[[TrainingRun, WriteJournal], Awaitable[TargetRun]]] = deque()
        self.runs: list[TrainingRun] = []
        self.attempts: list[tuple[int, bool]] = []
        self.created: list[str] = []

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        self.runs.append(run)
        self.attempts.append((journal.unanswered_writes, journal.look_up_first))
        return await (self.script.popleft() if self.script else self.create)(run, journal)

    async def create(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        """One create that works."""
        await journal.begin_write(f"run/{run.name}")
        self.created.append(run.name)
        journal.answered()
        journal.settled()
        return TargetRun(created=True, ids={"run_id": f"id-of-{run.name}"})

    def then_raise(self, error: Exception, *, begun: int = 0, answered: int = 0) -> None:
        """The next attempt begins and has answered so many creates before it fails."""

        async def attempt(run: TrainingRun, journal: WriteJournal) -> TargetRun:
            for number in range(begun):
                await journal.begin_write(f"run/{run.name}/{number}")
                if number < answered:
                    journal.answered()
            raise error

        self.script.append(attempt)

    def then_wait(self, *, begun: bool, then: Exception | None = None) -> Waiting:
        """The next attempt waits, before a create or for the answer of one, until the test lets it
        go on to its success or failure.
        """
        waiting = Waiting()

        async def attempt(run: TrainingRun, journal: WriteJournal) -> TargetRun:
            if begun:
                await journal.begin_write(f"run/{run.name}")
            try:
                await waiting.pause()
            except asyncio.CancelledError:
                waiting.cancelled = True
                raise
            if then is not None:
                raise then
            if not begun:
                return await self.create(run, journal)
            journal.answered()
            journal.settled()
            self.created.append(run.name)
            return TargetRun(created=True, ids={"run_id": f"id-of-{run.name}"})

        self.script.append(attempt)
        return waiting

    def preview(self, run: TrainingRun) -> Preview:
        return Preview("a run", [("run", [("name", run.name)])], {"name": run.name})

    async def compare(self, run: TrainingRun) -> Repair | None:
        del run
        return None

    async def repair(self, run: TrainingRun, journal: WriteJournal) -> Repair:
        return Repair(await self.sync(run, journal))

    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        return None

    async def probe(self) -> None: ...

    async def aclose(self) -> None: ...


class Waiting:
    """A place where something waits for the test."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = False

    async def pause(self) -> None:
        self.reached.set()
        await self.go_on.wait()


@dataclass
class FlowScene:
    """One daemon's flow and worker. Made by `flow_scene`.

    Attributes:
        back: by edge: a probe passes only while this is set.
        back_elsewhere: the same by account and region.
        dead_letter_url: what the worker gets; a fault is raised instead.
        dead_letter_answers: how each dead letter ended.
        outcomes: (message id, outcome) of each that was reported.
        faults: each fault that was reported.
        steps: each step that was measured.
        real_target: used instead of `target`.
        slots: all taken by `flow_scene`, so that what a worker gives back can be counted.
    """

    queue: MemoryQueue
    jobs: MemoryTrainingJobs
    target: ScriptedTarget
    checkpoint: SqliteCheckpoint
    clock: FakeClock
    real_target: Target | None = None
    in_flight: InFlight = field(default_factory=InFlight)
    slots: Slots = field(default_factory=lambda: Slots(1))
    rules: FlowRules = field(default_factory=FlowRules)
    dead_letter_url: str | EdgeFault | None = DEAD_LETTER_URL
    dead_letter_answers: list[EdgeFault | None] = field(default_factory=list)
    outcomes: list[tuple[str, Outcome]] = field(default_factory=list)
    faults: list[EdgeFault] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.back = {edge: asyncio.Event() for edge in Edge}
        for back in self.back.values():
            back.set()
        places = {where: asyncio.Event() for where in self.jobs.elsewhere}
        self.back_elsewhere = places
        for back in places.values():
            back.set()
        self.breakers = Breakers(
            Breaker(
                edge, back.wait, CountingBackoff(), lambda _open: None, proven=True, where=where
            )
            for edge, where, back in [
                *((edge, "", back) for edge, back in self.back.items()),
                *((Edge.SAGEMAKER, where, back) for where, back in places.items()),
            ]
        )
        self.flow = Flow(
            self.jobs,
            self.checkpoint,
            self.real_target or self.target,
            self.in_flight,
            self.rules,
            unavailable=self.breakers.fault_of,
            on_success=self.breakers.succeeded,
            on_step=lambda step, _seconds: self.steps.append(step),
        )
        self.acknowledgements = Acknowledgements(self.queue, CountingBackoff(), self.fault)
        self.worker = Worker(
            self.flow,
            self.queue,
            self.checkpoint,
            self.in_flight,
            self.slots,
            self.acknowledgements,
            self.breakers,
            dead_letter_url=self._dead_letter_url,
            backoff=Backoff(10, 900, random.Random(1)),
            settle_seconds=SETTLE_SECONDS,
            foreign_messages=ForeignMessages() if self.rules.shared_queue else None,
            on_outcome=lambda delivery, outcome: self.outcomes.append(
                (delivery.message.message_id, outcome)
            ),
            on_fault=self.fault,
            on_dead_letter=self.dead_letter_answers.append,
        )

    def _dead_letter_url(self) -> str | None:
        if isinstance(self.dead_letter_url, EdgeFault):
            raise self.dead_letter_url
        return self.dead_letter_url

    def fault(self, fault: EdgeFault) -> None:
        """What the daemon does with a fault."""
        self.faults.append(fault)
        self.breakers.trip(fault)

    def receive(self, received: Message | None = None) -> Delivery:
        """Enters a message in the ledger."""
        delivery = self.in_flight.add(received or message(), 30)
        assert delivery is not None
        return delivery

    async def process(self, received: Message | None = None) -> Outcome:
        """One attempt of the flow at one message, without a worker."""
        delivery = self.receive(received)
        outcome = await self.flow.process(delivery)
        self.in_flight.finish(delivery, outcome)
        self.in_flight.remove(delivery)
        return outcome

    def start(self, received: Message | None = None) -> tuple[Delivery, asyncio.Task[None]]:
        """A worker begins with a message."""
        delivery = self.receive(received)
        return delivery, asyncio.create_task(self.worker.handle(delivery))

    async def handle(self, received: Message | None = None) -> Outcome:
        """A worker takes a message to its end. Returns what was reported last."""
        async with asyncio.timeout(5):
            await self.start(received)[1]
        return self.outcomes[-1][1]

    async def waiting_for(self, edge: Edge) -> None:
        """Until an outcome is held because of an edge, and its breaker is open."""
        await until(
            lambda: (
                self.breakers[edge].is_open
                and self.outcomes
                and self.outcomes[-1][1].kind == "held"
            )
        )

    def fail_checkpoint(self, call: str, *faults: Exception) -> None:
        """The next calls of this name raise."""
        left, real = deque(faults), getattr(self.checkpoint, call)

        async def failing(*args: Any, **members: Any) -> Any:
            if left:
                raise left.popleft()
            return await real(*args, **members)

        setattr(self.checkpoint, call, failing)

    async def rows(self) -> list[JobRecord]:
        """All jobs in the checkpoint."""
        return list(await self.checkpoint.history(HistoryFilter()))

    async def row(self) -> JobRecord:
        """The row of the job ``churn-1``."""
        record = await self.checkpoint.job(mark_of("churn-1"))
        assert record is not None
        return record

    async def is_claimed(self, path: Path, name: str = "churn-1") -> bool:
        """Whether another process would have to wait for the job."""
        other = await open_sqlite_checkpoint(path, self.checkpoint.target)
        try:
            return type(await other.claim(arn_of(name), 1.0)).__name__ == "ClaimedElsewhere"
        finally:
            await other.aclose()


@contextlib.asynccontextmanager
async def flow_scene(
    path: Path,
    *,
    age_seconds: float = 2 * DAY,
    rules: FlowRules | None = None,
    jobs: MemoryTrainingJobs | None = None,
    target: Target | None = None,
) -> AsyncIterator[FlowScene]:
    """A scene with running acknowledgements and breakers. It ends as by a kill: claims pass to the
    next scene on this checkpoint, rows stay as they are.

    Args:
        path: of the checkpoint.
        age_seconds: of the checkpoint; by default it is old enough to vouch for what it does not
            know.
        rules: of the flow.
        jobs: None: the job ``churn-1`` alone.
        target: None: a scripted one.
    """
    clock = FakeClock()
    with checkpoints_at(clock), mock.patch("daemon.pipeline.flow.wall", clock):
        kind = TARGET.kind if target is None else target.kind
        checkpoint = await open_sqlite_checkpoint(path, TargetPlace(kind, TARGET.place))
        clock.now += age_seconds
        made = FlowScene(
            MemoryQueue(),
            jobs or MemoryTrainingJobs(),
            ScriptedTarget(),
            checkpoint,
            clock,
            target,
            rules=rules or FlowRules(),
        )
        if jobs is None:
            made.jobs.put("churn-1")
        await made.slots.take(1)
        loops = [
            asyncio.create_task(made.acknowledgements.run_deletes(CountingPulse())),
            asyncio.create_task(made.acknowledgements.run_hides(CountingPulse())),
        ]
        loops += [
            asyncio.create_task(breaker.run(CountingPulse(), lambda _fault: None))
            for breaker in made.breakers
        ]
        try:
            yield made
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)
            await checkpoint.aclose()

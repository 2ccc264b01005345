"""Takes one job through the flow now, as if a message about it had been received.

It uses the flow and the checkpoint of the daemon that it works beside, so claims, name locks and
settle times are respected on both sides. There is no message: nothing can be given back to a queue,
and a rejection becomes no dead letter.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.aws.ports import ORIGIN, Message, Origin
from daemon.checkpoint.lease_clock import Moment
from daemon.clock import monotonic, wall
from daemon.errors import EdgeFault, JobFault, JobRefused, SetupFault
from daemon.outcome import Deferred, Duplicate, Held, Rejected, Skipped, Synced
from daemon.pipeline.foreign_jobs import jobs_of
from daemon.reasons import Reason
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.identity import JOB_NAME, JobArn
from daemon.waiting import unless

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from daemon.aws.ports import TrainingJobs
    from daemon.checkpoint.ports import Checkpoint, JobRecord
    from daemon.intake.in_flight import InFlight
    from daemon.outcome import Outcome
    from daemon.pipeline.delivery import Delivery
    from daemon.pipeline.flow import Flow
    from daemon.training_job.identity import Home

PATIENCE_SECONDS = 60.0
"""How long a fault of an edge, or another process that works on the job, is waited for."""
PAUSE_SECONDS = 2.0
ATTRIBUTES = {ORIGIN: Origin.SYNC.value}
"""Of the message that is made up: it proves nothing about when the job ended, so the flow looks the
job up in the target before it creates its run."""

_WAITED_FOR = frozenset({Reason.CLAIMED_ELSEWHERE, Reason.LEASE_LOST, Reason.NAME_LOCKED})


@dataclass(frozen=True, slots=True)
class JobName:
    """A job as a person names it."""

    name: str
    arn: JobArn | None = None
    """None: of the account and region that the configuration works for."""

    @classmethod
    def parse(cls, text: str) -> JobName:
        """Reads a job's name or ARN.

        Raises:
            SetupFault: it is neither.
        """
        text = text.strip()
        if text[:4].lower() == "arn:":
            try:
                arn = JobArn.parse(text)
            except ValueError as error:
                raise SetupFault(f"JOB: {error}") from error
            return cls(arn.name, arn)
        if JOB_NAME.fullmatch(text) is None:
            raise SetupFault(
                f"JOB: {text[:120]!r} is neither the name of a training job (1 to 63 letters, "
                "digits and hyphens) nor its ARN"
            )
        return cls(text)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What became of one job."""

    job: str
    outcome: str
    """A kind of outcome, or ``unknown_job`` or ``interrupted``."""
    reason: str
    """A `Reason`; "" with the two words of its own."""
    text: str
    """One sentence for people."""
    next_step: str = ""
    """What to do; "" if there is nothing to do."""
    arn: str = ""
    """As SageMaker describes it; "" if it does not."""
    target_ids: Mapping[str, str] | None = None
    notes: Sequence[str] = ()
    """What was shortened, renamed or left out."""
    changed: Sequence[str] = ()
    """What was repaired of a run that was there."""
    unchangeable: Sequence[str] = ()
    """What differs and stays, with the reason."""
    message_id: str = ""
    """Under which the checkpoint keeps it."""

    @property
    def succeeded(self) -> bool:
        """The job's run is in the target."""
        return self.outcome in {"synced", "duplicate"}

    def as_document(self) -> dict[str, Any]:
        """For programs: what JSON can hold."""
        return {
            "job": self.job,
            "arn": self.arn,
            "outcome": self.outcome,
            "reason": self.reason,
            "text": self.text,
            "next_step": self.next_step,
            "target_ids": dict(self.target_ids or {}),
            "notes": list(self.notes),
            "changed": list(self.changed),
            "unchangeable": list(self.unchangeable),
            "message_id": self.message_id,
        }

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> SyncResult:
        """The reverse of `as_document`."""
        return cls(**document)


class SyncOne:
    """Takes one job through the flow.

    Args:
        flow: with the checkpoint's and the target's adapters.
        jobs: SageMaker's training jobs, the same as the flow's.
        checkpoint: the same as the flow's.
        in_flight: the flow's ledger. Whoever owns it renews the claims in it.
        patience_seconds: see `PATIENCE_SECONDS`.
        say: called with a sentence when it begins to wait for something.
        attempts: attempts a delivery until its outcome is final, or None if it was released; None:
            one attempt after the other, as long as the patience lasts.
        hold: waits until an edge works again; None: for a short while.
    """

    def __init__(
        self,
        flow: Flow,
        jobs: TrainingJobs,
        checkpoint: Checkpoint,
        in_flight: InFlight,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        say: Callable[[str], None] = lambda _sentence: None,
        attempts: Callable[[Delivery], Coroutine[Any, Any, Outcome | None]] | None = None,
        hold: Callable[[EdgeFault], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._flow = flow
        self._jobs = jobs
        self._checkpoint = checkpoint
        self._in_flight = in_flight
        self._patience_seconds = patience_seconds
        self._say = say
        self._attempts = attempts
        self._hold = hold
        self._stopping = asyncio.Event()
        self._delivery: Delivery | None = None

    def stop(self) -> None:
        """Asks `sync` to end: a write under way is finished, everything else is left."""
        self._stopping.set()
        if self._delivery is not None:
            self._delivery.give_back()

    def abandon(self) -> None:
        """Ends `sync` in any case. A write under way stays unanswered: the checkpoint has it."""
        self.stop()
        if self._delivery is not None:
            self._delivery.abandon()

    async def sync(self, wanted: JobName, *, force: bool = False) -> SyncResult:
        """One job, from its description to its durable outcome.

        Args:
            wanted: the job.
            force: whether a run that is there is brought up to date with the job.

        Raises:
            EdgeFault: the checkpoint could not be read.
        """
        until = monotonic() + self._patience_seconds
        described = await self._described(wanted, until)
        if isinstance(described, SyncResult):
            return described
        message_id = f"sync-{uuid.uuid4()}"
        message = Message(message_id, "", _body(wanted, described), 1, wall(), ATTRIBUTES)
        delivery = self._in_flight.add(message, float("inf"), force=force)
        assert delivery is not None  # noqa: S101 - the id is new; for the type checker
        self._delivery = delivery
        if self._stopping.is_set():
            delivery.give_back()
        outcome: Outcome | None = None
        try:
            outcome = await (
                self._outcome(delivery, until)
                if self._attempts is None
                else self._attempts(delivery)
            )
            if outcome is None:
                await self._flow.release(delivery, Reason.STOPPING)
            elif isinstance(outcome, Held):
                await self._flow.release(delivery, outcome.reason)
        finally:
            self._in_flight.finish(delivery, outcome or Deferred(Reason.STOPPING, delay_seconds=0))
            self._in_flight.remove(delivery)
        return _result(wanted, delivery, outcome, self._patience_seconds)

    async def _described(self, wanted: JobName, until: float) -> DescribedJob | SyncResult | None:
        """The job as SageMaker describes it. None: it does not any more, and the checkpoint has an
        unanswered write of it, which the flow is to find. A result: nothing can be done.
        """
        jobs = jobs_of(self._jobs, wanted.arn)
        if jobs is None:
            return _foreign(wanted, self._jobs.home)
        while True:
            fault: EdgeFault | JobFault
            try:
                return DescribedJob.of(await jobs.describe(wanted.name))
            except JobRefused as refusal:
                rows = await self._rows(wanted)
                if any(row.unanswered_writes for row in rows):
                    return None
                return _unknown(wanted, refusal, rows, jobs.home)
            except ValueError as error:
                fault = JobFault(Reason.SAGEMAKER_FAULT, str(error))
            except (EdgeFault, JobFault) as error:
                fault = error
            if isinstance(fault, EdgeFault) and fault.curable and monotonic() < until:
                self._say(f"waiting for SageMaker: {fault.detail}")
                await (
                    self._pause(PAUSE_SECONDS, until)
                    if self._hold is None
                    else unless(self._stopping, self._hold(fault))
                )
            if self._stopping.is_set():
                return _interrupted(wanted, outcome_unknown=False)
            if isinstance(fault, JobFault) or not fault.curable or monotonic() >= until:
                return _failed_to_describe(wanted, fault, self._patience_seconds)

    async def _rows(self, wanted: JobName) -> Sequence[JobRecord]:
        home = self._jobs.home
        arn = wanted.arn
        if arn is None and home.account is not None:
            arn = JobArn.of(home, wanted.name)
        return () if arn is None else await self._checkpoint.described(arn.key)

    async def _outcome(self, delivery: Delivery, until: float) -> Outcome | None:
        """The outcome of the last attempt; None: `stop` came first."""
        while not delivery.released.is_set():
            outcome = await delivery.attempt(self._flow.process(delivery))
            if outcome is None:
                if not delivery.claim_lost:
                    return None
                outcome = Deferred(Reason.LEASE_LOST, "another process has claimed the job")
            if delivery.force and outcome.reason is Reason.JOINED:
                continue  # that one's message was an ordinary one
            if isinstance(outcome, Held):
                await self._flow.tell_of_hold(delivery, outcome.fault)
            seconds = _worth_waiting_for(outcome)
            if delivery.job.write_in_doubt and isinstance(outcome, Deferred):
                seconds = PAUSE_SECONDS
            if seconds is None or monotonic() >= until:
                return outcome
            self._say(f"waiting: {outcome.detail}")
            await unless(delivery.released, self._pause(seconds, until))
            if delivery.released.is_set() and isinstance(outcome, Held):
                return None
        return None

    async def _pause(self, seconds: float, until: float) -> None:
        await unless(self._stopping, asyncio.sleep(max(0.0, min(seconds, until - monotonic()))))


async def renew_claims(checkpoint: Checkpoint, in_flight: InFlight, lease_seconds: float) -> None:
    """Renews the claims of a ledger that no daemon's heartbeat renews. Ends only by cancellation.

    Args:
        checkpoint: that has the claims.
        in_flight: the ledger.
        lease_seconds: of a claim.
    """
    while True:
        await asyncio.sleep(lease_seconds / 4)
        now = Moment.now()
        holders = {each.job.claim: each for each in in_flight if each.job.claim is not None}
        try:
            lost = await checkpoint.renew(list(holders), lease_seconds) if holders else ()
        except EdgeFault:
            continue  # a write after the end of the lease is refused by the checkpoint
        for claim, delivery in holders.items():
            if delivery.job.claim != claim:
                continue
            if claim in lost:
                delivery.lose_claim()
            else:
                delivery.job.renew_claim(now, lease_seconds)


def _body(wanted: JobName, described: DescribedJob | None) -> str:
    """The detail of an event about the job. Its status and tags are left for SageMaker to say."""
    if described is None:
        arn = {} if wanted.arn is None else {"TrainingJobArn": wanted.arn.text}
        return json.dumps({"TrainingJobName": wanted.name, **arn})
    arn_text = described.arn.text if wanted.arn is None else wanted.arn.text
    return json.dumps(
        {
            "TrainingJobName": described.name,
            "TrainingJobArn": arn_text,
            "CreationTime": round(described.creation_time.timestamp() * 1000),
        }
    )


def _worth_waiting_for(outcome: Outcome) -> float | None:
    """Seconds until another attempt may come out differently; None: it will not soon."""
    match outcome:
        case Held(fault=fault):
            return PAUSE_SECONDS if fault.curable else None
        case Deferred(reason=reason, delay_seconds=seconds) if reason in _WAITED_FOR:
            return min(seconds or PAUSE_SECONDS, PAUSE_SECONDS)
        case _:
            return None


def _result(
    wanted: JobName, delivery: Delivery, outcome: Outcome | None, patience_seconds: float
) -> SyncResult:
    job = delivery.job
    if outcome is None:
        return _interrupted(wanted, outcome_unknown=job.outcome_unknown)
    text, next_step = _words(wanted.name, outcome, patience_seconds)
    if job.outcome_unknown and isinstance(outcome, Held | Deferred):
        next_step = f"{_UNANSWERED}; {next_step}"
    ids = outcome.target_ids if isinstance(outcome, Synced | Duplicate) else None
    return SyncResult(
        job=wanted.name,
        outcome=outcome.kind,
        reason=outcome.reason.value,
        text=text,
        next_step=next_step,
        arn=job.arn.text if job.arn is not None else "",
        target_ids=ids,
        notes=tuple(job.notes),
        changed=() if job.repair is None else job.repair.changed,
        unchangeable=() if job.repair is None else job.repair.unchangeable,
        message_id=delivery.message.message_id,
    )


_UNANSWERED = (
    "a write had no answer, and the checkpoint keeps that: the next attempt looks for its run first"
)


def _words(name: str, outcome: Outcome, patience_seconds: float) -> tuple[str, str]:
    """A sentence about an outcome, and the next step."""
    reason, detail, step = outcome.reason, outcome.detail, ""
    match outcome:
        case Synced(reason=Reason.CREATED):
            text = _with(f"{name} is synced: its run was created", detail)
        case Synced(reason=Reason.REPAIRED):
            text = f"{name} is synced: its run was there, and was repaired"
        case Synced():
            text = _with(f"{name} is synced: its run was there, and nothing was written", detail)
        case Duplicate():
            text = f"{name} is synced already, according to the checkpoint: nothing was written"
        case Held(fault=fault):
            waited = f" for {patience_seconds:g} s" if fault.curable else ""
            text = f"{name} is not synced: the {fault.edge} did not work{waited} ({reason}): "
            text += detail
            step = "run `sync` again when it works; `check` tests every dependency"
        case Deferred(reason=Reason.CLAIMED_ELSEWHERE, delay_seconds=seconds):
            end = datetime.fromtimestamp(wall() + (seconds or 0), UTC)
            text = f"{name} was left alone: {detail}, with a claim until {end:%H:%M:%SZ} that it "
            text += "renews while it works"
            step = next_step(reason)
        case Rejected():
            text = f"{name} was rejected ({reason}): {detail}. The checkpoint has it; there is no "
            text += "message that could become a dead letter"
            step = next_step(reason)
        case Skipped():
            text, step = f"{name} was skipped ({reason}): {detail}", next_step(reason)
        case Deferred():
            text, step = f"{name} is not synced ({reason}): {detail}", next_step(reason)
    return text, step


def _with(said: str, detail: str) -> str:
    return f"{said}; {detail}" if detail else said


UNKNOWN_STEP = "check its name, and whether it is in this account and region"
_NEXT = {
    Reason.NOT_TAGGED: "add the tag to the job, then run `sync` again",
    Reason.TAGS_INCOMPLETE: "add what is missing to the job's tags, or give defaults in "
    "jobs.tag_defaults, then run `sync` again",
    Reason.STATUS_NOT_CONFIGURED: "add the status to jobs.statuses, then run `sync` again",
    Reason.NOT_TERMINAL: "the event of its end syncs it; or run `sync` again when it has ended",
    Reason.JOB_GONE: "nothing can be done: SageMaker does not have the job any more",
    Reason.JOB_REPLACED: "name the job by what SageMaker describes now",
    Reason.FOREIGN_ACCOUNT: "use the configuration of the daemon for that account and region",
    Reason.CLAIMED_ELSEWHERE: "see its outcome with `history`, or run `sync` again later",
    Reason.TARGET_REFUSED: "fix what the target refuses, then run `sync` again",
    Reason.STANDING_BY: "another process is the writer of this ModelDB: run `sync` again later",
    Reason.INTERNAL_ERROR: "report it, with the log of this command at log.level debug",
}


def next_step(reason: Reason) -> str:
    """What an operator does about a job that was not synced for a reason."""
    return _NEXT.get(reason, "run `sync` again; if it persists, see the runbook")


def _interrupted(wanted: JobName, *, outcome_unknown: bool) -> SyncResult:
    said = f"{wanted.name}: interrupted; its claim is released"
    text = f"{said}, and {_UNANSWERED}" if outcome_unknown else f"{said}, nothing is half-written"
    return SyncResult(wanted.name, "interrupted", "", text, "run `sync` again to go on")


def _foreign(wanted: JobName, home: Home) -> SyncResult:
    assert wanted.arn is not None  # noqa: S101 - only an ARN can be foreign; for the type checker
    return SyncResult(
        wanted.name,
        "rejected",
        Reason.FOREIGN_ACCOUNT.value,
        f"{wanted.arn.text} belongs to account {wanted.arn.account} in {wanted.arn.region}; this "
        f"configuration works for {home.account or 'its own account'} in {home.region}. Nothing "
        "was recorded",
        next_step(Reason.FOREIGN_ACCOUNT),
        arn=wanted.arn.text,
    )


def _unknown(
    wanted: JobName, refusal: JobRefused, rows: Sequence[JobRecord], home: Home
) -> SyncResult:
    done = next((row for row in rows if row.done), None)
    if done is not None:
        return SyncResult(
            wanted.name,
            "duplicate",
            Reason.ALREADY_SYNCED.value,
            f"SageMaker does not have {wanted.name} any more; it was synced on "
            f"{datetime.fromtimestamp(done.updated_at, UTC):%Y-%m-%d}",
            target_ids=done.target_ids,
            message_id=done.message_id,
        )
    where = f"account {home.account or 'unknown'} in {home.region}"
    return SyncResult(
        wanted.name,
        "unknown_job",
        refusal.reason.value,
        f"SageMaker does not know a training job {wanted.name} in {where}: {refusal.detail}. "
        "Nothing was recorded",
        UNKNOWN_STEP,
    )


def _failed_to_describe(
    wanted: JobName, fault: EdgeFault | JobFault, patience_seconds: float
) -> SyncResult:
    outcome = Held(fault) if isinstance(fault, EdgeFault) else Deferred(fault.reason, fault.detail)
    text, next_words = _words(wanted.name, outcome, patience_seconds)
    return SyncResult(wanted.name, outcome.kind, fault.reason.value, text, next_words)

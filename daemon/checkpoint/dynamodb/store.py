"""The checkpoint in one DynamoDB table, for any number of processes on any hosts.

Executes `daemon.checkpoint.rules`. Everything that a decision about a job needs is one item, its
document (`daemon.checkpoint.dynamodb.documents`), so each decision is one conditional write. A job
that is claimed with ``at_once=False`` costs one read and two writes: its claim goes with the intent
to write, which takes the lock of the run's name, too.

Hosts whose clocks differ by up to `CLOCK_SKEW_SECONDS` never hold a lease at the same time: each
counts its own leases by its own clock, and those of others as that much longer. That a process is
gone is not known here, so what it held is free when its leases have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from daemon.checkpoint import rules
from daemon.checkpoint.dynamodb import history, keys, lookups
from daemon.checkpoint.dynamodb.claims import CLOCK_SKEW_SECONDS, HeldClaims
from daemon.checkpoint.dynamodb.concurrent_calls import each_of
from daemon.checkpoint.dynamodb.items import Items
from daemon.checkpoint.dynamodb.messages import RejectedMessages
from daemon.checkpoint.dynamodb.operations_state import OperationsState
from daemon.checkpoint.dynamodb.partitions import Decision, Partition, Partitions
from daemon.checkpoint.dynamodb.pruning import Pruning
from daemon.checkpoint.dynamodb.table_format import require_known_format
from daemon.checkpoint.dynamodb.target_use import TargetUse
from daemon.checkpoint.dynamodb.writer_leases import WriterLeases
from daemon.checkpoint.owners import new_owner
from daemon.checkpoint.ports import Claim, ClaimedElsewhere, LeaseLost
from daemon.checkpoint.rules import ClaimRow, NameLockRow
from daemon.clock import monotonic, wall
from daemon.errors import EdgeFault, JobFault
from daemon.targets.place import ANY_TARGET

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from daemon.checkpoint.dynamodb.documents import Document
    from daemon.checkpoint.dynamodb.table import Table
    from daemon.checkpoint.ports import (
        EnqueuedJob,
        HistoryFilter,
        JobRecord,
        RejectedMessage,
        SyncRequest,
        WatchedJob,
        WriterElsewhere,
        WriterLease,
    )
    from daemon.reasons import Reason
    from daemon.story import StoryEntry
    from daemon.targets.place import TargetPlace
    from daemon.training_job.identity import JobMark

T = TypeVar("T")

DAY_SECONDS = 86400.0
CLOSING_SECONDS = 0.3
"""For giving back what this process still holds, when it closes: less than a stopping daemon leaves
to each of its parts. What is not given back ends with its lease."""


class _Change(Protocol):
    def __call__(self, row: JobRecord, *, now: float) -> JobRecord: ...


def clock_ahead() -> float:
    """Seconds by which the wall clock is ahead of the monotonic one: changes if it is set."""
    return wall() - monotonic()


async def open_dynamodb_checkpoint(
    table: Table,
    target: TargetPlace,
    *,
    keep_days: float,
    expires: bool = True,
    clock_skew_seconds: float = CLOCK_SKEW_SECONDS,
    clock: Callable[[], float] = wall,
    ahead: Callable[[], float] = clock_ahead,
    jitter: random.Random | None = None,
) -> DynamoDbCheckpoint:
    """Opens the checkpoint of a target in a table, which must be there.

    Args:
        table: closed with the checkpoint.
        target: as `daemon.checkpoint.registry.open_checkpoint`.
        keep_days: how long rows are kept.
        expires: the table deletes items by itself (its TTL is on); otherwise `prune` does.
        clock_skew_seconds: by how much the clocks of the hosts may differ.
        clock: epoch seconds.
        ahead: as `clock_ahead`.
        jitter: of the pauses where others are quicker; None: a new one.

    Raises:
        SetupFault: a newer version of this program wrote the table.
        EdgeFault: the table's.
    """
    checkpoint = DynamoDbCheckpoint(
        table,
        target,
        keep_seconds=keep_days * DAY_SECONDS,
        expires=expires,
        clock_skew_seconds=clock_skew_seconds,
        clock=clock,
        ahead=ahead,
        jitter=jitter if jitter is not None else random.Random(),  # noqa: S311 - jitter, no secret
    )
    await checkpoint.open()
    return checkpoint


class DynamoDbCheckpoint:
    """A `Checkpoint`; see `open_dynamodb_checkpoint`. Every call may raise `EdgeFault`."""

    def __init__(
        self,
        table: Table,
        target: TargetPlace,
        *,
        keep_seconds: float,
        expires: bool,
        clock_skew_seconds: float,
        clock: Callable[[], float],
        ahead: Callable[[], float],
        jitter: random.Random,
    ) -> None:
        self.owner = new_owner()
        """This process."""
        self._table = table
        self._target = target
        self._expires = expires
        self._clock = clock
        self._partitions = Partitions(
            table, target, clock=clock, keep_seconds=keep_seconds, jitter=jitter
        )
        self._claims = HeldClaims(
            self.owner, self._partitions, skew_seconds=clock_skew_seconds, clock=clock
        )
        self._items = items = Items(table, keep_seconds=keep_seconds, jitter=jitter)
        self._messages = RejectedMessages(items, clock)
        self._state = OperationsState(items, target, self._claims, clock)
        self._writers = WriterLeases(items, self._claims, clock)
        self._use = TargetUse(
            items, target, clock, skew_seconds=clock_skew_seconds, clock_ahead=ahead
        )
        self._pruning = Pruning(table, keep_seconds=keep_seconds)
        self._half_rejected: set[Claim] = set()

    @property
    def target(self) -> TargetPlace:
        return self._target

    @property
    def created_at(self) -> float:
        return self._use.created_at

    @property
    def opened_at(self) -> float:
        return self._use.opened_at

    async def open(self) -> None:
        """Finds since when the table has been in use for the target. Called once, first.

        Raises:
            SetupFault: a newer version of this program wrote the table.
            EdgeFault: the table's.
        """
        await require_known_format(self._items, note=self._target != ANY_TARGET)
        await self._use.open()

    async def claim(
        self, job_arn: str, lease_seconds: float, *, at_once: bool = True
    ) -> Claim | ClaimedElsewhere:
        """As the protocol says. A claim that is not taken at once is kept in mind only."""
        arn = job_arn.lower()

        def rule(seen: Partition) -> Decision[tuple[ClaimRow | ClaimedElsewhere, int | None]]:
            now = self._clock()
            held = self._claims.seen(seen.own, arn)
            row = rules.claim(
                held,
                Claim(arn, self.owner, self._claims.next_fence(seen.own, arn)),
                now=now,
                lease_until=now + lease_seconds,
                holder_gone=False,
            )
            if isinstance(row, ClaimedElsewhere):
                return Decision((row, None))
            stored = seen.own.claim_on(arn)
            if at_once or (stored is not None and stored.claim == row.claim):
                return Decision((row, None), seen.own.with_claim(row))
            return Decision((row, seen.own.fence(arn)))

        partition = keys.arn_partition(arn)
        self._partitions.pin(partition)  # so that what is read now is remembered
        try:
            row, above = await self._partitions.decide(partition, rule, afresh=True)
            if isinstance(row, ClaimedElsewhere):
                return row
            self._claims.put(row.claim, above=above, lease_until=row.lease_until)
            return row.claim
        finally:
            self._partitions.unpin(partition)

    async def renew(self, claims: Sequence[Claim], lease_seconds: float) -> Sequence[Claim]:
        kept = await each_of(self._renew(claim, lease_seconds) for claim in claims)
        return [claim for claim, is_kept in zip(claims, kept, strict=True) if not is_kept]

    async def _renew(self, claim: Claim, lease_seconds: float) -> bool:
        """False: the claim is lost."""
        known = self._claims.get(claim)
        lease_until = self._clock() + lease_seconds
        if known is not None and known.above is not None and not known.tried:
            known.lease_until = lease_until  # there is nothing to renew yet
        else:

            def rule(seen: Partition) -> Decision[bool]:
                document = self._claims.taken(seen.own, claim)
                row = rules.renew(document.claim_on(claim.job_arn), claim, lease_until=lease_until)
                if row is None:
                    return Decision(False)
                return Decision(True, document.with_claim(row))

            if not await self._partitions.decide(keys.arn_partition(claim.job_arn), rule):
                return False
            self._claims.written(claim)
        for name in list(known.locks) if known is not None else ():
            await self._renew_lock(claim, name, lease_until)
        return True

    async def release(self, claim: Claim, *, story: Sequence[StoryEntry] = ()) -> None:
        """As the protocol says. A claim that is not written leaves no trace but its story."""
        known = self._claims.get(claim)
        written = known is None or known.above is None or known.tried
        if written or story:

            def rule(seen: Partition) -> Decision[None]:
                document = seen.own.without_claim(claim)
                return Decision(None, document.told(claim.job_arn, story, now=self._clock()))

            await self._partitions.decide(keys.arn_partition(claim.job_arn), rule)
        await self._ended(claim)

    async def job(self, mark: JobMark) -> JobRecord | None:
        """As the protocol says. Of a job on which this process has a claim it is what was known
        when it was claimed, or later: a claim that was lost since finds no other way to write.
        """
        seen = await self._seen(mark.arn)
        return lookups.find(seen.rows, self._target, mark.arn, mark.creation_time)

    async def described(self, job_arn: str) -> Sequence[JobRecord]:
        """As the protocol says, and `job`."""
        arn = job_arn.lower()
        seen = await self._seen(arn)
        return lookups.described(seen.rows, self._target, arn)

    async def begin_write(
        self,
        claim: Claim,
        mark: JobMark,
        job_name: str,
        *,
        lock_name: str,
        project: str = "",
        story: Sequence[StoryEntry] = (),
    ) -> JobRecord:
        """As the protocol says. The lock's lease is the claim's. A lock that another document
        keeps is taken first, and given back if the claim is lost.
        """
        elsewhere = keys.lock_partition(lock_name) != keys.arn_partition(claim.job_arn)

        def rule(document: Document, seen: Partition, now: float) -> Decision[JobRecord]:
            held = rules.require_lease(document.claim_on(claim.job_arn), claim, now=now)
            if not elsewhere:
                lock = NameLockRow(lock_name, claim, held.lease_until)
                document = self._locked(document, lock, now)
            document, row = self._changed(
                document,
                seen,
                mark.arn,
                mark.creation_time,
                job_name,
                rules.begin_write,
                now,
                project,
            )
            return Decision(row, document.told(mark.arn, story, now=now))

        if not elsewhere:
            return await self._decide(claim, rule)
        await self._lock_elsewhere(claim, lock_name, await self._lease_until(claim))
        try:
            return await self._decide(claim, rule)
        except LeaseLost:
            await self._unlock_elsewhere(claim, lock_name)
            raise

    async def note_steps(
        self,
        claim: Claim,
        mark: JobMark,
        steps: Mapping[str, str],
        *,
        story: Sequence[StoryEntry] = (),
    ) -> None:
        def rule(document: Document, seen: Partition, now: float) -> Decision[None]:
            rules.require_lease(document.claim_on(claim.job_arn), claim, now=now)
            known = lookups.find(seen.rows, self._target, mark.arn, mark.creation_time)
            document = document.with_row(rules.note_steps(known, claim, steps, now=now))
            return Decision(None, document.told(mark.arn, story, now=now))

        await self._decide(claim, rule)

    async def take_writer_lease(
        self, server_id: str, lease_seconds: float, *, grace_seconds: float
    ) -> WriterLease | WriterElsewhere:
        return await self._writers.take(server_id, lease_seconds, grace_seconds=grace_seconds)

    async def renew_writer_lease(self, lease: WriterLease, lease_seconds: float) -> bool:
        return await self._writers.renew(lease, lease_seconds)

    async def release_writer_lease(self, lease: WriterLease) -> None:
        await self._writers.release(lease)

    async def lock_name(self, claim: Claim, name: str, lease_seconds: float) -> None:
        """As the protocol says. A claim that is not written is written first."""
        elsewhere = keys.lock_partition(name) != keys.arn_partition(claim.job_arn)

        def rule(document: Document, _seen: Partition, now: float) -> Decision[None]:
            rules.require_lease(document.claim_on(claim.job_arn), claim, now=now)
            if not elsewhere:
                lock = NameLockRow(name, claim, now + lease_seconds)
                document = self._locked(document, lock, now)
            return Decision(None, document, certain=elsewhere)

        await self._decide(claim, rule)
        if elsewhere:
            await self._lock_elsewhere(claim, name, self._clock() + lease_seconds)

    async def unlock_name(self, claim: Claim, name: str) -> None:
        await self._partitions.decide(
            keys.lock_partition(name),
            lambda seen: Decision(None, seen.own.without_lock(claim, name)),
        )
        known = self._claims.get(claim)
        if known is not None:
            known.locks.discard(name)

    async def record_synced(
        self,
        claim: Claim,
        mark: JobMark,
        job_name: str,
        *,
        reason: Reason,
        detail: str,
        target_ids: Mapping[str, str],
        message_id: str,
        project: str = "",
        story: Sequence[StoryEntry] = (),
    ) -> None:
        change = partial(
            rules.record_synced,
            reason=reason,
            detail=detail,
            target_ids=target_ids,
            message_id=message_id,
        )

        def rule(document: Document, seen: Partition, now: float) -> Decision[None]:
            known = lookups.find(seen.rows, self._target, mark.arn, mark.creation_time)
            if not rules.may_record_synced(document.claim_on(claim.job_arn), claim, known):
                return Decision(None)
            document, _ = self._changed(
                document, seen, mark.arn, mark.creation_time, job_name, change, now, project
            )
            document = document.told(mark.arn, story, now=now)
            return Decision(None, document.without_claim(claim))

        await self._use.note_at_times()
        await self._decide(claim, rule)
        await self._ended(claim)

    async def record_skipped(
        self,
        claim: Claim,
        mark: JobMark,
        job_name: str,
        *,
        reason: Reason,
        message_id: str,
        story: Sequence[StoryEntry] = (),
    ) -> None:
        change = partial(rules.record_skipped, reason=reason, message_id=message_id)

        await self._end(claim, mark.creation_time, job_name, change, "", story)

    async def record_rejected(
        self,
        claim: Claim | None,
        mark: JobMark | None,
        job_name: str,
        *,
        job_arn: str,
        reason: Reason,
        detail: str,
        message_id: str,
        unanswered_writes: int | None = None,
        project: str = "",
        story: Sequence[StoryEntry] = (),
    ) -> None:
        """As the protocol says. An ARN without a mark means the row without a creation time. The
        job's row is written first: until the message itself is on record, it is delivered again.
        """
        arn = job_arn.lower() if mark is None else mark.arn
        creation_time = "" if mark is None else mark.creation_time
        change = partial(
            rules.record_rejected,
            reason=reason,
            detail=detail,
            message_id=message_id,
            unanswered_writes=unanswered_writes,
        )

        def rule(seen: Partition) -> Decision[None]:
            now = self._clock()
            document, _ = self._changed(
                seen.own, seen, arn, creation_time, job_name, change, now, project
            )
            return Decision(None, document.told(arn, story, now=now))

        if claim is None:
            if arn:
                await self._partitions.decide(keys.arn_partition(arn), rule)
        elif claim not in self._half_rejected:
            await self._end(claim, creation_time, job_name, change, project, story)
            self._half_rejected.add(claim)
        await self._messages.reject(message_id, job_arn=arn, reason=reason, detail=detail)
        if claim is not None:
            self._half_rejected.discard(claim)

    async def keep_body(self, message_id: str, body: str) -> None:
        await self._messages.keep_body(message_id, body)

    async def record_deferred(
        self,
        claim: Claim,
        mark: JobMark | None,
        job_name: str,
        *,
        reason: Reason,
        detail: str,
        unanswered_writes: int | None,
        message_id: str,
        project: str = "",
        story: Sequence[StoryEntry] = (),
    ) -> None:
        creation_time = "" if mark is None else mark.creation_time
        change = partial(
            rules.record_deferred,
            reason=reason,
            detail=detail,
            unanswered_writes=unanswered_writes,
            message_id=message_id,
        )

        await self._end(claim, creation_time, job_name, change, project, story)

    async def note_story(self, job_arn: str, entries: Sequence[StoryEntry]) -> None:
        arn = job_arn.lower()
        if entries and arn:
            await self._partitions.decide(
                keys.arn_partition(arn),
                lambda seen: Decision(None, seen.own.told(arn, entries, now=self._clock())),
            )

    async def story(self, job_arn: str) -> Sequence[StoryEntry]:
        arn = job_arn.lower()
        seen = await self._partitions.read(keys.arn_partition(arn))
        documents = [seen.own, *(seen.others if self._target == ANY_TARGET else ())]
        stories = [document.stories[arn] for document in documents if arn in document.stories]
        entries = [entry for story in stories for entry in story.entries]
        return sorted(entries, key=lambda entry: entry.at) if len(stories) > 1 else entries

    async def claim_on(self, job_arn: str) -> ClaimedElsewhere | None:
        arn = job_arn.lower()
        seen = await self._partitions.read(keys.arn_partition(arn))
        held, now = self._claims.seen(seen.own, arn), self._clock()
        if held is None or held.lease_until <= now:
            return None
        return ClaimedElsewhere(held.claim.owner, held.lease_until - now)

    async def jobs_named(self, name: str) -> Sequence[JobRecord]:
        is_arn = name.lower().startswith("arn:")
        partition = keys.arn_partition(name) if is_arn else keys.job_partition(name)
        seen = await self._partitions.read(partition)
        return lookups.named(seen.rows, self._target, name)

    async def note(self, name: str) -> str | None:
        return await self._state.note(name)

    async def notes(self, prefix: str) -> Mapping[str, str]:
        return await self._state.notes(prefix)

    async def put_note(self, name: str, value: str | None, claim: Claim | None = None) -> None:
        """As the protocol says. The claim is checked, then the note is written, unless the claim's
        next holder has written it meanwhile.
        """
        if claim is not None:
            await self._require_in_writing(claim)
        await self._state.put_note(name, value, claim)

    async def _require_in_writing(self, claim: Claim) -> None:
        """Writes a claim that is not written yet.

        Raises:
            LeaseLost: the claim is lost, or its lease is over.
        """

        def rule(document: Document, _seen: Partition, now: float) -> Decision[None]:
            rules.require_lease(document.claim_on(claim.job_arn), claim, now=now)
            return Decision(None, document)

        await self._decide(claim, rule)

    async def record_enqueued(self, jobs: Sequence[EnqueuedJob]) -> None:
        await each_of(self._record_enqueued(job) for job in jobs)

    async def _record_enqueued(self, job: EnqueuedJob) -> None:
        arn = job.job_arn.lower()

        def rule(seen: Partition) -> Decision[None]:
            now, document = self._clock(), seen.own
            rows = lookups.described(seen.rows, self._target, arn)
            known = rules.row_of(rows, job.creation_time)
            if rules.may_enqueue(known, job):
                created = job.creation_time if known is None else known.creation_time
                change = partial(rules.record_enqueued, job=job)
                document, _ = self._changed(document, seen, arn, created, job.job_name, change, now)
            entry = rules.enqueued_entry(job, now=now)
            return Decision(None, document.told(arn, [entry], now=now))

        await self._partitions.decide(keys.arn_partition(arn), rule)

    async def watch(self, jobs: Sequence[WatchedJob]) -> None:
        await self._state.watch(jobs)

    async def unwatch(self, job_arns: Sequence[str]) -> None:
        await self._state.unwatch(job_arns)

    async def watched(self, limit: int, not_after: float) -> Sequence[WatchedJob]:
        return await self._state.watched(limit, not_after)

    async def watching(self, job_arn: str) -> Sequence[WatchedJob]:
        return await self._state.watching(job_arn.lower())

    async def ask(self, job: str, *, force: bool) -> SyncRequest:
        return await self._state.ask(job, force=force)

    async def take_request(self, *, lease_seconds: float) -> SyncRequest | None:
        return await self._state.take(lease_seconds=lease_seconds)

    async def renew_request(
        self, request_id: str, *, lease_seconds: float, progress: str = "", begun: bool = False
    ) -> bool:
        return await self._state.renew(
            request_id, lease_seconds=lease_seconds, progress=progress, begun=begun
        )

    async def give_back_request(self, request_id: str) -> None:
        await self._state.give_back(request_id)

    async def answer_request(self, request_id: str, answer: str) -> bool:
        return await self._state.answer(request_id, answer)

    async def request(self, request_id: str) -> SyncRequest | None:
        return await self._state.request(request_id)

    async def requests_about(self, job: str) -> Sequence[SyncRequest]:
        return await self._state.requests_about(job)

    async def withdraw(self, request_id: str) -> bool:
        return await self._state.withdraw(request_id)

    async def history(self, wanted: HistoryFilter) -> Sequence[JobRecord]:
        return await history.history(self._table, wanted)

    async def rejected_messages(self, limit: int = 1000) -> Sequence[RejectedMessage]:
        return await self._messages.newest(limit)

    async def rejected_message(self, message_id: str) -> RejectedMessage | None:
        return await self._messages.find(message_id)

    async def rejected_about(self, job_arn: str) -> Sequence[RejectedMessage]:
        return await self._messages.about(job_arn.lower())

    async def forget_body(self, message_id: str) -> None:
        await self._messages.forget_body(message_id)

    async def row_counts(self) -> Mapping[str, int]:
        return await history.row_counts(self._table)

    async def job_counts(self) -> Mapping[TargetPlace, int]:
        return await history.job_counts(self._table, self._target)

    async def prune(self, older_than: float) -> int:
        """As the protocol says. Nothing where the table deletes by itself."""
        if self._expires:
            return 0
        jobs = await self._pruning.jobs(older_than, now=self._clock())
        messages = await self._pruning.messages(older_than)
        return jobs + messages + await self._state.prune(older_than)

    async def probe(self) -> None:
        await self._use.note()

    async def aclose(self) -> None:
        """Gives back what this process holds; ignores faults of the table, which its leases
        outlast.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                for what in (self._release_all, self._state.give_back_all, self._writers.end_all):
                    with contextlib.suppress(EdgeFault):
                        await what()
        await self._table.aclose()

    async def _release_all(self) -> None:
        await each_of(self.release(held.claim) for held in self._claims.all())

    async def _seen(self, job_arn: str) -> Partition:
        """The documents of a job: as they are remembered, if this process has a claim on it."""
        partition = keys.arn_partition(job_arn)
        known = self._partitions.known(partition) if self._claims.has(job_arn) else None
        return await self._partitions.read(partition) if known is None else known

    async def _decide(
        self, claim: Claim, rule: Callable[[Document, Partition, float], Decision[T]]
    ) -> T:
        """Carries out a decision of a claim's holder. A claim that is not written is written with
        it.
        """
        known = self._claims.get(claim)

        def with_claim(seen: Partition) -> Decision[T]:
            return rule(self._claims.taken(seen.own, claim), seen, self._clock())

        if known is not None:
            known.tried = True
        answer = await self._partitions.decide(keys.arn_partition(claim.job_arn), with_claim)
        self._claims.written(claim)
        return answer

    async def _end(
        self,
        claim: Claim,
        creation_time: str,
        job_name: str,
        change: _Change,
        project: str,
        story: Sequence[StoryEntry],
    ) -> None:
        """Changes a claimed job's row and ends the claim."""

        def rule(document: Document, seen: Partition, now: float) -> Decision[None]:
            rules.require_lease(document.claim_on(claim.job_arn), claim, now=now)
            document, _ = self._changed(
                document, seen, claim.job_arn, creation_time, job_name, change, now, project
            )
            document = document.told(claim.job_arn, story, now=now)
            return Decision(None, document.without_claim(claim))

        await self._use.note_at_times()
        await self._decide(claim, rule)
        await self._ended(claim)

    async def _ended(self, claim: Claim) -> None:
        """A claim that has ended: its locks in other documents end, too."""
        known = self._claims.forget(claim)
        for name in list(known.locks) if known is not None else ():
            await self._unlock_elsewhere(claim, name)

    def _locked(self, document: Document, wanted: NameLockRow, now: float) -> Document:
        """The document with a lock.

        Raises:
            NameLocked: another claim has it.
        """
        held = self._claims.seen_lock(document.locks.get(wanted.name))
        return document.with_lock(rules.lock_name(held, wanted, now=now, holder_gone=False))

    async def _lease_until(self, claim: Claim) -> float:
        """The end of a claim's lease.

        Raises:
            LeaseLost: the claim is lost, or its lease is over.
        """

        def rule(seen: Partition) -> Decision[float]:
            held = self._claims.taken(seen.own, claim).claim_on(claim.job_arn)
            required = rules.require_lease(held, claim, now=self._clock())
            return Decision(required.lease_until, certain=True)

        return await self._partitions.decide(keys.arn_partition(claim.job_arn), rule)

    async def _renew_lock(self, claim: Claim, name: str, lease_until: float) -> None:
        """Renews a lock that another document than the job's keeps, unless the claim has it no
        more: it may be given back meanwhile, and would then stay until its lease ends.
        """

        def rule(seen: Partition) -> Decision[None]:
            held = seen.own.locks.get(name)
            if held is None or held.claim != claim:
                return Decision(None)
            return Decision(None, seen.own.with_lock(NameLockRow(name, claim, lease_until)))

        await self._partitions.decide(keys.lock_partition(name), rule)

    async def _lock_elsewhere(self, claim: Claim, name: str, lease_until: float) -> None:
        """Takes a lock that another document than the job's keeps.

        Raises:
            NameLocked: another claim has it.
        """
        known = self._claims.get(claim)
        if known is not None:
            known.locks.add(name)
        lock = NameLockRow(name, claim, lease_until)
        try:
            await self._partitions.decide(
                keys.lock_partition(name),
                lambda seen: Decision(None, self._locked(seen.own, lock, self._clock())),
            )
        except JobFault:
            if known is not None:
                known.locks.discard(name)
            raise

    async def _unlock_elsewhere(self, claim: Claim, name: str) -> None:
        """Gives back a lock; after a fault it ends with its lease."""
        with contextlib.suppress(EdgeFault):
            await self.unlock_name(claim, name)

    def _changed(
        self,
        document: Document,
        seen: Partition,
        job_arn: str,
        creation_time: str,
        job_name: str,
        change: _Change,
        now: float,
        project: str = "",
    ) -> tuple[Document, JobRecord]:
        """A document with a job's row as a rule changes it, and the row."""
        known = lookups.find(seen.rows, self._target, job_arn, creation_time)
        undescribed = lookups.find(seen.rows, self._target, job_arn, "")
        row = rules.job_row(
            known,
            undescribed,
            target=self._target,
            job_arn=job_arn,
            creation_time=creation_time,
            job_name=job_name,
            now=now,
        )
        if undescribed is not None and rules.absorbs(row, undescribed):
            document = document.without_row(undescribed)
        for other in lookups.enqueued(seen.rows, self._target, job_arn):
            if rules.absorbs_enqueued(row, other):
                document = document.without_row(other)
        row = rules.with_project(change(row, now=now), project)
        return document.with_row(row), row

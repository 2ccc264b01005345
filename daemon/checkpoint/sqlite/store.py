"""The checkpoint in one SQLite file, for all processes of one host (the daemon and the command line
beside it).

Executes `daemon.checkpoint.rules`, each call in one transaction;
`daemon.checkpoint.sqlite.process_locks` knows which owners are gone. Leases are kept in wall-clock
time, on which processes agree.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from daemon.checkpoint import rules
from daemon.checkpoint.ports import Claim, ClaimedElsewhere, SyncRequest, WriterElsewhere
from daemon.checkpoint.sqlite import (
    claim_rows,
    job_rows,
    note_rows,
    request_rows,
    story_rows,
    watched_rows,
    writer_lease_rows,
)
from daemon.checkpoint.sqlite.database import Database, Operation
from daemon.checkpoint.sqlite.group_commit import GroupCommit
from daemon.clock import wall

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from daemon.checkpoint.ports import (
        EnqueuedJob,
        HistoryFilter,
        JobRecord,
        RejectedMessage,
        WatchedJob,
        WriterLease,
    )
    from daemon.reasons import Reason
    from daemon.story import StoryEntry
    from daemon.targets.place import TargetPlace
    from daemon.training_job.identity import JobMark

T = TypeVar("T")


class _Change(Protocol):
    def __call__(self, row: JobRecord, *, now: float) -> JobRecord: ...


async def open_sqlite_checkpoint(
    path: Path, target: TargetPlace, *, busy_seconds: float = 5.0
) -> SqliteCheckpoint:
    """Opens the checkpoint, creates it where there is none, and releases the claims of processes
    that are gone.

    Args:
        path: of the database; ``-wal``, ``-shm`` and ``.owner-<id>`` files appear beside it, all
            with mode 0600.
        target: as `daemon.checkpoint.registry.open_checkpoint`.
        busy_seconds: how long a call waits while another process writes.

    Raises:
        SetupFault: the file cannot be used (damaged, not ours, newer than this program, not
            writable); says what to do.
    """
    database = Database(path, target, busy_seconds=busy_seconds)
    commits = GroupCommit(database)
    await commits.open()
    return SqliteCheckpoint(database, commits)


class SqliteCheckpoint:
    """A `Checkpoint`; see `open_sqlite_checkpoint`. Every call may raise `EdgeFault`."""

    def __init__(self, database: Database, commits: GroupCommit) -> None:
        self._database = database
        self._owners = database.owners
        self._commits = commits

    @property
    def target(self) -> TargetPlace:
        return self._database.target

    @property
    def owner(self) -> str:
        return self._owners.me

    @property
    def created_at(self) -> float:
        return self._database.created_at

    @property
    def opened_at(self) -> float:
        return self._database.opened_at

    async def claim(
        self, job_arn: str, lease_seconds: float, *, at_once: bool = True
    ) -> Claim | ClaimedElsewhere:
        """As the protocol says, and always at once: that costs no more."""
        del at_once

        def operation(connection: sqlite3.Connection) -> Claim | ClaimedElsewhere:
            held = claim_rows.find(connection, self.target, job_arn.lower())
            now = wall()
            row = rules.claim(
                held,
                Claim(job_arn.lower(), self._owners.me, claim_rows.new_fence(connection)),
                now=now,
                lease_until=now + lease_seconds,
                holder_gone=held is not None
                and self._owners.release_if_gone(connection, held.claim.owner),
            )
            if isinstance(row, ClaimedElsewhere):
                return row
            claim_rows.put(connection, self.target, row)
            return row.claim

        return await self._write(operation)

    async def renew(self, claims: Sequence[Claim], lease_seconds: float) -> Sequence[Claim]:
        def operation(connection: sqlite3.Connection) -> list[Claim]:
            lost = []
            lease_until = wall() + lease_seconds
            for claim in claims:
                held = claim_rows.find(connection, self.target, claim.job_arn)
                row = rules.renew(held, claim, lease_until=lease_until)
                if row is None:
                    lost.append(claim)
                else:
                    claim_rows.put(connection, self.target, row)
            return lost

        return await self._write(operation)

    async def release(self, claim: Claim, *, story: Sequence[StoryEntry] = ()) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            claim_rows.delete(connection, claim)
            self._tell(connection, claim.job_arn, story, wall())

        await self._write(operation)

    async def job(self, mark: JobMark) -> JobRecord | None:
        return await self._read(
            lambda connection: job_rows.find(connection, self.target, mark.arn, mark.creation_time)
        )

    async def described(self, job_arn: str) -> Sequence[JobRecord]:
        return await self._read(
            lambda connection: job_rows.described(connection, self.target, job_arn.lower())
        )

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
        """As the protocol says. The lock's lease is the claim's."""

        def operation(connection: sqlite3.Connection) -> JobRecord:
            now = wall()
            held = self._require_lease(connection, claim, now)
            lock = rules.NameLockRow(lock_name, claim, held.lease_until)
            self._lock(connection, lock, now)
            self._tell(connection, mark.arn, story, now)
            return self._change(
                connection, mark.arn, mark.creation_time, job_name, rules.begin_write, now, project
            )

        return await self._write(operation)

    async def note_steps(
        self,
        claim: Claim,
        mark: JobMark,
        steps: Mapping[str, str],
        *,
        story: Sequence[StoryEntry] = (),
    ) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            now = wall()
            self._require_lease(connection, claim, now)
            known = job_rows.find(connection, self.target, mark.arn, mark.creation_time)
            job_rows.put(connection, rules.note_steps(known, claim, steps, now=now))
            self._tell(connection, mark.arn, story, now)

        await self._write(operation)

    async def take_writer_lease(
        self, server_id: str, lease_seconds: float, *, grace_seconds: float
    ) -> WriterLease | WriterElsewhere:
        def operation(connection: sqlite3.Connection) -> WriterLease | WriterElsewhere:
            held = writer_lease_rows.find(connection, server_id)
            if held is not None and self._owners.release_if_gone(connection, held.lease.owner):
                held = writer_lease_rows.find(connection, server_id)  # ended meanwhile
            row = rules.take_writer_lease(
                held,
                server_id,
                self._owners.me,
                now=wall(),
                lease_seconds=lease_seconds,
                grace_seconds=grace_seconds,
            )
            if isinstance(row, WriterElsewhere):
                return row
            writer_lease_rows.put(connection, row)
            return row.lease

        return await self._write(operation)

    async def renew_writer_lease(self, lease: WriterLease, lease_seconds: float) -> bool:
        def operation(connection: sqlite3.Connection) -> bool:
            held = writer_lease_rows.find(connection, lease.server_id)
            row = rules.renew_writer_lease(held, lease, lease_until=wall() + lease_seconds)
            if row is not None:
                writer_lease_rows.put(connection, row)
            return row is not None

        return await self._write(operation)

    async def release_writer_lease(self, lease: WriterLease) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            held = writer_lease_rows.find(connection, lease.server_id)
            row = rules.release_writer_lease(held, lease)
            if row is not None:
                writer_lease_rows.put(connection, row)

        await self._write(operation)

    async def lock_name(self, claim: Claim, name: str, lease_seconds: float) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            now = wall()
            self._require_lease(connection, claim, now)
            self._lock(connection, rules.NameLockRow(name, claim, now + lease_seconds), now)

        await self._write(operation)

    async def unlock_name(self, claim: Claim, name: str) -> None:
        await self._write(lambda connection: claim_rows.delete_lock(connection, claim, name))

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

        def operation(connection: sqlite3.Connection) -> None:
            held = claim_rows.find(connection, self.target, claim.job_arn)
            known = job_rows.find(connection, self.target, mark.arn, mark.creation_time)
            if not rules.may_record_synced(held, claim, known):
                return
            now = wall()
            self._change(connection, mark.arn, mark.creation_time, job_name, change, now, project)
            self._tell(connection, mark.arn, story, now)
            claim_rows.delete(connection, claim)

        await self._write(operation)

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
        """As the protocol says. An ARN without a mark means the row without a creation time."""
        arn = job_arn.lower() if mark is None else mark.arn
        creation_time = "" if mark is None else mark.creation_time
        change = partial(
            rules.record_rejected,
            reason=reason,
            detail=detail,
            message_id=message_id,
            unanswered_writes=unanswered_writes,
        )

        def operation(connection: sqlite3.Connection) -> None:
            now = wall()
            if claim is not None:
                self._require_lease(connection, claim, now)
            if arn:
                self._change(connection, arn, creation_time, job_name, change, now, project)
                self._tell(connection, arn, story, now)
            known = job_rows.find_message(connection, message_id)
            message = rules.reject_message(
                known, message_id, job_arn=arn, reason=reason, detail=detail, now=now
            )
            job_rows.put_message(connection, message)
            if claim is not None:
                claim_rows.delete(connection, claim)

        await self._write(operation)

    async def keep_body(self, message_id: str, body: str) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            known = job_rows.find_message(connection, message_id)
            message = rules.keep_body(known, message_id, body, now=wall())
            job_rows.put_message(connection, message)

        await self._write(operation)

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
        await self._write(
            lambda connection: self._tell(connection, job_arn.lower(), entries, wall())
        )

    async def story(self, job_arn: str) -> Sequence[StoryEntry]:
        return await self._read(
            lambda connection: story_rows.find(connection, self.target, job_arn.lower())
        )

    async def claim_on(self, job_arn: str) -> ClaimedElsewhere | None:
        def operation(connection: sqlite3.Connection) -> ClaimedElsewhere | None:
            held, now = claim_rows.find(connection, self.target, job_arn.lower()), wall()
            if held is None or held.lease_until <= now:
                return None
            return ClaimedElsewhere(held.claim.owner, held.lease_until - now)

        return await self._read(operation)

    async def jobs_named(self, name: str) -> Sequence[JobRecord]:
        return await self._read(lambda connection: job_rows.named(connection, self.target, name))

    async def note(self, name: str) -> str | None:
        return await self._read(lambda connection: note_rows.find(connection, self.target, name))

    async def notes(self, prefix: str) -> Mapping[str, str]:
        return await self._read(
            lambda connection: note_rows.beginning_with(connection, self.target, prefix)
        )

    async def put_note(self, name: str, value: str | None, claim: Claim | None = None) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            now = wall()
            if claim is not None:
                self._require_lease(connection, claim, now)
            if value is None:
                note_rows.delete(connection, self.target, name)
            else:
                note_rows.put(connection, self.target, name, rules.storable(value), now=now)

        await self._write(operation)

    async def record_enqueued(self, jobs: Sequence[EnqueuedJob]) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            now = wall()
            for job in jobs:
                arn = job.job_arn.lower()
                rows = job_rows.described(connection, self.target, arn)
                known = rules.row_of(rows, job.creation_time)
                if rules.may_enqueue(known, job):
                    created = job.creation_time if known is None else known.creation_time
                    change = partial(rules.record_enqueued, job=job)
                    self._change(connection, arn, created, job.job_name, change, now)
                self._tell(connection, arn, [rules.enqueued_entry(job, now=now)], now)

        await self._write(operation)

    async def watch(self, jobs: Sequence[WatchedJob]) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            for each in jobs:
                job = replace(each, job_arn=each.job_arn.lower())
                known = watched_rows.find(connection, self.target, job.job_arn, job.creation_time)
                watched_rows.put(connection, self.target, rules.watch(known, job))

        await self._write(operation)

    async def unwatch(self, job_arns: Sequence[str]) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            for arn in job_arns:
                watched_rows.delete(connection, self.target, arn.lower())

        await self._write(operation)

    async def watched(self, limit: int, not_after: float) -> Sequence[WatchedJob]:
        return await self._read(
            lambda connection: watched_rows.due(connection, self.target, limit, not_after)
        )

    async def watching(self, job_arn: str) -> Sequence[WatchedJob]:
        return await self._read(
            lambda connection: watched_rows.of_arn(connection, self.target, job_arn.lower())
        )

    async def ask(self, job: str, *, force: bool) -> SyncRequest:
        request = SyncRequest(uuid.uuid4().hex, rules.storable(job), force, wall())
        await self._write(
            lambda connection: request_rows.put(
                connection, self.target, rules.RequestRow(request, 0.0)
            )
        )
        return request

    async def take_request(self, *, lease_seconds: float) -> SyncRequest | None:
        def operation(connection: sqlite3.Connection) -> SyncRequest | None:
            now = wall()
            for held in request_rows.unanswered(connection, self.target):
                taker = held.request.taken_by
                row = rules.take_request(
                    held,
                    self._owners.me,
                    now=now,
                    lease_until=now + lease_seconds,
                    taker_gone=bool(taker) and self._owners.release_if_gone(connection, taker),
                )
                if row is not None:
                    request_rows.put(connection, self.target, row)
                    return row.request
            return None

        # asked every second: only a request is worth a transaction that writes
        waiting = await self._read(
            lambda connection: request_rows.unanswered(connection, self.target)
        )
        return await self._write(operation) if waiting else None

    async def renew_request(
        self, request_id: str, *, lease_seconds: float, progress: str = "", begun: bool = False
    ) -> bool:
        return await self._change_request(
            request_id,
            lambda held: rules.renew_request(
                held,
                self._owners.me,
                lease_until=wall() + lease_seconds,
                progress=progress,
                begun=begun,
            ),
        )

    async def give_back_request(self, request_id: str) -> None:
        await self._change_request(
            request_id, lambda held: rules.give_back_request(held, self._owners.me)
        )

    async def answer_request(self, request_id: str, answer: str) -> bool:
        return await self._change_request(
            request_id, lambda held: rules.answer_request(held, self._owners.me, answer)
        )

    async def _change_request(
        self,
        request_id: str,
        change: Callable[[rules.RequestRow | None], rules.RequestRow | None],
    ) -> bool:
        """Stores what `change` makes of a request; False: nothing."""

        def operation(connection: sqlite3.Connection) -> bool:
            row = change(request_rows.find(connection, self.target, request_id))
            if row is not None:
                request_rows.put(connection, self.target, row)
            return row is not None

        return await self._write(operation)

    async def request(self, request_id: str) -> SyncRequest | None:
        row = await self._read(
            lambda connection: request_rows.find(connection, self.target, request_id)
        )
        return None if row is None else rules.seen_request(row, now=wall())

    async def requests_about(self, job: str) -> Sequence[SyncRequest]:
        rows = await self._read(lambda connection: request_rows.about(connection, self.target, job))
        return [row.request for row in rows]

    async def withdraw(self, request_id: str) -> bool:
        def operation(connection: sqlite3.Connection) -> bool:
            withdrawn = rules.may_withdraw(request_rows.find(connection, self.target, request_id))
            if withdrawn:
                request_rows.delete(connection, request_id)
            return withdrawn

        return await self._write(operation)

    async def history(self, wanted: HistoryFilter) -> Sequence[JobRecord]:
        return await self._read(lambda connection: job_rows.history(connection, wanted))

    async def rejected_messages(self, limit: int = 1000) -> Sequence[RejectedMessage]:
        return await self._read(lambda connection: job_rows.messages(connection, limit))

    async def rejected_message(self, message_id: str) -> RejectedMessage | None:
        return await self._read(lambda connection: job_rows.find_message(connection, message_id))

    async def rejected_about(self, job_arn: str) -> Sequence[RejectedMessage]:
        return await self._read(
            lambda connection: job_rows.messages_about(connection, job_arn.lower())
        )

    async def forget_body(self, message_id: str) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            known = job_rows.find_message(connection, message_id)
            if known is not None:
                job_rows.put_message(connection, rules.forget_body(known))

        await self._write(operation)

    async def row_counts(self) -> Mapping[str, int]:
        return await self._read(job_rows.counts)

    async def job_counts(self) -> Mapping[TargetPlace, int]:
        return await self._read(job_rows.counts_by_target)

    async def prune(self, older_than: float) -> int:
        return await self._write(lambda connection: job_rows.prune(connection, older_than))

    async def probe(self) -> None:
        await self._write(self._database.prove_writable)

    async def aclose(self) -> None:
        await self._commits.aclose()

    async def _write(self, run: Callable[[sqlite3.Connection], T]) -> T:
        return await self._commits.run(Operation(run))

    async def _read(self, run: Callable[[sqlite3.Connection], T]) -> T:
        return await self._commits.run(Operation(run, writes=False))

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

        def operation(connection: sqlite3.Connection) -> None:
            now = wall()
            self._require_lease(connection, claim, now)
            self._change(connection, claim.job_arn, creation_time, job_name, change, now, project)
            self._tell(connection, claim.job_arn, story, now)
            claim_rows.delete(connection, claim)

        await self._write(operation)

    def _tell(
        self,
        connection: sqlite3.Connection,
        job_arn: str,
        story: Sequence[StoryEntry],
        now: float,
    ) -> None:
        story_rows.add(connection, self.target, job_arn, story, now=now)

    def _require_lease(
        self, connection: sqlite3.Connection, claim: Claim, now: float
    ) -> rules.ClaimRow:
        return rules.require_lease(
            claim_rows.find(connection, self.target, claim.job_arn), claim, now=now
        )

    def _lock(self, connection: sqlite3.Connection, wanted: rules.NameLockRow, now: float) -> None:
        held = claim_rows.find_lock(connection, self.target, wanted.name)
        gone = held is not None and self._owners.release_if_gone(connection, held.claim.owner)
        row = rules.lock_name(held, wanted, now=now, holder_gone=gone)
        claim_rows.put_lock(connection, self.target, row)

    def _change(
        self,
        connection: sqlite3.Connection,
        job_arn: str,
        creation_time: str,
        job_name: str,
        change: _Change,
        now: float,
        project: str = "",
    ) -> JobRecord:
        """Writes a job's row as a rule changes it."""
        known = job_rows.find(connection, self.target, job_arn, creation_time)
        undescribed = job_rows.find(connection, self.target, job_arn, "")
        row = rules.job_row(
            known,
            undescribed,
            target=self.target,
            job_arn=job_arn,
            creation_time=creation_time,
            job_name=job_name,
            now=now,
        )
        if undescribed is not None and rules.absorbs(row, undescribed):
            job_rows.delete(connection, undescribed)
        for other in job_rows.enqueued(connection, self.target, job_arn):
            if rules.absorbs_enqueued(row, other):
                job_rows.delete(connection, other)
        row = rules.with_project(change(row, now=now), project)
        if known is not None and rules.takes_over(row, known):
            job_rows.delete(connection, known)
        job_rows.put(connection, row)
        return row

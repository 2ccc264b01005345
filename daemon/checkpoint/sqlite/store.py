"""The checkpoint in one SQLite file, for all processes of one host (the daemon and the command line
beside it).

`daemon.checkpoint.ports` has the states and rules; `daemon.checkpoint.sqlite.process_locks` says
who counts as alive. Times are those of the wall clock, for processes must agree on them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from daemon.checkpoint.ports import JobState, LeaseLost, lost_among
from daemon.checkpoint.sqlite import claim_rows, job_rows, writer_lease_rows
from daemon.checkpoint.sqlite.database import Database, Operation
from daemon.checkpoint.sqlite.group_commit import GroupCommit
from daemon.clock import wall

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from daemon.checkpoint.ports import (
        Claim,
        ClaimedElsewhere,
        HistoryFilter,
        JobRecord,
        RejectedMessage,
        WriterElsewhere,
        WriterLease,
    )
    from daemon.outcome import Reason
    from daemon.training_job.identity import JobMark

T = TypeVar("T")

_NEVER_SKIPPED = frozenset({JobState.SYNCED, JobState.REJECTED, JobState.WRITING})


async def open_sqlite_checkpoint(
    path: Path, *, clock: Callable[[], float] = wall, busy_seconds: float = 5.0
) -> SqliteCheckpoint:
    """Opens the checkpoint, makes it where there is none, and takes over the claims of processes
    that are gone.

    Args:
        path: of the database; ``-wal``, ``-shm`` and ``.owner-<id>`` files appear beside it, all
            for this user alone.
        clock: epoch seconds.
        busy_seconds: how long a call waits while another process writes.

    Raises:
        SetupFault: the file cannot be used (damaged, not ours, newer than this program, not
            writable); says what to do.
    """
    database = Database(path, clock=clock, busy_seconds=busy_seconds)
    commits = GroupCommit(database)
    await commits.open()
    return SqliteCheckpoint(database, commits, clock)


class SqliteCheckpoint:
    """A `Checkpoint`; see `open_sqlite_checkpoint`. Every call may raise `EdgeFault`: the storage
    failed.
    """

    def __init__(
        self, database: Database, commits: GroupCommit, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._owners = database.owners
        self._commits = commits
        self._clock = clock

    @property
    def created_at(self) -> float:
        return self._database.created_at

    async def claim(self, job_arn: str, lease_seconds: float) -> Claim | ClaimedElsewhere:
        def operation(connection: sqlite3.Connection) -> Claim | ClaimedElsewhere:
            return claim_rows.take(
                connection,
                self._owners,
                job_arn.lower(),
                now=self._clock(),
                lease_seconds=lease_seconds,
            )

        return await self._write(operation)

    async def renew(self, claims: Sequence[Claim], lease_seconds: float) -> Sequence[Claim]:
        def operation(connection: sqlite3.Connection) -> list[Claim]:
            lease_until = self._clock() + lease_seconds
            held = [
                claim
                for claim in claims
                if claim_rows.extend(connection, claim, lease_until=lease_until)
            ]
            return lost_among(claims, {(claim.job_arn, claim.fence) for claim in held})

        return await self._write(operation)

    async def release(self, claim: Claim) -> None:
        await self._write(lambda connection: claim_rows.end(connection, claim))

    async def job(self, mark: JobMark) -> JobRecord | None:
        return await self._read(
            lambda connection: job_rows.find(connection, mark.arn, mark.creation_time)
        )

    async def described(self, job_arn: str) -> Sequence[JobRecord]:
        return await self._read(lambda connection: job_rows.described(connection, job_arn.lower()))

    async def begin_write(
        self, claim: Claim, mark: JobMark, job_name: str, *, target: str, lock_name: str
    ) -> JobRecord:
        """As the protocol says. The lock's lease is the claim's.

        A row that is synced becomes "writing" too: who writes again (a forced sync) must leave the
        intent like anybody else.
        """

        def operation(connection: sqlite3.Connection) -> JobRecord:
            now = self._clock()
            lease_until = claim_rows.require_lease(connection, claim, now=now)
            claim_rows.take_lock(
                connection, self._owners, claim, lock_name, now=now, lease_until=lease_until
            )
            record = job_rows.begin(connection, mark.arn, mark.creation_time, job_name, now=now)
            record = replace(
                record,
                state=JobState.WRITING,
                reason="",
                detail="",
                unanswered_writes=record.unanswered_writes + 1,
                target=target,
                updated_at=now,
            )
            job_rows.put(connection, record)
            return record

        return await self._write(operation)

    async def note_steps(self, claim: Claim, mark: JobMark, steps: Mapping[str, str]) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            now = self._clock()
            claim_rows.require_lease(connection, claim, now=now)
            record = job_rows.find(connection, mark.arn, mark.creation_time)
            if record is None or record.state is not JobState.WRITING:
                raise LeaseLost(claim.job_arn)  # the row is another's now
            job_rows.put(
                connection, replace(record, steps={**record.steps, **steps}, updated_at=now)
            )

        await self._write(operation)

    async def take_writer_lease(
        self, server_id: str, lease_seconds: float, *, grace_seconds: float
    ) -> WriterLease | WriterElsewhere:
        def operation(connection: sqlite3.Connection) -> WriterLease | WriterElsewhere:
            return writer_lease_rows.take(
                connection,
                self._owners,
                server_id,
                now=self._clock(),
                lease_seconds=lease_seconds,
                grace_seconds=grace_seconds,
            )

        return await self._write(operation)

    async def renew_writer_lease(self, lease: WriterLease, lease_seconds: float) -> bool:
        return await self._write(
            lambda connection: writer_lease_rows.renew(
                connection, lease, lease_until=self._clock() + lease_seconds
            )
        )

    async def release_writer_lease(self, lease: WriterLease) -> None:
        await self._write(lambda connection: writer_lease_rows.release(connection, lease))

    async def lock_name(self, claim: Claim, name: str, lease_seconds: float) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            now = self._clock()
            claim_rows.require_lease(connection, claim, now=now)
            claim_rows.take_lock(
                connection, self._owners, claim, name, now=now, lease_until=now + lease_seconds
            )

        await self._write(operation)

    async def unlock_name(self, claim: Claim, name: str) -> None:
        await self._write(lambda connection: claim_rows.unlock(connection, claim, name))

    async def record_synced(
        self,
        claim: Claim,
        mark: JobMark,
        job_name: str,
        *,
        reason: Reason,
        detail: str,
        target: str,
        target_ids: Mapping[str, str],
        message_id: str,
    ) -> None:
        """As the protocol says. A lease that has run out is no hindrance while nobody took the
        claim: the run is a fact.
        """

        def operation(connection: sqlite3.Connection) -> None:
            if claim_rows.lease_of(connection, claim) is None:
                known = job_rows.find(connection, mark.arn, mark.creation_time)
                if known is not None and known.state is JobState.SYNCED:
                    return
                raise LeaseLost(claim.job_arn)
            now = self._clock()
            record = replace(
                job_rows.begin(connection, mark.arn, mark.creation_time, job_name, now=now),
                state=JobState.SYNCED,
                reason=reason,
                detail=detail,
                unanswered_writes=0,
                target=target,
                target_ids=target_ids,
                message_id=message_id,
                updated_at=now,
                steps={},
            )
            job_rows.put(connection, record)
            claim_rows.end(connection, claim)

        await self._write(operation)

    async def record_skipped(
        self, claim: Claim, mark: JobMark, job_name: str, *, reason: Reason, message_id: str
    ) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            now = self._clock()
            claim_rows.require_lease(connection, claim, now=now)
            record = job_rows.begin(connection, mark.arn, mark.creation_time, job_name, now=now)
            if record.state not in _NEVER_SKIPPED:
                record = replace(
                    record,
                    state=JobState.SKIPPED,
                    reason=reason,
                    detail="",
                    message_id=message_id,
                    updated_at=now,
                )
            job_rows.put(connection, record)
            claim_rows.end(connection, claim)

        await self._write(operation)

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
    ) -> None:
        """As the protocol says. Without a mark but with an ARN, the row is that of the job before
        it could be described.

        Unanswered writes stay counted, so that a later attempt still asks the target first.
        """
        creation_time = "" if mark is None else mark.creation_time
        arn = job_arn.lower() if mark is None else mark.arn

        def operation(connection: sqlite3.Connection) -> None:
            now = self._clock()
            if claim is not None:
                claim_rows.require_lease(connection, claim, now=now)
            if arn:
                record = job_rows.begin(connection, arn, creation_time, job_name, now=now)
                if record.state is not JobState.SYNCED:
                    record = replace(
                        record,
                        state=JobState.REJECTED,
                        reason=reason,
                        detail=detail,
                        unanswered_writes=record.unanswered_writes
                        if unanswered_writes is None
                        else unanswered_writes,
                        message_id=message_id,
                        updated_at=now,
                    )
                job_rows.put(connection, record)
            job_rows.put_message(
                connection, message_id, job_arn=arn, reason=reason, detail=detail, now=now
            )
            if claim is not None:
                claim_rows.end(connection, claim)

        await self._write(operation)

    async def keep_body(self, message_id: str, body: str) -> None:
        await self._write(
            lambda connection: job_rows.put_body(connection, message_id, body, now=self._clock())
        )

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
    ) -> None:
        """As the protocol says. Reason and detail are kept in a row that stays "writing" too; a
        synced row stays as it is.
        """
        creation_time = "" if mark is None else mark.creation_time

        def operation(connection: sqlite3.Connection) -> None:
            now = self._clock()
            claim_rows.require_lease(connection, claim, now=now)
            record = job_rows.begin(connection, claim.job_arn, creation_time, job_name, now=now)
            if record.state is not JobState.SYNCED:
                unanswered = (
                    record.unanswered_writes if unanswered_writes is None else unanswered_writes
                )
                record = replace(
                    record,
                    state=JobState.WRITING if unanswered else JobState.RELEASED,
                    reason=reason,
                    detail=detail,
                    attempts=record.attempts + 1,
                    unanswered_writes=unanswered,
                    message_id=message_id,
                    updated_at=now,
                )
            job_rows.put(connection, record)
            claim_rows.end(connection, claim)

        await self._write(operation)

    async def history(self, wanted: HistoryFilter) -> Sequence[JobRecord]:
        return await self._read(lambda connection: job_rows.history(connection, wanted))

    async def rejected_messages(self, limit: int = 1000) -> Sequence[RejectedMessage]:
        return await self._read(lambda connection: job_rows.messages(connection, limit))

    async def row_counts(self) -> Mapping[str, int]:
        return await self._read(job_rows.counts)

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

"""The target ModelDB V1: wiring, and failed calls as faults. `job_sync` writes a job."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from daemon.errors import DaemonError, EdgeFault, JobFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.job_repair import JobRepair, compared
from daemon.targets.modeldb_v1.job_sync import JobSync
from daemon.targets.modeldb_v1.mapping import map_job, marker_of
from daemon.targets.modeldb_v1.pairing import ForeignDocument, Pairing
from daemon.targets.modeldb_v1.preview import preview
from daemon.targets.modeldb_v1.probe import PENDING_SECONDS, Probe, read_stores
from daemon.targets.modeldb_v1.run_index import RunIndex
from daemon.targets.modeldb_v1.write_session import STAND_BY_SECONDS, WriteSession
from daemon.targets.ports import TargetRun
from daemon.targets.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.modeldb_v1.mapping import MappedJob
    from daemon.targets.modeldb_v1.run_index import FoundRun
    from daemon.targets.modeldb_v1.settings import ModelDbV1Settings
    from daemon.targets.modeldb_v1.write_session import Term
    from daemon.targets.ports import Preview, Repair, WriteJournal, WritePermit
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun

log = structlog.get_logger(__name__)

_OF_THE_EDGE = {
    CallErrorKind.UNREACHABLE: Reason.UNREACHABLE,
    CallErrorKind.STORAGE: Reason.UNAVAILABLE,
    CallErrorKind.METADATA_STORE_DOWN: Reason.UNAVAILABLE,
    CallErrorKind.UNKNOWN_RUN: Reason.UNAVAILABLE,
    CallErrorKind.OTHER_DATABASE: Reason.UNAVAILABLE,
    CallErrorKind.OTHER_WRITER: Reason.OTHER_WRITER,
    CallErrorKind.NOT_THE_API: Reason.NOT_THE_API,
    CallErrorKind.SCHEMA_MISSING: Reason.NOT_THE_API,
}
_NOT_CURABLE = frozenset({CallErrorKind.NOT_THE_API, CallErrorKind.SCHEMA_MISSING})
_REFUSALS = frozenset({CallErrorKind.BAD_VALUE, CallErrorKind.TOO_LARGE})
_CONNECTION_WORTHLESS = frozenset({CallErrorKind.OTHER_WRITER, CallErrorKind.UNKNOWN_RUN})
"""What was read over the connection is no longer reliable."""

_ADVICE = {
    CallErrorKind.OTHER_WRITER: "another program writes to this server and mixes up its rows: "
    "switch off every other writer (the rule of AWS's sample, another daemon without this one's "
    "checkpoint or server_id)",
    CallErrorKind.METADATA_STORE_DOWN: "the server's MongoDB does not answer; if it has none, "
    "set target.metadata_store to false",
    CallErrorKind.SCHEMA_MISSING: "the server's database has no tables: create them with "
    "ModelDB's createDb.sql",
    CallErrorKind.UNKNOWN_RUN: "the server no longer knows a run of its own: has its database "
    "been replaced?",
}


def open_modeldb_v1(
    settings: ModelDbV1Settings, observe: Callable[[str, str], None], permit: WritePermit
) -> ModelDBV1Target:
    """The configured target, not yet connected.

    Args:
        settings: the section ``target``.
        observe: called with (method, result) after each call.
        permit: the writer lease.

    Raises:
        SetupFault: `ca_file` cannot be used.
    """
    connect = partial(
        Connection.open,
        settings.host,
        settings.port,
        ssl_context=tls_context(settings.ca_file) if settings.tls else None,
        observe=observe,
    )
    return ModelDBV1Target(
        connect,
        permit,
        server_id=settings.single_writer.server_id,
        metadata_store=settings.metadata_store,
        call_seconds=settings.timeout_seconds,
        settle_seconds=settings.settle_seconds,
    )


class ModelDBV1Target:
    """A `daemon.targets.ports.Target`.

    Args:
        connect: `Connection.open` with the address.
        permit: the writer lease.
        server_id: the server's name in the checkpoint.
        metadata_store: whether the server has one.
        call_seconds: deadline of one call.
        settle_seconds: how long the server may go on executing requests of a lost connection.
    """

    def __init__(
        self,
        connect: Callable[..., Awaitable[Connection]],
        permit: WritePermit,
        *,
        server_id: str,
        metadata_store: bool,
        call_seconds: float,
        settle_seconds: float,
    ) -> None:
        self._server_id = server_id
        self._metadata_store = metadata_store
        self._pairing = Pairing(lambda: permit.holds)
        self._probe = Probe(
            partial(connect, call_seconds=PENDING_SECONDS),
            call_seconds=call_seconds,
            metadata_store=metadata_store,
            compare=self._pairing.check,
        )
        self._session = WriteSession(
            partial(connect, call_seconds=call_seconds, may_send=permit.may_send),
            permit,
            probe=self._probe.ask,
            read_stores=partial(read_stores, metadata_store=metadata_store),
            settle_seconds=settle_seconds,
        )
        self._connect_to_read = partial(connect, call_seconds=call_seconds)

    @property
    def kind(self) -> str:
        return "modeldb-v1"

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        """See `daemon.targets.ports.Target`.

        Raises:
            JobFault: ``standing_by``: another process is the writer.
        """
        job = map_job(run, metadata_store=self._metadata_store)
        term = await self._settled_term()
        try:
            return await self._job_sync(term, job, journal).sync()
        except CallFailed as failed:
            raise self._session_fault(failed) from failed

    def _job_sync(self, term: Term, job: MappedJob, journal: WriteJournal) -> JobSync:
        return JobSync(
            self._server_id,
            term,
            self._connect_to_read,
            job,
            journal,
            metadata_store=self._metadata_store,
        )

    def preview(self, run: TrainingRun) -> Preview:
        """See `daemon.targets.ports.Target`."""
        return preview(map_job(run, metadata_store=self._metadata_store))

    async def compare(self, run: TrainingRun) -> Repair | None:
        """See `daemon.targets.ports.Target`. Needs no writer lease."""
        job = map_job(run, metadata_store=self._metadata_store)
        try:
            connection = await self._connect_to_read()
            try:
                return await compared(
                    connection, RunIndex(connection), job, metadata_store=self._metadata_store
                )
            finally:
                await connection.aclose()
        except CallFailed as failed:
            raise fault_of(failed) from failed

    async def repair(self, run: TrainingRun, journal: WriteJournal) -> Repair:
        """See `daemon.targets.ports.Target`.

        Raises:
            JobFault: ``standing_by``: another process is the writer.
        """
        job = map_job(run, metadata_store=self._metadata_store)
        term = await self._settled_term()
        try:
            return await JobRepair(
                term.connection,
                term.run_index,
                job,
                journal,
                self._job_sync(term, job, journal).sync,
                metadata_store=self._metadata_store,
            ).repair()
        except CallFailed as failed:
            raise self._session_fault(failed) from failed

    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        """See `daemon.targets.ports.Target`. Without the job, `complete` is always False.

        Needs the writer lease only if there are unanswered writes.
        """
        marker = marker_of(mark)
        found = await (
            self._found_in_session(marker) if unanswered_writes else self._found_by_reading(marker)
        )
        if found is None:
            return None
        ids = {
            "project_id": found.project_id,
            "experiment_id": found.experiment_id,
            "run_id": found.run_id,
        }
        return TargetRun(
            created=False, ids={word: str(number) for word, number in ids.items()}, complete=False
        )

    async def _found_in_session(self, marker: str) -> FoundRun | None:
        """Looks up the run on the write connection, where the read comes after all writes."""
        term = await self._settled_term()
        try:
            return await term.run_index.marked_anywhere(marker)
        except CallFailed as failed:
            raise self._session_fault(failed) from failed

    async def _found_by_reading(self, marker: str) -> FoundRun | None:
        try:
            connection = await self._connect_to_read()
            try:
                return await RunIndex(connection).marked_anywhere(marker)
            finally:
                await connection.aclose()
        except CallFailed as failed:
            raise fault_of(failed) from failed

    async def _settled_term(self) -> Term:
        """The write session's term. What fails before it is there is no job's fault."""
        try:
            return await self._session.term()
        except CallFailed as failed:
            raise _server_fault(failed) from failed

    def _session_fault(self, failed: CallFailed) -> DaemonError:
        if failed.kind in _CONNECTION_WORTHLESS:
            self._session.cut()
        if isinstance(failed, ForeignDocument):
            self._pairing.noted(failed)
        if failed.kind is CallErrorKind.OTHER_WRITER:
            log.error("another writer on ModelDB V1", method=failed.method, detail=failed.detail)
        return fault_of(failed)

    async def probe(self) -> None:
        try:
            await self._probe.ask()
        except CallFailed as failed:
            raise _server_fault(failed) from failed

    async def aclose(self) -> None:
        await self._session.aclose()
        await self._probe.aclose()


def _server_fault(failed: CallFailed) -> DaemonError:
    """`fault_of` a call that is made for no job: of the whole server, unless it was not sent
    because this process is no longer the writer.
    """
    fault = fault_of(failed)
    if isinstance(fault, EdgeFault) or failed.kind is CallErrorKind.NOT_WRITER:
        return fault
    return EdgeFault(Edge.TARGET, Reason.UNAVAILABLE, failed.detail)


def fault_of(failed: CallFailed) -> DaemonError:
    """The fault that a failed call means: of the whole server, or of the job, now or for good."""
    says_itself = failed.method in failed.detail or failed.kind is CallErrorKind.OTHER_DATABASE
    detail = failed.detail if says_itself else f"{failed.method}: {failed.detail}"
    if failed.kind in _ADVICE:
        detail = f"{detail}: {_ADVICE[failed.kind]}"
    if failed.kind in _OF_THE_EDGE:
        return EdgeFault(
            Edge.TARGET,
            _OF_THE_EDGE[failed.kind],
            detail,
            curable=failed.unforeseen or failed.kind not in _NOT_CURABLE,
            may_be_the_jobs=True if failed.kind is CallErrorKind.UNKNOWN_RUN else None,
        )
    if failed.kind is CallErrorKind.NOT_WRITER:
        return JobFault(Reason.STANDING_BY, detail, delay_seconds=STAND_BY_SECONDS)
    if failed.kind in _REFUSALS:
        return JobRefused(Reason.TARGET_REFUSED, detail)
    return JobFault(Reason.TARGET_FAULT, detail)

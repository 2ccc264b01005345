"""The target ModelDB V2: exactly one run per job. Read `_JobSync` first.

The server processes a create in one transaction, so a run that carries the job's mark is complete
and is never written to again, except by `repair`, when an operator asks for it. The difficulty is
to know whether it exists: ModelDB enforces no key of ours, and a create whose answer was lost may
be processed later. Therefore every create is in the journal before it is sent; while one is
unanswered, the mark is looked up before the next create; and after a success that follows an
unanswered create it is looked up again `settle_seconds` later.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from daemon.clock import monotonic
from daemon.errors import DaemonError, EdgeFault, JobFault, JobRefused
from daemon.reasons import Edge, Reason
from daemon.targets.modeldb_v2.auth import auth_headers
from daemon.targets.modeldb_v2.client import ModelDbV2Client
from daemon.targets.modeldb_v2.entities import Run
from daemon.targets.modeldb_v2.errors import ApiError, ApiErrorKind
from daemon.targets.modeldb_v2.mapping import distinct_run_name, map_run
from daemon.targets.modeldb_v2.marked_runs import MarkedRuns, carries
from daemon.targets.modeldb_v2.placement import Placement, project_attributes
from daemon.targets.modeldb_v2.preview import preview
from daemon.targets.modeldb_v2.repair import RunRepair
from daemon.targets.modeldb_v2.retries import retrying
from daemon.targets.ports import Repair
from daemon.targets.tls import tls_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from daemon.targets.modeldb_v2.mapping import MappedRun
    from daemon.targets.modeldb_v2.placement import Place
    from daemon.targets.modeldb_v2.settings import ModelDbV2Settings
    from daemon.targets.ports import Preview, TargetRun, WriteJournal
    from daemon.training_job.identity import JobMark
    from daemon.training_job.training_run import TrainingRun

PLACES_TRIED = 3
"""Attempts at a job's project and experiment when people delete them meanwhile."""

CREATES_BEGUN_PER_SLOT = 3
"""Creates with a durable intent per slot of the client: enough to keep the slots busy although an
intent takes as long as a quick create, and few, because a create with an intent cannot be released
when the daemon stops."""

_REASONS = {
    ApiErrorKind.DATABASE_DOWN: Reason.UNAVAILABLE,
    ApiErrorKind.UNAVAILABLE: Reason.UNAVAILABLE,
    ApiErrorKind.THROTTLED: Reason.THROTTLED,
    ApiErrorKind.TIMEOUT: Reason.UNREACHABLE,
    ApiErrorKind.CONNECTION: Reason.UNREACHABLE,
    ApiErrorKind.UNAUTHENTICATED: Reason.CREDENTIALS,
    ApiErrorKind.HEADERS: Reason.NOT_THE_API,
    ApiErrorKind.NOT_THE_API: Reason.NOT_THE_API,
}
_NOT_CURABLE = frozenset({ApiErrorKind.HEADERS, ApiErrorKind.NOT_THE_API})

_REFUSALS = frozenset({ApiErrorKind.INVALID, ApiErrorKind.TOO_LARGE, ApiErrorKind.UNIMPLEMENTED})
_CREATES = frozenset({"createProject", "createExperiment", "createExperimentRun"})


def open_modeldb_v2(
    settings: ModelDbV2Settings, observe: Callable[[str, str], None]
) -> ModelDbV2Target:
    """The configured target, not yet connected. Called in a running event loop.

    Args:
        settings: the section ``target``.
        observe: called with (operation, result) of each request.

    Raises:
        SetupFault: a file that the settings name cannot be used.
    """
    client = ModelDbV2Client(
        settings.url,
        headers={name: value.get_secret_value() for name, value in settings.headers.items()}
        | auth_headers(settings.auth),
        tls=tls_context(settings.ca_file, settings.client_cert_file, settings.client_key_file),
        timeout_seconds=settings.timeout_seconds,
        max_concurrency=settings.max_concurrency,
        workspace=settings.workspace,
        observe=observe,
    )
    return ModelDbV2Target(
        client,
        settle_seconds=settings.settle_seconds,
        ui_url=settings.ui_url,
        workspace=settings.workspace,
    )


class ModelDbV2Target:
    """A `daemon.targets.ports.Target`.

    Args:
        client: closed with the target.
        settle_seconds: how long a create without an answer may still be processed.
        ui_url: of the web front end, for links to runs; None: no links.
        workspace: part of the links; None: ``personal``, the only one of the open-source server.
        sleep: for the settle time, in seconds.
    """

    def __init__(
        self,
        client: ModelDbV2Client,
        *,
        settle_seconds: float,
        ui_url: str | None = None,
        workspace: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._runs = MarkedRuns(client, ui_url, workspace)
        self._placement = Placement(client)
        self._creates = asyncio.Semaphore(CREATES_BEGUN_PER_SLOT * client.max_concurrency)
        self._settle_seconds = settle_seconds
        self._sleep = sleep
        self._doubtful_repairs: dict[JobMark, float] = {}
        """When a repair of a job had an unanswered call, in monotonic seconds."""

    @property
    def kind(self) -> str:
        return "modeldb-v2"

    async def sync(self, run: TrainingRun, journal: WriteJournal) -> TargetRun:
        """See `Target.sync`. A `JobRefused` is always ModelDB's own verdict on a create."""
        try:
            return await self._job_sync(run, map_run(run), journal).sync()
        except ApiError as error:
            raise fault_of(error) from error

    def _job_sync(self, run: TrainingRun, mapped: MappedRun, journal: WriteJournal) -> _JobSync:
        async def settle() -> None:
            await self._sleep(self._settle_seconds)

        return _JobSync(
            self._client,
            self._placement,
            self._runs,
            self._creates,
            settle,
            run.mark,
            mapped,
            journal,
        )

    async def compare(self, run: TrainingRun) -> Repair | None:
        """See `Target.compare`."""
        try:
            found = await retrying(lambda: self._runs.marked(run.mark))
            if not found:
                return None
            kept, *duplicates = found
            repair = RunRepair(self._client, kept.id, run, map_run(run))
            changed, unchangeable = await repair.compare()
            described = await self._runs.named(kept)
        except ApiError as error:
            raise fault_of(error) from error
        doubled = tuple(f"run {each.id} (a duplicate)" for each in duplicates)
        return Repair(described, (*doubled, *changed), unchangeable)

    async def repair(self, run: TrainingRun, journal: WriteJournal) -> Repair:
        """See `Target.repair`. Duplicates are healed first."""
        await self._settle_repair(run.mark)
        mapped = map_run(run)
        try:
            done = await self._job_sync(run, mapped, journal).sync(look_up_first=True)
            if done.created:
                return Repair(done)
            healed = (f"duplicates of the run ({done.healed})",) if done.healed else ()
            repair = RunRepair(self._client, done.ids["run_id"], run, mapped)
            changed, unchangeable = await repair.repair()
        except ApiError as error:
            if error.outcome_unknown:
                self._doubtful_repairs[run.mark] = monotonic()
            raise fault_of(error) from error
        return Repair(done, (*healed, *changed), unchangeable)

    async def _settle_repair(self, mark: JobMark) -> None:
        """A call without an answer may still be carried out, and would undo what comes now."""
        since = self._doubtful_repairs.pop(mark, None)
        if since is not None:
            await self._sleep(max(0.0, since + self._settle_seconds - monotonic()))

    async def find(self, mark: JobMark, *, unanswered_writes: int = 0) -> TargetRun | None:
        """See `Target.find`. Duplicates are healed."""
        if unanswered_writes:
            await self._sleep(self._settle_seconds)
        try:
            found = await retrying(lambda: self._runs.marked(mark))
            return await self._runs.keep_oldest(found) if found else None
        except ApiError as error:
            raise fault_of(error) from error

    def preview(self, run: TrainingRun) -> Preview:
        """See `Target.preview`."""
        mapped = map_run(run)
        return preview(mapped, project_attributes=project_attributes(mapped))

    async def probe(self) -> None:
        """See `Target.probe`. Asks all three services: the proxy has a connection for each, with
        reconnect pauses of its own.
        """
        try:
            await self._client.get_projects_page()
            for ask in (self._client.get_experiment_by_id, self._client.get_experiment_run_by_id):
                try:
                    await ask("none")
                except ApiError as error:
                    if error.kind is not ApiErrorKind.ABSENT:
                        raise
        except ApiError as error:
            raise _probe_fault(error) from error

    async def aclose(self) -> None:
        await self._client.aclose()


def fault_of(error: ApiError) -> DaemonError:
    """The fault of an `ApiError`: the edge's, this job's for now, or this job's for good."""
    if error.kind in _REASONS:
        return EdgeFault(
            Edge.TARGET,
            _REASONS[error.kind],
            error.detail,
            curable=error.unforeseen or error.kind not in _NOT_CURABLE,
        )
    if error.kind in _REFUSALS and error.code is not None and error.operation in _CREATES:
        return JobRefused(Reason.TARGET_REFUSED, error.detail)
    return JobFault(Reason.TARGET_FAULT, error.detail)


def _probe_fault(error: ApiError) -> DaemonError:
    """The fault of a probe, which a working ModelDB never refuses."""
    fault = fault_of(error)
    if isinstance(fault, EdgeFault):
        return fault
    if error.kind in {ApiErrorKind.BARE_500, ApiErrorKind.INTERNAL}:
        return EdgeFault(Edge.TARGET, Reason.UNAVAILABLE, error.detail)
    return EdgeFault(Edge.TARGET, Reason.NOT_THE_API, error.detail, curable=False)


class _JobSync:
    """One attempt at one job."""

    def __init__(
        self,
        client: ModelDbV2Client,
        placement: Placement,
        runs: MarkedRuns,
        creates: asyncio.Semaphore,
        settle: Callable[[], Awaitable[None]],
        mark: JobMark,
        mapped: MappedRun,
        journal: WriteJournal,
    ) -> None:
        self._client = client
        self._placement = placement
        self._runs = runs
        self._creates = creates
        self._settle = settle
        self._mark = mark
        self._mapped = mapped
        self._journal = journal
        self._place_notes: tuple[str, ...] = ()
        self._unanswered_when_asked = 0
        """Number of unanswered creates at the last lookup by the mark."""

    async def sync(self, *, look_up_first: bool = False) -> TargetRun:
        """Returns the job's run.

        Args:
            look_up_first: also where the checkpoint vouches that the job is new.
        """
        done = await self._found_or_created(
            look_up_first=look_up_first or self._journal.look_up_first
        )
        own_name, name = self._mapped.run_name, done.ids.get("run")
        detail = (
            f"named {name!r}, because another run has the name {own_name!r}"
            if name != own_name and name == distinct_run_name(own_name, self._mark)
            else ""
        )
        return replace(done, detail=detail, notes=(*self._mapped.notes, *self._place_notes))

    async def _found_or_created(self, *, look_up_first: bool) -> TargetRun:
        if (look_up_first or self._must_look_up) and (found := await retrying(self._look_up)):
            return await self._finished(found)
        gone = ""
        for _ in range(PLACES_TRIED):
            try:
                place = await self._placement.place(self._mapped, self._journal)
                self._place_notes = place.notes
                return await self._under_a_free_name(place)
            except ApiError as error:
                if error.kind is not ApiErrorKind.ABSENT:
                    raise
                self._placement.forget(self._mapped)
                gone = error.detail
        raise JobFault(
            Reason.TARGET_FAULT, f"the job's project or experiment was deleted meanwhile: {gone}"
        )

    @property
    def _must_look_up(self) -> bool:
        return self._journal.unanswered_writes > self._unanswered_when_asked

    async def _look_up(self) -> Sequence[Run]:
        """The job's runs anywhere on the server."""
        found = await self._runs.marked(self._mark)
        self._unanswered_when_asked = self._journal.unanswered_writes
        return found

    async def _under_a_free_name(self, place: Place) -> TargetRun:
        own_name = self._mapped.run_name
        if done := await self._under_name(own_name, place):
            return done
        distinct_name = distinct_run_name(own_name, self._mark)
        if done := await self._under_name(distinct_name, place):
            return done
        raise JobRefused(
            Reason.TARGET_REFUSED,
            f"the experiment has runs named {own_name!r} and {distinct_name!r} that are not this "
            "job's: rename or delete one of them",
        )

    async def _under_name(self, name: str, place: Place) -> TargetRun | None:
        """The job's run; None if the name belongs to another run."""
        created = await retrying(partial(self._create, name, place))
        if isinstance(created, Run):
            return await self._finished([created], created=True)
        return await self._finished(created) if created else None

    async def _create(self, name: str, place: Place) -> Run | Sequence[Run]:
        """The new run; else the job's existing runs; empty if the name belongs to another run."""
        if self._must_look_up and (found := await self._look_up()):
            return found
        outages = self._client.outages
        async with self._creates:
            self._client.refuse_if_out_since(outages, "createExperimentRun")
            run = await self._created(name, place)
        return await self._named(name, place) if run is None else run

    async def _created(self, name: str, place: Place) -> Run | None:
        """The new run; None if a run of this name exists."""
        await self._journal.begin_write(f"modeldb-v2/run/{place.experiment_id}/{name}")
        try:
            run = await self._client.create_experiment_run(
                {
                    **self._mapped.body,
                    "project_id": place.project_id,
                    "experiment_id": place.experiment_id,
                    "name": name,
                },
                self._journal.require_lease,
            )
        except ApiError as error:
            if not error.outcome_unknown:
                self._journal.answered()
            if error.kind is ApiErrorKind.EXISTS:
                return None
            raise
        if not carries(run, self._mark):
            raise EdgeFault(
                Edge.TARGET,
                Reason.NOT_THE_API,
                f"createExperimentRun: the new run {run.id} came back without the attributes of "
                "its mark; target.url must be that of a ModelDB 2.0",
                curable=False,
            )
        self._journal.answered()
        return run

    async def _named(self, name: str, place: Place) -> Sequence[Run]:
        """The job's runs, when a run of this name exists."""
        try:
            run = await self._client.get_experiment_run_by_name(place.experiment_id, name)
        except ApiError as error:
            if error.kind is ApiErrorKind.ABSENT:
                raise JobFault(
                    Reason.TARGET_FAULT, f"run {name!r} existed and is gone: was it just deleted?"
                ) from error
            if error.kind is not ApiErrorKind.DUPLICATES:
                raise
            return await self._look_up()
        return [run] if carries(run, self._mark) else []

    async def _finished(self, found: Sequence[Run], *, created: bool = False) -> TargetRun:
        """Ends the attempt with the job's run. A found run accounts for one unanswered create; the
        others may still be processed.
        """
        accounted_for = 0 if created else 1
        if len(found) > 1 or self._journal.unanswered_writes > accounted_for:
            await self._settle()
            found = await retrying(self._look_up)
            if not found:
                # Only a person deletes runs. The next attempt looks again and then creates it.
                raise JobFault(
                    Reason.TARGET_FAULT, "the job's run existed and is gone: was it just deleted?"
                )
            done = await self._runs.keep_oldest(found, created=created)
        elif created:
            done = self._runs.described(
                found[0], self._mapped.project_name, self._mapped.experiment_name, created=True
            )
        else:
            done = await self._runs.keep_oldest(found)
        self._journal.settled()
        return done

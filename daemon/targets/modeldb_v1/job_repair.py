"""Brings a run that this program wrote up to date with its job.

A repair creates neither a run nor a model, and each of its calls can be sent again: a metric whose
value is stored twice is read once, a member of the metadata is set. So it needs no intent in the
checkpoint, and the job stays synced there whatever interrupts it. A run that an interrupted write
left incomplete is first completed by `JobSync`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.differences import NOT_READABLE, Differences, differences
from daemon.targets.modeldb_v1.run_index import all_of
from daemon.targets.modeldb_v1.sendable import refuse_what_cannot_be_sent
from daemon.targets.ports import Repair, TargetRun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.targets.modeldb_v1.mapping import MappedJob
    from daemon.targets.modeldb_v1.run_index import Caller, FoundRun, RunIndex
    from daemon.targets.ports import WriteJournal

log = structlog.get_logger(__name__)


async def compared(
    caller: Caller, run_index: RunIndex, job: MappedJob, *, metadata_store: bool
) -> Repair | None:
    """What a repair would change; only reads. None: the server has no run with the job's mark.

    Raises:
        CallFailed: a call failed.
    """
    run = await run_index.marked_anywhere(job.marker)
    if run is None:
        return None
    found = await read_differences(caller, run, job, metadata_store=metadata_store)
    return _repair(run, job, found)


async def read_differences(
    caller: Caller, run: FoundRun, job: MappedJob, *, metadata_store: bool
) -> Differences:
    """How a run differs from its job.

    Raises:
        CallFailed: a call failed, or `ForeignDocument`.
    """
    if not metadata_store:  # the answer would be an error, after 30 s
        return Differences(None, unchangeable=(NOT_READABLE,))
    details = await caller.call("getExperimentRunDetails", experimentRunId=run.run_id)
    return differences(job, run, details)


class JobRepair:
    """Repairs one job's run on the write connection.

    Args:
        caller: the write connection.
        run_index: of that connection.
        job: as it is to be.
        journal: says whether a write was interrupted.
        sync: writes what is missing of a job whose write was interrupted, or which the server does
            not have: `JobSync.sync`.
        metadata_store: whether the server has one.
    """

    def __init__(
        self,
        caller: Caller,
        run_index: RunIndex,
        job: MappedJob,
        journal: WriteJournal,
        sync: Callable[[], Awaitable[TargetRun]],
        *,
        metadata_store: bool,
    ) -> None:
        self._caller = caller
        self._index = run_index
        self._job = job
        self._journal = journal
        self._sync = sync
        self._metadata_store = metadata_store

    async def repair(self) -> Repair:
        """Changes and adds what the interface has a call for, and reads the run back.

        Raises:
            CallFailed: a call failed.
            LeaseLost, NameLocked, EdgeFault: raised by the journal.
        """
        refuse_what_cannot_be_sent(self._job)
        run = await self._index.marked_anywhere(self._job.marker)
        if run is None or self._journal.unanswered_writes or self._journal.steps:
            return await self._completed()
        found = await self._read(run)
        if self._metadata_store and found.model_id is None:
            return await self._completed()
        if not found.changed:
            return _repair(run, self._job, found)
        await self._send(run, found)
        left = await self._read(run)
        if left.changed:
            log.warning(
                "a repair of a run does not read back", run_id=run.run_id, left=list(left.changed)
            )
        return _repair(
            run,
            self._job,
            left,
            changed=tuple(each for each in found.changed if each not in left.changed),
            not_kept=tuple(f"{each}: ModelDB did not keep it" for each in left.changed),
        )

    async def _completed(self) -> Repair:
        """The run as the write completes it, and what still differs then."""
        synced = await self._sync()
        run = None if synced.created else await self._index.marked_anywhere(self._job.marker)
        if run is None:
            return Repair(synced)
        found = await self._read(run)
        if found.changed:
            await self._send(run, found)
        return Repair(synced, found.changed, found.unchangeable)

    async def _read(self, run: FoundRun) -> Differences:
        return await read_differences(
            self._caller, run, self._job, metadata_store=self._metadata_store
        )

    async def _send(self, run: FoundRun, found: Differences) -> None:
        """Sends what changes the differences; all of it, before it raises the first error."""
        job, frames = self._job, await self._store_missing_frames(run, found)
        calls: list[Awaitable[Any]] = []
        for change in found.metrics:
            metric = job.metrics[change.number]
            frame = frames[metric.channel] if change.data_frame_id is None else change.data_frame_id
            event = requests.metric_event(run.run_id, found.model_id or 0, frame, metric)
            calls.append(self._caller.call("storeMetricEvent", me=event))
        calls += [
            self._caller.call(
                "createOrUpdateScalarField",
                modelId=found.model_id,
                key=member.path,
                value=member.value,
                valueType=member.value_type,
            )
            for member in found.members
        ]
        if found.project_description:
            calls.append(
                self._caller.call(
                    "updateProject",
                    projectId=run.project_id,
                    key="description",
                    value=job.project_description,
                )
            )
        await all_of(calls)

    async def _store_missing_frames(self, run: FoundRun, found: Differences) -> dict[int, int]:
        """Ids by channel of the data frames that new metrics need and that no metric leads to."""
        channels = sorted(
            {
                self._job.metrics[change.number].channel
                for change in found.metrics
                if change.data_frame_id is None
            }
        )
        ids = await all_of(
            [
                self._caller.call(
                    "storeDataFrame",
                    df=requests.data_frame(self._job.data_frames[channel]),
                    experimentRunId=run.run_id,
                )
                for channel in channels
            ]
        )
        return dict(zip(channels, ids, strict=True))


def _repair(
    run: FoundRun,
    job: MappedJob,
    found: Differences,
    *,
    changed: tuple[str, ...] | None = None,
    not_kept: tuple[str, ...] = (),
) -> Repair:
    ids = {
        "project_id": run.project_id,
        "experiment_id": run.experiment_id,
        "run_id": run.run_id,
        "model_id": found.model_id,
    }
    return Repair(
        TargetRun(
            created=False,
            ids={word: str(number) for word, number in ids.items() if number is not None},
            notes=job.notes,
        ),
        found.changed if changed is None else changed,
        (*found.unchangeable, *not_kept),
    )

"""What became of jobs and messages, as the checkpoint has it: once, or as it happens."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from daemon.checkpoint.ports import JobRecord, JobState, RejectedMessage
from daemon.checkpoint.registry import open_checkpoint
from daemon.config.settings import DynamoDbSettings
from daemon.errors import EdgeFault, SetupFault
from daemon.targets.place import ANY_TARGET

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from daemon.checkpoint.ports import Checkpoint, HistoryFilter
    from daemon.config.settings import CheckpointSettings

LOOK_SECONDS, TABLE_LOOK_SECONDS = 1.0, 5.0
"""Between two looks for changes, in a file and in a table, where a look costs 28 requests."""
OVERLAP_SECONDS, TABLE_OVERLAP_SECONDS = 10.0, 40.0
"""How late a change may appear: processes date it before they commit it, each by its own clock. The
clocks of the hosts that share a table may differ by 30 seconds.
"""
MOST_CHANGES = 10_000
"""Read at each look."""

Change = JobRecord | RejectedMessage


@dataclass(frozen=True, slots=True)
class History:
    """Jobs and rejected messages, each newest change first."""

    jobs: Sequence[JobRecord]
    messages: Sequence[RejectedMessage]
    """Those that name no job, and those whose body is kept."""

    @property
    def changes(self) -> list[Change]:
        """Both, oldest first."""
        return sorted([*self.jobs, *self.messages], key=changed_at)


def changed_at(change: Change) -> float:
    """When it changed, in epoch seconds."""
    return change.updated_at if isinstance(change, JobRecord) else change.rejected_at


async def history(settings: CheckpointSettings, wanted: HistoryFilter) -> History:
    """Reads the checkpoint once.

    Args:
        settings: the section ``checkpoint``.
        wanted: which jobs; messages are filtered alike.

    Raises:
        SetupFault: there is no checkpoint, or it is of a newer version.
        EdgeFault: it cannot be read.
    """
    async with _open(settings) as checkpoint:
        return await _read(checkpoint, wanted)


async def follow(
    settings: CheckpointSettings,
    wanted: HistoryFilter,
    on_waiting: Callable[[str], None],
    *,
    look_seconds: float | None = None,
) -> AsyncGenerator[Change, None]:
    """The last changes, oldest first, and then every new one as it comes. Does not end.

    A checkpoint that is removed, replaced or not readable for a while is waited for.

    Args:
        settings: the section ``checkpoint``.
        wanted: which jobs; its limit is that of the changes before now.
        on_waiting: called with why nothing can be read, once for each reason in turn.
        look_seconds: between two looks; None: as the kind of checkpoint suggests.

    Raises:
        SetupFault: at the first look, as `history`.
    """
    in_table = isinstance(settings, DynamoDbSettings)
    pause = (
        (TABLE_LOOK_SECONDS if in_table else LOOK_SECONDS) if look_seconds is None else look_seconds
    )
    overlap = TABLE_OVERLAP_SECONDS if in_table else OVERLAP_SECONDS
    shown: set[Change] = set()
    newest = 0.0
    first, said = True, ""
    while True:
        try:
            async with _open(settings) as checkpoint:
                there = _identity(settings)
                while there == _identity(settings):
                    found = (await _read(checkpoint, _since(wanted, newest - overlap))).changes
                    for change in found[-wanted.limit :] if first else found:
                        if _key(change) not in shown:
                            yield change
                    first, said = False, ""
                    newest = max([newest, *map(changed_at, found)])
                    # also those that were too old to be shown: they must not seem new
                    shown |= set(map(_key, found))
                    shown = {key for key in shown if changed_at(key) >= newest - overlap}
                    await asyncio.sleep(pause)
        except (SetupFault, EdgeFault) as fault:
            if first:
                raise
            why = fault.detail if isinstance(fault, EdgeFault) else str(fault)
            if why != said:
                on_waiting(why)
            said = why
            await asyncio.sleep(pause)


def _since(wanted: HistoryFilter, earliest: float) -> HistoryFilter:
    since = max(earliest, wanted.since or 0.0)
    return replace(wanted, since=since, limit=MOST_CHANGES)


def _key(change: Change) -> Change:
    """What makes a change another one; hashable."""
    if isinstance(change, JobRecord):
        return replace(change, target_ids=_Frozen(change.target_ids), steps=_Frozen(change.steps))
    return change


class _Frozen(dict[str, str]):
    """A dictionary that is not changed any more."""

    def __hash__(self) -> int:  # type: ignore[override]  # dict says None
        return hash(frozenset(self.items()))


def _identity(settings: CheckpointSettings) -> tuple[int, int] | None:
    """Of the file; None while there is none, or for a table."""
    if isinstance(settings, DynamoDbSettings):
        return None
    try:
        there = settings.path.stat()
    except OSError:
        return None
    return there.st_dev, there.st_ino


@asynccontextmanager
async def _open(settings: CheckpointSettings) -> AsyncIterator[Checkpoint]:
    checkpoint = await open_checkpoint(settings, ANY_TARGET, create=False)
    try:
        yield checkpoint
    finally:
        await checkpoint.aclose()


async def _read(checkpoint: Checkpoint, wanted: HistoryFilter) -> History:
    jobs = await checkpoint.history(wanted)
    if wanted.project or (wanted.states and JobState.REJECTED not in wanted.states):
        return History(jobs, ())
    messages = await checkpoint.rejected_messages(wanted.limit)
    return History(jobs, [each for each in messages if _fits(each, wanted)])


def _fits(message: RejectedMessage, wanted: HistoryFilter) -> bool:
    # what became of a job is in its own row
    of_its_own = not message.job_arn or message.body is not None
    return of_its_own and (
        wanted.job.lower() in message.job_arn
        and (not wanted.reasons or message.reason in wanted.reasons)
        and (wanted.since is None or message.rejected_at >= wanted.since)
        and (wanted.until is None or message.rejected_at < wanted.until)
    )

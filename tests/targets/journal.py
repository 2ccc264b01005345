"""Journals for the suite of targets: as the daemon's, in memory, and with faults."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.checkpoint.journal import DOUBTFUL_WRITES
from daemon.checkpoint.ports import LeaseLost, NameLocked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@dataclass(slots=True)
class Locks:
    """What the journals of one checkpoint share."""

    shared: dict[str, asyncio.Lock] = field(default_factory=dict)
    new: dict[str, SuiteJournal] = field(default_factory=dict)
    """Who creates something of this name."""


class SuiteJournal:
    """A `daemon.targets.ports.WriteJournal` that checks how it is used.

    Args:
        unanswered_writes: of earlier attempts.
        look_up_first: as after the loss of the checkpoint.
        locks: shared with other journals of the checkpoint.

    Attributes:
        fail_at: the name of a method and the number of its call that raises `failure`.
    """

    def __init__(
        self,
        *,
        unanswered_writes: int = 0,
        look_up_first: bool = False,
        locks: Locks | None = None,
    ) -> None:
        self.unanswered_writes = unanswered_writes
        self.look_up_first = look_up_first
        self.steps: Mapping[str, str] = {}
        self.fail_at: tuple[str, int] | None = None
        self.failure: Exception = AssertionError("no failure is set")
        self.lease_ended = False
        """Set by a test: another process may have the claim."""
        self.paused: asyncio.Event | None = None
        """A test's: `begin_write` returns when it is set, as in a process that is stopped there."""
        self.calls: list[str] = []
        """Names of the methods, in order."""
        self._locks = locks or Locks()
        self._under_way = False

    def resumed(self) -> SuiteJournal:
        """That of the next attempt, as the checkpoint knows it after a crash of the process."""
        after = SuiteJournal(
            unanswered_writes=self.unanswered_writes,
            look_up_first=self.look_up_first,
            locks=self._locks,
        )
        after.steps = dict(self.steps)
        for name in [name for name, owner in self._locks.new.items() if owner is self]:
            self._locks.new[name] = after
        return after

    def taken_over(self) -> SuiteJournal:
        """That of another process, which has the claim and the locks when the lease has ended."""
        self.lease_ended = True
        return self.resumed()

    def in_doubt(self, after: SuiteJournal) -> SuiteJournal:
        """That of this process again, under a new claim.

        Args:
            after: of the process that had the claim in between.
        """
        again = after.resumed()
        again.unanswered_writes = max(DOUBTFUL_WRITES, again.unanswered_writes)
        again.look_up_first = True
        return again

    async def begin_write(self, lock_name: str) -> None:
        self._called("begin_write")
        owner = self._locks.new.setdefault(lock_name, self)
        if owner is not self:
            raise NameLocked(lock_name, 60.0)
        await asyncio.sleep(0)  # the disk
        self.unanswered_writes += 1
        self._under_way = True
        if self.paused is not None:
            await self.paused.wait()

    def require_lease(self) -> None:
        self._called("require_lease")
        if self.lease_ended:
            self.unanswered_writes -= 1
            self._under_way = False
            raise LeaseLost("the suite's")

    async def note_steps(self, steps: Mapping[str, str]) -> None:
        assert "begin_write" in self.calls or self.steps, "steps are noted after begin_write"
        assert {type(text) for item in steps.items() for text in item} <= {str}, steps
        self._called("note_steps")
        await asyncio.sleep(0)
        if self.lease_ended:
            raise LeaseLost("the suite's")
        self.steps = {**self.steps, **steps}

    def answered(self) -> None:
        self._called("answered")
        assert self._under_way, "answered: no create is under way"
        self._under_way = False
        if self.lease_ended:
            raise LeaseLost("the suite's")
        self.unanswered_writes -= 1

    def settled(self) -> None:
        self._called("settled")
        self._under_way = False
        self.unanswered_writes = 0

    @contextlib.asynccontextmanager
    async def name_lock(self, lock_name: str) -> AsyncIterator[None]:
        self._called("name_lock")
        async with self._locks.shared.setdefault(lock_name, asyncio.Lock()):
            yield

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if (method, self.calls.count(method)) == self.fail_at:
            raise self.failure

"""Since when the table has been in use for a target, on which hosts with different clocks agree."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from daemon.checkpoint import rules
from daemon.checkpoint.dynamodb import keys
from daemon.checkpoint.dynamodb.items import ItemDecision
from daemon.checkpoint.dynamodb.table import ROW
from daemon.targets.place import ANY_TARGET

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpoint.dynamodb.items import Items
    from daemon.checkpoint.dynamodb.table import Item
    from daemon.targets.place import TargetPlace

NOTED_EVERY_SECONDS = 3600.0
"""While jobs are recorded, how often it is noted that the table is in use."""


class TargetUse:
    """Since when, and until when, the table is in use for a target.

    Args:
        items: of the table.
        target: `ANY_TARGET`: nothing is noted.
        clock: epoch seconds.
        skew_seconds: by how much the clocks of hosts may differ.
        clock_ahead: seconds by which the wall clock is ahead of the monotonic one, which change if
            it is set.
    """

    def __init__(
        self,
        items: Items,
        target: TargetPlace,
        clock: Callable[[], float],
        *,
        skew_seconds: float,
        clock_ahead: Callable[[], float],
    ) -> None:
        self.created_at = self.opened_at = clock()
        self._items = items
        self._target = target
        self._clock = clock
        self._skew_seconds = skew_seconds
        self._clock_ahead = clock_ahead
        self._ahead = clock_ahead()
        self._noted_at = 0.0

    async def open(self) -> None:
        """Finds since when the table has been in use, and notes that it is."""
        await self._note(opening=True)

    async def note(self) -> None:
        """Notes that the table is in use now."""
        await self._note(opening=False)

    async def note_at_times(self) -> None:
        """As `note`, if that was last done long ago or the clock was set since."""
        before, now = self._noted_at, self._clock()
        if not self._clock_was_set() and now - before < NOTED_EVERY_SECONDS:
            return
        self._noted_at = now  # once, although many jobs are recorded at a time
        try:
            await self._note(opening=False)
        except BaseException:
            self._noted_at = before
            raise

    def _clock_was_set(self) -> bool:
        return abs(self._clock_ahead() - self._ahead) > rules.CLOCK_JUMP_SECONDS

    async def _note(self, *, opening: bool) -> None:
        if self._target == ANY_TARGET:
            return
        ahead, was_set = self._clock_ahead(), self._clock_was_set()

        def rule(item: Item | None) -> ItemDecision[float]:
            now = self._clock()
            recorded, last_used_at = (None, now) if item is None else _use(item)
            if opening:
                created_at = self._found(recorded, last_used_at, now)
            elif was_set or recorded is None:
                created_at = now  # it is not known any more when it was first used
            else:
                created_at = max(recorded, self.created_at)
            if not now < last_used_at <= now + self._skew_seconds:
                last_used_at = now
            return ItemDecision(created_at, {ROW: json.dumps([created_at, last_used_at])})

        sort = keys.document_key(self._target)
        self.created_at = await self._items.decide(keys.TARGETS, sort, rule)
        self._noted_at, self._ahead = self._clock(), ahead
        if opening or was_set:
            self.opened_at = self._noted_at

    def _found(self, recorded: float | None, last_used_at: float, now: float) -> float:
        """`rules.created_at`, where another host's clock may be a little ahead of this one's."""
        if recorded is None or not now < recorded <= now + self._skew_seconds:
            return rules.created_at(recorded, last_used_at=last_used_at, now=now)
        return recorded


def _use(item: Item) -> tuple[float, float]:
    """Since when, and until when."""
    created_at, last_used_at = json.loads(str(item[ROW]))
    return created_at, last_used_at

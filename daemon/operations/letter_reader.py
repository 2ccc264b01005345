"""Reads a dead-letter queue without consuming it.

SQS has no peek: a message can only be seen by a receive, which hides it and counts. So every letter
is received once, with a visibility timeout that is long enough for the rest to be received, and all
of them are made visible again at the end, whatever ends the reading: its end, a fault, or Ctrl-C.
Whoever kills the process leaves them hidden for the rest of that time (`visibility_for`), and never
longer.

A dead-letter queue with a redrive policy of its own counts these receives and would move letters
on, so it is not read at all.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.aws.dead_letter_ports import BATCH_SIZE
from daemon.clock import monotonic
from daemon.errors import DaemonError, EdgeFault
from daemon.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence

    from daemon.aws.dead_letter_ports import DeadLetterQueue, DeadLetterQueueState, ReceivedLetter

POLLERS = 4
RETURNS_AT_ONCE = 8
WAIT_SECONDS = 1
"""A long poll asks every server of the queue; a short one finds a part of a small queue only."""
LETTERS_AT_MOST = 100_000
"""SQS lets 120,000 messages of a queue be hidden at a time."""

_VISIBILITY_SECONDS = (30, 900)
_LETTERS_PER_SECOND = 50
_FRUITLESS = 20
"""Receives in a row without a letter that was not seen before, after which all have been: letters
come again only when reading takes longer than expected, or by chance."""

_PASSING = {Reason.UNAVAILABLE, Reason.UNREACHABLE, Reason.THROTTLED}
_ATTEMPTS = 4
_PAUSE_SECONDS = 0.3


class CountedReceivesError(DaemonError):
    """Reading this dead-letter queue would move its letters on."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a reading has ended."""

    seen: int
    """Letters, each counted once."""
    still_hidden: int
    """Letters that could not be made visible again at once."""
    hidden_seconds: int
    """How long these stay hidden at most."""
    complete: bool
    """False: there may be more, because the limit was reached."""


def visibility_for(letters: int) -> int:
    """How many seconds letters are hidden while so many are read: a generous estimate."""
    least, most = _VISIBILITY_SECONDS
    return min(most, least + letters // _LETTERS_PER_SECOND)


def require_uncounted(state: DeadLetterQueueState) -> None:
    """Raises CountedReceivesError if the queue has a redrive policy of its own."""
    if state.max_receive_count is not None:
        raise CountedReceivesError(
            f"the dead-letter queue {state.arn} has a redrive policy of its own (maxReceiveCount "
            f"{state.max_receive_count}): each look at a letter counts, and SQS would move letters "
            "on. Remove that policy, or redrive all of them without a look: dead-letters redrive "
            "--all --method move"
        )


class LetterReader:
    """One reading of a dead-letter queue.

    Args:
        queue: to be read. Not read by anybody else meanwhile, or what they hold is not seen.
        visibility_seconds: how long a letter is hidden at most; see `visibility_for`.
        act: called with each batch of letters not seen before. Returns the ids of those that it has
            deleted; the others are made visible again at the end. Never cancelled.
        limit: ends the reading when so many letters have been seen.
    """

    def __init__(
        self,
        queue: DeadLetterQueue,
        visibility_seconds: int,
        act: Callable[[Sequence[ReceivedLetter]], Awaitable[Collection[str]]],
        *,
        limit: int = LETTERS_AT_MOST,
    ) -> None:
        self._queue = queue
        self._visibility_seconds = visibility_seconds
        self._act = act
        self._limit = limit
        self._held: dict[str, str] = {}
        """The newest receipt handle of each letter that is to be visible again."""
        self._seen: set[str] = set()
        self._fruitless = 0
        self._hidden_until = 0.0
        self._stopped = False
        self._full = False

    def stop(self) -> None:
        """Ends the reading after the receives under way."""
        self._stopped = True

    async def read(self) -> Reading:
        """Reads the whole queue, once.

        Raises:
            EdgeFault: the queue does not work. What could be made visible again is.
            DaemonError: of `act`.
        """
        pollers = [asyncio.ensure_future(self._poll()) for _ in range(POLLERS)]
        try:
            # what a receive brings after it was cancelled would stay hidden: they end by themselves
            await asyncio.wait(pollers)
        finally:
            self.stop()
            await asyncio.wait(pollers)
            still_hidden = await self._give_back()
        # all are asked, or asyncio would print the errors of the others
        for error in [poller.exception() for poller in pollers]:
            if error is not None:
                raise error
        return Reading(
            seen=len(self._seen),
            still_hidden=still_hidden,
            hidden_seconds=self._visibility_seconds,
            complete=not self._full,
        )

    async def _poll(self) -> None:
        try:
            while not self._stopped:
                letters = await self._receive()
                self._hidden_until = monotonic() + self._visibility_seconds
                if not letters:
                    return
                await self._take(letters)
        except BaseException:
            self.stop()
            raise

    async def _receive(self) -> Sequence[ReceivedLetter]:
        """One receive, tried again after a passing fault. What that has hidden is visible again
        when its time is up.
        """
        for attempt in range(1, _ATTEMPTS):
            try:
                return await self._receive_once()
            except EdgeFault as fault:
                if fault.reason not in _PASSING:
                    raise
            await asyncio.sleep(attempt * _PAUSE_SECONDS)
        return await self._receive_once()

    async def _receive_once(self) -> Sequence[ReceivedLetter]:
        return await self._queue.receive(
            visibility_seconds=self._visibility_seconds, wait_seconds=WAIT_SECONDS
        )

    async def _take(self, letters: Sequence[ReceivedLetter]) -> None:
        new = {each.message_id: each for each in letters if each.message_id not in self._seen}
        self._seen |= new.keys()
        # held from now on, so that a failure of `act` does not leave them hidden
        self._held |= {each.message_id: each.receipt_handle for each in letters}
        self._fruitless = 0 if new else self._fruitless + 1
        if new:
            for message_id in await self._act(list(new.values())):
                self._held.pop(message_id, None)
        if len(self._seen) >= self._limit:
            self._full = True
        if self._full or self._fruitless >= _FRUITLESS:
            self.stop()

    async def _give_back(self) -> int:
        """Makes what is held visible again. Returns how many letters stay hidden for now."""
        batches = iter(_batches(list(self._held.values())))
        results = await asyncio.gather(
            *(self._give_back_some(batches) for _ in range(RETURNS_AT_ONCE))
        )
        return sum(results)

    async def _give_back_some(self, batches: Iterator[Sequence[str]]) -> int:
        left = 0
        for batch in batches:
            if monotonic() >= self._hidden_until:
                break  # they are visible by themselves
            try:
                answers = await self._queue.hide([(handle, 0) for handle in batch])
            except EdgeFault:
                left += len(batch)
                continue
            left += sum(answer is not None and not answer.stale for answer in answers)
        return left


def _batches(handles: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(handles), BATCH_SIZE):
        yield handles[start : start + BATCH_SIZE]

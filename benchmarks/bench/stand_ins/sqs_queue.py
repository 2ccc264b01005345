"""The simulation's model of an SQS queue, without its scans: a receive costs the same whether ten
messages wait or a hundred thousand.

Messages come in order of arrival, which SQS does not promise; the model's chances are all zero.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from typing import TYPE_CHECKING, Any

from benchmarks.bench.stand_ins.clock import aws_time
from tests.simulation.sqs_queue import Chances, SimulatedQueue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.simulation.sqs_message import Copy, SimulatedMessage


class DeepQueue(SimulatedQueue):
    """One standard queue.

    Args:
        name: of the queue.
        url: under which clients know it.
        visibility_seconds: where a receive does not say.
        max_receive_count: of the redrive policy; needs `dead_letters`.
        dead_letters: where the redrive policy puts messages.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        visibility_seconds: int = 30,
        max_receive_count: int | None = None,
        dead_letters: SimulatedQueue | None = None,
    ) -> None:
        super().__init__(
            name,
            random.Random(0),  # noqa: S311 - no secret: the model asks it for chances that are all zero
            visibility_seconds=visibility_seconds,
            max_receive_count=max_receive_count,
            dead_letters=dead_letters,
            chances=Chances(old_handle_deletes=0),
        )
        self.url = url
        self._ready: deque[Copy] = deque()
        self._later: list[tuple[float, int, Copy]] = []
        self._serials = itertools.count()

    def send(
        self,
        body: str,
        attributes: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        delay_seconds: float = 0,
    ) -> SimulatedMessage:
        """SendMessage."""
        message = super().send(body, attributes, delay_seconds=delay_seconds)
        message.sent_at = aws_time()
        for copy in message.copies:
            self._expect(copy)
        return message

    def accept(self, copy: Copy) -> None:
        """Takes a copy that a redrive policy sends."""
        super().accept(copy)
        self._expect(copy)

    def take(
        self, limit: int, visibility_seconds: float, receiver: str = ""
    ) -> list[tuple[Copy, str]]:
        """Receives at most so many of the visible messages, the oldest first."""
        now = asyncio.get_running_loop().time()
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        taken: list[tuple[Copy, str]] = []
        while self._ready and len(taken) < limit:
            copy = self._ready.popleft()
            if copy not in self._stored or copy.visible_at > now:
                continue  # deleted, hidden or received since it was put here
            copy.announce(now)
            if self.max_receive_count is not None and copy.receive_count >= self.max_receive_count:
                self._redrive(copy, now)
                continue
            taken.append((copy, self._receive(copy, now, visibility_seconds, receiver)))
        for copy, _ in taken:
            self._expect(copy)
        return taken

    def _hide_now(self, copy: Copy, handle: str | None, visible_at: float) -> None:
        super()._hide_now(copy, handle, visible_at)
        self._expect(copy)

    def _expect(self, copy: Copy) -> None:
        """Finds it when it is visible."""
        if copy.visible_at <= asyncio.get_running_loop().time():
            self._ready.append(copy)
        else:
            heapq.heappush(self._later, (copy.visible_at, next(self._serials), copy))

"""The network between the daemon and AWS: each request takes time, and a request or its answer may
be lost.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.loop import VirtualLoop

T = TypeVar("T")

FATES = {
    "request lost": "the connection breaks before the service has read it",
    "answer lost": "carried out; the connection breaks",
    "no answer": "carried out; nothing ever comes back",
    "never arrives": "nothing ever happens",
    "late": "carried out when the caller has given up",
}
_LATE_SECONDS = (16.0, 25.0)
"""The AWS clients wait 15 s for an answer."""


class SimulatedNetwork:
    """A `tests.simulation.aws_calls.Network`.

    Attributes:
        chances: of each of `FATES`, from 0 to 1 in all; empty while all is well.
        silent: operations of which nothing ever arrives.
        suffered: how often each fate has come.
    """

    def __init__(
        self, loop: VirtualLoop, seeded: random.Random, record: Callable[[str], None]
    ) -> None:
        self.chances: dict[str, float] = {}
        self.silent: frozenset[str] = frozenset()
        self.suffered: Counter[str] = Counter()
        self._loop = loop
        self._random = seeded
        self._record = record

    async def call(self, name: str, carry_out: Callable[[], T], seconds: float = 0.0) -> T:
        """See `tests.simulation.aws_calls.Network.call`. What has left is carried out whatever
        becomes of its caller.

        Args:
            name: as there.
            carry_out: as there.
            seconds: how long the service takes before that.
        """
        answer: asyncio.Future[T] = self._loop.create_future()
        self._loop.spawn(self._bring(name, carry_out, answer, seconds))
        return await answer

    async def _bring(
        self, name: str, carry_out: Callable[[], T], answer: asyncio.Future[T], seconds: float
    ) -> None:
        await self._pause(seconds)
        fate = "never arrives" if name in self.silent else self._fate()
        if fate:
            self.suffered[fate] += 1
            self._record(f"network: {name}: {fate}")
        match fate:
            case "request lost":
                _fail(answer, ConnectionResetError(name))
                return
            case "never arrives":
                return
            case "late":
                await asyncio.sleep(self._random.uniform(*_LATE_SECONDS))
        try:
            value = carry_out()
        except Exception as error:  # noqa: BLE001 - it is the caller's
            outcome: tuple[T | None, Exception | None] = None, error
        else:
            outcome = value, None
        await self._pause()
        if fate == "answer lost":
            _fail(answer, ConnectionResetError(name))
        elif fate != "no answer" and not answer.done():
            if outcome[1] is not None:
                answer.set_exception(outcome[1])
            else:
                answer.set_result(value)

    async def _pause(self, seconds: float = 0.0) -> None:
        await asyncio.sleep(self._random.uniform(0.001, 0.03) + seconds)

    def _fate(self) -> str:
        if self.chances:
            drawn = self._random.random()
            for fate, chance in self.chances.items():
                drawn -= chance
                if drawn < 0:
                    return fate
        return ""


def _fail(answer: asyncio.Future[T], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)

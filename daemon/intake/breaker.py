"""One breaker per edge: open while the edge does not work for anybody, so that messages are held
instead of burnt.

    unproven ── probe passes ──> closed ── trip(fault) ──> open ── back-off, then one probe passes ──> closed
        └── probe fails: stays open, next probe after a longer back-off ──────┘

A probe that passes while real calls still fail (a permission that the probe does not need) makes
the breaker open again at once; the back-off then goes on growing, because only a real success
resets it.
"""  # noqa: E501

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import structlog

from daemon.clock import monotonic
from daemon.errors import EdgeFault
from daemon.outcome import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.intake.backoff import Backoff
    from daemon.observability.watchdog import Pulse
    from daemon.outcome import Edge

log = structlog.get_logger(__name__)

PROBE_DEADLINE_SECONDS = 120.0
"""Longer than any edge's own time-outs together: a probe beyond it hangs."""
REMIND_SECONDS = 900.0
"""Between two warnings that say the same of one outage."""

_FOR_A_PERSON_TO_MEND = {Reason.ACCESS_DENIED, Reason.NOT_FOUND, Reason.NOT_THE_API}
"""What is still wrong after half of it was mended stands in the detail. That of an outage names
times and addresses that change."""


class Breaker:
    """The state of one edge.

    Args:
        edge: which.
        probe: asks the edge whether it works; raises `EdgeFault` when not. Never called twice at
            once.
        backoff: pauses between probes.
        on_change: told True when the breaker opens, False when it closes.
        proven: False: the breaker is open until a first probe has passed.

    Attributes:
        fault: why it is open; None while it is closed or before the first answer.
        proven: the edge has worked at least once in the life of this process.
    """

    def __init__(
        self,
        edge: Edge,
        probe: Callable[[], Awaitable[object]],
        backoff: Backoff,
        on_change: Callable[[bool], None],
        *,
        proven: bool = False,
    ) -> None:
        self.edge = edge
        self.fault: EdgeFault | None = None
        self.proven = proven
        self._asked = proven
        self._probe = probe
        self._backoff = backoff
        self._on_change = on_change
        self._closed = asyncio.Event()
        self._opened = asyncio.Event()
        self._failures = 0
        self._successes: dict[str, tuple[str, float]] = {}
        self._opened_at = monotonic()
        self._told: tuple[str, float] | None = None
        if proven:
            self._closed.set()
        else:
            self._opened.set()
        on_change(not proven)

    @property
    def is_open(self) -> bool:
        return not self._closed.is_set()

    def trip(self, fault: EdgeFault) -> None:
        """Opens the breaker. While it is open, only the fault shown to people changes."""
        self.fault = fault
        if self.is_open:
            return
        self._failures += 1
        self._opened_at = monotonic()
        self._closed.clear()
        self._opened.set()
        self._on_change(True)
        self._told = (_gist(fault), self._opened_at)
        log.warning(
            "breaker opened",
            edge=self.edge,
            reason=fault.reason,
            detail=fault.detail,
            curable=fault.curable,
        )

    def succeeded(self, step: str, token: str) -> None:
        """Notes that a real call worked.

        Args:
            step: the flow's step, because one call of an edge may work while another does not.
            token: for whom (a message id).
        """
        self._failures = 0
        self._successes[step] = (token, monotonic())

    def succeeded_for_others(self, step: str, token: str, since: float) -> bool:
        """True if the step worked for somebody else after a moment (monotonic seconds): then a
        failure is not the edge's.
        """
        last = self._successes.get(step)
        return last is not None and last[0] != token and last[1] > since

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def run(self, pulse: Pulse, on_fault: Callable[[EdgeFault], None]) -> None:
        """Probes while the breaker is open. Ends only by cancellation.

        Args:
            pulse: told that the loop is alive.
            on_fault: told of each failed probe.
        """
        while True:
            pulse.rest()
            await self._opened.wait()
            # the first probe of all is not preceded by a failure, so it does not wait
            if self._asked:
                await asyncio.sleep(self._backoff.delay(max(self._failures, 1)))
            pulse.work(PROBE_DEADLINE_SECONDS + 10)
            self._asked = True
            fault = await self._ask()
            if fault is None:
                self._close()
            else:
                self.fault = fault
                self._failures += 1
                on_fault(fault)
                self._tell(fault)

    def _tell(self, fault: EdgeFault) -> None:
        """Logs a failed probe: a warning where it says something new or the last one is long ago,
        so that no outage fills the log.
        """
        now = monotonic()
        told = self._told
        news = told is None or told[0] != _gist(fault) or now - told[1] >= REMIND_SECONDS
        if news:
            self._told = (_gist(fault), now)
        log.log(
            logging.WARNING if news else logging.DEBUG,
            "probe failed",
            edge=self.edge,
            reason=fault.reason,
            detail=fault.detail,
            open_seconds=round(now - self._opened_at, 1),
        )

    async def _ask(self) -> EdgeFault | None:
        try:
            async with asyncio.timeout(PROBE_DEADLINE_SECONDS):
                await self._probe()
        except EdgeFault as fault:
            return fault
        except TimeoutError:
            return EdgeFault(
                self.edge, Reason.UNREACHABLE, f"no answer within {PROBE_DEADLINE_SECONDS:.0f} s"
            )
        return None

    def _close(self) -> None:
        open_seconds = round(monotonic() - self._opened_at, 1)
        self._opened.clear()
        self.fault = None
        self._told = None
        self.proven = True
        self._closed.set()
        self._on_change(False)
        log.info("breaker closed", edge=self.edge, open_seconds=open_seconds)


def _gist(fault: EdgeFault) -> str:
    return fault.detail if fault.reason in _FOR_A_PERSON_TO_MEND else fault.reason

"""Watches what the processes believe of their claims: never do two of them believe at once that
they hold the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daemon.checkpoint.ports import Claim, LeaseLost

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.checkpoint.ports import Checkpoint, ClaimedElsewhere
    from tests.simulation.loop import Process, VirtualLoop


@dataclass(frozen=True, slots=True)
class _Belief:
    """What one process believes.

    Attributes:
        claim: that it holds, as written in the checkpoint.
        until: the end of its lease by the clock of the process's own host.
    """

    claim: Claim
    until: float


class ClaimWatch:
    """What all processes believe.

    Args:
        wrong: told when two believe that they hold the same claim.
    """

    def __init__(self, loop: VirtualLoop, wrong: Callable[[str], None]) -> None:
        self._loop = loop
        self._wrong = wrong
        self._beliefs: dict[tuple[str, str], dict[Process, _Belief]] = {}

    def believes(self, target: str, process: Process, claim: Claim, until: float) -> None:
        """A process has just learnt that it held a claim when it asked. It believes that still,
        unless it was paused before it read the answer, until the lease had ended.
        """
        if until <= self.clock_of(process):
            return
        holders = self._beliefs.setdefault((target, claim.job_arn), {})
        for other, belief in holders.items():
            if other is not process and belief.until > self.clock_of(other):
                self._wrong(
                    f"two claims at once: {process.name} holds {claim}, and {other.name} believes "
                    f"that it does, for another {belief.until - self.clock_of(other):.1f} s"
                )
        holders[process] = _Belief(claim, until)

    def doubts(self, target: str, process: Process, job_arn: str) -> None:
        """It gives the claim up, or has learnt that it lost it."""
        self._beliefs.get((target, job_arn), {}).pop(process, None)

    def is_held(self, target: str, process: Process, claim: Claim) -> bool:
        """Whether it believed last that it holds a claim, though the lease may have ended."""
        belief = self._beliefs.get((target, claim.job_arn), {}).get(process)
        return belief is not None and belief.claim == claim

    def has_any(self, process: Process) -> bool:
        """Whether it holds any claim that is written."""
        return any(process in holders for holders in self._beliefs.values())

    def gone(self, process: Process) -> None:
        """It has ended."""
        for holders in self._beliefs.values():
            holders.pop(process, None)

    def clock_of(self, process: Process) -> float:
        """Epoch seconds by the clock of a process's host."""
        ahead = 0.0 if process.clock is None else process.clock.ahead_at(self._loop.time())
        return self._loop.true_wall() + ahead


class WatchedCheckpoint:
    """A checkpoint of one process; says what the process believes."""

    def __init__(self, checkpoint: Checkpoint, watch: ClaimWatch, process: Process) -> None:
        self._checkpoint = checkpoint
        self._watch = watch
        self._process = process
        self._target = str(checkpoint.target)
        self._until: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._checkpoint, name)

    async def claim(
        self, job_arn: str, lease_seconds: float, *, at_once: bool = True
    ) -> Claim | ClaimedElsewhere:
        """See `Checkpoint.claim`. A claim that is not written is not yet held."""
        until = self._now + lease_seconds
        answer = await self._checkpoint.claim(job_arn, lease_seconds, at_once=at_once)
        if isinstance(answer, Claim):
            self._until[answer.job_arn] = until
            if at_once:
                self._holds(answer)
        return answer

    async def renew(self, claims: Sequence[Claim], lease_seconds: float) -> Sequence[Claim]:
        """See `Checkpoint.renew`."""
        until = self._now + lease_seconds
        held = [claim for claim in claims if self._is_held(claim)]
        lost = await self._checkpoint.renew(claims, lease_seconds)
        for claim in claims:
            if claim in lost:
                self._watch.doubts(self._target, self._process, claim.job_arn)
            else:
                self._until[claim.job_arn] = until
                # it may have been given up meanwhile
                if claim in held and self._is_held(claim):
                    self._holds(claim)
        return lost

    async def begin_write(self, claim: Claim, *arguments: Any, **more: Any) -> Any:
        """See `Checkpoint.begin_write`."""
        return await self._while_held(claim, self._checkpoint.begin_write, arguments, more)

    async def note_steps(self, claim: Claim, *arguments: Any, **more: Any) -> Any:
        """See `Checkpoint.note_steps`."""
        return await self._while_held(claim, self._checkpoint.note_steps, arguments, more)

    async def lock_name(self, claim: Claim, *arguments: Any, **more: Any) -> Any:
        """See `Checkpoint.lock_name`."""
        return await self._while_held(claim, self._checkpoint.lock_name, arguments, more)

    async def release(self, claim: Claim, **more: Any) -> None:
        """See `Checkpoint.release`."""
        self._gives_up(claim)
        await self._checkpoint.release(claim, **more)

    async def record_synced(self, claim: Claim, *arguments: Any, **more: Any) -> None:
        """See `Checkpoint.record_synced`."""
        self._gives_up(claim)
        await self._checkpoint.record_synced(claim, *arguments, **more)

    async def record_skipped(self, claim: Claim, *arguments: Any, **more: Any) -> None:
        """See `Checkpoint.record_skipped`."""
        self._gives_up(claim)
        await self._checkpoint.record_skipped(claim, *arguments, **more)

    async def record_rejected(self, claim: Claim | None, *arguments: Any, **more: Any) -> None:
        """See `Checkpoint.record_rejected`."""
        if claim is not None:
            self._gives_up(claim)
        await self._checkpoint.record_rejected(claim, *arguments, **more)

    async def record_deferred(self, claim: Claim, *arguments: Any, **more: Any) -> None:
        """See `Checkpoint.record_deferred`."""
        self._gives_up(claim)
        await self._checkpoint.record_deferred(claim, *arguments, **more)

    async def aclose(self) -> None:
        """See `Checkpoint.aclose`."""
        self._watch.gone(self._process)
        await self._checkpoint.aclose()

    @property
    def _now(self) -> float:
        return self._watch.clock_of(self._process)

    async def _while_held(self, claim: Claim, change: Any, arguments: Any, more: Any) -> Any:
        """A change that only the holder may make."""
        try:
            answer = await change(claim, *arguments, **more)
        except LeaseLost:
            self._gives_up(claim)
            raise
        self._holds(claim)
        return answer

    def _holds(self, claim: Claim) -> None:
        until = self._until.get(claim.job_arn, 0.0)
        self._watch.believes(self._target, self._process, claim, until)

    def _is_held(self, claim: Claim) -> bool:
        return self._watch.is_held(self._target, self._process, claim)

    def _gives_up(self, claim: Claim) -> None:
        self._watch.doubts(self._target, self._process, claim.job_arn)

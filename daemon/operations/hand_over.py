"""Hands a job over to the running daemon and waits for its answer: for a target that takes a
single writer, which is the daemon.
"""

from __future__ import annotations

import asyncio
import json
from math import inf
from typing import TYPE_CHECKING

from daemon.clock import monotonic
from daemon.errors import DaemonError, EdgeFault
from daemon.operations.sync_one import SyncResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpoint.ports import Checkpoint, SyncRequest

TAKE_SECONDS = 10.0
"""How long a request waits for a daemon to take it. One that is the writer looks every second."""
NEXT_SECONDS = 300.0
"""The same after the daemon that had begun with it has ended: the next writer waits until the
server has carried out what the last one sent."""
POLL_SECONDS = 0.25
WITHDRAW_SECONDS = 5.0


class NobodyTakesIt(DaemonError):
    """No daemon has taken a request."""


class NotYet(DaemonError):
    """The daemon waits for something for longer than the caller does."""


class HandOver:
    """One request, from asking to its answer.

    Args:
        checkpoint: shared with the daemon.
        say: called with each sentence about what is waited for.
        patience_seconds: how long a daemon that has the request may wait for ModelDB, SageMaker or
            another process that works on the job.
        take_seconds: see `TAKE_SECONDS`.
        next_seconds: see `NEXT_SECONDS`.

    Attributes:
        withdrawn: the request was withdrawn: nothing comes of it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        say: Callable[[str], None],
        patience_seconds: float = inf,
        take_seconds: float = TAKE_SECONDS,
        next_seconds: float = NEXT_SECONDS,
    ) -> None:
        self._checkpoint = checkpoint
        self._say = say
        self._patience_seconds = patience_seconds
        self._take_seconds = take_seconds
        self._next_seconds = next_seconds
        self.withdrawn = False

    async def sync(self, job: str, *, force: bool) -> SyncResult:
        """What the daemon answered. Cancelled, it withdraws the request if the daemon has not begun
        with it.

        Raises:
            NobodyTakesIt: no daemon that is the writer is running; the request is withdrawn.
            NotYet: the daemon waits for longer than the patience lasts; the request is withdrawn if
                it has not begun.
            EdgeFault: the checkpoint failed.
        """
        asked = await self._checkpoint.ask(job, force=force)
        try:
            return await self._answer(asked)
        except BaseException:
            await self._withdraw(asked)
            raise

    async def _answer(self, asked: SyncRequest) -> SyncResult:
        taken_at = works_at = monotonic()
        told, begun = "", False
        while True:
            request = await self._checkpoint.request(asked.request_id)
            if request is None:
                raise DaemonError(
                    f"the request about {asked.job} is gone from the checkpoint: run `sync` again"
                )
            if request.answer is not None:
                return SyncResult.of_document(json.loads(request.answer))
            begun = begun or request.begun
            now, sentence = monotonic(), request.progress
            if request.taken_by:
                taken_at = now
            elif begun:
                sentence = LEFT
            if not request.progress:
                works_at = now
            if sentence and sentence != told:
                self._say(sentence)
            told = sentence
            patience = self._next_seconds if begun else self._take_seconds
            if now - taken_at > patience:
                raise NobodyTakesIt(_nobody(asked.job, patience, begun=begun))
            if now - works_at > self._patience_seconds:
                raise NotYet(_not_yet(asked.job, self._patience_seconds, sentence, begun=begun))
            await asyncio.sleep(POLL_SECONDS)

    async def _withdraw(self, asked: SyncRequest) -> None:
        """Within a time limit, also if the caller is cancelled again."""
        withdrawing = asyncio.ensure_future(self._checkpoint.withdraw(asked.request_id))
        try:
            await asyncio.wait([withdrawing], timeout=WITHDRAW_SECONDS)
            self.withdrawn = withdrawing.done() and withdrawing.result()
            if not self.withdrawn:
                self._say(
                    f"the daemon has begun with {asked.job} and finishes it: see `history --job "
                    f"{asked.job}`"
                )
        except EdgeFault as fault:
            self._say(f"the request about {asked.job} may still be served: {fault.detail}")


LEFT = (
    "the daemon that had begun with the job has ended; waiting for the next one that is the writer"
)


def _not_yet(job: str, seconds: float, sentence: str, *, begun: bool) -> str:
    goes_on = (
        "The daemon has begun with it and goes on by itself"
        if begun
        else "The request is withdrawn: run `sync` again when it works, or with a longer `--wait`"
    )
    return f"{job} is not synced after {seconds:g} s: {sentence}. {goes_on}"


def _nobody(job: str, seconds: float, *, begun: bool) -> str:
    if begun:
        return (
            f"the daemon that had begun with {job} has ended, and none has gone on within "
            f"{seconds:.0f} s: start it. It goes on with the job by itself"
        )
    return (
        f"no daemon that is the writer of this ModelDB V1 has taken {job} within {seconds:.0f} s, "
        "and only the daemon writes to it: start it (`run`), or wait until the one that stands by "
        "is the writer (`/readyz` says so); then run `sync` again. The request is withdrawn"
    )

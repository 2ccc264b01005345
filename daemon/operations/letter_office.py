"""What an operator does with dead letters: looks at them, sends them back, deletes them. In the
dead-letter queue, and those whose bodies are kept in the checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from daemon.aws.dead_letter_ports import NoMoveTask
from daemon.errors import DaemonError, EdgeFault
from daemon.operations.dead_letters import (
    About,
    Choice,
    Place,
    kept_letter,
    letter_in_queue,
    shown_body,
    verdict_on,
)
from daemon.operations.job_now import job_now
from daemon.operations.letter_reader import LetterReader, require_uncounted, visibility_for
from daemon.operations.move import move_all
from daemon.operations.redrive import Copier, Redriven, delete_letters, redrive_kept
from daemon.operations.verdict import JobNow
from daemon.reasons import Edge
from daemon.story import StoryEvent, story_entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from daemon.aws.dead_letter_ports import DeadLetterQueue, MoveTask, ReceivedLetter
    from daemon.aws.ports import Queue, TrainingJobs
    from daemon.checkpoint.ports import Checkpoint, RejectedMessage
    from daemon.operations.dead_letters import Letter
    from daemon.operations.letter_reader import Reading
    from daemon.operations.verdict import Verdict
    from daemon.pipeline.flow import FlowRules
    from daemon.training_job.identity import Home

JOBS_AT_MOST = 100
"""Jobs that SageMaker is asked about in one listing."""
_JOBS_AT_ONCE = 4
"""Few, because the daemon's own calls must not be throttled for this."""
_KEPT_AT_MOST = 1_000_000


class Method(StrEnum):
    """How all letters go back."""

    AUTO = "auto"
    MOVE = "move"  # SQS's own move task
    COPY = "copy"  # send, then delete


@dataclass(frozen=True, slots=True)
class Listing:
    """The letters that were asked for."""

    letters: Sequence[Letter]
    reading: Reading | None
    """None: there is no dead-letter queue."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One letter."""

    letter: Letter
    body: str
    """Without hyperparameters, environment and secrets."""


@dataclass(frozen=True, slots=True)
class Back:
    """How letters went back."""

    copied: Redriven
    reading: Reading | None
    moved: MoveTask | None = None
    """Of SQS's own move task, if it moved those of the queue."""
    why_copied: str = ""
    """Why they were copied although all of them were asked for; "" if they were not."""


@dataclass(frozen=True, slots=True)
class Purged:
    """What was deleted."""

    deleted: Sequence[str]
    undeleted: Sequence[str]
    reading: Reading | None


class LetterOffice:
    """The dead letters of one queue.

    Args:
        queue: the queue that they go back to.
        queue_arn: its ARN.
        letters: its dead-letter queue; None: it has none.
        found_by_policy: the queue's own redrive policy names the dead-letter queue, so that SQS can
            move its messages.
        checkpoint: has kept bodies, and the jobs' rows; None: left out.
        home: the account and region that the daemon works for.
        jobs: SageMaker's; None: it is not asked.
        rules: of the daemon.
        on_read: called with the number of letters seen so far.
        on_move: called with each look at SQS's own move task.
    """

    def __init__(
        self,
        queue: Queue,
        queue_arn: str,
        letters: DeadLetterQueue | None,
        *,
        found_by_policy: bool,
        checkpoint: Checkpoint | None,
        home: Home,
        jobs: TrainingJobs | None,
        rules: FlowRules,
        on_read: Callable[[int], None] = lambda _seen: None,
        on_move: Callable[[MoveTask], None] = lambda _task: None,
    ) -> None:
        self._queue = queue
        self._queue_arn = queue_arn
        self._letters = letters
        self._found_by_policy = found_by_policy
        self._checkpoint = checkpoint
        self._home = home
        self._jobs = jobs
        self._rules = rules
        self._on_read = on_read
        self._on_move = on_move

    async def listing(self, choice: Choice) -> Listing:
        """Looks at every letter, and leaves them as they are."""
        found: list[Letter] = []
        seen = 0

        async def look(received: Sequence[ReceivedLetter]) -> Collection[str]:
            nonlocal seen
            seen += len(received)
            self._on_read(seen)
            letters = [letter_in_queue(each, self._queue_arn) for each in received]
            found.extend(filter(choice.takes, letters))
            return ()

        reading = await self._read(look)
        found += [each for each in map(kept_letter, await self._kept()) if choice.takes(each)]
        return Listing(found, reading)

    async def show(self, message_id: str) -> Shown | None:
        """One letter with its body. None: there is no such letter."""
        if self._checkpoint is not None:
            kept = await self._checkpoint.rejected_message(message_id)
            if kept is not None and kept.body is not None:
                return Shown(kept_letter(kept), shown_body(kept.body))
        found: list[ReceivedLetter] = []

        async def look(received: Sequence[ReceivedLetter]) -> Collection[str]:
            found.extend(each for each in received if each.message_id == message_id)
            if found:
                reader.stop()
            return ()

        if self._letters is not None:
            reader = await self._reader(look)
            await reader.read()
        if not found:
            return None
        return Shown(letter_in_queue(found[0], self._queue_arn), shown_body(found[0].body))

    async def verdicts(self, letters: Sequence[Letter]) -> Mapping[str, Verdict]:
        """What would become of letters now, by their ids: all of them, but SageMaker is asked about
        the first `JOBS_AT_MOST` jobs only, each once.
        """
        by_job: dict[object, list[Letter]] = {}
        for letter in letters:
            if letter.event is not None and letter.about is About.JOB:
                event = letter.event
                key = (event.name.lower(), event.arn and event.arn.key, event.creation_time)
                by_job.setdefault(key, []).append(letter)
        asked = list(by_job.values())[:JOBS_AT_MOST]
        permits = asyncio.Semaphore(_JOBS_AT_ONCE)
        outage: list[EdgeFault] = []

        async def ask(group: Sequence[Letter]) -> JobNow:
            event = group[0].event
            assert event is not None  # noqa: S101 - chosen above; for the type checker
            async with permits:
                if outage:
                    return JobNow(self._home, fault=outage[0])
                now = await job_now(event, self._home, self._jobs, self._checkpoint)
            if isinstance(now.fault, EdgeFault) and now.fault.edge is Edge.SAGEMAKER:
                outage.append(now.fault)
            return now

        known = await asyncio.gather(*map(ask, asked))
        of_letter = {
            letter.message_id: now
            for group, now in zip(asked, known, strict=True)
            for letter in group
        }
        return {
            letter.message_id: verdict_on(letter, of_letter.get(letter.message_id), self._rules)
            for letter in letters
        }

    async def redrive(self, choice: Choice, method: Method) -> Back:
        """Sends letters back to the queue.

        Args:
            choice: which ones; without any restriction, all that are this daemon's.
            method: how, if the choice is without any restriction.

        Raises:
            NoMoveTask: `Method.MOVE` was asked for, and SQS does not have it here.
            EdgeFault: SQS or the checkpoint does not work. No letter is lost: what was sent is in
                the queue, the rest where it was.
        """
        moved, why_copied = None, ""
        if choice == Choice() and method is not Method.COPY and self._letters is not None:
            moved, why_copied = await self._move(self._letters, method)
        copied, reading = Redriven(), None
        if moved is None and self._letters is not None:
            copier = Copier(self._queue, self._letters, self._queue_arn, choice, self._tell)

            async def act(received: Sequence[ReceivedLetter]) -> Collection[str]:
                deleted = await copier.act(received)
                self._on_read(copier.done.seen)
                return deleted

            reading = await self._read(act)
            copied = copier.done
        if self._checkpoint is not None:
            kept = await redrive_kept(
                self._queue, self._checkpoint, await self._kept(), choice, self._tell
            )
            copied.sent += kept.sent
            copied.refused |= kept.refused
        return Back(copied, reading, moved, why_copied)

    async def purge(self, ids: Collection[str]) -> Purged:
        """Deletes exactly these letters. What has come meanwhile stays."""
        deleted: list[str] = []
        undeleted: list[str] = []

        async def act(received: Sequence[ReceivedLetter]) -> Collection[str]:
            chosen = {
                each.message_id: each.receipt_handle for each in received if each.message_id in ids
            }
            gone, left = await delete_letters(self._letters, chosen) if self._letters else ([], [])
            deleted.extend(gone)
            undeleted.extend(left)
            self._on_read(len(deleted))
            return gone

        kept = {message.message_id for message in await self._kept()} & set(ids)
        in_queue = set(ids) - kept
        reading = await self._read(act) if in_queue else None
        for message_id in kept:
            assert self._checkpoint is not None  # noqa: S101 - it has kept them
            await self._checkpoint.forget_body(message_id)
            deleted.append(message_id)
        return Purged(deleted, undeleted, reading)

    async def _move(self, letters: DeadLetterQueue, method: Method) -> tuple[MoveTask | None, str]:
        """Lets SQS move all letters. Returns the task, or why they are to be copied."""
        listed: list[Letter] = []
        if method is Method.AUTO:
            if not self._found_by_policy:
                return None, "no redrive policy is known to name this dead-letter queue"
            found = (await self.listing(Choice())).letters
            listed = [letter for letter in found if letter.place is Place.QUEUE]
            others = sum(letter.about is About.OTHER for letter in listed)
            if others:
                return None, f"SQS would move {others} messages that are not this daemon's, too"
            if not listed:
                return None, ""
        try:
            source_arn = (await letters.state()).arn
            task = await move_all(letters, source_arn, self._queue_arn, self._on_move)
        except NoMoveTask as fault:
            if method is Method.MOVE:
                raise NoMoveTask(f"{fault}: use --method copy") from fault
            return None, str(fault)
        await self._tell(listed)
        return task, ""

    async def _read(
        self, act: Callable[[Sequence[ReceivedLetter]], Awaitable[Collection[str]]]
    ) -> Reading | None:
        if self._letters is None:
            return None
        return await (await self._reader(act)).read()

    async def _reader(
        self, act: Callable[[Sequence[ReceivedLetter]], Awaitable[Collection[str]]]
    ) -> LetterReader:
        assert self._letters is not None  # noqa: S101 - the callers have looked
        state = await self._letters.state()
        require_uncounted(state)
        return LetterReader(self._letters, visibility_for(state.visible), act)

    async def _kept(self) -> list[RejectedMessage]:
        if self._checkpoint is None:
            return []
        messages = await self._checkpoint.rejected_messages(_KEPT_AT_MOST)
        return [message for message in messages if message.body is not None]

    async def _tell(self, letters: Sequence[Letter]) -> None:
        """Adds to the jobs' stories, if the checkpoint takes it: that must not stop a redrive."""
        if self._checkpoint is None:
            return
        for letter in letters:
            arn = JobNow(self._home).arn_of(letter.event) if letter.event is not None else None
            if arn is not None:
                entry = story_entry(
                    StoryEvent.REDRIVEN,
                    f"a dead letter ({letter.reason}) was sent back to the queue",
                    message_id=letter.message_id,
                )
                with contextlib.suppress(DaemonError):
                    await self._checkpoint.note_story(arn.key, [entry])

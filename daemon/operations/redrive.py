"""Sends dead letters back to the queue, or deletes them.

Back goes a letter by copy: send, then delete what the queue has accepted, batch by batch. Killed in
between, a letter is in both queues, and the second one to be sent back ends as a duplicate; the
other order could lose it. All letters at once go by SQS's own move task where it has one
(`daemon.operations.move`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daemon.aws.dead_letter import DETAIL, REASON
from daemon.aws.ports import Failed, Sent
from daemon.clock import wall
from daemon.errors import EdgeFault
from daemon.operations.dead_letters import copy_of, kept_letter, letter_in_queue
from daemon.operations.messages import batches
from daemon.reasons import Edge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from daemon.aws.dead_letter_ports import DeadLetterQueue, ReceivedLetter
    from daemon.aws.ports import OutgoingMessage, Queue
    from daemon.checkpoint.ports import Checkpoint, RejectedMessage
    from daemon.operations.dead_letters import Choice, Letter

CLOCKS_DIFFER_SECONDS = 300.0
"""This machine's clock and SQS's."""
_DELETES = 3
"""Attempts: a letter that is sent and not deleted will be sent twice."""


@dataclass
class Redriven:
    """What has become of the letters so far.

    Attributes:
        sent: in the queue again; their ids as dead letters.
        undeleted: of these, the ones that could not be deleted.
        refused: why others were not sent, by id. They are where they were.
        came_back: letters that were sent here, rejected again, and left.
        seen: letters looked at.
    """

    sent: list[str] = field(default_factory=list)
    undeleted: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    came_back: int = 0
    seen: int = 0


class Copier:
    """Copies the chosen letters of a reading to the queue and deletes them: the `act` of a
    `LetterReader`.

    Args:
        queue: to send to.
        letters: where they are.
        queue_arn: of `queue`.
        choice: which ones.
        on_sent: called with the letters of each batch that are in the queue again.
    """

    def __init__(
        self,
        queue: Queue,
        letters: DeadLetterQueue,
        queue_arn: str,
        choice: Choice,
        on_sent: Callable[[Sequence[Letter]], Awaitable[None]],
    ) -> None:
        self.done = Redriven()
        self._queue = queue
        self._letters = letters
        self._queue_arn = queue_arn
        self._choice = choice
        self._on_sent = on_sent
        self._since = wall() - CLOCKS_DIFFER_SECONDS
        self._sent_bodies: set[bytes] = set()

    async def act(self, received: Sequence[ReceivedLetter]) -> list[str]:
        """Returns the ids of the letters that were deleted.

        Raises:
            EdgeFault: SQS does not work. What was sent until then is deleted.
        """
        self.done.seen += len(received)
        chosen: list[tuple[ReceivedLetter, Letter]] = []
        for each in received:
            letter = letter_in_queue(each, self._queue_arn)
            if not self._choice.takes_for_redrive(letter):
                continue
            if self._came_back(each):
                self.done.came_back += 1
                continue
            if letter.note:
                self.done.refused[letter.message_id] = letter.note
                continue
            chosen.append((each, letter))
        deleted: list[str] = []
        for batch in batches([copy_of(each.body, each.attributes) for each, _ in chosen]):
            some, chosen = chosen[: len(batch)], chosen[len(batch) :]
            deleted += await self._move(some)
        return deleted

    def _came_back(self, received: ReceivedLetter) -> bool:
        """Whether this is a new letter about a message sent in this run, which the daemon has
        rejected again: to send that, too, would never end.
        """
        is_new = received.sent_at is None or received.sent_at >= self._since
        return is_new and _digest(received.body) in self._sent_bodies

    async def _move(self, batch: Sequence[tuple[ReceivedLetter, Letter]]) -> list[str]:
        copies = {each.message_id: copy_of(each.body, each.attributes) for each, _ in batch}
        accepted, fault = await _send(self._queue, copies, self.done)
        sent = [(each, letter) for each, letter in batch if letter.message_id in accepted]
        self._sent_bodies |= {_digest(each.body) for each, _ in sent}
        deleted = await self._delete({each.message_id: each.receipt_handle for each, _ in sent})
        if sent:
            await self._on_sent([letter for _, letter in sent])
        if fault is not None:
            raise fault
        return deleted

    async def _delete(self, handles: Mapping[str, str]) -> list[str]:
        deleted, failed = await delete_letters(self._letters, handles)
        self.done.undeleted += failed
        return deleted


async def redrive_kept(
    queue: Queue,
    checkpoint: Checkpoint,
    kept: Sequence[RejectedMessage],
    choice: Choice,
    on_sent: Callable[[Sequence[Letter]], Awaitable[None]],
) -> Redriven:
    """Sends kept bodies to the queue, then forgets them.

    Args:
        queue: to send to.
        checkpoint: where they are.
        kept: all of them.
        choice: which ones.
        on_sent: called with each one that is in the queue again.

    Raises:
        EdgeFault: SQS or the checkpoint does not work. What was sent until then is forgotten.
    """
    done = Redriven(seen=len(kept))
    for message in kept:
        letter = kept_letter(message)
        if not choice.takes_for_redrive(letter):
            continue
        if letter.note:
            done.refused[letter.message_id] = letter.note
            continue
        attributes = {REASON: message.reason}
        if letter.detail:
            attributes[DETAIL] = letter.detail
        copy = copy_of(message.body or "", attributes)
        accepted, fault = await _send(queue, {letter.message_id: copy}, done)
        if accepted:
            await checkpoint.forget_body(letter.message_id)
            await on_sent([letter])
        if fault is not None:
            raise fault
    return done


async def delete_letters(
    queue: DeadLetterQueue, handles: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Deletes up to ten letters. Returns the ids of those deleted, and of those that were not.

    Args:
        queue: where they are.
        handles: receipt handles by id.
    """
    left, stale = dict(handles), []
    for _ in range(_DELETES if left else 0):
        try:
            answers = await queue.delete(list(left.values()))
        except EdgeFault:
            continue
        failed = [
            (message_id, answer)
            for message_id, answer in zip(left, answers, strict=True)
            if answer is not None
        ]
        stale += [message_id for message_id, answer in failed if answer.stale]
        left = {message_id: left[message_id] for message_id, answer in failed if not answer.stale}
        if not left:
            break
    undeleted = [*left, *stale]
    return [message_id for message_id in handles if message_id not in undeleted], undeleted


async def _send(
    queue: Queue, copies: Mapping[str, OutgoingMessage], done: Redriven
) -> tuple[set[str], EdgeFault | None]:
    """Sends one batch. Returns the ids of what the queue has accepted, and what is wrong with the
    whole queue.
    """
    answers = await queue.send(list(copies.values()))
    accepted: set[str] = set()
    fault: EdgeFault | None = None
    for message_id, answer in zip(copies, answers, strict=True):
        if isinstance(answer, Sent):
            accepted.add(message_id)
            done.sent.append(message_id)
            continue
        done.refused[message_id] = f"SQS did not take it: {answer.code} {answer.detail}".rstrip()
        fault = fault or _edge_fault(answer)
    return accepted, fault


def _digest(body: str) -> bytes:
    return hashlib.sha256(body.encode(errors="surrogatepass")).digest()


def _edge_fault(failed: Failed) -> EdgeFault | None:
    if failed.reason is None:
        return None
    return EdgeFault(Edge.QUEUE, failed.reason, f"{failed.code}: {failed.detail}")

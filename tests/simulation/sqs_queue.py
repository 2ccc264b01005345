"""A model of SQS standard queues, with redrive policy and dead-letter queue.

Queues behave as AWS documents; where its emulators differ, `test_sqs_model.py` says which one the
model follows. What AWS allows but does not guarantee (storing a message twice, delivering a message
in flight, losing a deletion, …) happens with the probabilities in `Chances`.

Left out: FIFO, retention, the limit of 120,000 messages in flight, MD5 of attributes.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.aws_calls import Refusal
from tests.simulation.sqs_message import Copy, CopyState, SimulatedMessage

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping


ACCOUNT = "123456789012"
REGION = "eu-west-1"

MAX_VISIBILITY_SECONDS = 43_200
MAX_BYTES = 1_048_576
MAX_BATCH = 10

_ATTRIBUTES = {
    "QueueArn",
    "RedrivePolicy",
    "VisibilityTimeout",
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "DelaySeconds",
    "ReceiveMessageWaitTimeSeconds",
}


@dataclass(slots=True)
class Chances:
    """The probabilities (0 to 1) of what SQS may do; may be changed at any time.

    Attributes:
        stored_twice: a sent message is there twice, under one id.
        delivered_in_flight: a receive brings also a message that is hidden.
        fewer_than_asked: a receive brings fewer messages than there are.
        short_poll_misses: a receive that does not wait finds nothing although there is something.
        old_handle_deletes: a delete with another receive's handle, which always succeeds, does
            delete.
        old_handle_hides: a hide with another receive's handle, if that is of the same message and
            in flight, does hide.
        deleted_comes_back: a deleted message is visible again when its time is up.
        entry_fails: an entry of a batch is answered with InternalError and not carried out.
        entry_fails_after: the same, but it was carried out.
        acknowledged_late: a delete or hide is answered at once and takes effect up to
            `late_seconds` later.
    """

    stored_twice: float = 0.0
    delivered_in_flight: float = 0.0
    fewer_than_asked: float = 0.0
    short_poll_misses: float = 0.0
    old_handle_deletes: float = 0.5
    old_handle_hides: float = 0.0
    deleted_comes_back: float = 0.0
    entry_fails: float = 0.0
    entry_fails_after: float = 0.0
    acknowledged_late: float = 0.0
    late_seconds: float = 2.0


class SimulatedQueue:
    """One standard queue.

    Args:
        name: of the queue.
        rng: for the order of receives and every chance.
        visibility_seconds: where a receive does not say.
        max_receive_count: of the redrive policy; needs `dead_letters`.
        dead_letters: where the redrive policy puts messages.
        chances: of what SQS may do.

    Attributes:
        messages: every message that was ever sent to it, also deleted ones.
        dead_letter_sources: queues whose dead-letter queue this one is.
    """

    def __init__(
        self,
        name: str,
        rng: random.Random,
        *,
        visibility_seconds: int = 30,
        max_receive_count: int | None = None,
        dead_letters: SimulatedQueue | None = None,
        chances: Chances | None = None,
    ) -> None:
        self.name = name
        self.url = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"
        self.arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        self.visibility_seconds = visibility_seconds
        self.max_receive_count = max_receive_count
        self.dead_letters = dead_letters
        self.chances = chances or Chances()
        self.messages: list[SimulatedMessage] = []
        self.dead_letter_sources: list[SimulatedQueue] = []
        if dead_letters is not None:
            dead_letters.dead_letter_sources.append(self)
        self._random = rng
        self._ids = itertools.count(1)
        self._stored: dict[Copy, None] = {}  # in order of arrival; a dict, to remove one at once
        self._receives: dict[str, Copy] = {}
        self._waiting: list[asyncio.Future[None]] = []

    # what the world outside does and sees

    def send(
        self,
        body: str,
        attributes: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        delay_seconds: float = 0,
    ) -> SimulatedMessage:
        """SendMessage; also used by EventBridge."""
        now = _now()
        message = SimulatedMessage(
            f"{self.name}-{next(self._ids)}", body, attributes or {}, time.time()
        )
        message.life.append(
            (
                now,
                f"sent to {self.name}"
                + (f", delayed by {delay_seconds:g} s" if delay_seconds else ""),
            )
        )
        for _ in range(2 if self._happens(self.chances.stored_twice) else 1):
            copy = Copy(
                message,
                self.name,
                now + delay_seconds,
                delayed=delay_seconds > 0,
                announced=delay_seconds <= 0,
            )
            message.copies.append(copy)
            self._stored[copy] = None
        if len(message.copies) > 1:
            message.life.append((now, "stored twice"))
        self.messages.append(message)
        self._link_dead_letter(message, now)
        self.wake()
        return message

    def contents(self) -> list[SimulatedMessage]:
        """The messages in the queue, visible or not, in order of arrival."""
        now = _now()
        for copy in self._stored:
            copy.announce(now)
        return list(dict.fromkeys(copy.message for copy in self._stored))

    def count(self, state: CopyState) -> int:
        """The number of stored copies that are delayed, visible or hidden."""
        now = _now()
        return sum(copy.state(now) is state for copy in self._stored)

    def receive_count(self, message: SimulatedMessage) -> int:
        """The highest ApproximateReceiveCount of its copies."""
        return max(copy.receive_count for copy in message.copies)

    def move_all(self, destination: SimulatedQueue) -> list[SimulatedMessage]:
        """StartMessageMoveTask: what is visible gets a new id, time and receive count there."""
        now = _now()
        moved = []
        for copy in [copy for copy in self._stored if copy.state(now) is CopyState.VISIBLE]:
            copy.message.life.append((now, f"moved to {destination.name} by an operator"))
            self._remove(copy)
            moved.append(destination.send(copy.message.body, copy.message.attributes))
        return moved

    # what a client asks

    def take(
        self, limit: int, visibility_seconds: float, receiver: str = ""
    ) -> list[tuple[Copy, str]]:
        """Receives at most so many of the visible messages at random, each with its new handle."""
        now = _now()
        candidates = []
        for copy in [copy for copy in self._stored if copy.visible_at <= now]:
            copy.announce(now)
            if self.max_receive_count is not None and copy.receive_count >= self.max_receive_count:
                self._redrive(copy, now)
            else:
                candidates.append(copy)
        self._random.shuffle(candidates)
        if len(candidates) > 1 and self._happens(self.chances.fewer_than_asked):
            candidates = candidates[: self._random.randrange(1, len(candidates))]
        if self._happens(self.chances.delivered_in_flight):
            limited = self.max_receive_count or math.inf
            hidden = [
                copy
                for copy in self._stored
                if copy.state(now) is CopyState.HIDDEN and copy.receive_count < limited
            ]
            if hidden:
                candidates.insert(0, self._random.choice(hidden))
        return [
            (copy, self._receive(copy, now, visibility_seconds, receiver))
            for copy in candidates[:limit]
        ]

    async def poll(
        self, limit: int, wait_seconds: float, visibility_seconds: float, receiver: str = ""
    ) -> list[tuple[Copy, str]]:
        """A long poll, as the server carries it on for as long as it was asked to, whether anybody
        still listens or not.
        """
        until = _now() + wait_seconds
        if not wait_seconds and self._happens(self.chances.short_poll_misses):
            return []
        while True:
            taken = self.take(limit, visibility_seconds, receiver)
            if taken or _now() >= until:
                return taken
            await self._change_of_visibility(until)

    def delete(self, handle: str) -> None:
        """DeleteMessage: succeeds for every handle that the queue ever gave.

        Raises:
            Refusal: it never gave this one.
        """
        copy = self._copy(handle)
        self._take_effect(functools.partial(self._delete_now, copy, handle), copy, "delete")

    def hide(self, handle: str, seconds: int) -> None:
        """ChangeMessageVisibility.

        Raises:
            Refusal: not for this handle, or not so long.
        """
        if not 0 <= seconds <= MAX_VISIBILITY_SECONDS:
            reason = f"Must be between 0 and {MAX_VISIBILITY_SECONDS}, if provided."
            raise Refusal(
                "InvalidParameterValue",
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: {reason}",
            )
        copy = self._copy(handle)
        now = _now()
        copy.announce(now)
        old = copy.handle != handle
        if (
            copy.deleted
            or copy.queue != self.name
            or (old and not self._happens(self.chances.old_handle_hides))
        ):
            reason = "Message does not exist or is not available for visibility timeout change."
            raise Refusal(
                "InvalidParameterValue",
                f"Value {handle} for parameter ReceiptHandle is invalid. Reason: {reason}",
            )
        if copy.visible_at <= now:
            raise Refusal(
                "AWS.SimpleQueueService.MessageNotInflight",
                "The specified message isn't in flight.",
                shape="MessageNotInflight",
            )
        if now + seconds > copy.received_at + MAX_VISIBILITY_SECONDS:
            reason = (
                "Total VisibilityTimeout for the message is beyond the limit "
                f"[{MAX_VISIBILITY_SECONDS} seconds]"
            )
            raise Refusal(
                "InvalidParameterValue",
                f"Value {seconds} for parameter VisibilityTimeout is invalid. Reason: {reason}",
            )
        if old:
            copy.message.life.append((now, "an old handle hides"))
        self._take_effect(
            functools.partial(self._hide_now, copy, copy.handle, now + seconds),
            copy,
            f"hide for {seconds} s",
        )

    def attributes(self, names: Iterable[str]) -> dict[str, str]:
        """GetQueueAttributes."""
        asked = set(names)
        if unknown := asked - _ATTRIBUTES - {"All"}:
            raise Refusal(
                "InvalidAttributeName",
                f"Unknown Attribute {min(unknown)}.",
                shape="InvalidAttributeName",
            )
        has = {
            "QueueArn": self.arn,
            "VisibilityTimeout": str(self.visibility_seconds),
            "ApproximateNumberOfMessages": str(self.count(CopyState.VISIBLE)),
            "ApproximateNumberOfMessagesNotVisible": str(self.count(CopyState.HIDDEN)),
            "ApproximateNumberOfMessagesDelayed": str(self.count(CopyState.DELAYED)),
            "MaximumMessageSize": str(MAX_BYTES),
            "MessageRetentionPeriod": "345600",
            "DelaySeconds": "0",
            "ReceiveMessageWaitTimeSeconds": "0",
        }
        if self.dead_letters is not None:
            policy = {
                "deadLetterTargetArn": self.dead_letters.arn,
                "maxReceiveCount": self.max_receive_count,
            }
            has["RedrivePolicy"] = json.dumps(policy)
        return (
            has if "All" in asked else {name: value for name, value in has.items() if name in asked}
        )

    # inside

    def wake(self) -> None:
        """Wakes every long poll."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _change_of_visibility(self, until: float) -> None:
        """Waits until there may be something to see, at the latest until a time."""
        now = _now()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting.append(waiter)
        next_visible = min(
            (copy.visible_at for copy in self._stored if copy.visible_at > now), default=until
        )
        timer = loop.call_at(min(next_visible, until), _set, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _receive(self, copy: Copy, now: float, visibility_seconds: float, receiver: str) -> str:
        message = copy.message
        if copy.visible_at > now:
            message.life.append((now, "delivered although in flight"))
        message.receives += 1
        handle = f"{self.name}/{message.message_id}#{message.receives}"
        copy.receive_count += 1
        copy.received_at, copy.visible_at, copy.handle = now, now + visibility_seconds, handle
        copy.delayed, copy.announced = False, visibility_seconds <= 0
        self._receives[handle] = copy
        by = f" by {receiver}" if receiver else ""
        message.life.append(
            (now, f"received {copy.receive_count}{by}, hidden {visibility_seconds:g} s")
        )
        return handle

    def _redrive(self, copy: Copy, now: float) -> None:
        assert self.dead_letters is not None, "a maximum of receives needs a dead-letter queue"
        del self._stored[copy]
        copy.queue, copy.redriven_from, copy.handle = self.dead_letters.name, self.arn, None
        copy.visible_at, copy.announced = now, True
        copy.message.life.append(
            (now, f"redriven to {self.dead_letters.name} after {copy.receive_count} receives")
        )
        self.dead_letters.accept(copy)

    def accept(self, copy: Copy) -> None:
        """Takes a copy that a redrive policy sends."""
        self._stored[copy] = None
        self.wake()

    def _copy(self, handle: str) -> Copy:
        copy = self._receives.get(handle)
        if copy is None:
            raise Refusal(
                "ReceiptHandleIsInvalid",
                f'The input receipt handle "{handle}" is not a valid receipt handle.',
                404,
                "ReceiptHandleIsInvalid",
            )
        return copy

    def _take_effect(self, carry_out: Callable[[], None], copy: Copy, what: str) -> None:
        """Now, or by chance some time after it was answered."""
        if not self._happens(self.chances.acknowledged_late):
            carry_out()
            return
        late = self._random.random() * self.chances.late_seconds
        copy.message.life.append((_now(), f"{what} answered, takes effect {late:.3f} s later"))
        # in a context of its own: it takes effect whatever becomes of who has asked
        asyncio.get_running_loop().call_later(late, carry_out, context=contextvars.Context())

    def _delete_now(self, copy: Copy, handle: str) -> None:
        now = _now()
        copy.announce(now)
        if copy.deleted or copy.queue != self.name:
            return
        if copy.handle != handle and not self._happens(self.chances.old_handle_deletes):
            copy.message.life.append((now, "delete with an old handle, without effect"))
        elif self._happens(self.chances.deleted_comes_back):
            copy.message.life.append((now, "deleted, but it will come back"))
        else:
            copy.message.life.append(
                (now, "deleted" if copy.handle == handle else "deleted with an old handle")
            )
            self._remove(copy)

    def _hide_now(self, copy: Copy, handle: str | None, visible_at: float) -> None:
        now = _now()
        copy.announce(now)
        if copy.deleted or copy.handle != handle or copy.visible_at <= now:
            return
        copy.visible_at = max(now, visible_at)
        if copy.visible_at > now:
            copy.message.life.append((now, f"hidden {copy.visible_at - now:g} s"))
        else:
            copy.message.life.append((now, "visible again"))
            copy.announced = True
        self.wake()

    def _remove(self, copy: Copy) -> None:
        del self._stored[copy]
        copy.deleted = True

    def _link_dead_letter(self, letter: SimulatedMessage, now: float) -> None:
        """Finds the message that the daemon rejects by this one: the same body, in its hands."""
        for source in self.dead_letter_sources:
            for copy in source.hidden():
                if copy.message.body == letter.body and not any(
                    each.dead_letter_of is copy.message for each in self.messages
                ):
                    letter.dead_letter_of = copy.message
                    copy.message.life.append(
                        (
                            now,
                            (
                                f"dead-lettered by us as {letter.message_id}: "
                                f"{letter.texts.get('reason', '?')}"
                            ),
                        )
                    )
                    return

    def hidden(self) -> list[Copy]:
        """The copies in flight."""
        now = _now()
        return [copy for copy in self._stored if copy.state(now) is CopyState.HIDDEN]

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._random.random() < chance


def _now() -> float:
    return asyncio.get_running_loop().time()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)

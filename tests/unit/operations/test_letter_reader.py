"""Reading a dead-letter queue, and sending its letters back: what happens when something fails."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from daemon.aws.dead_letter_ports import DeadLetterQueueState, ReceivedLetter
from daemon.aws.ports import Failed, Sent
from daemon.clock import wall
from daemon.errors import EdgeFault
from daemon.operations import letter_reader
from daemon.operations.dead_letters import Choice, copy_of
from daemon.operations.letter_reader import LetterReader, visibility_for
from daemon.operations.redrive import CLOCKS_DIFFER_SECONDS, Copier
from daemon.reasons import Edge, Reason
from tests.support.flow_scene import event_body

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from daemon.aws.ports import OutgoingMessage
    from daemon.operations.dead_letters import Letter

OUTAGE = EdgeFault(Edge.QUEUE, Reason.UNAVAILABLE, "SQS is unavailable")
DENIED = EdgeFault(Edge.QUEUE, Reason.ACCESS_DENIED, "sqs:ReceiveMessage is missing")


def letter(number: int, *, receive: int = 1, sent_at: float = 0.0, job: str = "") -> ReceivedLetter:
    return ReceivedLetter(
        f"m-{number}",
        f"m-{number}/{receive}",
        event_body(job or f"job-{number}"),
        receive,
        sent_at,
        sent_at,
        {"reason": "tags_incomplete", "detail": "missing"},
    )


@dataclass
class ScriptedLetters:
    """A `DeadLetterQueue`: what each receive brings or raises, and what was asked of it."""

    receives: deque[list[ReceivedLetter] | Exception] = field(default_factory=deque)
    visible: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    delete_answers: deque[Failed | None] = field(default_factory=deque)
    receiving: asyncio.Event = field(default_factory=asyncio.Event)
    answer_again: asyncio.Event | None = None

    async def state(self) -> DeadLetterQueueState:
        raise NotImplementedError

    async def receive(
        self, *, visibility_seconds: int, wait_seconds: int
    ) -> Sequence[ReceivedLetter]:
        del visibility_seconds, wait_seconds
        await asyncio.sleep(0)
        self.receiving.set()
        answer = self.receives.popleft() if self.receives else []
        if self.answer_again is not None:
            await self.answer_again.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[Failed | None]:
        answers = [
            self.delete_answers.popleft() if self.delete_answers else None for _ in receipt_handles
        ]
        self.deleted += [
            handle
            for handle, answer in zip(receipt_handles, answers, strict=True)
            if answer is None
        ]
        return answers

    async def hide(self, entries: Sequence[tuple[str, int]]) -> Sequence[Failed | None]:
        self.visible += [handle for handle, seconds in entries if seconds == 0]
        return [None] * len(entries)

    async def start_move(self, source_arn: str, destination_arn: str) -> None:
        raise NotImplementedError

    async def moves(self, source_arn: str) -> Sequence[object]:
        raise NotImplementedError

    async def cancel_move(self, handle: str) -> None:
        raise NotImplementedError


class ScriptedSends:
    """The sending part of a `Queue`: what it answers to each message."""

    def __init__(self, *answers: Sent | Failed | None) -> None:
        self.answers = deque(answers)
        self.sent: list[OutgoingMessage] = []

    async def send(self, entries: Sequence[OutgoingMessage]) -> Sequence[Sent | Failed]:
        answers = [
            (self.answers.popleft() if self.answers else None) or Sent("new") for _ in entries
        ]
        self.sent += [
            entry
            for entry, answer in zip(entries, answers, strict=True)
            if isinstance(answer, Sent)
        ]
        return answers


async def nothing(_letters: Sequence[object]) -> Collection[str]:
    return ()


async def tell_nobody(_letters: Sequence[Letter]) -> None: ...


def copier(queue: ScriptedSends, letters: ScriptedLetters) -> Copier:
    return Copier(queue, letters, "arn:aws:sqs:::q", Choice(), tell_nobody)  # type: ignore[arg-type]


async def test_each_letter_is_seen_once_and_made_visible_by_its_newest_handle() -> None:
    seen: list[str] = []

    async def look(letters: Sequence[ReceivedLetter]) -> Collection[str]:
        seen.extend(each.message_id for each in letters)
        return ()

    queue = ScriptedLetters(deque([[letter(1), letter(2)], [letter(1, receive=2), letter(3)]]))
    reading = await LetterReader(queue, 30, look).read()  # type: ignore[arg-type]
    assert sorted(seen) == ["m-1", "m-2", "m-3"]
    assert sorted(queue.visible) == ["m-1/2", "m-2/1", "m-3/1"]
    assert (reading.seen, reading.still_hidden, reading.complete) == (3, 0, True)


async def test_letters_that_come_again_and_again_end_the_reading() -> None:
    queue = ScriptedLetters(deque([[letter(1, receive=number)] for number in range(1000)]))
    reading = await LetterReader(queue, 30, nothing).read()  # type: ignore[arg-type]
    assert reading.seen == 1
    assert len(queue.receives) > 900


async def test_a_fault_makes_visible_what_was_received_before() -> None:
    queue = ScriptedLetters(deque([[letter(1)], DENIED, [letter(2)]]))
    with pytest.raises(EdgeFault):
        await LetterReader(queue, 30, nothing).read()  # type: ignore[arg-type]
    assert set(queue.visible) == {"m-1/1", "m-2/1"}


async def test_a_passing_fault_does_not_end_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letter_reader, "_PAUSE_SECONDS", 0)
    queue = ScriptedLetters(deque([[letter(1)], OUTAGE, [letter(2)]]))
    assert (await LetterReader(queue, 30, nothing).read()).seen == 2  # type: ignore[arg-type]
    queue = ScriptedLetters(deque([OUTAGE] * 16))
    with pytest.raises(EdgeFault):
        await LetterReader(queue, 30, nothing).read()  # type: ignore[arg-type]


async def test_a_cancelled_reading_waits_for_its_receives_and_gives_back_what_they_bring() -> None:
    queue = ScriptedLetters(deque([[letter(1)]]), answer_again=asyncio.Event())
    reading = asyncio.create_task(LetterReader(queue, 30, nothing).read())  # type: ignore[arg-type]
    await queue.receiving.wait()
    reading.cancel()
    await asyncio.sleep(0)
    assert queue.answer_again is not None
    queue.answer_again.set()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert queue.visible == ["m-1/1"]


def test_more_letters_are_hidden_longer_within_bounds() -> None:
    assert [visibility_for(number) for number in (0, 10_000, 1_000_000)] == [30, 230, 900]


async def test_only_what_the_queue_has_accepted_is_deleted() -> None:
    queue = ScriptedSends(None, Failed("InternalError", "", stale=False))
    letters = ScriptedLetters()
    copying = copier(queue, letters)
    assert await copying.act([letter(1), letter(2)]) == ["m-1"]
    assert letters.deleted == ["m-1/1"]
    assert copying.done.refused == {"m-2": "SQS did not take it: InternalError"}


async def test_a_failed_delete_is_tried_again_and_then_told() -> None:
    failed = Failed("InternalError", "", stale=False)
    letters = ScriptedLetters(delete_answers=deque([failed]))
    copying = copier(ScriptedSends(), letters)
    assert await copying.act([letter(1)]) == ["m-1"]

    stale = Failed("ReceiptHandleIsInvalid", "", stale=True)
    copying = copier(ScriptedSends(), ScriptedLetters(delete_answers=deque([stale])))
    assert await copying.act([letter(2)]) == []
    assert copying.done.undeleted == ["m-2"]


async def test_a_fault_of_the_whole_queue_ends_the_redrive_after_what_was_sent() -> None:
    throttled = Failed("RequestThrottled", "", stale=False, reason=Reason.THROTTLED)
    letters = ScriptedLetters()
    with pytest.raises(EdgeFault, match="throttled"):
        await copier(ScriptedSends(None, throttled), letters).act([letter(1), letter(2)])
    assert letters.deleted == ["m-1/1"]


async def test_a_letter_that_comes_back_is_not_sent_again() -> None:
    queue = ScriptedSends()
    copying = copier(queue, ScriptedLetters())
    await copying.act([letter(1, job="a")])
    # rejected again: a new letter with the same body
    assert await copying.act([letter(2, job="a", sent_at=wall())]) == []
    assert copying.done.came_back == 1
    # there before: a duplicate of the event
    before = wall() - 2 * CLOCKS_DIFFER_SECONDS
    assert await copying.act([letter(3, job="a", sent_at=before)]) == ["m-3"]
    assert len(queue.sent) == 2


def test_a_copy_that_does_not_fit_goes_without_its_origin() -> None:
    body = "x" * (1_048_576 - len("reason") - len("String") - len("job_gone"))
    assert copy_of(body, {"reason": "job_gone"}).attributes == {"reason": "job_gone"}
    ten = {f"a{number}": "x" for number in range(10)}
    assert copy_of("{}", ten).attributes == ten
    assert copy_of("{}", {"reason": "x"}).attributes == {"reason": "x", "origin": "redrive"}

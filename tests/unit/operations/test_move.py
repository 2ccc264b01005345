"""SQS's own move task, followed and cancelled."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

import pytest

from daemon.aws.dead_letter_ports import MoveTask
from daemon.operations import move
from daemon.operations.move import MoveFailedError, move_all

BEFORE = MoveTask("", "COMPLETED", 7, 7, 100.0)


def task(status: str, moved: int = 0, *, started_at: float = 200.0) -> MoveTask:
    return MoveTask("h-1" if status == "RUNNING" else "", status, moved, 9, started_at)


@dataclass
class ScriptedMoves:
    """The moving part of a `DeadLetterQueue`: what each look at its tasks shows."""

    looks: deque[list[MoveTask]]
    started: int = 0
    cancelled: list[str] = field(default_factory=list)
    looked: asyncio.Event = field(default_factory=asyncio.Event)

    async def start_move(self, source_arn: str, destination_arn: str) -> None:
        assert (source_arn, destination_arn) == ("dlq", "queue")
        self.started += 1

    async def moves(self, source_arn: str) -> list[MoveTask]:
        assert source_arn == "dlq"
        if self.started:
            self.looked.set()
        return self.looks.popleft() if len(self.looks) > 1 else self.looks[0]

    async def cancel_move(self, handle: str) -> None:
        self.cancelled.append(handle)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(move, "LOOK_SECONDS", 0)


async def test_a_task_is_followed_to_its_end_and_earlier_ones_are_not_taken_for_it() -> None:
    letters = ScriptedMoves(
        deque([[BEFORE], [BEFORE], [task("RUNNING", 4), BEFORE], [task("COMPLETED", 9), BEFORE]])
    )
    seen: list[int] = []
    ended = await move_all(
        letters,  # type: ignore[arg-type]
        "dlq",
        "queue",
        lambda task: seen.append(task.moved),
    )
    assert (letters.started, ended.moved, seen) == (1, 9, [4, 9])


async def test_a_task_that_is_under_way_is_followed_instead_of_a_second_one() -> None:
    letters = ScriptedMoves(deque([[task("RUNNING")], [task("COMPLETED", 9)]]))
    ended = await move_all(letters, "dlq", "queue", lambda _task: None)  # type: ignore[arg-type]
    assert (letters.started, ended.moved) == (0, 9)


async def test_ctrl_c_cancels_the_task() -> None:
    letters = ScriptedMoves(deque([[], [task("RUNNING", 4)]]))
    moving = asyncio.create_task(
        move_all(letters, "dlq", "queue", lambda _task: None)  # type: ignore[arg-type]
    )
    await letters.looked.wait()
    moving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await moving
    assert letters.cancelled == ["h-1"]


async def test_a_task_that_fails_says_how_far_it_came() -> None:
    letters = ScriptedMoves(deque([[], [task("FAILED", 4)]]))
    with pytest.raises(MoveFailedError, match="after 4 messages"):
        await move_all(letters, "dlq", "queue", lambda _task: None)  # type: ignore[arg-type]

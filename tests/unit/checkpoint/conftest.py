"""A checkpoint in a file, a clock that a test moves, and more owners of the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.checkpoint_calls import FakeClock, checkpoints_at, several_owners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from tests.support.checkpoint_calls import Start


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """The wall clock of every checkpoint."""
    clock = FakeClock()
    with checkpoints_at(clock):
        yield clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.db"


@pytest.fixture
async def start(path: Path, clock: FakeClock) -> AsyncIterator[Start]:
    """Opens the checkpoint once more, as another process would."""
    async with several_owners(path) as start:
        yield start


@pytest.fixture
async def checkpoint(start: Start) -> SqliteCheckpoint:
    return await start()

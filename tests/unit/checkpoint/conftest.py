"""A checkpoint in a file, a clock that a test moves, and more owners of the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.checkpoint_calls import FakeClock, several_owners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint
    from tests.support.checkpoint_calls import Start


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.db"


@pytest.fixture
async def start(path: Path, clock: FakeClock) -> AsyncIterator[Start]:
    """Opens the checkpoint once more, as another process would."""
    async with several_owners(path, clock) as start:
        yield start


@pytest.fixture
async def checkpoint(start: Start) -> SqliteCheckpoint:
    return await start()

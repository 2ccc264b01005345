"""What only the SQLite store promises; `tests/checkpoint` has what every store does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.checkpoint_calls import (
    LEASE,
    begin,
    claimed,
    deferred,
    rejected,
    skipped,
    synced,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from daemon.checkpoint.sqlite.store import SqliteCheckpoint


@pytest.mark.parametrize("finish", [synced, skipped, rejected, deferred])
async def test_every_record_ends_the_locks_of_the_claim(
    checkpoint: SqliteCheckpoint, finish: Callable[..., Awaitable[None]]
) -> None:
    claim = await claimed(checkpoint)
    await checkpoint.lock_name(claim, "project/churn", LEASE)
    await begin(checkpoint, claim)

    await finish(checkpoint, claim)

    locks = await checkpoint._read(
        lambda connection: connection.execute("SELECT count(*) FROM name_locks").fetchone()[0]
    )
    assert locks == 0

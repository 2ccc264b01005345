"""What the flow asks about a job is found by its ARN, however many jobs there are."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.sqlite import job_rows
from daemon.checkpoint.sqlite.schema import MIGRATIONS, migrate
from tests.support.page_scenes import TARGET, arn_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ARN = arn_of("x")
ASKED: dict[str, Callable[[sqlite3.Connection], object]] = {
    "find": lambda connection: job_rows.find(connection, TARGET, ARN, "2025"),
    "described": lambda connection: job_rows.described(connection, TARGET, ARN),
    "enqueued": lambda connection: job_rows.enqueued(connection, TARGET, ARN),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_job_is_found_by_its_arn(tmp_path: Path, name: str) -> None:
    """With an index on its target, each look would read half a million rows of a million."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    migrate(connection, tmp_path, 0.0, MIGRATIONS)
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    ASKED[name](connection)
    connection.set_trace_callback(None)
    plans = [
        row["detail"]
        for statement in asked
        for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")
        if row["detail"].startswith(("SEARCH", "SCAN"))
    ]
    connection.close()
    assert len(plans) == 1
    assert "sqlite_autoindex_jobs_1 (job_arn=?" in plans[0]

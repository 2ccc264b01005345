"""Stories of jobs in SQL. Every function is part of a transaction."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from daemon.checkpoint import rules
from daemon.story import StoryEntry, StoryEvent
from daemon.targets.place import ANY_TARGET

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from daemon.targets.place import TargetPlace


def find(connection: sqlite3.Connection, target: TargetPlace, job_arn: str) -> list[StoryEntry]:
    """Oldest first; of `ANY_TARGET`: those of all targets."""
    rows = connection.execute(
        "SELECT entries FROM stories WHERE job_arn = ? AND (? OR (target, place) = (?, ?))",
        (job_arn, target == ANY_TARGET, target.kind, target.place),
    ).fetchall()
    entries = [entry for (text,) in rows for entry in _entries(text)]
    return sorted(entries, key=lambda entry: entry.at) if len(rows) > 1 else entries


def add(
    connection: sqlite3.Connection,
    target: TargetPlace,
    job_arn: str,
    entries: Sequence[StoryEntry],
    *,
    now: float,
) -> None:
    if not entries or not job_arn:
        return
    story = rules.story(find(connection, target, job_arn), entries)
    text = json.dumps(
        [[entry.at, entry.what, entry.message_id, entry.detail, entry.owner] for entry in story],
        ensure_ascii=False,
        separators=(",", ":"),
    )
    connection.execute(
        "INSERT INTO stories (job_arn, target, place, entries, updated_at) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (job_arn, target, place) "
        "DO UPDATE SET entries = excluded.entries, updated_at = excluded.updated_at",
        (job_arn, target.kind, target.place, text, now),
    )


def _entries(text: str) -> list[StoryEntry]:
    return [
        StoryEntry(at, StoryEvent(what), message_id, detail, owner)
        for at, what, message_id, detail, owner in json.loads(text)
    ]

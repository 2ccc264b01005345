from __future__ import annotations

import pytest

from daemon.redaction.redactor import Redactor
from daemon.story import (
    DETAIL_LIMIT,
    ENTRIES_LIMIT,
    FIRST_ENTRIES,
    StoryEntry,
    StoryEvent,
    continued,
    story_entry,
)


def entries(*moments: float) -> list[StoryEntry]:
    return [StoryEntry(at, StoryEvent.HELD) for at in moments]


def test_of_a_long_story_the_first_entries_and_the_newest_stay() -> None:
    story: list[StoryEntry] = []
    for at in range(100):
        story = list(continued(story, entries(at)))
    kept = [entry.at for entry in story]
    assert len(kept) == ENTRIES_LIMIT
    assert kept[:FIRST_ENTRIES] == list(range(FIRST_ENTRIES))
    assert kept[FIRST_ENTRIES:] == list(range(100 - ENTRIES_LIMIT + FIRST_ENTRIES, 100))


def test_entries_are_in_order_and_none_is_told_twice() -> None:
    told = entries(2.0, 4.0)
    assert continued(told, [*entries(3.0, 3.0), told[1]]) == entries(2.0, 3.0, 4.0)


def test_a_detail_is_kept_short_and_without_secrets() -> None:
    entry = story_entry(StoryEvent.OUTCOME, f"password=hunter2hunter2 {'x' * 5000}")
    assert len(entry.detail) == DETAIL_LIMIT
    assert "hunter2" not in entry.detail
    assert "[redacted" in entry.detail


@pytest.mark.parametrize("patterns", [("badge",), ("badge", "token")])
def test_the_configured_patterns_count(patterns: tuple[str, ...]) -> None:
    entry = story_entry(StoryEvent.HELD, "badge=ab12cd34", redactor=Redactor(patterns))
    assert "ab12cd34" not in entry.detail

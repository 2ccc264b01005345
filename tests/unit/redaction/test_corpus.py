"""The corpus: no secret is missed, nothing harmless is hidden."""

from __future__ import annotations

import pytest

from daemon.redaction.redactor import Redactor
from tests.support.redaction_corpus import Entry, corpus, table

ENTRIES = corpus()


def test_the_corpus_is_large_and_half_of_it_harmless() -> None:
    harmless = sum(not entry.hidden for entry in ENTRIES)
    assert len(ENTRIES) >= 160
    assert 0.4 < harmless / len(ENTRIES) < 0.6
    for kind in {entry.kind for entry in ENTRIES}:
        assert sum(bool(entry.hidden) for entry in ENTRIES if entry.kind == kind) >= 10, kind


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=[f"{at}-{entry.key}" for at, entry in enumerate(ENTRIES)]
)
def test_an_entry(entry: Entry) -> None:
    assert not entry.missed, entry.shown
    assert not entry.wrongly_hidden, entry.shown


def test_the_table_counts() -> None:
    missed = Entry("key", "note", "hunter2", ("hunter2",), ())
    wrong = Entry("key", "password", "hunter2", (), ())
    lines = table([missed, wrong]).split("\n")
    assert lines[-1].split() == ["all", "1", "0", "1", "1", "1"]


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=[f"{at}-{entry.key}" for at, entry in enumerate(ENTRIES)]
)
def test_what_is_redacted_stays_as_it_is(entry: Entry) -> None:
    shown = entry.shown
    assert Redactor().value(entry.key, shown).text == shown


def test_without_patterns_everything_stays() -> None:
    for entry in ENTRIES:
        assert Redactor(()).value(entry.key, entry.value).text == entry.value

"""The runbook's table of reasons says what the status page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.advice import ADVICE, RUNBOOK_ENTRY, advice
from daemon.reasons import Edge, Reason

RUNBOOK = (Path(__file__).parents[2] / "docs/runbook.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_has_the_same_words_on_the_page_and_in_the_runbook(reason: Reason) -> None:
    known = advice(reason)
    assert known is ADVICE[reason]
    assert f"| `{reason}` | {known.means} | {known.do} |" in RUNBOOK


@pytest.mark.parametrize("edge", list(Edge))
def test_each_edge_has_its_entry(edge: Edge) -> None:
    assert f"\n## {RUNBOOK_ENTRY[edge]}\n" in RUNBOOK


def test_a_word_of_a_newer_version_has_no_advice() -> None:
    assert advice("never_heard_of") is None
    assert advice("") is None

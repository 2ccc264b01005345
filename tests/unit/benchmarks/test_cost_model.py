"""docs/scaling.md is what the model prints."""

from __future__ import annotations

import pytest

from benchmarks import cost_model
from benchmarks.cost_model import PAGE, by_scale, limits, per_million, with_tables


def test_the_document_has_the_tables_as_computed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page), "run: python -m benchmarks.cost_model --write"
    for made in (per_million(), by_scale(), limits()):
        assert made in page


def test_another_price_is_another_document(monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(cost_model, "SQS_REQUEST", 2 * cost_model.SQS_REQUEST)
    assert with_tables(page) != page


def test_the_arithmetic() -> None:
    assert cost_model.sqs_requests(1) == 3
    assert cost_model.sqs_requests(10) == pytest.approx(1.2)
    assert cost_model.write_units() == 2 + 2 + 2 * 3
    assert cost_model.fargate_month(1) == pytest.approx(9.01, abs=0.01)
    assert cost_model.tasks_for(0.1) == 1
    assert cost_model.tasks_for(58) == 4


@pytest.mark.parametrize(("seconds", "dollars"), [(1, 0.17), (5, 0.33)])
def test_the_sample_costs_what_its_facts_say(seconds: float, dollars: float) -> None:
    assert cost_model.sample_cost(2 * seconds) * 1000 == pytest.approx(dollars, rel=0.15)

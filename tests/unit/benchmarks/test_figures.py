"""The benchmark's statistics, and its account of jobs against runs."""

from __future__ import annotations

import pytest

from benchmarks.bench.figures import Account, Spread, percentile


def test_a_spread_is_the_median_with_least_and_most() -> None:
    spread = Spread.of([3.0, 1.0, 2.0, 10.0, 2.5])

    assert (spread.median, spread.least, spread.most, spread.rounds) == (2.5, 1.0, 10.0, 5)
    assert spread.text() == "2.5 (1.0-10.0)"
    assert spread.text(0) == "2 (1-10)"


def test_without_rounds_there_is_no_spread() -> None:
    with pytest.raises(ValueError, match="no round"):
        Spread.of([])


def test_a_percentile_is_a_figure_that_was_measured() -> None:
    figures = [float(number) for number in range(100, 0, -1)]

    assert [percentile(figures, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0


def test_lost_doubled_and_strange_runs_are_counted() -> None:
    account = Account.of(["a", "b", "c", "d"], ["a", "a", "a", "b", "x", "d"])

    assert account == Account(jobs=4, runs=6, lost=1, doubled=2, strange=1)
    assert not account.exact


def test_a_run_for_each_job_is_exact() -> None:
    assert Account.of(["a", "b"], ["b", "a"]).exact


def test_one_lost_and_one_doubled_is_not_exact_although_the_numbers_agree() -> None:
    account = Account.of(["a", "b"], ["a", "a"])

    assert account.jobs == account.runs
    assert not account.exact


def test_accounts_of_rounds_add_up() -> None:
    total = Account(4, 6, 1, 2, 1) + Account(2, 2, 0, 0, 0)

    assert total == Account(jobs=6, runs=8, lost=1, doubled=2, strange=1)

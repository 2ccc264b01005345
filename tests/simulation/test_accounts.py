"""Histories with two accounts, and their rules broken on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest import mock

import pytest

from daemon.errors import EdgeFault
from daemon.pipeline.worker import Worker
from tests.simulation import history
from tests.simulation.accounts import KIND, LONG
from tests.simulation.kinds import plan_of
from tests.simulation.work import result_of_work

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

TARGETS = ("modeldb-v2", "modeldb-v1", "mlflow")

pytestmark = pytest.mark.timeout(600)


def require_right(target: str, seed: int) -> None:
    result = result_of_work(("history", target, str(seed), KIND))
    if result.wrongs:
        print("\n".join(result.lines))
    assert result.wrongs == []


@pytest.mark.parametrize("target", TARGETS)
def test_one_account_that_is_denied_holds_up_no_other(target: str) -> None:
    for seed in range(1, 3):
        require_right(target, seed)


@pytest.mark.slow  # more than an hour, with heartbeats all along
def test_one_that_is_denied_for_more_than_an_hour_loses_nothing() -> None:
    seed = next(each for each in range(50) if plan_of(each, "modeldb-v2", KIND).horizon > LONG)
    require_right("modeldb-v2", seed)


@pytest.mark.slow  # hundreds of histories
@pytest.mark.parametrize("target", TARGETS)
def test_many_histories(target: str) -> None:
    for seed in range(3, 60):
        require_right(target, seed)


def held_messages_keep_their_slots() -> AbstractContextManager[object]:
    return mock.patch.object(Worker, "_parks", return_value=False)


def a_fault_of_one_account_is_that_of_all() -> AbstractContextManager[object]:
    def everybodys(self: EdgeFault, _where: str) -> EdgeFault:
        return self

    return mock.patch.object(EdgeFault, "of", everybodys)


@pytest.mark.parametrize(
    "broken",
    [
        held_messages_keep_their_slots,
        # a history that does not end
        pytest.param(a_fault_of_one_account_is_that_of_all, marks=pytest.mark.slow),
    ],
)
def test_a_broken_rule_is_seen(broken: Callable[[], AbstractContextManager[object]]) -> None:
    with broken():
        assert any(history.run(seed, "modeldb-v2", KIND).wrongs for seed in range(6))

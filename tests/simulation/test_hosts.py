"""Several hosts with one checkpoint in DynamoDB: a fixed, quick set. `python -m tests.simulation
histories --checkpoint dynamodb` runs any number of histories, and `crash-points --checkpoint
dynamodb` every point (some 42,000, half an hour of two cores).
"""

from __future__ import annotations

import pytest

from tests.simulation import crash_points, history
from tests.simulation.crash_points import DYNAMODB, PAUSE
from tests.simulation.hosts_kinds import HOSTS_KINDS
from tests.simulation.kinds import HOSTS
from tests.simulation.mutations import MUTATIONS, Mutation, found_after
from tests.simulation.work import TARGETS, replay_command, result_of_work

QUICK_SEEDS = 1
SEEDS = 6
QUICK_POINTS = 2
POINTS = 4
MOST = 60
"""Histories until one finds a broken rule, at most."""
OF_DYNAMODB = [mutation for mutation in MUTATIONS if mutation.rule.startswith("DynamoDB: ")]

pytestmark = pytest.mark.timeout(600)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_same_seed_is_the_same_history_of_several_hosts(target: str) -> None:
    first, second = (history.run(3, target, HOSTS) for _ in range(2))
    assert first.lines == second.lines


@pytest.mark.parametrize(
    ("first", "last"),
    [(0, QUICK_SEEDS), pytest.param(QUICK_SEEDS, SEEDS, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("target", TARGETS)
def test_histories_of_several_hosts(target: str, first: int, last: int) -> None:
    for seed in range(first, last):
        _require_right(("history", target, str(seed), HOSTS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTS_KINDS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_history_of_each_kind_of_several_hosts(target: str, kind: str) -> None:
    _require_right(("history", target, "0", kind))


@pytest.mark.parametrize(
    ("target", "trouble", "most"),
    [
        pytest.param(target, trouble, most, marks=[] if most == QUICK_POINTS else pytest.mark.slow)
        for target in TARGETS
        for trouble in crash_points.TROUBLES[target]
        for most in (QUICK_POINTS, POINTS)
        if most == POINTS or not trouble
    ],
)
def test_points_at_which_one_of_two_daemons_ends_or_sleeps(
    target: str, trouble: str, most: int
) -> None:
    steps = crash_points.steps_of(target, trouble, DYNAMODB)
    for end in ("kill", "pause") if most == QUICK_POINTS else crash_points.ENDS_OF_HOSTS:
        for step in crash_points.some_points(steps, most):
            _require_right(("crash", target, trouble, end, str(step), DYNAMODB))


def test_a_history_is_not_over_while_a_daemon_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_points, "_PAUSE_SECONDS", 2 * history.DRAIN_SECONDS)
    result = crash_points.run_to("modeldb-v2", "", 100, PAUSE, DYNAMODB)
    assert any("does not converge" in wrong for wrong in result.wrongs)
    assert any("it waits for daemon-1, which is paused" in wrong for wrong in result.wrongs)


def test_a_woken_daemon_has_the_time_to_settle_what_it_left_in_doubt() -> None:
    in_doubt = 0
    # before two of these steps (which, depends on Python's version), it needs more than 30 s
    for step in range(206, 216):
        result = crash_points.run_to("mlflow", "model-versions/create slow", step, PAUSE, DYNAMODB)
        assert result.wrongs == []
        settled = [line for line in result.lines if "daemon-1: paused in a write until" in line]
        in_doubt += len(settled) == 2
    assert in_doubt, "at other steps now: look for those"


@pytest.mark.slow
@pytest.mark.parametrize("mutation", OF_DYNAMODB, ids=lambda mutation: mutation.rule)
def test_a_broken_rule_of_several_hosts_is_found(mutation: Mutation) -> None:
    assert found_after(mutation, MOST) is not None


def _require_right(work: tuple[str, ...]) -> None:
    result = result_of_work(work)
    if result.wrongs:
        print("\n".join(result.lines))
    assert result.wrongs == [], replay_command(work)

"""A fixed, quick set of the simulation; `make simulate` runs any number of histories."""

from __future__ import annotations

from unittest import mock

import pytest

from daemon.intake.acknowledgements import Acknowledgements
from tests.simulation import crash_points, history
from tests.simulation.kinds import KINDS
from tests.simulation.mutations import MUTATIONS, Mutation, found_after
from tests.simulation.work import TARGETS, replay_command, result_of_work

SEEDS = 48
SEEDS_AT_ONCE = 12
SEEDS_OF_A_KIND = 2
POINTS = 30
QUICK_SEEDS = 12
QUICK_POINTS = 12
"""The rest of the seeds and points is slow: there are three targets."""
SCRIPTED_KINDS = [
    (target, name)
    for name, kind in KINDS.items()
    for target in kind.targets
    if kind.is_scripted and kind.share
]

SLOW_TROUBLES = {
    ("mlflow", "model-versions/create slow"),
    ("mlflow", "runs/create answer lost"),
    ("mlflow", "experiments/create answer lost"),
}
OF_BACKFILL = [mutation for mutation in MUTATIONS if mutation.kind == "backfill"]

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_seed_is_the_same_history(target: str) -> None:
    first, second = (history.run(3, target) for _ in range(2))
    assert first.lines == second.lines
    assert (first.steps, first.seconds) == (second.steps, second.seconds)
    assert history.run(4, target).lines != first.lines


@pytest.mark.parametrize(
    "first",
    [
        # see QUICK_SEEDS
        pytest.param(first, marks=[pytest.mark.slow] if first >= QUICK_SEEDS else [])
        for first in range(0, SEEDS, SEEDS_AT_ONCE)
    ],
)
@pytest.mark.parametrize("target", TARGETS)
def test_long_histories(target: str, first: int) -> None:
    for seed in range(first, first + SEEDS_AT_ONCE):
        _require_right(("history", target, str(seed), ""))


@pytest.mark.parametrize(("target", "kind"), SCRIPTED_KINDS)
def test_scripted_histories(target: str, kind: str) -> None:
    for seed in range(SEEDS_OF_A_KIND):
        _require_right(("history", target, str(seed), kind))


def test_a_history_that_does_not_converge_is_wrong_and_says_what_it_waits_for() -> None:
    with mock.patch.object(Acknowledgements, "delete", _nothing):
        result = history.run(1, "modeldb-v2", "outages")
    assert result.turns < history.MOST_TURNS
    assert any("does not converge" in wrong for wrong in result.wrongs)
    assert any("it waits for jobs-1 (" in wrong for wrong in result.wrongs)


def test_a_history_without_progress_ends_after_a_bound_of_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "MOST_TURNS", 300)
    result = history.run(1, "modeldb-v2", "mixed")
    assert any("does not converge: no end after 300 turns" in wrong for wrong in result.wrongs)


@pytest.mark.parametrize(
    "most",
    [QUICK_POINTS, pytest.param(POINTS, marks=pytest.mark.slow)],  # see QUICK_POINTS
)
@pytest.mark.parametrize("end", crash_points.ENDS)
@pytest.mark.parametrize(
    ("target", "trouble"),
    [
        pytest.param(
            target,
            trouble,
            # each history takes a tenth of a second, and there are four other troubles of MLflow
            marks=[pytest.mark.slow] if (target, trouble) in SLOW_TROUBLES else [],
        )
        for target in TARGETS
        for trouble in crash_points.TROUBLES[target]
    ],
)
def test_points_at_which_the_daemon_can_end(target: str, trouble: str, end: str, most: int) -> None:
    steps = crash_points.steps_of(target, trouble)
    for step in crash_points.some_points(steps, most if end == "kill" else most // 3):
        _require_right(("crash", target, trouble, end, str(step), crash_points.SQLITE))


@pytest.mark.slow  # the rules of one kind of histories
@pytest.mark.parametrize("mutation", OF_BACKFILL, ids=lambda mutation: mutation.rule)
def test_a_broken_rule_of_the_backfill_is_found(mutation: Mutation) -> None:
    assert found_after(mutation, 60) is not None


@pytest.mark.parametrize(
    "rule",
    [  # the slow ones take many histories, or are one of several like them
        "a message is deleted only after its outcome is recorded",
        pytest.param(
            "after a create without an answer the target is asked by the mark",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "an outage of the target holds messages instead of giving them back",
            marks=pytest.mark.slow,
        ),
        "one process at a time writes to a ModelDB V1",
        pytest.param("a grace follows the end of a writer lease", marks=pytest.mark.slow),
        "only a fresh event of a job that ended under this checkpoint needs no look-up",
        pytest.param(
            "a repair looks for the job's run before anything else", marks=pytest.mark.slow
        ),
        pytest.param("a repair changes only keys that this program writes", marks=pytest.mark.slow),
        pytest.param("a repair leaves a description that people wrote", marks=pytest.mark.slow),
        pytest.param("a malformed message is rejected, not skipped", marks=pytest.mark.slow),
        pytest.param("a message whose dead letter was not sent is kept", marks=pytest.mark.slow),
        "a job is done for one target only",
        "a dead letter is deleted only when the queue has accepted its copy",
        pytest.param("a copy that the queue has not accepted is none", marks=pytest.mark.slow),
        pytest.param(
            "a dead letter keeps its reason, so that its old tags do not count",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "a letter that is rejected again is not sent again by the same redrive",
            marks=pytest.mark.slow,
        ),
        "a handed-over job waits for a message of the same job",
        "a request is answered after its outcome is durable",
        # 19 histories until one is killed between the status and what follows
        pytest.param("MLflow: the terminal status is sent last", marks=pytest.mark.slow),
        "MLflow: after a create without an answer the job's run is looked for",
        "MLflow: a model version is looked for before it is created",
        pytest.param("MLflow: what a person deleted is not made again", marks=pytest.mark.slow),
        pytest.param(
            "MLflow: a repair leaves descriptions that people wrote", marks=pytest.mark.slow
        ),
        pytest.param(
            "MLflow: a repair deletes only tags that this program writes", marks=pytest.mark.slow
        ),
        pytest.param(
            "MLflow: the model versions of a duplicate are deleted with it", marks=pytest.mark.slow
        ),
        "MLflow: the mark is in the create of the run",
        *(
            pytest.param(each.rule, marks=pytest.mark.slow)  # histories of hours
            for each in MUTATIONS
            if each.kind == "lost events"
        ),
    ],
)
def test_a_broken_rule_is_found(rule: str) -> None:
    (mutation,) = [each for each in MUTATIONS if each.rule == rule]
    assert found_after(mutation, 150) is not None


async def _nothing(*_arguments: object) -> None: ...


def _require_right(work: tuple[str, ...]) -> None:
    result = result_of_work(work)
    if result.wrongs:
        print("\n".join(result.lines))
    assert result.wrongs == [], replay_command(work)

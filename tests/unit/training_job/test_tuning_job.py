from __future__ import annotations

from typing import Any

import pytest

from daemon.training_job.tuning_job import TuningJob, tuning_job

OBJECTIVE = {"Type": "Maximize", "MetricName": "validation:auc"}


def parent(**members: Any) -> dict[str, Any]:
    return {
        "HyperParameterTuningJobName": "hpo-1",
        "HyperParameterTuningJobStatus": "InProgress",
        "HyperParameterTuningJobConfig": {
            "Strategy": "Bayesian",
            "HyperParameterTuningJobObjective": OBJECTIVE,
        },
        **members,
    }


def best(
    name: str | None = "hpo-1-002", value: object = 0.9, metric: str = "validation:auc"
) -> Any:
    final = {"Type": "Maximize", "MetricName": metric, "Value": value}
    return {"TrainingJobName": name, "FinalHyperParameterTuningJobObjectiveMetric": final}


def child(value: float | None = None, metric: str = "validation:auc", **members: Any) -> Any:
    final = [] if value is None else [{"MetricName": metric, "Value": value}]
    return {"TrainingJobName": "hpo-1-001", "FinalMetricDataList": final, **members}


def test_a_tuning_job_is_read_in_full() -> None:
    warm = {"ParentHyperParameterTuningJobs": [{"HyperParameterTuningJobName": "hpo-0"}]}
    found = tuning_job(parent(BestTrainingJob=best(), WarmStartConfig=warm), child(0.8))
    assert found == TuningJob(
        name="hpo-1",
        status="InProgress",
        strategy="Bayesian",
        metric="validation:auc",
        direction="Maximize",
        best_job="hpo-1-002",
        is_best_so_far=False,
        warm_start_parents=("hpo-0",),
    )


@pytest.mark.parametrize(
    ("answer", "described", "expected"),
    [
        pytest.param({"BestTrainingJob": best("hpo-1-001")}, child(0.9), True, id="it is named"),
        pytest.param({"BestTrainingJob": best("hpo-1-001")}, child(), True, id="named, no value"),
        pytest.param({"BestTrainingJob": best()}, child(0.8), False, id="worse"),
        pytest.param({"BestTrainingJob": best()}, child(0.95), True, id="better than a late best"),
        pytest.param({"BestTrainingJob": best()}, child(0.9), False, id="equal: the first wins"),
        pytest.param(
            {"BestTrainingJob": best(value=0.8999999761581421)},
            child(0.9),
            False,
            id="equal as a 32-bit float",
        ),
        pytest.param({"BestTrainingJob": best()}, child(), False, id="no value of its own"),
        pytest.param({}, child(0.1), True, id="the first with a value"),
        pytest.param({}, child(), None, id="nobody has a value"),
        pytest.param({"BestTrainingJob": best(value="odd")}, child(1.0), False, id="odd value"),
        pytest.param(
            {"BestTrainingJob": best(metric="other")}, child(1.0), False, id="another metric"
        ),
        pytest.param({"BestTrainingJob": "odd"}, child(0.5), True, id="odd best job"),
        pytest.param({"BestTrainingJob": best()}, child(1.0, "loss"), False, id="other metric"),
    ],
)
def test_whether_a_child_is_the_best_so_far(
    answer: dict[str, Any],
    described: dict[str, Any],
    expected: bool | None,  # noqa: FBT001 - a parameter of pytest
) -> None:
    found = tuning_job(parent(**answer), described)
    assert found is not None
    assert found.is_best_so_far is expected


def test_a_small_objective_wins_when_it_is_minimized() -> None:
    config = {"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"}}
    answer = parent(
        HyperParameterTuningJobConfig=config, BestTrainingJob=best(value=0.5, metric="loss")
    )
    for value, expected in ((0.4, True), (0.6, False)):
        found = tuning_job(answer, child(value, "loss"))
        assert found is not None
        assert found.is_best_so_far is expected


def definitions(*objectives: dict[str, str]) -> list[dict[str, Any]]:
    return [{"TuningObjective": objective} for objective in objectives]


LOSS = {"Type": "Minimize", "MetricName": "loss"}
TOLD = {"HyperParameters": {"_tuning_objective_metric": '"loss"'}}


@pytest.mark.parametrize(
    ("answer", "described", "expected"),
    [
        ({}, {}, (None, None)),
        ({"TrainingJobDefinition": {"TuningObjective": LOSS}}, {}, ("loss", "Minimize")),
        ({"TrainingJobDefinitions": definitions(LOSS)}, {}, ("loss", "Minimize")),
        ({"TrainingJobDefinitions": definitions(LOSS, LOSS)}, {}, ("loss", "Minimize")),
        ({"TrainingJobDefinitions": definitions(LOSS, OBJECTIVE)}, TOLD, ("loss", "Minimize")),
        ({"TrainingJobDefinitions": definitions(LOSS, OBJECTIVE)}, {}, (None, None)),
        (
            {"TrainingJobDefinitions": definitions(LOSS, LOSS | {"Type": "Maximize"})},
            TOLD,
            ("loss", None),
        ),
        ({}, TOLD, ("loss", None)),
        ({}, {"HyperParameters": {"_tuning_objective_metric": "loss"}}, ("loss", None)),
        (
            {"TrainingJobDefinition": {"TuningObjective": LOSS | {"Type": "Odd"}}},
            {},
            ("loss", None),
        ),
        ({"TrainingJobDefinition": {"TuningObjective": "odd"}}, {}, (None, None)),
    ],
)
def test_the_objective_is_that_of_the_job_or_of_the_childs_definition(
    answer: dict[str, Any], described: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    found = tuning_job({"HyperParameterTuningJobName": "hpo-1", **answer}, described)
    assert found is not None
    assert (found.metric, found.direction) == expected


@pytest.mark.parametrize("answer", [{}, {"HyperParameterTuningJobName": 3}])
def test_an_answer_without_a_name_is_no_tuning_job(answer: dict[str, Any]) -> None:
    assert tuning_job(answer, child()) is None

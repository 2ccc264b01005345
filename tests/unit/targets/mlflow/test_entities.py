"""What is read of MLflow's answers, and what is refused."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.mlflow import entities
from daemon.targets.mlflow.entities import Experiment, MetricPoint, ModelVersion, Run

if TYPE_CHECKING:
    from collections.abc import Callable

INFO = {"run_id": "r", "experiment_id": "7", "status": "FINISHED", "lifecycle_stage": "active"}
EXPERIMENT = {"experiment_id": "7", "name": "churn", "lifecycle_stage": "active"}


def test_what_an_answer_may_leave_out() -> None:
    assert Run.parse({"info": INFO}) == Run("r", "7", "", "FINISHED")
    assert Experiment.parse(EXPERIMENT) == Experiment("7", "churn")
    assert ModelVersion.parse({"name": "m", "version": "1"}) == ModelVersion("m", "1")
    tags = Run.parse({"info": INFO, "data": {"tags": [{"key": "a"}]}}).tags
    assert tags == {"a": ""}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1, 1),
        ("1763628000001", 1763628000001),
        (-5, -5),
        ("-5", -5),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_integers_are_numbers_or_texts(value: Any, read: int) -> None:
    assert Run.parse({"info": INFO | {"start_time": value, "end_time": value}}).end_time == read
    assert MetricPoint.parse({"key": "a", "value": 1, "timestamp": value}).timestamp == read


@pytest.mark.parametrize("value", [None, 1.5, "1.5", True, "", "one", 2**63, "9" * 19, [1]])
def test_other_integers_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="start_time is"):
        Run.parse({"info": INFO | {"start_time": value}})


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (1, 1.0),
        (0.5, 0.5),
        ("Infinity", math.inf),
        ("-Infinity", -math.inf),
        (1.7976931348623157e308, 1.7976931348623157e308),
    ],
)
def test_values_of_metrics(value: Any, read: float) -> None:
    assert MetricPoint.parse({"key": "a", "value": value}) == MetricPoint("a", read, 0, 0)


def test_a_metric_may_be_no_number() -> None:
    assert math.isnan(MetricPoint.parse({"key": "a", "value": "NaN"}).value)


@pytest.mark.parametrize("value", [None, True, "0.5", [], 10**400])
def test_other_values_of_metrics_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="value is"):
        MetricPoint.parse({"key": "a", "value": value})


def without(fields: dict[str, Any], member: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != member}


@pytest.mark.parametrize(
    ("read", "answer", "why"),
    [
        (entities.RUN, {}, "no run"),
        (entities.RUN, {"run": 5}, "run is no object"),
        (entities.RUN, {"run": {}}, "no info"),
        *(
            (entities.RUN, {"run": {"info": without(INFO, member)}}, f"no {member}")
            for member in INFO
        ),
        (entities.RUN, {"run": {"info": INFO | {"run_id": ""}}}, "run_id is empty"),
        (
            entities.RUN,
            {"run": {"info": INFO | {"lifecycle_stage": "gone"}}},
            "lifecycle_stage is neither",
        ),
        (entities.RUN, {"run": {"info": INFO, "data": []}}, "data is no object"),
        (entities.RUN, {"run": {"info": INFO, "data": {"tags": {}}}}, "tags is no list"),
        (entities.RUN, {"run": {"info": INFO, "data": {"tags": [5]}}}, "tags is no object"),
        (entities.RUN, {"run": {"info": INFO, "data": {"tags": [{"value": "v"}]}}}, "no key"),
        (
            entities.RUN,
            {"run": {"info": INFO, "data": {"params": [{"key": "k", "value": 5}]}}},
            "value is no text",
        ),
        (
            entities.RUN,
            {"run": {"info": INFO, "data": {"params": [{"key": "k", "value": "\ud800"}]}}},
            "lone surrogate",
        ),
        (
            entities.RUN,
            {"run": {"info": INFO, "inputs": {"dataset_inputs": [{"tags": []}]}}},
            "no dataset",
        ),
        (entities.RUNS, {"run": []}, "no runs"),
        (entities.RUNS, {"runs": {}}, "runs is no list"),
        (entities.RUNS, {"runs": [], "next_page_token": 5}, "next_page_token is no text"),
        (entities.EXPERIMENT, {"experiment": without(EXPERIMENT, "name")}, "no name"),
        (entities.EXPERIMENTS, {"experiments": [None]}, "experiment is no object"),
        (entities.experiment_id, {"experiment_id": 7}, "experiment_id is no text"),
        (entities.experiment_id, {}, "no experiment_id"),
        (entities.run_status, {"run_info": {}}, "no status"),
        (entities.nothing, {"message": "Endpoint request timed out"}, "error with the status of"),
        (entities.nothing, {"error_code": "INTERNAL_ERROR"}, "error with the status of"),
        (entities.registered_model, {}, "no registered_model"),
        (entities.registered_model, {"registered_model": {}}, "no name"),
        (entities.MODEL_VERSION, {"model_version": {"name": "m"}}, "no version"),
        (
            entities.MODEL_VERSION,
            {"model_version": {"name": "m", "version": "latest"}},
            "version is no number",
        ),
    ],
)
def test_what_is_missing_or_odd_is_named(
    read: Callable[[dict[str, Any]], object], answer: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        read(copy.deepcopy(answer))


def test_an_answer_may_have_members_that_are_not_known() -> None:
    entities.nothing({})
    entities.nothing({"elapsed_ms": 5})


@pytest.mark.parametrize("answer", [{}, {"next_page_token": ""}, {"runs": []}])
def test_nothing_found(answer: dict[str, Any]) -> None:
    assert entities.RUNS(answer) == ((), "")

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v2 import observations as module
from daemon.targets.modeldb_v2.mapping import map_run
from daemon.training_job.metric_series import MetricSeries
from daemon.training_job.tuning_job import TuningJob
from tests.support.training_runs import metric, run_of

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

BEGIN = datetime(2025, 11, 20, 9, 0, tzinfo=UTC)
TIMES = {"TrainingStartTime": BEGIN, "TrainingEndTime": BEGIN + timedelta(seconds=100)}


def series(name: str, *values: float, first: int = 0) -> MetricSeries:
    return MetricSeries(name, tuple(range(first, first + len(values))), values)


def run_with(
    *all_series: MetricSeries, tuning: TuningJob | None = None, **members: Any
) -> TrainingRun:
    return replace(run_of(**TIMES | members), metric_series=all_series, tuning=tuning)


def body_of(run: TrainingRun) -> dict[str, Any]:
    return map_run(run).body


def values(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {entry["key"]: entry["value"] for entry in entries}


def test_without_series_the_request_has_no_observations() -> None:
    assert "observations" not in body_of(run_of())


def test_a_series_becomes_observations_by_iteration_spread_over_the_training() -> None:
    found = body_of(run_with(series("train:loss", 3.0, 2.0, 1.0, first=1)))["observations"]
    milliseconds = int(BEGIN.timestamp() * 1000)
    assert found == [
        {
            "attribute": {"key": "train/loss", "value": value},
            "epoch_number": step,
            "timestamp": milliseconds + 50_000 * place,
        }
        for place, (step, value) in enumerate([(1, 3.0), (2, 2.0), (3, 1.0)])
    ]


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"TrainingStartTime": None, "TrainingEndTime": None}, "creation"),
        ({"TrainingEndTime": BEGIN - timedelta(hours=1)}, "start"),
        ({"TrainingEndTime": None}, "start"),
    ],
)
def test_observations_have_a_time_whatever_is_known(members: dict[str, Any], expected: str) -> None:
    run = run_with(series("loss", 1.0, 2.0), **members)
    begin = run.creation_time if expected == "creation" else BEGIN
    found = body_of(run)["observations"]
    assert {entry["timestamp"] for entry in found} == {int(begin.timestamp() * 1000)}


@pytest.mark.parametrize(
    ("name", "direction", "expected"),
    [
        ("loss", "Minimize", {"loss/best": 1.0}),
        ("loss", "Maximize", {"loss/best": 3.0}),
        ("loss", None, {"loss/min": 1.0, "loss/max": 3.0}),
        ("other", "Minimize", {"loss/min": 1.0, "loss/max": 3.0}),
    ],
)
def test_the_best_value_stands_beside_the_last(
    name: str, direction: Any, expected: dict[str, float]
) -> None:
    tuning = TuningJob("hpo-1", metric=name, direction=direction)
    run = run_with(
        series("loss", 3.0, 1.0, 2.0), tuning=tuning, FinalMetricDataList=[metric("loss", 2.0)]
    )
    body = body_of(run)
    assert values(body["metrics"]) == {"loss": 2.0, **expected}
    steps = {key for key in values(body["attributes"]) if key.endswith("_step")}
    assert steps == {f"metric_{key.replace('/', '_')}_step" for key in expected}


def test_the_iteration_of_the_best_value_is_an_attribute() -> None:
    tuning = TuningJob("hpo-1", metric="train:loss", direction="Minimize")
    run = run_with(series("train:loss", 3.0, 1.0, 2.0, first=10), tuning=tuning)
    assert values(body_of(run)["attributes"])["metric_train_loss_best_step"] == 11


def test_one_point_has_no_best_value_but_is_drawn() -> None:
    body = body_of(run_with(series("loss", 3.0)))
    assert (body["metrics"], len(body["observations"])) == ([], 1)


@pytest.mark.parametrize(
    "names",
    [
        ("train:loss", "train/loss"),
        ("a.b", "a_b"),
        ("loss", "loss/min"),
        ("loss/min", "loss"),
        ("é", "e"),
        ("a b", "a:b"),
        ("m" * 255, "m" * 254 + "n"),
        ("LOSS", "loss"),
        ("a/best", "a"),
        ("😀", "😁"),
    ],
)
def test_keys_stay_distinct_and_agree_between_metrics_and_observations(
    names: tuple[str, str],
) -> None:
    first, second = names
    run = run_with(
        series(first, 1.0, 2.0),
        series(second, 3.0, 4.0),
        FinalMetricDataList=[metric(first, 1.5), metric(second, 3.5)],
    )
    body = body_of(run)
    metrics = [entry["key"] for entry in body["metrics"]]
    assert len(set(metrics)) == len(metrics)
    last = {entry["value"]: entry["key"] for entry in body["metrics"]}
    curves = {
        entry["attribute"]["value"]: entry["attribute"]["key"] for entry in body["observations"]
    }
    assert curves[1.0] == curves[2.0] == last[1.5]
    assert curves[3.0] == curves[4.0] == last[3.5]
    attributes = [entry["key"] for entry in body["attributes"]]
    assert len(set(attributes)) == len(attributes)


@pytest.mark.parametrize(
    ("count", "points"),
    [
        (1, 501),
        (1, 100_000),
        (2, 400),
        (3, 1000),
        (10, 51),
        (40, 1000),
        (100, 1000),
        (3, 10),
        (1, 500),
    ],
)
def test_observations_stay_within_what_lists_of_runs_can_carry(count: int, points: int) -> None:
    all_series = [
        series(f"m{number}", *(float(step) for step in range(points))) for number in range(count)
    ]
    mapped = map_run(run_with(*all_series))
    assert len(mapped.body["observations"]) <= module.OBSERVATIONS_PER_RUN
    thinned = [note for note in mapped.notes if "thinned" in note]
    assert len(thinned) == (count * points > module.OBSERVATIONS_PER_RUN)
    assert all(f" of {points} points" in note for note in thinned)
    keys = {entry["attribute"]["key"] for entry in mapped.body["observations"]}
    assert keys == {one.name for one in all_series}
    for name in keys:
        drawn = [
            entry["epoch_number"]
            for entry in mapped.body["observations"]
            if entry["attribute"]["key"] == name
        ]
        assert (drawn[0], drawn[-1]) == (0, points - 1)


def test_observations_go_before_any_attribute_when_the_request_is_too_large() -> None:
    parameters = {f"p{number}": "x" * 34_000 for number in range(100)}
    whole = map_run(run_with(HyperParameters=parameters))
    mapped = map_run(run_with(series("loss", *map(float, range(500))), HyperParameters=parameters))
    assert "observations" not in mapped.body
    assert "metric series left out: the request would be too large" in mapped.notes
    assert len(json.dumps(mapped.body)) < 3_600_000
    assert {entry["key"] for entry in whole.body["attributes"]} <= {
        entry["key"] for entry in mapped.body["attributes"]
    }


def test_children_of_a_tuning_job_share_a_tag() -> None:
    arn = "arn:aws:sagemaker:eu-west-1:123456789012:hyper-parameter-tuning-job/"
    longest = "a" * 32
    for name, tuning in (("hpo-1", None), ("hpo-1", TuningJob("HPO-1")), (longest, None)):
        body = body_of(run_with(tuning=tuning, TuningJobArn=arn + name))
        assert f"tuning:{name}" in body["tags"]
        assert values(body["attributes"])["tuning_job_name"] == name


def test_a_tuning_job_is_in_the_attributes() -> None:
    tuning = TuningJob(
        *("hpo-1", "InProgress", "Bayesian", "validation:auc", "Maximize", "hpo-1-002"),
        is_best_so_far=False,
        warm_start_parents=("hpo-0", "hpo-00"),
    )
    found = values(body_of(run_with(tuning=tuning))["attributes"])
    assert {key: value for key, value in found.items() if key.startswith("tuning_")} == {
        "tuning_status": "InProgress",
        "tuning_strategy": "Bayesian",
        "tuning_objective": "validation:auc",
        "tuning_direction": "Maximize",
        "tuning_best_job": "hpo-1-002",
        "tuning_best_so_far": "false",
        "tuning_warm_start_parents": "hpo-0, hpo-00",
    }

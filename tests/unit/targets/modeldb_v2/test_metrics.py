"""Metrics in ModelDB V2."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.targets.modeldb_v2.limits import metric_key
from tests.support.modeldb_v2_rules import mapped, metric, values


def test_metrics_names_and_values() -> None:
    given = [
        metric("train:auc", 1),
        metric("f1.macro", 0.5),
        metric("mAP@0.5:0.95", 0.25),
        metric("Val Loss", 1e-12),
    ]
    bad = [metric("loss", "NaN"), metric("gain", float("inf"))]
    result = mapped(FinalMetricDataList=given + bad)
    assert values(result.body["metrics"]) == {
        "train/auc": 1.0,
        "f1_macro": 0.5,
        "mAP_0_5/0_95": 0.25,
        "Val_Loss": 1e-12,
    }
    assert values(result.body["attributes"])["metrics_not_finite"] == "loss=NaN, gain=Infinity"
    assert set(result.notes) == {
        "metric 'f1.macro' written as f1_macro",
        "metric 'mAP@0.5:0.95' written as mAP_0_5/0_95",
        "metric 'Val Loss' written as Val_Loss",
        "metric 'loss' is NaN: left out",
        "metric 'gain' is Infinity: left out",
    }
    assert values(result.body["attributes"])["sync_notes"] == "\n".join(result.notes)


def test_metrics_that_collide_stay_apart() -> None:
    result = mapped(FinalMetricDataList=[metric("train/auc", 1), metric("train:auc", 2)])
    written = values(result.body["metrics"])
    assert written.pop("train/auc") == 1
    assert list(written.values()) == [2]
    assert [note for note in result.notes if "'train:auc'" in note]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("mAP_0.5", "mAP_0_5"),
        ("metrics/mAP50-95(B)", "metrics/mAP50-95_B"),
        ("metrics/precision(B)", "metrics/precision_B"),
        ("Lift (candidate) over random", "Lift_candidate_over_random"),
        ("top-5 acc. (%)", "top-5_acc"),
        ("recall@10", "recall_10"),
        ("val: F1 [macro]", "val/F1_macro"),
        ("(B) precision", "B_precision"),
        ("loss, total", "loss_total"),
        ("metrics/(%)", "metrics/_"),
        ("précision (été)", "precision_ete"),
        ("a . b", "a_b"),
        ("IoU>0.5", "IoU_0_5"),
        ("rouge-L$", "rouge-L"),
        ("%", "_"),
        ("train:auc", "train/auc"),
        ("__private__", "__private__"),
        ("a__b", "a__b"),
        ("eval:_loss_", "eval/_loss_"),
        ("//", "//"),
    ],
)
def test_the_key_of_a_metric_stays_readable(name: str, key: str) -> None:
    assert metric_key(name) == metric_key(metric_key(name)) == key
    for others in ([], ["loss"], ["accuracy", "x.y"]):
        given = [metric(each, 0.5) for each in (*others, name)]
        written = values(mapped(FinalMetricDataList=given).body["metrics"])
        assert key in written


def test_only_names_that_clean_alike_get_a_hash() -> None:
    names = ["m/mAP_0.5", "m/mAP_0_5", "m/p(B)", "m/p[B]", "m/r(B)", "val/box_loss"]
    result = mapped(FinalMetricDataList=[metric(name, n) for n, name in enumerate(names)])
    written = {value: key for key, value in values(result.body["metrics"]).items()}
    assert written[1] == "m/mAP_0_5"
    assert written[0].startswith("m/mAP_0_5_")
    assert written[2].startswith("m/p_B_")
    assert written[3].startswith("m/p_B_")
    assert (written[4], written[5]) == ("m/r_B", "val/box_loss")
    assert len(set(written.values())) == len(names)


def objective_of(*reported: tuple[str, float], **members: Any) -> tuple[dict[str, Any], str | None]:
    given = [metric(name, value) for name, value in reported]
    body = mapped(FinalMetricDataList=given, **members).body
    return values(body["metrics"]), values(body["attributes"]).get("objective_metric")


NAMED = {"HyperParameters": {"_tuning_objective_metric": "validation:auc"}}


def test_the_objective_metric_does_not_repeat_its_metric() -> None:
    assert objective_of(("validation:auc", 0.9), ("ObjectiveMetric", 0.9), **NAMED) == (
        {"validation/auc": 0.9},
        "validation:auc",
    )
    quoted = {"HyperParameters": {"_tuning_objective_metric": '"validation:auc"'}}
    assert objective_of(("validation:auc", 1), ("ObjectiveMetric", 1.0), **quoted) == (
        {"validation/auc": 1.0},
        "validation:auc",
    )
    assert objective_of(("a", 0.9), ("b", 0.8), ("ObjectiveMetric", 0.8)) == (
        {"a": 0.9, "b": 0.8},
        "b",
    )
    noisy = (("validation:auc", 0.9), ("ObjectiveMetric", 0.8999999761581421))
    assert objective_of(*noisy, **NAMED) == ({"validation/auc": 0.9}, "validation:auc")


def test_an_objective_metric_that_says_something_of_its_own_stays() -> None:
    assert objective_of(("validation:auc", 0.9), ("ObjectiveMetric", 0.8), **NAMED) == (
        {"validation/auc": 0.9, "ObjectiveMetric": 0.8},
        "validation:auc",
    )
    assert objective_of(("loss", 0.9), ("ObjectiveMetric", 0.9), **NAMED) == (
        {"loss": 0.9, "ObjectiveMetric": 0.9},
        "validation:auc",
    )
    assert objective_of(("a", 0.9), ("b", 0.9), ("ObjectiveMetric", 0.9)) == (
        {"a": 0.9, "b": 0.9, "ObjectiveMetric": 0.9},
        None,
    )
    assert objective_of(("a", 0.9), ("ObjectiveMetric", 0.8)) == (
        {"a": 0.9, "ObjectiveMetric": 0.8},
        None,
    )
    assert objective_of(("ObjectiveMetric", 0.8)) == ({"ObjectiveMetric": 0.8}, None)
    itself = {"HyperParameters": {"_tuning_objective_metric": "ObjectiveMetric"}}
    assert objective_of(("ObjectiveMetric", 0.8), **itself) == ({"ObjectiveMetric": 0.8}, None)
    assert objective_of(("validation:auc", 0.9), **NAMED) == (
        {"validation/auc": 0.9},
        "validation:auc",
    )


def test_values_of_another_time_are_not_the_objectives_unless_it_is_named() -> None:
    given = [
        metric("a", 0.9) | {"Timestamp": datetime(2026, 1, 1, tzinfo=UTC)},
        metric("ObjectiveMetric", 0.9) | {"Timestamp": datetime(2026, 1, 2, tzinfo=UTC)},
    ]
    assert len(mapped(FinalMetricDataList=given).body["metrics"]) == 2
    named = {"HyperParameters": {"_tuning_objective_metric": "a"}}
    assert len(mapped(FinalMetricDataList=given, **named).body["metrics"]) == 1


def test_an_objective_that_is_no_number_is_named_once() -> None:
    body = mapped(
        FinalMetricDataList=[metric("validation:auc", "NaN"), metric("ObjectiveMetric", "NaN")],
        **NAMED,
    ).body
    assert values(body["attributes"])["metrics_not_finite"] == "validation:auc=NaN"


def test_values_lose_the_noise_of_32_bits() -> None:
    shown = {"loss": 0.0036, "eval_accuracy": 0.97125, "rate": 2.3809524, "tokens": 16777216.0}
    given = [
        metric(name, struct.unpack("<f", struct.pack("<f", value))[0])
        for name, value in shown.items()
    ]
    assert values(mapped(FinalMetricDataList=given).body["metrics"]) == shown

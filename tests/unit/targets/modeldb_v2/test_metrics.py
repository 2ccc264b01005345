"""Metrics in ModelDB V2."""

from __future__ import annotations

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

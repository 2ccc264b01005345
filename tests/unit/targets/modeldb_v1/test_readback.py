"""Comparing the model that a server returns with its job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.targets.modeldb_v1.limits import FLOAT32_OVERFLOW
from daemon.targets.modeldb_v1.mapping import MappedMetric, map_job
from daemon.targets.modeldb_v1.readback import (
    StoredModel,
    data_frames_of_metrics,
    float32,
    from_ancestry,
    from_details,
    missing_metrics,
)
from tests.support.modeldb_v1_target import full_job

JOB = map_job(full_job(), metadata_store=True)
FRAMES = (11, 12, 13)


def shown(model_id: int = 5, **changes: Any) -> Any:
    """A model as it is in a run's details."""
    frame, spec = requests.data_frame(JOB.data_frames[0]), requests.fit_event(1, JOB).spec
    frame.id = FRAMES[0]
    members: dict[str, Any] = {
        "id": model_id,
        "trainingDataFrame": frame,
        "specification": spec,
        "metrics": {each.name: {FRAMES[each.channel]: float32(each.value)} for each in JOB.metrics},
        "metadata": '{ "NAME" : "churn-xgb"}',
    }
    return INTERFACE.ModelResponse(**members | changes)


def ancestry(run_id: int = 3) -> Any:
    """A model's fit as it is read without a metadata store: without hyperparameters."""
    event = requests.fit_event(run_id, JOB)
    event.df.id, event.spec.hyperparameters, event.metadata = FRAMES[0], [], None
    return INTERFACE.ModelAncestryResponse(5, event, [])


def other(thing: Any, part: str, **changes: Any) -> Any:
    for name, value in changes.items():
        setattr(getattr(thing, part), name, value)
    return thing


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (0.5, 0.5),
        (0.1, 0.10000000149011612),
        (123456789.123, 123456792.0),
        (1e-50, 0.0),
        (-1e-50, -0.0),
        (3.5e38, None),
    ],
)
def test_numbers_as_the_server_keeps_them(value: float, kept: float | None) -> None:
    if kept is None:
        with pytest.raises(OverflowError):
            float32(value)
    else:
        assert float32(value) == kept


def test_the_largest_number_that_is_mapped_can_be_kept() -> None:
    largest = FLOAT32_OVERFLOW - 2.0**80
    assert largest < FLOAT32_OVERFLOW
    assert float32(largest) == 3.4028234663852886e38


def test_the_model_of_a_job() -> None:
    found = from_details(JOB, [shown()])
    assert found is not None
    assert (found.model_id, found.data_frame_id, found.has_document) == (5, 11, True)
    assert missing_metrics(JOB, found, FRAMES) == []
    without = from_details(JOB, [shown(metadata="", metrics=None)])
    assert without == StoredModel(5, 11, {}, has_document=False)


def test_of_several_models_the_oldest_that_fits() -> None:
    strange = other(shown(2), "specification", tag="another")
    found = from_details(JOB, [shown(9), strange, shown(7)])
    assert found is not None
    assert found.model_id == 7
    assert from_details(JOB, []) is None


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("specification", {"tag": "another name"}),
        ("specification", {"transformerType": "another type"}),
        ("specification", {"hyperparameters": []}),
        ("specification", {"hyperparameters": None}),
        ("trainingDataFrame", {"tag": "test"}),
        ("trainingDataFrame", {"filepath": "s3://another"}),
        ("trainingDataFrame", {"filepath": None}),
    ],
)
def test_a_model_of_another_job(part: str, changes: dict[str, Any]) -> None:
    assert from_details(JOB, [other(shown(), part, **changes)]) is None


def test_hyperparameters_in_another_order() -> None:
    model = shown()
    model.specification.hyperparameters.reverse()
    assert from_details(JOB, [model]) is not None


def test_texts_that_a_job_does_not_have() -> None:
    bare = map_job(full_job(channels=()), metadata_store=True)
    model = other(shown(), "trainingDataFrame", tag=None, filepath=None)
    assert from_details(bare, [model]) is not None


def test_a_model_by_its_number() -> None:
    found = from_ancestry(JOB, 3, ancestry())
    assert found == StoredModel(5, 11, None, has_document=False)
    assert found is not None
    assert missing_metrics(JOB, found, FRAMES) == [0, 1, 2, 3], "none can be read"
    assert from_ancestry(JOB, 4, ancestry()) is None
    for part, changes in (
        ("spec", {"tag": "x"}),
        ("spec", {"transformerType": "x"}),
        ("df", {"tag": "x"}),
        ("df", {"filepath": "x"}),
    ):
        wrong = ancestry()
        other(wrong.fitEvent, part, **changes)
        assert from_ancestry(JOB, 3, wrong) is None


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"validation:auc": {FRAMES[0]: float32(0.95)}},  # on the data frame of another channel
        {"validation:auc": {FRAMES[1]: 0.95}},  # not as a 32-bit float
        {"validation:auc": {FRAMES[1]: 0.5}},
    ],
)
def test_a_metric_that_is_missing(metrics: dict[str, dict[int, float]]) -> None:
    all_others = {
        each.name: {FRAMES[each.channel]: float32(each.value)}
        for each in JOB.metrics
        if each.name != "validation:auc"
    }
    model = StoredModel(5, 11, all_others | metrics, has_document=True)
    assert [JOB.metrics[number].name for number in missing_metrics(JOB, model, FRAMES)] == [
        "validation:auc"
    ]


def test_a_metric_with_further_values_on_other_data_frames() -> None:
    model = from_details(JOB, [shown()])
    assert model is not None
    more = {name: {**on, 99: 1.0} for name, on in (model.metrics or {}).items()}
    assert missing_metrics(JOB, replace(model, metrics=more), FRAMES) == []


def test_data_frames_that_metrics_lead_to() -> None:
    model = from_details(JOB, [shown()])
    assert model is not None
    assert data_frames_of_metrics(JOB, model) == {1: 12, 2: 13}


def test_data_frames_that_nothing_leads_to() -> None:
    other_value = {"validation:auc": {12: 0.5}, "test:auc": {11: float32(0.94)}}
    assert data_frames_of_metrics(JOB, StoredModel(5, 11, other_value, has_document=True)) == {}
    assert data_frames_of_metrics(JOB, StoredModel(5, 11, {}, has_document=True)) == {}
    assert data_frames_of_metrics(JOB, StoredModel(5, 11, None, has_document=True)) == {}


def test_of_several_data_frames_the_oldest() -> None:
    job = replace(
        JOB,
        metrics=(MappedMetric("validation:auc", 0.5, 1), MappedMetric("validation:loss", 0.25, 1)),
    )
    model = StoredModel(
        5,
        11,
        {"validation:auc": {15: 0.5, 12: 0.5}, "validation:loss": {17: 0.25}},
        has_document=True,
    )
    assert data_frames_of_metrics(job, model) == {1: 12}

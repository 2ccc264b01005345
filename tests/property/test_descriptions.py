"""Any DescribeTrainingJob response becomes a run, or the one error that the flow handles."""

from __future__ import annotations

import dataclasses
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.training_job.described_job import DescribedJob, described_status
from daemon.training_job.identity import JobArn, JobMark
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, SyncTagAbsent, TagsIncomplete, read_tags
from tests.property.descriptions import (
    KEYS,
    MOST_CHARACTERS,
    NEEDED_TAGS,
    REDACT,
    descriptions,
    runs,
    tags,
    usable_descriptions,
)
from tests.property.texts import texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.training_job.training_run import TrainingRun

TAGS = JobTags("churn", "amara.okafor", "Who leaves", "churn-xgb", "XGBoost")
NOT_STORABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
NOT_ONE_LINE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@given(descriptions() | usable_descriptions())
def test_a_description_names_a_job_or_is_refused_with_a_value_error(
    description: dict[str, Any],
) -> None:
    try:
        job = DescribedJob.of(description)
    except ValueError:
        with pytest.raises(ValueError, match=r"\S"):
            DescribedJob.of(description)
        return
    run = training_run(job, TAGS, {}, REDACT)
    assert run.mark == job.mark == JobMark.of(job.arn, job.creation_time)
    assert run.name.lower() == job.arn.name.lower()
    assert 1 <= len(run.name) <= MOST_CHARACTERS
    assert job.creation_time.tzinfo is UTC


@given(descriptions())
def test_a_status_is_one_line(description: dict[str, Any]) -> None:
    status = described_status(description)
    assert status == status.strip()
    assert not NOT_ONE_LINE.search(status)


@given(runs())
def test_a_run_holds_only_what_can_be_stored(run: TrainingRun) -> None:
    for value in values_in(run):
        match value:
            case str():
                assert not NOT_STORABLE.search(value)
            case bool() | None:
                pass
            case int():
                assert abs(value) <= 2**53
            case float():
                assert math.isfinite(value)
            case datetime():
                assert value.tzinfo is UTC
    reported = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    assert not [
        name
        for name, value in reported.items()
        if isinstance(value, str) and not value.strip() and name != "status"
    ]
    for names in (
        [channel.name for channel in run.channels],
        [parameter.key for parameter in run.hyperparameters],
        [metric.name for metric in run.metrics] + list(run.non_finite_metrics),
    ):
        assert len(set(names)) == len(names)


def values_in(value: object) -> Iterator[object]:
    """All plain values, except those from JSON in hyperparameters, where integers may be large."""
    if isinstance(value, JobArn):
        yield value.text
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if field.name != "value" or not isinstance(inner, list | dict):
                yield from values_in(inner)
    elif isinstance(value, dict):
        yield from value
        for inner in value.values():
            yield from values_in(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from values_in(inner)
    else:
        yield value


@given(tags())
def test_tags_place_a_job_or_say_what_is_missing(given_tags: dict[str, str]) -> None:
    found = read_tags(given_tags, KEYS)
    if KEYS.sync not in given_tags:
        assert found == SyncTagAbsent()
    elif isinstance(found, JobTags):
        for value in dataclasses.astuple(found):
            assert value
            assert value == value.strip()
            assert not NOT_ONE_LINE.search(value)
    else:
        assert isinstance(found, TagsIncomplete)
        assert found.missing
        assert set(found.missing) <= set(NEEDED_TAGS)
        completed = given_tags | dict.fromkeys(found.missing, "x")
        assert isinstance(read_tags(completed, KEYS), JobTags)


@given(
    st.fixed_dictionaries(
        dict.fromkeys((KEYS.sync, *NEEDED_TAGS), texts().map(lambda text: f"x{text}x"))
    )
)
def test_a_value_that_is_there_is_never_missing(given_tags: dict[str, str]) -> None:
    assert isinstance(read_tags(given_tags, KEYS), JobTags)

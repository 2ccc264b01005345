"""The status in which a job ended, above all that of a job which is being deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.training_job.event import TrainingJobEvent
from daemon.training_job.final_status import final_status

CREATED = datetime(2025, 11, 20, 8, 40, tzinfo=UTC)
ENDED: dict[str, Any] = {"TrainingEndTime": datetime(2025, 11, 20, 9, 0, tzinfo=UTC)}
MODEL: dict[str, Any] = {"ModelArtifacts": {"S3ModelArtifacts": "s3://models/churn-1/model.tar.gz"}}


def status_of(
    described: str | None,
    *,
    event: str | None = "Completed",
    created: datetime | None = CREATED,
    **members: Any,
) -> str | None:
    return final_status(
        TrainingJobEvent("churn-1", status=event, creation_time=created),
        members if described is None else {"TrainingJobStatus": described, **members},
    )


def transitions(*statuses: str) -> list[dict[str, Any]]:
    return [{"Status": status, "StartTime": CREATED} for status in statuses]


@pytest.mark.parametrize("event", ["Completed", "Failed", "Stopped", None])
@pytest.mark.parametrize("created", [CREATED, None])
@pytest.mark.parametrize("described", ["Completed", "Failed", "Stopped"])
def test_a_final_description_decides(
    described: str, event: str | None, created: datetime | None
) -> None:
    assert status_of(described, event=event, created=created) == described
    assert status_of(described, event=event, created=created, SecondaryStatus="Failed") == described


@pytest.mark.parametrize("described", ["InProgress", "Stopping", "", " ", None])
@pytest.mark.parametrize("created", [CREATED, None])
def test_a_description_that_lags_behind_the_event_is_waited_for(
    described: str | None, created: datetime | None
) -> None:
    # final metrics and artifacts come with the end
    assert status_of(described, created=created) is None
    assert status_of(described, created=created, SecondaryStatus="Uploading") is None
    assert status_of(described, created=created, **ENDED, **MODEL) is None


@pytest.mark.parametrize("described", ["Deleting", "Deleted"])
@pytest.mark.parametrize("final", ["Completed", "Failed", "Stopped"])
def test_the_event_tells_how_a_job_that_is_being_deleted_ended(described: str, final: str) -> None:
    assert status_of(described, event=final) == final
    assert status_of(described, event=final, SecondaryStatus="Deleting", **ENDED) == final


@pytest.mark.parametrize("event", [None, "Deleting"])
@pytest.mark.parametrize(
    ("members", "final"),
    [
        ({"SecondaryStatus": "Completed"}, "Completed"),
        ({"SecondaryStatus": "Failed"}, "Failed"),
        ({"SecondaryStatus": "Stopped"}, "Stopped"),
        ({"SecondaryStatus": "MaxRuntimeExceeded"}, "Stopped"),
        ({"SecondaryStatus": "MaxWaitTimeExceeded"}, "Stopped"),
        ({"SecondaryStatusTransitions": transitions("Training", "Completed")}, "Completed"),
        (
            {
                "SecondaryStatus": "Deleting",
                "SecondaryStatusTransitions": transitions("Training", "Failed", "Deleting"),
            },
            "Failed",
        ),
        ({"SecondaryStatus": "Training"}, None),
        ({"SecondaryStatusTransitions": transitions("Starting", "Training")}, None),
        ({"SecondaryStatusTransitions": [None, "Completed", {"Status": 3}]}, None),
        ({**ENDED, **MODEL}, None),
        ({}, None),
    ],
)
def test_without_a_final_event_the_secondary_status_tells_it(
    event: str | None, members: dict[str, Any], final: str | None
) -> None:
    assert status_of("Deleting", event=event, **members) == final
    assert status_of("Deleting", event=event, created=None, **members) == final


@pytest.mark.parametrize(
    ("event", "members", "final"),
    [
        # an event of an earlier job with this name proves nothing about this one
        ("Completed", {}, None),
        ("Completed", ENDED, None),
        ("Completed", MODEL, None),
        ("Completed", {**ENDED, "ModelArtifacts": {}}, None),
        ("Completed", {**ENDED, **MODEL}, "Completed"),
        ("Stopped", {**ENDED, **MODEL}, "Stopped"),
        ("Failed", ENDED, "Failed"),
        ("Failed", {}, None),
        ("Completed", {**ENDED, **MODEL, "SecondaryStatus": "Failed"}, "Failed"),
        ("Completed", {"SecondaryStatus": "Completed"}, "Completed"),
    ],
)
def test_an_event_without_a_creation_time_needs_a_description_of_the_end(
    event: str, members: dict[str, Any], final: str | None
) -> None:
    assert status_of("Deleting", event=event, created=None, **members) == final


@pytest.mark.parametrize("described", ["Pending", "Queued", "Archived", "completed"])
def test_a_status_of_the_future_needs_a_description_of_the_end(described: str) -> None:
    assert status_of(described) is None
    assert status_of(described, **MODEL) is None
    assert status_of(described, **ENDED) == "Completed"
    assert status_of(described, SecondaryStatus="Completed") == "Completed"

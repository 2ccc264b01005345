"""The phases of a job, from its secondary status transitions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations
from typing import Any

import pytest

from daemon.targets.common_attributes import common_attributes
from tests.support.training_runs import run_of, run_of_file

START = datetime(2025, 11, 20, 8, 40, tzinfo=UTC)

FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)

KEYS = (
    "pending_seconds",
    "downloading_seconds",
    "training_phase_seconds",
    "uploading_seconds",
    "interrupted_seconds",
    "interruptions",
)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def was(status: object, start: float | None = None, end: float | None = None) -> dict[str, Any]:
    times = {"StartTime": start, "EndTime": end}
    return {"Status": status, "StatusMessage": "Something else at any time"} | {
        key: at(second) for key, second in times.items() if second is not None
    }


def phases(
    *transitions: object, job_end: float | None = None, spot: bool = True
) -> tuple[object, ...]:
    """As both targets get them."""
    members: dict[str, Any] = {
        "SecondaryStatusTransitions": list(transitions),
        "EnableManagedSpotTraining": spot,
        "TrainingEndTime": None if job_end is None else at(job_end),
    }
    attributes = common_attributes(run_of(**members))
    return tuple(attributes[key] for key in KEYS)


USUAL = [
    was("Starting", 0, 90),
    was("Downloading", 90, 120),
    was("Training", 120, 900),
    was("Uploading", 900, 910),
    was("Completed", 910, 910),
]
SPOT = [
    was("Starting", 0, 60),
    was("Downloading", 60, 70),
    was("Training", 70, 500),
    was("Interrupted", 500, 800),
    was("Starting", 800, 850),
    was("Downloading", 850, 865),
    was("Training", 865, 1000),
    was("Interrupted", 1000, 1100),
    was("Starting", 1100, 1130),
    was("Downloading", 1130, 1135),
    was("Training", 1135, 2000),
    was("Uploading", 2000, 2004),
    was("Completed", 2004, 2004),
]


@pytest.mark.parametrize(
    ("transitions", "job_end", "given"),
    [
        pytest.param(USUAL, 910, (90, 30, 780, 10, None, 0), id="a usual job"),
        pytest.param(SPOT, 2004, (140, 30, 1430, 4, 400, 2), id="interrupted twice"),
        pytest.param([], 910, (None,) * 6, id="not told"),
        pytest.param(
            [was("Starting", 0, 90), was("Failed", 90, 90)],
            None,
            (90, None, None, None, None, 0),
            id="failed to start",
        ),
        pytest.param(
            [was("Starting", 0), was("Downloading", 90), was("Training", 120), was("Completed")],
            900,
            (90, 30, 780, None, None, 0),
            id="no end times",
        ),
        pytest.param(
            [was("Training", 120)], None, (None, None, None, None, None, 0), id="no end at all"
        ),
        pytest.param(
            [was("Training", 120)], 60, (None, None, 0, None, None, 0), id="an end before the start"
        ),
        pytest.param(
            [was("Training", 120, 100), was("Completed", 200)],
            200,
            (None, None, 0, None, None, 0),
            id="a period that ends before it starts",
        ),
        pytest.param(
            [was("Downloading", 0, 150), was("Training", 100, 200)],
            200,
            (None, 100, 100, None, None, 0),
            id="an overlap",
        ),
        pytest.param(
            [was("Downloading", 0, 50), was("Training", 100, 200)],
            200,
            (None, 50, 100, None, None, 0),
            id="a gap",
        ),
        pytest.param([*USUAL, *USUAL], 910, (90, 30, 780, 10, None, 0), id="all twice"),
        pytest.param(
            [was("Interrupted", 5, 9), was("Interrupted", 5, 9), was("Interrupted", 9, 10)],
            10,
            (None, None, None, None, 5, 2),
            id="an interruption twice",
        ),
        pytest.param(
            [
                was("LaunchingMLInstances", 0, 30),
                was("PreparingTrainingStack", 30, 40),
                was("DownloadingTrainingImage", 40, 70),
                was("Training", 70, 90),
            ],
            90,
            (40, 30, 20, None, None, 0),
            id="statuses of former times",
        ),
        pytest.param(
            [was("Pending", 0, 3600), was("Starting", 3600, 3660), was("Training", 3660, 3700)],
            3700,
            (3660, None, 40, None, None, 0),
            id="waiting for a training plan",
        ),
        pytest.param(
            [was("Reticulating", 0, 50), was("Training", 50, 100)],
            100,
            (None, None, 50, None, None, 0),
            id="a status that is not known",
        ),
        pytest.param(
            [
                None,
                5,
                "Training",
                {},
                was(None, 0, 10),
                was(7, 10, 20),
                was("Training"),
                {"Status": "Training", "StartTime": "2025-11-20", "EndTime": 5},
                was("Training", 20, 30) | {"EndTime": "soon"},
                was("Uploading", 35, 40),
            ],
            40,
            (None, None, 15, 5, None, 0),
            id="garbage",
        ),
        pytest.param(
            [was("Training", 0.0, 0.4), was("Downloading", 0.4, 0.5), was("Training", 0.5, 1.3)],
            1.3,
            (None, 0, 1, None, None, 0),
            id="parts of seconds add up",
        ),
        pytest.param(
            [{"Status": "Training", "StartTime": FIRST, "EndTime": LAST}],
            None,
            (None, None, 315537811200, None, None, 0),
            id="the whole calendar",
        ),
        pytest.param(
            [
                {
                    "Status": "Training",
                    "StartTime": at(0).astimezone(timezone(timedelta(hours=9))),
                    "EndTime": at(60).astimezone(timezone(timedelta(hours=-5))),
                }
            ],
            60,
            (None, None, 60, None, None, 0),
            id="other time zones",
        ),
    ],
)
def test_seconds_in_each_phase(
    transitions: list[object], job_end: float | None, given: tuple[object, ...]
) -> None:
    assert phases(*transitions, job_end=job_end) == given


def test_order_does_not_matter() -> None:
    assert {phases(*order, job_end=910) for order in permutations(USUAL)} == {
        (90, 30, 780, 10, None, 0)
    }


def test_only_a_spot_job_says_that_it_was_not_interrupted() -> None:
    assert phases(*USUAL, job_end=910, spot=False)[-2:] == (None, None)
    assert phases(*SPOT, job_end=2004, spot=False)[-2:] == (400, 2)


def test_a_recorded_spot_job() -> None:
    run = run_of_file("spot.json")
    assert (run.interruptions, run.interrupted_seconds) == (2, 290)
    assert (run.pending_seconds, run.training_phase_seconds) == (150, 1950)

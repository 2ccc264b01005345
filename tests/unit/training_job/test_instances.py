"""The instances of a run."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.targets.common_attributes import common_attributes
from tests.support.training_runs import run_of, run_of_file


def test_instances_of_every_shape() -> None:
    groups = run_of_file("heterogeneous.json")
    assert (groups.instances, groups.instance_type, groups.instance_count) == (
        "1 x ml.p4d.24xlarge (gpu), 2 x ml.c5.9xlarge (data)",
        "ml.p4d.24xlarge, ml.c5.9xlarge",
        3,
    )
    serverless = run_of_file("serverless-fine-tuning.json")
    assert (serverless.instances, serverless.instance_type, serverless.instance_count) == (
        None,
        None,
        None,
    )
    wishes = [
        {"InstanceType": "ml.p5.48xlarge", "InstanceCount": 2},
        {"InstanceType": "ml.p4d.24xlarge"},
    ]
    preferred = run_of(ResourceConfig={"InstancePreferences": wishes})
    assert (preferred.instances, preferred.instance_type, preferred.instance_count) == (
        "one of 2 x ml.p5.48xlarge, ml.p4d.24xlarge",
        None,
        None,
    )
    uncounted = run_of(
        ResourceConfig={
            "InstanceGroups": [{"InstanceType": "a", "InstanceCount": 1}, {"InstanceType": "a"}]
        }
    )
    assert (uncounted.instances, uncounted.instance_type, uncounted.instance_count) == (
        "1 x a (unnamed), a (unnamed)",
        "a",
        None,
    )
    countless = run_of(
        ResourceConfig={"InstanceGroups": [{"InstanceType": "a", "InstanceCount": 2**53}] * 3}
    )
    assert countless.instance_count is None  # each is exact as a double, their sum is not


TWO_WISHES = [
    {"InstanceType": "ml.p5.48xlarge", "InstanceCount": 2},
    {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 4},
]
WISHED = "2 x ml.p5.48xlarge, 4 x ml.p4d.24xlarge"
PLAN = "arn:aws:sagemaker:eu-west-1:123456789012:training-plan/tp-1"


@pytest.mark.parametrize(
    ("resources", "instances", "instance_type", "count", "preferences"),
    [
        pytest.param(
            {
                "InstancePreferences": TWO_WISHES,
                "SelectedInstanceType": "ml.p4d.24xlarge",
                "SelectedInstanceCount": 4,
            },
            *("4 x ml.p4d.24xlarge", "ml.p4d.24xlarge", 4, WISHED),
            id="the second preference",
        ),
        pytest.param(
            {
                "InstancePreferences": TWO_WISHES,
                "SelectedInstanceType": "ml.p5.48xlarge",
                "SelectedInstanceCount": 2,
            },
            *("2 x ml.p5.48xlarge", "ml.p5.48xlarge", 2, WISHED),
            id="the first preference",
        ),
        pytest.param(
            {
                "InstancePreferences": TWO_WISHES,
                "SelectedInstanceType": "ml.g6.48xlarge",
                "SelectedInstanceCount": 8,
            },
            *("8 x ml.g6.48xlarge", "ml.g6.48xlarge", 8, WISHED),
            id="none of the preferences",
        ),
        pytest.param(
            {"InstancePreferences": TWO_WISHES, "SelectedInstanceType": "ml.p5.48xlarge"},
            *("ml.p5.48xlarge", "ml.p5.48xlarge", None, WISHED),
            id="without a count",
        ),
        pytest.param(
            {"InstancePreferences": TWO_WISHES, "SelectedInstanceCount": 2},
            *(f"one of {WISHED}", None, None, WISHED),
            id="a count without a type",
        ),
        pytest.param(
            {"InstancePreferences": TWO_WISHES, "SelectedInstanceType": " "},
            *(f"one of {WISHED}", None, None, WISHED),
            id="a blank type",
        ),
        pytest.param(
            {"InstancePreferences": TWO_WISHES},
            *(f"one of {WISHED}", None, None, WISHED),
            id="not told which",
        ),
        pytest.param(
            {"SelectedInstanceType": "ml.g5.xlarge", "SelectedInstanceCount": 1},
            *("1 x ml.g5.xlarge", "ml.g5.xlarge", 1, None),
            id="preferences not told",
        ),
        pytest.param(
            {
                "InstanceType": "ml.m5.large",
                "InstanceCount": 1,
                "SelectedInstanceType": "ml.m5.xlarge",
                "SelectedInstanceCount": 2,
            },
            *("2 x ml.m5.xlarge", "ml.m5.xlarge", 2, None),
            id="the selected one is the one that is billed",
        ),
        pytest.param(
            {
                "InstancePreferences": [
                    {"InstanceType": "ml.p5.48xlarge", "TrainingPlanArns": [PLAN]},
                    {"InstanceType": "ml.p4d.24xlarge", "InstanceCount": 4},
                ],
                "SelectedInstanceType": "ml.p5.48xlarge",
                "SelectedInstanceCount": 2,
            },
            *("2 x ml.p5.48xlarge", "ml.p5.48xlarge", 2),
            f"ml.p5.48xlarge ({PLAN}), 4 x ml.p4d.24xlarge",
            id="a preference with a training plan",
        ),
        pytest.param(
            {
                "InstancePreferences": [None, 5, {}, {"InstanceCount": 3}],
                "SelectedInstanceType": 7,
                "SelectedInstanceCount": "2",
            },
            *(None, None, None, None),
            id="nothing usable",
        ),
        pytest.param(
            {
                "InstanceGroups": [
                    {"InstanceType": "a", "InstanceCount": 1, "InstanceGroupName": "g"}
                ],
                "SelectedInstanceType": "b",
                "SelectedInstanceCount": True,
            },
            *("b", "b", None, None),
            id="a group and a selection",
        ),
    ],
)
def test_the_selected_instances_are_those_the_job_ran_on(
    resources: dict[str, Any],
    instances: str | None,
    instance_type: str | None,
    count: int | None,
    preferences: str | None,
) -> None:
    attributes = common_attributes(run_of(ResourceConfig=resources))
    assert (
        attributes["instances"],
        attributes["instance_type"],
        attributes["instance_count"],
        attributes["instance_preferences"],
    ) == (instances, instance_type, count, preferences)

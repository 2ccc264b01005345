"""The instances of a run."""

from __future__ import annotations

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

"""Every member of DescribeTrainingJob is carried into ModelDB, or left out for a stated reason."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from daemon.targets import common_attributes as common
from daemon.targets.modeldb_v1 import metadata_document
from daemon.targets.modeldb_v2 import mapping
from tests.support.description_walk import MAPPING_DOC, described_job_shape, members, reasons, walk
from tests.support.training_runs import run_of

if TYPE_CHECKING:
    from botocore.model import Shape

    from daemon.training_job.training_run import TrainingRun


def test_every_member_is_carried_or_left_out_for_a_reason() -> None:
    result = walk(described_job_shape())
    assert result.unknown == (), "carry these members, or list them in docs/mapping.md"
    assert result.listed_in_vain == (), "take these members off the list in docs/mapping.md"
    assert len(result.carried) >= 100


def test_every_reason_is_one() -> None:
    assert all(len(reason) > 10 for reason in reasons().values())


def test_every_attribute_is_documented() -> None:
    documented = set(re.findall(r"`([a-z0-9_]+)`", MAPPING_DOC.read_text(encoding="utf-8")))
    attributes = common.common_attributes(run_of())
    assert attributes.keys() - documented - {"model_name", "model_type", "project_user"} == set()


def widened(**new: dict[str, Any]) -> Shape:
    """The model as a later botocore might have it: further members under shapes by name."""
    api = copy.deepcopy(Loader().load_service_model("sagemaker", "service-2"))
    for shape, added in new.items():
        api["shapes"][shape]["members"] |= added
    return ServiceModel(api, "sagemaker").shape_for("DescribeTrainingJobResponse")


TEXT = {"shape": "String1024"}


@pytest.mark.slow  # loads and walks SageMaker's model for each
@pytest.mark.parametrize(
    ("shape", "added", "paths"),
    [
        ("DescribeTrainingJobResponse", {"CarbonGrams": TEXT}, ["CarbonGrams"]),
        ("ResourceConfig", {"QuantumBits": TEXT}, ["ResourceConfig.QuantumBits"]),
        ("Channel", {"Licence": TEXT}, ["InputDataConfig[].Licence"]),
        (
            "DataSource",
            {"TapeDataSource": TEXT},
            ["InputDataConfig[].DataSource.TapeDataSource"],
        ),
        ("VpcConfig", {"Tunnels": TEXT}, ["VpcConfig.Tunnels"]),
        ("ServerlessJobConfig", {"Teacher": TEXT}, ["ServerlessJobConfig.Teacher"]),
        ("MetricData", {"Deviation": TEXT}, ["FinalMetricDataList[].Deviation"]),
        (
            "DescribeTrainingJobResponse",
            {"Watts": {"shape": "Float"}, "IsGreen": {"shape": "Boolean"}},
            ["Watts", "IsGreen"],
        ),
        (
            "DescribeTrainingJobResponse",
            {"GreenUntil": {"shape": "Timestamp"}},
            ["GreenUntil"],
        ),
        (
            "DescribeTrainingJobResponse",
            {"SecondVpc": {"shape": "VpcConfig"}},
            ["SecondVpc.SecurityGroupIds[]", "SecondVpc.Subnets[]"],
        ),
        (
            "DescribeTrainingJobResponse",
            {"Labels": {"shape": "TrainingEnvironmentMap"}},
            ["Labels{}"],
        ),
    ],
)
def test_a_member_that_aws_adds_is_noticed(
    shape: str, added: dict[str, Any], paths: list[str]
) -> None:
    assert list(walk(widened(**{shape: added})).unknown) == paths


def test_a_member_that_aws_takes_away_leaves_the_list() -> None:
    api = copy.deepcopy(Loader().load_service_model("sagemaker", "service-2"))
    del api["shapes"]["DescribeTrainingJobResponse"]["members"]["VpcConfig"]
    shape = ServiceModel(api, "sagemaker").shape_for("DescribeTrainingJobResponse")
    assert walk(shape).listed_in_vain == ("VpcConfig.SecurityGroupIds[]", "VpcConfig.Subnets[]")


@pytest.mark.slow  # walks SageMaker's model for each
@pytest.mark.parametrize(
    ("attribute", "path"),
    [
        ("evaluator_arn", "ServerlessJobConfig.EvaluatorArn"),
        ("evaluation_type", "ServerlessJobConfig.EvaluationType"),
        ("managed_spot", "EnableManagedSpotTraining"),
        ("max_retries", "RetryStrategy.MaximumRetryAttempts"),
        ("start_time", "TrainingStartTime"),
        ("instance_count", "ResourceConfig.InstanceCount"),
    ],
)
def test_a_member_that_only_one_target_gets_is_not_carried(
    attribute: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(run: TrainingRun) -> dict[str, Any]:
        attributes = common.common_attributes(run)
        if attribute == "instance_count":
            attributes["instances"] = None
        if attribute == "managed_spot":
            attributes["interruptions"] = attributes["spot_saving_percent"] = None
        return attributes | {attribute: None}

    monkeypatch.setattr(metadata_document, "common_attributes", without)
    unknown = walk(described_job_shape()).unknown
    assert path in unknown
    monkeypatch.setattr(mapping, "common_attributes", without)
    assert walk(described_job_shape()).unknown == unknown


def test_paths_are_those_of_the_documentation() -> None:
    paths = [member.path for member in members(described_job_shape())]
    assert len(paths) == len(set(paths))
    assert {
        "TrainingJobName",
        "HyperParameters{}",
        "InputDataConfig[].DataSource.S3DataSource.AttributeNames[]",
        "ResourceConfig.InstanceGroups[].InstanceType",
    } <= set(paths)

"""The reduced service models parse and build exactly what botocore's own do."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from daemon.aws.service_models import MODEL_PARTS, LeanFileLoader, lean_loader
from tests.support.aws_vectors import describe_bytes, describes, tags_bytes

LEAN = lean_loader()
WHOLE = Loader()


@pytest.fixture(scope="module")
def sagemaker() -> tuple[ServiceModel, ServiceModel]:
    """Lean and whole."""
    lean, whole = (
        ServiceModel(loader.load_service_model("sagemaker", "service-2"), "sagemaker")
        for loader in (LEAN, WHOLE)
    )
    return lean, whole


def parsed(model: ServiceModel, operation: str, body: bytes) -> Any:
    answer = {"status_code": 200, "headers": {}, "body": body, "context": {}}
    shape = model.operation_model(operation).output_shape
    assert shape is not None
    return create_parser("json").parse(answer, shape)


def test_descriptions_are_parsed_alike(
    sagemaker: tuple[ServiceModel, ServiceModel], subtests: pytest.Subtests
) -> None:
    for file in [vector.file for vector in describes()]:
        with subtests.test(file):
            lean, whole = (
                parsed(model, "DescribeTrainingJob", describe_bytes(file)) for model in sagemaker
            )

            assert lean["TrainingJobArn"]
            assert repr(lean) == repr(whole)  # NaN is not equal to itself


@pytest.mark.parametrize("file", ["full.json", "fifty.json", "paged-1.json", "absent-member.json"])
def test_tags_are_parsed_alike(sagemaker: tuple[ServiceModel, ServiceModel], file: str) -> None:
    lean, whole = (parsed(model, "ListTags", tags_bytes(file)) for model in sagemaker)

    assert lean == whole


def test_requests_are_built_alike(sagemaker: tuple[ServiceModel, ServiceModel]) -> None:
    lean, whole = (
        create_serializer("json").serialize_to_request(
            {"ResourceArn": "arn", "MaxResults": 100, "NextToken": "t"},
            model.operation_model("ListTags"),
        )
        for model in sagemaker
    )

    assert lean == whole


def test_only_what_is_used_is_left(sagemaker: tuple[ServiceModel, ServiceModel]) -> None:
    lean, whole = sagemaker

    assert sorted(lean.operation_names) == [
        "DescribeHyperParameterTuningJob",
        "DescribeTrainingJob",
        "ListTags",
        "ListTrainingJobs",
    ]
    assert [shape.name for shape in lean.error_shapes] == ["ResourceNotFound"]
    assert len(lean.shape_names) < len(whole.shape_names) / 8


def test_calls_of_dynamodb_are_built_and_parsed_alike() -> None:
    lean, whole = (
        ServiceModel(loader.load_service_model("dynamodb", "service-2"), "dynamodb")
        for loader in (LEAN, WHOLE)
    )
    key = b'{"pk": {"S": "a"}}'
    body = b'{"Items": [{"pk": {"S": "a"}, "n": {"N": "1.5"}}], "LastEvaluatedKey": %b}' % key
    query = {"TableName": "t", "ExpressionAttributeValues": {":pk": {"S": "a"}}, "Limit": 1}

    assert parsed(lean, "Query", body) == parsed(whole, "Query", body)
    built = [
        create_serializer("json").serialize_to_request(query, model.operation_model("Query"))
        for model in (lean, whole)
    ]
    assert built[0] == built[1]
    assert len(lean.operation_names) == 10
    assert len(lean.shape_names) < len(whole.shape_names) / 2


@pytest.mark.parametrize("service", ["sagemaker-metrics", "sqs", "sts"])
def test_small_models_lose_nothing_but_documentation(service: str) -> None:
    def without_documentation(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: without_documentation(value)
                for key, value in node.items()
                if key != "documentation" or not isinstance(value, str)
            }
        return [without_documentation(item) for item in node] if isinstance(node, list) else node

    lean, whole = (loader.load_service_model(service, "service-2") for loader in (LEAN, WHOLE))

    assert lean == without_documentation(whole)
    assert "documentation" not in str(lean)


def test_endpoints_keep_every_partition_and_our_services() -> None:
    lean, whole = (loader.load_data("endpoints")["partitions"] for loader in (LEAN, WHOLE))

    assert [partition["partition"] for partition in lean] == [
        partition["partition"] for partition in whole
    ]
    for ours, all_services in zip(lean, whole, strict=True):
        assert ours["regions"].keys() == all_services["regions"].keys()
        used = {"api.sagemaker", "dynamodb", "metrics.sagemaker", "sqs", "sts"}
        for name in used & all_services["services"].keys():
            assert ours["services"][name] == all_services["services"][name]
        assert ours["services"].keys() <= used


def test_a_file_that_is_not_there_is_none() -> None:
    assert LeanFileLoader().load_file("/nowhere/sagemaker/2017-07-24/service-2") is None


@pytest.mark.parametrize("service", ["dynamodb", "sagemaker"])
def test_large_models_have_no_parts_that_would_be_missed(service: str) -> None:
    whole = WHOLE.load_service_model(service, "service-2")

    assert whole.keys() - {"documentation"} == MODEL_PARTS

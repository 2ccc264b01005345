"""The input channels of a run."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.targets.common_attributes import common_attributes
from tests.support.training_runs import run_of, run_of_file


def test_locations_of_channels() -> None:
    def source(file: str) -> list[tuple[str, str, str | None]]:
        return [(channel.name, channel.kind, channel.uri) for channel in run_of_file(file).channels]

    assert source("channel-efs.json") == [
        ("train", "efs", "efs://fs-0123456789abcdef0/churn/train")
    ]
    assert source("channel-model-hub.json") == [
        ("model", "s3", "s3://jumpstart-cache-prod-eu-west-1/x/"),
        (
            "train",
            "dataset",
            "arn:aws:sagemaker:eu-west-1:123456789012:hub-content/h/DataSet/churn/1.0.0",
        ),
        ("future", "unknown", None),
    ]
    lustre = {"FileSystemId": "fs-1", "FileSystemType": "FSxLustre", "DirectoryPath": "/x"}
    other = {"FileSystemId": "fs-2", "FileSystemType": "FSxOpenZFS"}
    run = run_of(
        InputDataConfig=[
            {"ChannelName": "a", "DataSource": {"FileSystemDataSource": lustre}},
            {"ChannelName": "a", "DataSource": {"FileSystemDataSource": other}},
            {
                "DataSource": {"S3DataSource": {"S3Uri": ""}},
                "ContentType": "text/csv",
                "RecordWrapperType": "RecordIO",
                "InputMode": 5,
            },
        ]
    )
    assert [(channel.name, channel.kind, channel.uri) for channel in run.channels] == [
        ("a", "fsx-lustre", "fsx-lustre://fs-1/x"),
        ("a-2", "fsxopenzfs", "fsxopenzfs://fs-2/"),
        ("channel-3", "s3", None),
    ]
    assert (
        run.channels[2].content_type,
        run.channels[2].record_wrapper,
        run.channels[2].input_mode,
    ) == ("text/csv", "RecordIO", None)


def test_code_channels_are_those_of_the_sdk() -> None:
    assert [channel.is_code for channel in run_of_file("channel-sdk-v3.json").channels] == [
        False,
        True,
        True,
    ]
    assert not [
        channel.name
        for channel in run_of_file("channel-many-no-test.json").channels
        if channel.is_code
    ]


def channel(name: str, uri: str | None, data_type: str = "S3Prefix") -> dict[str, Any]:
    source = {"S3DataType": data_type, "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


EFS = {"FileSystemId": "fs-1", "FileSystemType": "EFS", "DirectoryPath": "/src"}
DATASET = "arn:aws:sagemaker:eu-west-1:123456789012:hub-content/h/DataSet/code/1.0.0"
TARBALL = "s3://acme-ml/job-1/source/sourcedir.tar.gz"
IN_CODE = "/opt/ml/input/data/code/sourcedir.tar.gz"


@pytest.mark.parametrize(
    ("submit_directory", "code", "source_code", "data"),
    [
        pytest.param(
            f'"{IN_CODE}"', channel("code", TARBALL), TARBALL, ["training"], id="SDK 2, isolated"
        ),
        pytest.param(IN_CODE, channel("code", TARBALL), TARBALL, ["training"], id="unquoted"),
        pytest.param(
            IN_CODE,
            channel(
                "code",
                "s3://jumpstart-cache-prod-eu-west-1/source-directory-tarballs/huggingface/"
                "transfer_learning/textgeneration1/v1.2.0/sourcedir.tar.gz",
            ),
            "s3://jumpstart-cache-prod-eu-west-1/source-directory-tarballs/huggingface/"
            "transfer_learning/textgeneration1/v1.2.0/sourcedir.tar.gz",
            ["training"],
            id="JumpStart",
        ),
        pytest.param(
            IN_CODE,
            channel("code", "s3://acme-ml/job-1/source/"),
            TARBALL,
            ["training"],
            id="a prefix",
        ),
        pytest.param(
            IN_CODE,
            channel("code", "s3://acme-ml/job-1/source"),
            TARBALL,
            ["training"],
            id="a prefix without its slash",
        ),
        pytest.param(
            "/opt/ml/input/data/my-src/pkg/v2/src.tgz",
            channel("my-src", "s3://acme-ml/code/"),
            "s3://acme-ml/code/pkg/v2/src.tgz",
            ["training"],
            id="another channel, deeper",
        ),
        pytest.param(
            "/opt/ml/input/data/code",
            channel("code", "s3://acme-ml/code/"),
            "s3://acme-ml/code/",
            ["training"],
            id="the channel itself",
        ),
        pytest.param(
            "/opt/ml/input/data/code/",
            channel("code", "s3://acme-ml/code"),
            "s3://acme-ml/code",
            ["training"],
            id="the channel itself, with a slash",
        ),
        pytest.param(
            "file:///opt/ml/input/data/code/./sourcedir.tar.gz",
            channel("code", TARBALL),
            TARBALL,
            ["training"],
            id="as a file URL",
        ),
        pytest.param(
            IN_CODE,
            channel("code", "s3://acme-ml/code.manifest", "ManifestFile"),
            "s3://acme-ml/code.manifest",
            ["training"],
            id="a manifest",
        ),
        pytest.param(
            IN_CODE,
            {"ChannelName": "code", "DataSource": {"FileSystemDataSource": EFS}},
            "efs://fs-1/src/sourcedir.tar.gz",
            ["training"],
            id="a file system",
        ),
        pytest.param(
            IN_CODE,
            {"ChannelName": "code", "DataSource": {"DatasetSource": {"DatasetArn": DATASET}}},
            DATASET,
            ["training"],
            id="a data set of a hub",
        ),
        pytest.param(IN_CODE, channel("code", None), None, ["training"], id="no location"),
        pytest.param(
            IN_CODE, channel("Code", TARBALL), None, ["training", "Code"], id="no such channel"
        ),
        pytest.param(
            "/opt/ml/code",
            channel("code", TARBALL),
            None,
            ["training", "code"],
            id="in the image itself",
        ),
        pytest.param(
            "/opt/ml/input/database/code",
            channel("base", TARBALL),
            None,
            ["training", "base"],
            id="beside the channels",
        ),
        pytest.param(
            "/opt/ml/input/data/code/../../../model/x",
            channel("code", TARBALL),
            None,
            ["training", "code"],
            id="out of the channel",
        ),
        pytest.param(
            '"s3://acme-ml/elsewhere/sourcedir.tar.gz"',
            channel("code", TARBALL),
            "s3://acme-ml/elsewhere/sourcedir.tar.gz",
            ["training", "code"],
            id="a URI: the channel of that name is data",
        ),
    ],
)
def test_code_in_a_channel_is_source_code_and_no_data_set(
    submit_directory: str, code: dict[str, Any], source_code: str | None, data: list[str]
) -> None:
    run = run_of(
        HyperParameters={
            "sagemaker_program": '"train.py"',
            "sagemaker_submit_directory": submit_directory,
        },
        InputDataConfig=[channel("training", "s3://acme-ml/train/"), code],
        EnableNetworkIsolation=True,
    )
    assert run.source_code_uri == source_code
    assert [each.name for each in run.channels if not each.is_code] == data


def test_all_that_a_channel_says() -> None:
    source = {
        "S3DataType": "AugmentedManifestFile",
        "S3Uri": "s3://acme-ml/train.manifest",
        "AttributeNames": ["source-ref", "label", "", 5],
        "InstanceGroupNames": ["gpu", "data"],
        "HubAccessConfig": {"HubContentArn": DATASET},
        "ModelAccessConfig": {"AcceptEula": True},
    }
    seeded = {"ChannelName": "train", "ShuffleConfig": {"Seed": 2**62 + 1}}
    files = {"FileSystemDataSource": EFS | {"FileSystemAccessMode": "ro"}}
    run = run_of(
        InputDataConfig=[
            seeded | {"DataSource": {"S3DataSource": source}},
            {"ChannelName": "shared", "DataSource": files},
        ]
    )
    first, second = run.channels
    assert (first.attribute_names, first.instance_groups) == (
        ("source-ref", "label"),
        ("gpu", "data"),
    )
    assert (first.hub_content_arn, first.eula_accepted) == (DATASET, True)
    assert first.shuffle_seed == str(2**62 + 1)
    assert common_attributes(run)["hub_content_arn"] == DATASET
    assert (second.access_mode, second.shuffle_seed, second.eula_accepted) == ("ro", None, None)

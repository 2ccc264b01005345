"""The input channels of a run."""

from __future__ import annotations

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

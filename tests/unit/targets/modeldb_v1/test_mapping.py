from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.codec import encode_call
from daemon.targets.modeldb_v1.limits import (
    FLOAT32_OVERFLOW,
    FLOAT32_UNDERFLOW,
    metadata_key,
    too_much,
)
from daemon.targets.modeldb_v1.mapping import (
    MappedDataFrame,
    MappedJob,
    map_job,
    mark_in,
    marker_of,
)
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.identity import JobMark
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from tests.support.aws_vectors import DescribeVector, describe, describes, tags

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

TAGS = JobTags("churn", "amara.okafor", "Who leaves", "churn-xgb", "XGBoost")
JOB: dict[str, Any] = {
    "TrainingJobName": "Job-1",
    "TrainingJobArn": "arn:aws:sagemaker:eu-west-1:123456789012:training-job/Job-1",
    "TrainingJobStatus": "Completed",
    "CreationTime": datetime(2025, 11, 20, 8, 40, 0, 50_000, tzinfo=UTC),
}
MARKER = (
    "sagemaker-training-job arn:aws:sagemaker:eu-west-1:123456789012:training-job/job-1 "
    "2025-11-20T08:40:00.050Z"
)
COMPLETED = [vector for vector in describes() if vector.status == "Completed"]

FRAME_BYTES = 16_384_000
"""What the server takes."""
BSON_BYTES = 16 * 2**20


def violations(job: MappedJob) -> list[str]:
    """Every rule of ModelDB V1 and of its metadata store that a job breaks."""
    found = [f"{text!r} is no text" for text in texts(job) if not is_text(text)]
    found += [] if job.data_frames else ["no data frame"]
    for metric in job.metrics:
        found += [] if is_float32(metric.value) else [f"metric {metric}"]
        found += (
            [] if 0 <= metric.channel < len(job.data_frames) else [f"channel of metric {metric}"]
        )
    names = [metric.name for metric in job.metrics]
    found += [] if len(set(names)) == len(names) else ["metrics repeat"]
    for frame in job.data_frames:
        keys = [key for key, _ in frame.metadata]
        found += (
            []
            if len(set(keys)) == len(keys) and all(value for _, value in frame.metadata)
            else [f"key-values {frame}"]
        )
    found += (
        []
        if len(encode_call("storeFitEvent", {"fe": requests.fit_event(1, job)}, 0)) < FRAME_BYTES
        else ["too large"]
    )
    if job.metadata is not None:
        document = json.loads(
            job.metadata, parse_constant=pytest.fail, object_pairs_hook=without_repetitions
        )
        found += ["no object"] if type(document) is not dict else document_violations(document)
        found += (
            [] if len(job.metadata.encode()) < BSON_BYTES / 1.5 else ["the document is too large"]
        )
    return found


def texts(job: MappedJob) -> list[object]:
    """Everything that Thrift sends as a string."""
    frames = [
        text
        for frame in job.data_frames
        for text in (frame.tag, frame.filepath, *sum(frame.metadata, ()))
    ]
    metrics = [metric.name for metric in job.metrics]
    project = [job.project_name, job.project_user, job.project_description]
    model = [job.marker, job.model_name, job.model_type, job.model_location, job.metadata or ""]
    return [*project, *model, *sum(job.hyperparameters, ()), *frames, *metrics, *job.notes]


def is_text(value: object) -> bool:
    return (
        isinstance(value, str)
        and value == value.encode("utf-8", "replace").decode()
        and "\0" not in value
    )


def is_float32(value: float) -> bool:
    try:
        return math.isfinite(value) and math.isfinite(
            struct.unpack("<f", struct.pack("<f", value))[0]
        )
    except OverflowError:
        return False


def without_repetitions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def document_violations(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [
            key
            for key in value
            if key.startswith("$")
            or "." in key
            or "\0" in key
            or key in {"_id", "MODELDB_model_id"}
        ]
        return [f"key {key!r}" for key in own] + [
            each for inner in value.values() for each in document_violations(inner)
        ]
    if isinstance(value, list):
        return [each for inner in value for each in document_violations(inner)]
    if value is None or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        return [f"value {value!r}"]
    return [] if not isinstance(value, str) or is_text(value) else [f"text {value!r}"]


def run_of(
    *, job_tags: JobTags = TAGS, all_tags: dict[str, str] | None = None, **members: Any
) -> TrainingRun:
    return training_run(DescribedJob.of(JOB | members), job_tags, all_tags or {}, ("*api_key*",))


def checked(run: TrainingRun, *, metadata_store: bool = True) -> MappedJob:
    job = map_job(run, metadata_store=metadata_store)
    assert violations(job) == []
    return job


def mapped(*, metadata_store: bool = True, **members: Any) -> MappedJob:
    return checked(run_of(**members), metadata_store=metadata_store)


def document(**members: Any) -> dict[str, Any]:
    found = json.loads(mapped(**members).metadata or "")
    assert isinstance(found, dict)
    return found


def words(job: MappedJob, frame: int = 0) -> dict[str, str]:
    return dict(job.data_frames[frame].metadata)


def metric(name: str, value: object) -> dict[str, Any]:
    return {"MetricName": name, "Value": value}


def channel(name: str, **members: Any) -> dict[str, Any]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://b/{name}/"}}
    return {"ChannelName": name, "DataSource": source} | members


@pytest.mark.parametrize("metadata_store", [True, False], ids=["with-store", "without-store"])
@pytest.mark.parametrize("vector", COMPLETED, ids=lambda vector: vector.file)
def test_corpus_breaks_no_rule(vector: DescribeVector, *, metadata_store: bool) -> None:
    all_tags = tags("fifty.json")
    found = read_tags(all_tags, TagKeys())
    assert isinstance(found, JobTags)
    run = training_run(
        DescribedJob.of(describe(vector.file)),
        found,
        all_tags,
        ("*password*", "*secret*", "*_token", "*api_key*"),
    )
    job = checked(run, metadata_store=metadata_store)
    assert not [secret for secret in vector.never_log if secret in repr(job)]
    assert {each.name: each.value for each in job.metrics} == {
        name: value for name, value in vector.metrics.items() if isinstance(value, float)
    }
    assert len(job.hyperparameters) == len(run.hyperparameters)
    assert job.model_location == (vector.model_location or "")
    data = {each.name: each.uri or "" for each in run.channels if not each.is_code}
    assert {frame.tag: frame.filepath for frame in job.data_frames} == (data or {"": ""})
    for name in vector.channels:
        assert name in (job.metadata or repr(job.data_frames))
    assert (job.metadata is not None) == metadata_store
    assert map_job(run, metadata_store=metadata_store) == job


def test_a_usual_job_whole() -> None:
    found = read_tags(tags("full.json"), TagKeys())
    assert isinstance(found, JobTags)
    run = training_run(
        DescribedJob.of(describe("xgboost-builtin.json")), found, tags("full.json"), ()
    )
    job = checked(run)
    name = "churn-xgb-2025-11-20-08-40-00-123"
    arn = f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}"
    model = f"s3://acme-ml-eu-west-1/churn/output/{name}/output/model.tar.gz"
    console = (
        f"https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/jobs/{name}"
    )
    as_read = {"ContentType": "text/csv", "S3DataType": "S3Prefix"}
    as_told = {key: value for key, value in words(job).items() if key not in as_read}
    assert job == MappedJob(
        mark=JobMark(arn, "2025-11-20T08:40:00.050Z"),
        marker=f"sagemaker-training-job {arn} 2025-11-20T08:40:00.050Z",
        project_name="churn",
        project_user="amara.okafor",
        project_description="Predicts which subscribers leave next month",
        model_name="churn-xgb",
        model_type="XGBoost",
        model_location=model,
        hyperparameters=(
            ("objective", "binary:logistic"),
            ("eval_metric", "auc"),
            ("num_round", "200"),
            ("eta", "0.1"),
            ("max_depth", "6"),
        ),
        data_frames=tuple(
            MappedDataFrame(
                tag, f"s3://acme-ml-eu-west-1/churn/{tag}/", (*as_told.items(), *as_read.items())
            )
            for tag in ("train", "validation")
        ),
        metrics=job.metrics,
        metadata=job.metadata,
        notes=(),
    )
    assert as_told.keys() <= {"CompressionType", "RecordWrapperType"}
    assert [(each.name, each.value, each.channel) for each in job.metrics] == [
        ("train:auc", 0.9412, 0),
        ("validation:auc", 0.9107, 1),
        ("train:error", 0.1123, 0),
        ("validation:error", 0.138, 1),
        ("ObjectiveMetric", 0.9107, 0),
    ]
    metadata = json.loads(job.metadata or "")
    version = metadata["JOB"].pop("sync_version")
    assert version
    assert metadata == {
        "NAME": "churn-xgb",
        "TYPE": "XGBoost",
        "PATH": model,
        "CONFIG": {
            "objective": "binary:logistic",
            "eval_metric": "auc",
            "num_round": "200",
            "eta": "0.1",
            "max_depth": "6",
        },
        "DATASETS": [
            {
                "TAG": frame.tag,
                "FILENAME": frame.filepath,
                "METADATA": dict(frame.metadata) | {"S3DataDistributionType": "FullyReplicated"},
            }
            for frame in job.data_frames
        ],
        "JOB": {
            "name": name,
            "arn": arn,
            "creation_time": "2025-11-20T08:40:00.050Z",
            "project_user": "amara.okafor",
            "status": "Completed",
            "secondary_status": "Completed",
            "region": "eu-west-1",
            "account": "123456789012",
            "partition": "aws",
            "console_url": console,
            "logs_url": (
                "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1"
                "#logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FTrainingJobs"
                f"$3FlogStreamNameFilter$3D{name}$252F"
            ),
            "model_console_url": (
                "https://eu-west-1.console.aws.amazon.com/s3/object/acme-ml-eu-west-1?region=eu-west-1"
                f"&prefix=churn/output/{name}/output/model.tar.gz"
            ),
            "start_time": "2025-11-20T08:41:37.554Z",
            "end_time": "2025-11-20T08:55:12.020Z",
            "last_modified_time": "2025-11-20T08:55:43.187Z",
            "training_time_s": 815,
            "billable_time_s": 815,
            "pending_seconds": 97,
            "downloading_seconds": 64,
            "training_phase_seconds": 710,
            "uploading_seconds": 42,
            "max_runtime_s": 3600,
            "instances": "1 x ml.m5.xlarge",
            "instance_type": "ml.m5.xlarge",
            "instance_count": 1,
            "volume_size_gb": 30,
            "managed_spot": False,
            "network_isolation": False,
            "inter_container_encryption": False,
            "training_image": "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-xgboost:1."
            "7-1",
            "input_mode": "File",
            "role_arn": "arn:aws:iam::123456789012:role/service-role/"
            "AmazonSageMaker-ExecutionRole-20250301T101500",
            "output_path": "s3://acme-ml-eu-west-1/churn/output",
            "output_compression": "GZIP",
            "profiler_uri": "s3://acme-ml-eu-west-1/churn/output",
        },
        "TAGS": tags("full.json"),
    }


def test_without_a_metadata_store_the_training_data_has_the_attributes() -> None:
    run = training_run(DescribedJob.of(describe("xgboost-builtin.json")), TAGS, {}, ())
    job, with_store = checked(run, metadata_store=False), checked(run)
    name = "churn-xgb-2025-11-20-08-40-00-123"
    added = {key: value for key, value in words(job).items() if key not in words(with_store)}
    assert added == {
        "ModelArtifacts": f"s3://acme-ml-eu-west-1/churn/output/{name}/output/model.tar.gz",
        "TrainingJobName": name,
        "TrainingJobArn": f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}",
        "TrainingJobStatus": "Completed",
        "Console": f"https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/jobs/{name}",
        "Logs": (
            "https://eu-west-1.console.aws.amazon.com/cloudwatch/home?region=eu-west-1"
            "#logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FTrainingJobs"
            f"$3FlogStreamNameFilter$3D{name}$252F"
        ),
        "TrainingStartTime": "2025-11-20T08:41:37.554Z",
        "TrainingEndTime": "2025-11-20T08:55:12.020Z",
        "TrainingTimeInSeconds": "815",
        "BillableTimeInSeconds": "815",
        "Instances": "1 x ml.m5.xlarge",
        "TrainingImage": "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-xgboost:1.7-1",
        "RoleArn": "arn:aws:iam::123456789012:role/service-role/"
        "AmazonSageMaker-ExecutionRole-20250301T101500",
        "Channel validation": "s3://acme-ml-eu-west-1/churn/validation/",
    }
    assert job.data_frames[1:] == with_store.data_frames[1:]
    assert (
        replace(job, metadata=with_store.metadata, data_frames=with_store.data_frames) == with_store
    )


def test_without_channels_there_is_still_a_data_frame() -> None:
    assert mapped().data_frames == (MappedDataFrame("", ""),)
    job = mapped(metadata_store=False, ModelArtifacts={"S3ModelArtifacts": "s3://b/m"})
    assert [(frame.tag, frame.filepath) for frame in job.data_frames] == [("", "")]
    assert words(job)["ModelArtifacts"] == "s3://b/m"


def test_words_without_a_store_are_bounded() -> None:
    job = mapped(metadata_store=False, FailureReason="é" * 2001, OutputModelPackageArn="x" * 2000)
    assert words(job)["FailureReason"] == "é" * 1999 + "…"
    assert words(job)["ModelPackageArn"] == "x" * 2000
    assert "'FailureReason' of 2001 characters shortened" in job.notes
    assert len([note for note in job.notes if "shortened" in note]) == 1


def test_zero_seconds_are_told() -> None:
    assert (
        words(mapped(metadata_store=False, BillableTimeInSeconds=0))["BillableTimeInSeconds"] == "0"
    )
    assert document(BillableTimeInSeconds=0)["JOB"]["billable_time_s"] == 0


# --- the mark -------------------------------------------------------------------------------------


def test_the_marker_is_the_mark() -> None:
    assert mapped().marker == marker_of(run_of().mark) == MARKER
    assert mark_in(MARKER) == MARKER


@pytest.mark.parametrize(
    "description",
    [
        f"{MARKER}\nseen by Ana",
        f"{MARKER} seen by Ana",
        f"{MARKER}\r\n",
        MARKER.replace("job/job-1", "job/Job-1"),
    ],
)
def test_a_marker_is_known_whatever_people_add(description: str) -> None:
    assert mark_in(description) == MARKER


@pytest.mark.parametrize(
    "description",
    [
        None,
        "",
        "second",
        f"note: {MARKER}",
        f"\n{MARKER}",
        f"{MARKER}x",
        MARKER.replace(".050Z", "Z"),
        MARKER.rpartition(" ")[0],
        (
            "sagemaker-training-job arn:aws:sagemaker:eu-west-1:1:training-job/a "
            "٢025-11-20T08:40:00.050Z"
        ),
    ],
)
def test_other_descriptions_have_no_marker(description: str | None) -> None:
    assert mark_in(description) is None


def test_marks_of_two_jobs_of_one_name_differ() -> None:
    mark = JobMark(
        "arn:aws:sagemaker:eu-west-1:123456789012:training-job/job-1", "2025-11-20T08:40:00.050Z"
    )
    assert marker_of(mark) != marker_of(replace(mark, creation_time="2025-11-20T08:40:00.051Z"))


# --- data frames and metrics ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "frames"),
    [
        (["test", "train", "training"], ["train", "test", "training"]),
        (["validation", "training", "Train"], ["training", "validation", "Train"]),
        (["data"], ["data"]),
        (["validation", "images"], ["validation", "images"]),
        (["Train", "test"], ["Train", "test"]),
    ],
)
def test_the_training_channel_is_the_first_data_frame(given: list[str], frames: list[str]) -> None:
    job = mapped(InputDataConfig=[channel(name) for name in given])
    assert [frame.tag for frame in job.data_frames] == frames
    assert [each["TAG"] for each in json.loads(job.metadata or "")["DATASETS"]] == frames


def test_channels_of_code_are_no_data_frames() -> None:
    given = [channel(name) for name in ("code", "sm_drivers", "train")]
    job = mapped(metadata_store=False, InputDataConfig=given)
    assert [frame.tag for frame in job.data_frames] == ["train"]
    assert (words(job)["Code code"], words(job)["Code sm_drivers"]) == (
        "s3://b/code/",
        "s3://b/sm_drivers/",
    )
    assert document(InputDataConfig=given)["JOB"]["code_channels"] == {
        "code": "s3://b/code/",
        "sm_drivers": "s3://b/sm_drivers/",
    }


def test_a_data_frame_tells_how_the_channel_was_read() -> None:
    given = channel(
        "train",
        CompressionType="None",
        RecordWrapperType="RecordIO",
        ContentType="text/csv",
        InputMode="Pipe",
    )
    assert mapped(InputDataConfig=[given]).data_frames[0].metadata == (
        ("CompressionType", "None"),
        ("RecordWrapperType", "RecordIO"),
        ("ContentType", "text/csv"),
        ("InputMode", "Pipe"),
        ("S3DataType", "S3Prefix"),
    )


def test_file_systems_and_channels_without_a_place() -> None:
    files = {
        "FileSystemDataSource": {
            "FileSystemId": "fs-1",
            "FileSystemType": "EFS",
            "DirectoryPath": "/data",
        }
    }
    job = mapped(
        InputDataConfig=[channel("train", DataSource=files), channel("future", DataSource={})]
    )
    assert job.data_frames == (
        MappedDataFrame("train", "efs://fs-1/data"),
        MappedDataFrame("future", ""),
    )


@pytest.mark.parametrize(
    ("channels", "name", "on"),
    [
        (["train", "validation", "test"], "train:auc", "train"),
        (["train", "validation", "test"], "validation:auc", "validation"),
        (["train", "validation", "test"], "test:auc", "test"),
        (["train", "validation", "test"], "auc", "test"),
        (["train", "validation", "test"], "other:auc", "test"),
        (["train", "validation", "test"], "validation", "test"),
        (["train", "validation", "test"], "Validation:auc", "test"),
        (["train", "validation", "test"], "train:validation:auc", "train"),
        (["train", "eval-2024"], "eval-2024:auc", "eval-2024"),
        (["train", "validation"], "test:auc", "train"),
        (["train", "validation"], "auc", "train"),
        (["train", "validation"], "train", "train"),
        (["train", "test"], "train", "test"),
        (["data", "test"], "train:auc", "data"),
        (["training", "test"], "train:auc", "training"),
        (["train", "test"], "training:auc", "train"),
        (["train", "training", "test"], "training:auc", "training"),
        (["test", "validation"], "train:auc", "test"),
        ([], "validation:auc", ""),
    ],
)
def test_a_metric_is_on_the_data_frame_of_its_prefix(
    channels: list[str], name: str, on: str
) -> None:
    job = mapped(
        InputDataConfig=[channel(each) for each in channels],
        FinalMetricDataList=[metric(name, 0.5)],
    )
    assert [job.data_frames[each.channel].tag for each in job.metrics] == [on]


def test_the_newest_value_of_a_name_is_stored() -> None:
    assert [
        each.value for each in mapped(FinalMetricDataList=[metric("a", 1), metric("a", 2)]).metrics
    ] == [2.0]


@pytest.mark.parametrize(
    ("given", "word"),
    [("NaN", "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity"), (1e39, "1e+39")],
)
def test_what_is_no_number_for_the_server_is_named(given: object, word: str) -> None:
    told_metrics = [metric("mAP@0.5:x", given), metric("b", 1)]
    with_store = mapped(FinalMetricDataList=told_metrics)
    without = mapped(metadata_store=False, FinalMetricDataList=told_metrics)
    assert (
        [each.name for each in with_store.metrics]
        == [each.name for each in without.metrics]
        == ["b"]
    )
    assert [
        note for note in with_store.notes if note.startswith(f"metric 'mAP@0.5:x' is {word}")
    ] == list(with_store.notes)
    assert json.loads(with_store.metadata or "")["JOB"]["metrics_not_stored"] == {
        "mAP@0%2E5:x": word
    }
    assert words(without)["MetricsNotStored"] == f"mAP@0.5:x={word}"
    assert "metrics_not_stored" not in document(FinalMetricDataList=[metric("b", 1)])["JOB"]
    assert "MetricsNotStored" not in words(
        mapped(metadata_store=False, FinalMetricDataList=[metric("b", 1)])
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_bounds_are_those_of_32_bits(sign: int) -> None:
    below = math.nextafter(FLOAT32_OVERFLOW, 0)
    assert is_float32(below)
    assert not is_float32(FLOAT32_OVERFLOW)
    given = [metric("below", sign * below), metric("at", sign * FLOAT32_OVERFLOW)]
    assert [each.name for each in mapped(FinalMetricDataList=given).metrics] == ["below"]


def test_a_metric_that_becomes_zero_is_noted() -> None:
    above = math.nextafter(FLOAT32_UNDERFLOW, 1)
    assert struct.pack("<f", FLOAT32_UNDERFLOW) == struct.pack("<f", 0) != struct.pack("<f", above)
    job = mapped(
        FinalMetricDataList=[
            metric("a", 1e-50),
            metric("b", 0.0),
            metric("c", above),
            metric("d", -FLOAT32_UNDERFLOW),
        ]
    )
    assert [each.value for each in job.metrics] == [1e-50, 0.0, above, -FLOAT32_UNDERFLOW]
    assert job.notes == (
        "metric 'a' is 1e-50: ModelDB keeps it as 0",
        f"metric 'd' is {-FLOAT32_UNDERFLOW!r}: ModelDB keeps it as 0",
    )


def test_a_job_without_metrics_says_that_the_web_pages_hide_it() -> None:
    note = "no metric is stored: ModelDB's web pages list no model without one"
    assert mapped().notes == (note,)
    assert note in mapped(FinalMetricDataList=[metric("a", "NaN")]).notes
    assert mapped(FinalMetricDataList=[metric("a", 1)]).notes == ()


# --- hyperparameters ------------------------------------------------------------------------------


def test_hyperparameters_are_sent_as_they_are_and_unquoted_in_the_metadata() -> None:
    given = {
        "opt": '"adam"',
        "lr": "0.10",
        "n": "10",
        "amp": "true",
        "none": "null",
        "layers": '[1, "a"]',
        "": "",
        "my_api_key": "s3cr3t",
    }
    job = mapped(HyperParameters=given)
    assert dict(job.hyperparameters) == given | {"my_api_key": "[redacted]"}
    assert json.loads(job.metadata or "")["CONFIG"] == given | {
        "opt": "adam",
        "my_api_key": "[redacted]",
    }


def test_secrets_and_the_environment_are_nowhere() -> None:
    members = {
        "HyperParameters": {"my_api_key": "s3cr3t-1"},
        "Environment": {"TOKEN": "s3cr3t-2"},
        "FailureReason": "got s3cr3t-1",
    }
    all_tags = {"api_key": "s3cr3t-3"}
    for metadata_store in (True, False):
        assert "s3cr3t" not in repr(
            mapped(metadata_store=metadata_store, all_tags=all_tags, **members)
        )


# --- the document ---------------------------------------------------------------------------------

KEYS = [
    "a.b",
    "a%2Eb",
    "a%b",
    "$oid",
    "%24oid",
    "$",
    "a$",
    "$a.b",
    "\0",
    "%00",
    ".",
    "",
    "_id",
    "%5Fid",
    "MODELDB_model_id",
    "é",
    "id_",
]


def test_keys_are_escaped_and_can_be_read_back() -> None:
    escaped = [metadata_key(key) for key in KEYS]
    assert [unquote(key) for key in escaped] == KEYS
    assert len(set(escaped)) == len(KEYS)
    assert document_violations(dict.fromkeys(escaped, 0)) == []


@pytest.mark.parametrize(
    "key",
    ["a", "a$", "", "é", "train:auc", "a/b", "aws:cloudformation:stack-name", "id_", "x_id", "🚀"],
)
def test_keys_that_fit_are_not_touched(key: str) -> None:
    assert metadata_key(key) == key


def test_user_given_keys_are_escaped_wherever_they_are() -> None:
    metadata = document(
        HyperParameters={"optim.lr": "1", "$where": '{"$oid": "1"}', "_id": "2"},
        all_tags={"cost.centre": "7", "$oid": "8", "MODELDB_model_id": ""},
        FinalMetricDataList=[metric("f1.macro", "NaN")],
        InputDataConfig=[channel("sm_drivers"), channel("code.v2")],
    )
    assert metadata["CONFIG"] == {"optim%2Elr": "1", "%24where": '{"$oid": "1"}', "%5Fid": "2"}
    assert metadata["TAGS"] == {"cost%2Ecentre": "7", "%24oid": "8", "%4DODELDB_model_id": ""}
    assert metadata["JOB"]["metrics_not_stored"] == {"f1%2Emacro": "NaN"}
    assert [each["TAG"] for each in metadata["DATASETS"]] == ["code.v2"]


def test_lone_surrogates_and_control_characters_are_cleaned() -> None:
    odd = "a\ud800\0b"
    members: dict[str, Any] = {
        "HyperParameters": {odd: odd, "json": '"\\ud800\\u0000"'},
        "InputDataConfig": [channel(odd, ContentType=odd)],
        "FinalMetricDataList": [metric(odd, 1), metric(f"{odd}2", "NaN")],
        "FailureReason": odd,
        "TrainingJobStatus": odd,
    }
    for metadata_store in (True, False):
        job = mapped(metadata_store=metadata_store, all_tags={odd: odd}, **members)
        assert job.hyperparameters[0] == ("a\ufffd\ufffdb", "a\ufffd\ufffdb")
        assert job.data_frames[0].tag == "a\ufffd\ufffdb"


def test_whole_numbers_beyond_64_bits_are_texts() -> None:
    metadata = json.loads(
        checked(
            replace(
                run_of(),
                training_seconds=2**63,
                billable_seconds=2**63 - 1,
                instance_count=-(2**63) - 1,
                volume_gb=-(2**63),
            )
        ).metadata
        or ""
    )["JOB"]
    assert (metadata["training_time_s"], metadata["billable_time_s"]) == (str(2**63), 2**63 - 1)
    assert (metadata["instance_count"], metadata["volume_size_gb"]) == (str(-(2**63) - 1), -(2**63))


def test_what_is_not_told_is_not_in_the_document() -> None:
    metadata = document()
    assert metadata.keys() == {"NAME", "TYPE", "PATH", "CONFIG", "DATASETS", "JOB", "TAGS"}
    assert (metadata["PATH"], metadata["CONFIG"], metadata["DATASETS"], metadata["TAGS"]) == (
        "",
        {},
        [],
        {},
    )
    assert metadata["JOB"].keys() == {
        *(
            "name",
            "arn",
            "creation_time",
            "project_user",
            "status",
            "region",
            "account",
            "partition",
            "console_url",
            "logs_url",
            "sync_version",
        ),
    }


def test_the_document_has_the_mark_by_which_models_are_found() -> None:
    job = document()["JOB"]
    assert f"sagemaker-training-job {job['arn']} {job['creation_time']}" == MARKER
    assert job["name"] == "Job-1"


# --- sizes ----------------------------------------------------------------------------------------


def test_the_largest_job_that_sagemaker_allows_loses_nothing() -> None:
    parameters = {f"{number:03d}" + "漢" * 253: "漢" * 2500 for number in range(100)}
    job = mapped(
        HyperParameters=parameters,
        FinalMetricDataList=[metric("a", 1)],
        all_tags={"漢" * 128: "漢" * 256},
    )
    assert dict(job.hyperparameters) == parameters
    assert job.notes == ()


def test_hyperparameters_that_are_too_large_for_a_frame_are_left_out_the_largest_first() -> None:
    parameters = {"big": "x" * 3_000_000, "small": "1", "bigger": "é" * 2_000_000}
    job = mapped(HyperParameters=parameters)
    assert [name for name, _ in job.hyperparameters] == ["big", "small"]
    assert (
        "hyperparameter 'bigger' of 4000070 bytes left out: the model would be too large"
        in job.notes
    )


def test_many_small_hyperparameters_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.targets.modeldb_v1.mapping.HYPERPARAMETER_BYTES", 40_000)
    job = mapped(HyperParameters={str(number): "" for number in range(700)})
    kept = len(job.hyperparameters)
    assert 500 < kept < 700
    assert len([note for note in job.notes if note.startswith("hyperparameter ")]) == 700 - kept
    sizes = [
        len(encode_call("storeFitEvent", {"fe": requests.fit_event(1, each)}, 0))
        for each in (job, replace(job, hyperparameters=()))
    ]
    assert sizes[0] - sizes[1] < 40_000


def test_a_document_that_is_too_large_loses_its_largest_members() -> None:
    parameters = {"big": "\n" * 3_900_000, "small": "1"}
    job = mapped(
        HyperParameters=parameters,
        FailureReason="y" * 2_000_000,
        all_tags={"a.b": "z" * 1_000_000},
        OutputDataConfig={},
    )
    metadata = json.loads(job.metadata or "")
    assert dict(job.hyperparameters) == parameters
    assert metadata["CONFIG"] == {"small": "1"}
    assert (len(metadata["JOB"]["failure_reason"]), len(metadata["TAGS"]["a%2Eb"])) == (
        2_000_000,
        1_000_000,
    )
    assert (
        "CONFIG 'big' of 7800007 bytes left out of the model's metadata, which would be too large"
        in job.notes
    )


def test_the_mark_stays_in_a_document_that_is_too_large() -> None:
    channels = [channel(str(number), ContentType="x" * 300) for number in range(3_000)]
    job_tags = replace(TAGS, model_name="m" * 8_000_000)
    run = run_of(
        job_tags=job_tags, all_tags={"a": "b"}, InputDataConfig=channels, HyperParameters={"c": "d"}
    )
    metadata = json.loads(map_job(run, metadata_store=True).metadata or "")
    assert metadata.pop("NAME") == job_tags.model_name
    assert metadata == {
        "TYPE": "XGBoost",
        "PATH": "",
        "CONFIG": {},
        "JOB": {"name": "Job-1", "arn": run.mark.arn, "creation_time": run.mark.creation_time},
        "TAGS": {},
    }


def test_no_more_is_left_out_than_needed() -> None:
    assert too_much({"a": 1, "b": 5, "c": 3}, 9) == []
    assert too_much({"a": 1, "b": 5, "c": 3}, 8) == ["b"]
    assert too_much({"a": 1, "b": 5, "c": 3}, 3) == ["b", "c"]
    assert too_much({}, 0) == []


def test_notes_of_the_run_come_first() -> None:
    run = replace(run_of(), notes=("a fact that was not to be had",))
    assert checked(run).notes[0] == "a fact that was not to be had"

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daemon.targets.modeldb_v2.mapping import (
    ARN_ATTRIBUTE,
    CREATION_TIME_ATTRIBUTE,
    distinct_run_name,
    map_run,
)
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.identity import JobMark
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from tests.support.aws_vectors import DescribeVector, describe, describes, tags
from tests.support.modeldb_v2_rules import (
    ASCII,
    TAGS,
    channel,
    mapped,
    metric,
    name_violations,
    random_text,
    run_of,
    utf16,
    values,
    violations,
)

VECTORS = describes()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.file)
def test_corpus_breaks_no_rule(vector: DescribeVector) -> None:
    all_tags = tags("fifty.json")
    found = read_tags(all_tags, TagKeys())
    assert isinstance(found, JobTags)
    run = training_run(
        DescribedJob.of(describe(vector.file)),
        found,
        all_tags,
        ("*password*", "*secret*", "*_token", "*api_key*"),
    )
    result = map_run(run)
    assert violations(result.body) == []
    assert not [secret for secret in vector.never_log if secret in repr(result)]
    attributes = values(result.body["attributes"])
    assert len([key for key in attributes if key.startswith("aws_tag_")]) == len(all_tags) == 50
    assert attributes.get("model_artifact_uri") == vector.model_location
    finite = {key: value for key, value in vector.metrics.items() if isinstance(value, float)}
    if "objective_metric" in attributes:
        assert finite.pop("ObjectiveMetric") == finite[attributes["objective_metric"]]
    assert [entry["value"] for entry in result.body["metrics"]] == list(finite.values())
    plumbing = [key for key in attributes if key.startswith("sdk_")]
    assert len(result.body["hyperparameters"]) + len(plumbing) == len(run.hyperparameters)
    assert map_run(run) == result


def test_a_usual_job_whole() -> None:
    found = read_tags(tags("full.json"), TagKeys())
    assert isinstance(found, JobTags)
    result = map_run(
        training_run(
            DescribedJob.of(describe("xgboost-builtin.json")), found, tags("full.json"), ()
        )
    )
    job = "churn-xgb-2025-11-20-08-40-00-123"
    model = f"s3://acme-ml-eu-west-1/churn/output/{job}/output/model.tar.gz"
    image = "141502667606.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-xgboost:1.7-1"
    console = (
        f"https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/jobs/{job}"
    )
    assert (result.project_name, result.experiment_name, result.run_name, result.notes) == (
        "churn",
        "churn-xgb",
        job,
        (),
    )
    assert (result.project_description, result.project_user) == (
        "Predicts which subscribers leave next month",
        "amara.okafor",
    )
    attributes = values(result.body.pop("attributes"))
    assert result.body == {
        "name": job,
        "description": " · \n".join(
            [
                "Model: churn-xgb",
                "Type: XGBoost",
                "User: amara.okafor",
                "Status: Completed",
                "Duration: 13 min 35 s",
                "Billed: 13 min 35 s",
                "Instances: 1 x ml.m5.xlarge",
                f"Model location: {model}",
                f"SageMaker: {console}",
                f"Logs: {attributes['logs_url']}",
            ]
        ),
        "start_time": 1763628097554,
        "end_time": 1763628912020,
        "date_created": 1763628912020,
        "tags": ["sagemaker", "XGBoost"],
        "hyperparameters": [
            {"key": "objective", "value": "binary:logistic"},
            {"key": "eval_metric", "value": "auc"},
            {"key": "num_round", "value": 200},
            {"key": "eta", "value": 0.1},
            {"key": "max_depth", "value": 6},
        ],
        "metrics": [
            {"key": "train/auc", "value": 0.9412},
            {"key": "validation/auc", "value": 0.9107},
            {"key": "train/error", "value": 0.1123},
            {"key": "validation/error", "value": 0.138},
        ],
        "datasets": [
            {
                "key": name,
                "path": f"s3://acme-ml-eu-west-1/churn/{name}/",
                "path_only": True,
                "artifact_type": "DATA",
            }
            for name in ("train", "validation")
        ],
        "artifacts": [
            {
                "key": "model_artifact",
                "path": model,
                "path_only": True,
                "artifact_type": "MODEL",
                "filename_extension": "tar.gz",
            },
            {
                "key": "training_image",
                "path": image,
                "path_only": True,
                "artifact_type": "CONTAINER",
            },
        ],
    }
    assert list(attributes)[:2] == [ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE]
    assert {key: value for key, value in attributes.items() if not key.startswith("aws_tag_")} == {
        "sagemaker_training_job_arn": (
            f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{job}"
        ),
        "sagemaker_creation_time": "2025-11-20T08:40:00.050Z",
        "model_name": "churn-xgb",
        "model_type": "XGBoost",
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
            f"$3FlogStreamNameFilter$3D{job}$252F"
        ),
        "model_console_url": (
            "https://eu-west-1.console.aws.amazon.com/s3/object/acme-ml-eu-west-1?region=eu-west-1"
            f"&prefix=churn/output/{job}/output/model.tar.gz"
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
        "managed_spot": "false",
        "network_isolation": "false",
        "inter_container_encryption": "false",
        "training_image": image,
        "input_mode": "File",
        "role_arn": "arn:aws:iam::123456789012:role/service-role/"
        "AmazonSageMaker-ExecutionRole-20250301T101500",
        "model_artifact_uri": model,
        "output_path": "s3://acme-ml-eu-west-1/churn/output",
        "output_compression": "GZIP",
        "profiler_uri": "s3://acme-ml-eu-west-1/churn/output",
        "sync_version": attributes["sync_version"],
        "objective_metric": "validation:auc",
        "dataset_train_uri": "s3://acme-ml-eu-west-1/churn/train/",
        "dataset_train_details": "source s3; type S3Prefix; distribution FullyReplicated; content "
        "type text/csv",
        "dataset_validation_uri": "s3://acme-ml-eu-west-1/churn/validation/",
        "dataset_validation_details": "source s3; type S3Prefix; distribution FullyReplicated; "
        "content type text/csv",
    }
    assert attributes["aws_tag_MODEL_DB_PROJECT_NAME"] == "churn"


def test_the_mark_is_in_lower_case_and_comes_from_the_description() -> None:
    attributes = values(mapped().body["attributes"])
    assert (
        attributes[ARN_ATTRIBUTE] == "arn:aws:sagemaker:eu-west-1:123456789012:training-job/job-1"
    )
    assert attributes[CREATION_TIME_ATTRIBUTE] == "2025-11-20T08:40:00.050Z"


@pytest.mark.parametrize("name", ["x" * 256, "x" * 300, "🚀" * 126, "é" * 251, "a" * 249 + "🚀"])
def test_long_names_are_shortened_and_stay_distinct(name: str) -> None:
    result = mapped(job_tags=replace(TAGS, project_name=name, model_name=name))
    other = mapped(job_tags=replace(TAGS, project_name=f"{name}y", model_name=f"{name}y"))
    assert result.project_name[:100] == name[:100]
    assert result.project_name == result.experiment_name
    assert result.project_name != other.project_name
    assert any("project name" in note and result.project_name in note for note in result.notes)
    assert any("experiment name" in note for note in result.notes)


@pytest.mark.parametrize("name", ["x" * 250, "🚀" * 125, "  inner  ", "需求预测"])
def test_names_that_fit_are_not_touched(name: str) -> None:
    result = mapped(job_tags=replace(TAGS, project_name=name, model_name=name))
    assert (result.project_name, result.experiment_name, result.notes) == (name, name, ())


@pytest.mark.parametrize("name", ["job-1", "x" * 63, "x" * 245, "🚀" * 200])
def test_a_taken_run_name_gets_the_hash_of_the_mark(name: str) -> None:
    first = JobMark(
        "arn:aws:sagemaker:eu-west-1:123456789012:training-job/job-1", "2025-11-20T08:40:00.050Z"
    )
    second = replace(first, creation_time="2025-11-21T08:40:00.050Z")
    distinct = distinct_run_name(name, first)
    assert distinct.endswith(f"-{first.short_hash}")
    assert distinct != distinct_run_name(name, second)
    assert distinct_run_name(f"{name}b", first) != distinct
    assert name_violations("name", distinct) == []
    assert distinct == f"{name}-{first.short_hash}" or utf16(name) + 9 > 250


def test_channels_become_datasets_and_code_becomes_artifacts() -> None:
    given = [
        channel("train", "s3://b/t"),
        channel("eval.2024", "s3://b/e"),
        channel("code", "s3://b/c"),
        channel("sm_drivers", "s3://b/d"),
    ]
    result = mapped(
        InputDataConfig=[*given, {"ChannelName": "future", "DataSource": {}}],
        HyperParameters={"sagemaker_program": "p.py"},
    )
    assert {entry["key"]: entry["path"] for entry in result.body["datasets"]} == {
        "train": "s3://b/t",
        "eval_2024": "s3://b/e",
    }
    code = {
        entry["key"]: entry["path"]
        for entry in result.body["artifacts"]
        if entry["artifact_type"] == "CODE"
    }
    assert code == {"channel_code": "s3://b/c", "channel_sm_drivers": "s3://b/d"}
    attributes = values(result.body["attributes"])
    assert (attributes["dataset_eval_2024_uri"], attributes["code_code_uri"]) == (
        "s3://b/e",
        "s3://b/c",
    )
    assert attributes["channels_without_uri"] == "future"
    assert attributes["program"] == "p.py"
    assert "channel 'future' has no location: left out" in result.notes


def test_artifacts_of_every_type() -> None:
    result = mapped(
        ModelArtifacts={"S3ModelArtifacts": "s3://b/model/"},
        HyperParameters={"sagemaker_submit_directory": '"s3://b/source.tar.gz"'},
        CheckpointConfig={"S3Uri": "s3://b/checkpoints"},
        TensorBoardOutputConfig={"S3OutputPath": "s3://b/tb"},
        DebugHookConfig={"S3OutputPath": "s3://b/debug"},
    )
    assert {
        entry["key"]: (entry["artifact_type"], entry.get("filename_extension"))
        for entry in result.body["artifacts"]
    } == {
        "model_artifact": ("MODEL", None),
        "source_code": ("CODE", "tar.gz"),
        "checkpoints": ("BLOB", None),
        "tensorboard": ("TENSORBOARD", None),
        "debugger": ("BLOB", None),
    }


def test_nothing_is_written_for_what_is_absent() -> None:
    result = mapped(TrainingJobStatus=None)
    assert (result.body["artifacts"], result.body["datasets"], result.body["tags"]) == (
        [],
        [],
        ["sagemaker", "XGBoost"],
    )
    assert (
        result.body["start_time"],
        "end_time" in result.body,
        "date_created" in result.body,
    ) == (1763628000050, False, False)
    assert "model_artifact_uri" not in values(result.body["attributes"])


def test_a_job_that_never_started_still_has_times() -> None:
    result = map_run(
        training_run(DescribedJob.of(describe("failed-before-start.json")), TAGS, {}, ())
    )
    assert (result.body["start_time"], result.body["end_time"], result.body["date_created"]) == (
        1763628000050,
        1763628943187,
        1763628943187,
    )


def test_a_failed_job_says_so_where_people_look() -> None:
    result = map_run(training_run(DescribedJob.of(describe("failed.json")), TAGS, {}, ()))
    assert result.body["tags"] == ["sagemaker", "XGBoost", "Failed"]
    assert (
        "Failure: AlgorithmError: ExecuteUserScriptError:\nExitCode 1" in result.body["description"]
    )
    stopped = mapped(
        TrainingJobStatus="Stopped",
        SecondaryStatus="MaxRuntimeExceeded",
        TrainingTimeInSeconds=3661,
        BillableTimeInSeconds=59,
    )
    assert (
        "Status: Stopped (MaxRuntimeExceeded) · \nDuration: 1 h 1 min 1 s · \nBilled: 59 s"
        in stopped.body["description"]
    )


def test_tags_fit_and_do_not_repeat() -> None:
    result = mapped(job_tags=replace(TAGS, model_type="🚀" * 21))
    assert result.body["tags"] == ["sagemaker", "🚀" * 20]
    assert len([note for note in result.notes if note.startswith("tag ")]) == 1
    assert values(result.body["attributes"])["model_type"] == "🚀" * 21
    assert mapped(job_tags=replace(TAGS, model_type="sagemaker")).body["tags"] == ["sagemaker"]
    alike = mapped(job_tags=replace(TAGS, model_type="y" * 41), TrainingJobStatus="y" * 42)
    assert alike.body["tags"] == ["sagemaker", "y" * 40]
    spaced = mapped(job_tags=replace(TAGS, model_type="x" * 39 + " y"))
    assert spaced.body["tags"] == ["sagemaker", "x" * 39]


def test_aws_tags_become_attributes() -> None:
    result = mapped(
        all_tags={
            "sagemaker:domain-arn": "arn:x",
            "a/b": "",
            "a-b": "2",
            "a_b": "3",
            "my_api_key": "secret",
        }
    )
    attributes = values(result.body["attributes"])
    assert attributes["aws_tag_sagemaker_domain_arn"] == "arn:x"
    assert attributes["aws_tag_a_b"] == "3"
    assert attributes["aws_tag_my_api_key"] == "[redacted]"
    assert sorted(value for key, value in attributes.items() if key.startswith("aws_tag_a_b_")) == [
        "(empty)",
        "2",
    ]
    assert len([note for note in result.notes if note.startswith("AWS tag")]) == 2


def test_our_attributes_have_one_type_each_over_all_jobs() -> None:
    types: dict[str, set[type]] = {}
    for vector in VECTORS:
        for entry in map_run(
            training_run(DescribedJob.of(describe(vector.file)), TAGS, {}, ())
        ).body["attributes"]:
            types.setdefault(entry["key"], set()).add(type(entry["value"]))
    assert {key for key, found in types.items() if found == {int}} == {
        *(
            "training_time_s",
            "billable_time_s",
            "billable_tokens",
            "max_runtime_s",
            "spot_saving_percent",
            "pending_seconds",
            "downloading_seconds",
            "training_phase_seconds",
            "uploading_seconds",
            "interrupted_seconds",
            "interruptions",
            "keep_alive_s",
            "max_pending_s",
            "max_wait_s",
            "max_retries",
            "epochs",
            "max_epochs",
            "steps",
            "steps_per_epoch",
            "instance_count",
            "volume_size_gb",
        ),
    }
    assert {key for key, found in types.items() if found not in ({int}, {str})} == set()


def test_a_request_that_would_be_too_large_loses_whole_texts_first_and_never_the_mark() -> None:
    texts = {f"h{number:02}": "漢" * (10_000 + 1000 * number) for number in range(60)}
    result = mapped(HyperParameters=texts, all_tags={"keep": "me"})
    attributes = values(result.body["attributes"])
    kept = [key for key in attributes if key.endswith("_full")]
    assert 20 < len(kept) < 60
    assert kept == [f"hyperparameter_h{number:02}_full" for number in range(len(kept))]
    assert len([note for note in result.notes if "would be too large" in note]) == 60 - len(kept)
    assert attributes["aws_tag_keep"] == "me"
    assert map_run(run_of(HyperParameters=texts, all_tags={"keep": "me"})) == result
    flood = mapped(all_tags={f"t{number}": "漢" * 100_000 for number in range(20)})
    assert len(flood.body["attributes"]) > 2
    endless = map_run(run_of(ModelArtifacts={"S3ModelArtifacts": "s3://" + "x" * 5_000_000}))
    assert [entry["key"] for entry in endless.body["attributes"]] == [
        ARN_ATTRIBUTE,
        CREATION_TIME_ATTRIBUTE,
        "sync_notes",
    ]


HOSTILE = [
    "",
    " ",
    "\u0000",
    "\ud800",
    "\u0000\ud800\x85\x1f",
    "a" * 5000,
    "🚀" * 3000,
    "\u202e\u200b",
    "a/b:c.d e@f%",
    "null",
    "\u0301",
    "\r\n\t",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:20])
def test_hostile_texts_break_no_rule_wherever_they_stand(text: str) -> None:
    found = read_tags(dict.fromkeys(vars_of(TagKeys()), f"x{text}"), TagKeys())
    assert isinstance(found, JobTags)
    keys = [f"{text}{number}" for number in range(3)] + [text, f"{text} ", f"{text}."]
    mapped(
        job_tags=found,
        all_tags=dict.fromkeys(keys, text),
        HyperParameters=dict.fromkeys(keys, text),
        FinalMetricDataList=[metric(key, number) for number, key in enumerate(keys)]
        + [metric(f"{text}x", "NaN")],
        InputDataConfig=[channel(key, f"s3://{text}") for key in keys]
        + [channel(text, text), channel("sm_drivers", text)],
        TrainingJobStatus=text,
        SecondaryStatus=text,
        FailureReason=text,
        RoleArn=text,
        ModelArtifacts={"S3ModelArtifacts": text},
        AlgorithmSpecification={"TrainingImage": text, "TrainingInputMode": text},
        ResourceConfig={"InstanceType": text, "InstanceCount": 2**60, "VolumeSizeInGB": 1.5},
        CheckpointConfig={"S3Uri": f"{text}.tar.gz"},
        TrainingTimeInSeconds=-5,
        BillableTimeInSeconds=float("nan"),
    )


def vars_of(keys: TagKeys) -> list[str]:
    return [getattr(keys, name) for name in TagKeys.__dataclass_fields__]


def test_the_checker_sees_what_it_is_for() -> None:
    good = mapped(HyperParameters={"a": "1"}, InputDataConfig=[channel("train", "s3://b/t")]).body

    def broken(**changes: Any) -> list[str]:
        return violations(good | changes)

    key_value = {"key": "a", "value": 1.0}
    artifact = {"key": "a", "path": "s3://x", "path_only": True, "artifact_type": "DATA"}
    assert broken() == []
    for changes in (
        {"name": "x" * 256},
        {"name": "🚀" * 129},
        {"start_time": 1.5},
        {"tags": ["x" * 41]},
        {"tags": [""]},
        {"tags": ["a", "a"]},
        {"hyperparameters": [{"key": "a.b", "value": 1}]},
        {"hyperparameters": [key_value, key_value]},
        {"hyperparameters": [{"key": "a", "value": random_text(ASCII, 2600)}]},
        {"hyperparameters": [{"key": "a", "value": None}]},
        {"hyperparameters": [{"key": "a", "value": True}]},
        {"hyperparameters": [{"key": "a", "value": 2**53 + 1}]},
        {"metrics": [{"key": "a", "value": "NaN"}]},
        {"datasets": [artifact | {"path": ""}]},
        {"artifacts": [artifact | {"key": "model"}]},
        {"artifacts": [artifact | {"filename_extension": "x" * 51}]},
        {"attributes": good["attributes"][1:]},
        {"attributes": [*good["attributes"], {"key": "a", "value": ""}]},
        {"attributes": [*good["attributes"], {"key": "a-b", "value": 1}]},
        {"description": "a\u0000"},
        {"description": "x" * 4_000_000},
        {"project": "x"},
    ):
        assert broken(**changes) != [], changes


def test_notes_of_the_run_come_first() -> None:
    run = replace(run_of(), notes=("a fact that was not to be had",))
    mapped_run = map_run(run)
    assert mapped_run.notes[0] == "a fact that was not to be had"
    assert values(mapped_run.body["attributes"])["sync_notes"] == "\n".join(mapped_run.notes)


def test_code_in_a_channel_is_one_artifact_and_no_data_set() -> None:
    location = "s3://acme-ml/job-1/source/sourcedir.tar.gz"
    result = mapped(
        HyperParameters={"sagemaker_submit_directory": "/opt/ml/input/data/code/sourcedir.tar.gz"},
        InputDataConfig=[
            {"ChannelName": name, "DataSource": {"S3DataSource": {"S3Uri": uri}}}
            for name, uri in {"training": "s3://acme-ml/train/", "code": location}.items()
        ],
    )
    assert [entry["key"] for entry in result.body["datasets"]] == ["training"]
    assert [(entry["key"], entry["path"]) for entry in result.body["artifacts"]] == [
        ("source_code", location)
    ]
    attributes = values(result.body["attributes"])
    assert attributes["source_code_uri"] == attributes["code_code_uri"] == location


def test_a_channel_tells_how_it_was_read_and_what_a_fine_tuning_started_from() -> None:
    model = "arn:aws:sagemaker:eu-west-1:aws:hub-content/SageMakerPublicHub/Model/m/1.0.0"
    source = {
        "S3Uri": "s3://acme-ml/train.manifest",
        "AttributeNames": ["source-ref", "label"],
        "InstanceGroupNames": ["gpu"],
        "HubAccessConfig": {"HubContentArn": model},
        "ModelAccessConfig": {"AcceptEula": False},
    }
    result = mapped(
        InputDataConfig=[
            {
                "ChannelName": "train",
                "DataSource": {"S3DataSource": source},
                "ShuffleConfig": {"Seed": 2**60 + 1},
            }
        ]
    )
    assert values(result.body["attributes"])["dataset_train_details"] == (
        f"source s3; attributes source-ref, label; instance groups gpu; hub content {model}; "
        "licence not accepted; shuffle seed 1152921504606846977"
    )

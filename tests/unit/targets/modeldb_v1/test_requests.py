"""Our requests beside those of the original client (the Light API), recorded on the wire: equal
bytes, but for what is listed here.

The tables below name every field that differs, and why: `[]` stands for every item of a list, `[+]`
for items behind the end of theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.modeldb_v1 import requests
from daemon.targets.modeldb_v1.codec import decode_call, encode_call, plain
from daemon.targets.modeldb_v1.mapping import MappedJob, map_job
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, TagsIncomplete, read_tags
from tests.support.modeldb_v1_exchanges import Exchange, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MARK = (
    "sagemaker-training-job arn:aws:sagemaker:eu-west-1:123456789012:training-job/job-1 "
    "2026-11-23T12:00:00.250Z"
)
RUN: Mapping[str, str] = {
    "er.experimentRun.description": "the mark, by which the run is found again; theirs is empty"
}
FIT: Mapping[str, str] = {
    "fe.spec.tag": "the model's name, which the original client never sends",
    "fe.model.tag": "as fe.spec.tag",
    "fe.metadata": 'with a metadata store a document, theirs is "{}"; without one unset, or the '
    "server would wait 30 s for its MongoDB",
}
WORDS: Mapping[str, str] = {
    "df.metadata[].valueType": "the name of the type, as they have it everywhere else; here they "
    "have str(type(value))",
    "df.metadata[+]": "S3DataType; on the training data without a metadata store, what a person "
    "needs of the job",
}
"""Of each data frame that has key-values."""
FIT_OF_CASE: Mapping[str, Mapping[str, str]] = {
    "training-channel": {
        "fe.df.tag": "a channel `training` is training data, too; theirs is an empty data frame",
        "fe.df.filepath": "as fe.df.tag",
        "fe.df.metadata[+]": "as fe.df.tag",
    },
    "typed-hyperparameters": {
        "fe.spec.hyperparameters[].type": "SageMaker has texts only; the recorded case gave the "
        "client numbers and None"
    },
}
FIRST_METRIC: Mapping[str, str] = {
    "me.df.id": "they store the data frame with the first metric; we do before, in a call of its "
    "own, and name its id",
    "me.df.tag": "as me.df.id",
    "me.df.filepath": "as me.df.id",
    "me.df.metadata": "as me.df.id",
}
METRIC_ELSEWHERE: Mapping[tuple[str, str], str] = {
    (
        "training-channel",
        "validation:error",
    ): "it has a channel of its name; they know none but test",
}
"""Later metrics that we store on another data frame: `me.df.id` differs."""

HIDDEN_CHANNELS = {
    "three-channels": ("validation",),
    "training-channel": ("training", "validation"),
}
"""Channels that a case had and the original client did not send."""
METRICS_LEFT_OUT = {
    "nan-metric": ["bad"],
    "infinite-metric": ["pos", "neg", "big"],
    "empty-strings": [""],
}
"""Not a number for the server, or infinite as a 32-bit float; and SageMaker has no metric without a
name."""
NO_JOB_OF_OURS = {"none-tag", "empty-strings", "no-description"}
"""A tag is missing or blank, so the job is refused before it reaches the target. The requests
that would be sent are compared anyway."""


@dataclass(frozen=True)
class Case:
    """What the original client sent for one job."""

    name: str
    exchanges: Sequence[Exchange]

    def requests(self, method: str) -> list[Mapping[str, Any]]:
        return [exchange.request or {} for exchange in self.exchanges if exchange.method == method]

    def only(self, method: str) -> Exchange:
        (exchange,) = (exchange for exchange in self.exchanges if exchange.method == method)
        return exchange

    @property
    def metrics(self) -> list[Exchange]:
        return [exchange for exchange in self.exchanges if exchange.method == "storeMetricEvent"]

    @property
    def tags(self) -> JobTags:
        (project,), (fit,) = self.requests("storeProjectEvent"), self.requests("storeFitEvent")
        reported = project["pr"]["project"]
        return JobTags(
            reported.get("name", ""),
            reported["author"],
            reported["description"],
            "the-model",
            fit["fe"]["spec"]["transformerType"],
        )

    @property
    def description(self) -> dict[str, Any]:
        """The DescribeTrainingJob answer, as botocore parses it, that the client was given."""
        (fit,) = (request["fe"] for request in self.requests("storeFitEvent"))
        channels = [_described(frame) for frame in self._data_frames(fit["df"])]
        channels += [
            _described({"tag": name, "filepath": f"s3://bucket/{name}/"})
            for name in HIDDEN_CHANNELS.get(self.name, ())
        ]
        metrics = [request["me"] for request in self.requests("storeMetricEvent")]
        return {
            "TrainingJobName": "Job-1",
            "TrainingJobArn": "arn:aws:sagemaker:eu-west-1:123456789012:training-job/Job-1",
            "TrainingJobStatus": "Completed",
            "CreationTime": datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC),
            "ModelArtifacts": {"S3ModelArtifacts": fit["model"]["filepath"]},
            "HyperParameters": {
                each["name"]: each["value"] for each in fit["spec"]["hyperparameters"]
            },
            "InputDataConfig": channels,
            "FinalMetricDataList": [
                {"MetricName": each["metricType"], "Value": each["metricValue"]} for each in metrics
            ],
        }

    def _data_frames(self, training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        tested = [request["me"]["df"] for request in self.requests("storeMetricEvent")[:1]]
        return [frame for frame in (training, *tested) if frame["tag"]]

    def mapped(self, *, metadata_store: bool) -> MappedJob:
        return map_job(
            training_run(DescribedJob.of(self.description), self.tags, {}, ()),
            metadata_store=metadata_store,
        )


def _described(frame: Mapping[str, Any]) -> dict[str, Any]:
    words = {word["key"]: word["value"] for word in frame.get("metadata", [])}
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": frame["filepath"]}}
    return {"ChannelName": frame["tag"], "DataSource": source if frame["filepath"] else {}, **words}


def cases() -> list[Case]:
    """In the order in which they were recorded."""
    found: dict[str, list[Exchange]] = {}
    for exchange in load():
        if exchange.file == "light_api":
            found.setdefault(exchange.name.rpartition("-")[0], []).append(exchange)
    return [Case(name, exchanges) for name, exchanges in found.items()]


CASES = cases()


def case_named(name: str) -> Case:
    (found,) = (case for case in CASES if case.name == name)
    return found


def with_jobs() -> Iterator[tuple[Case, MappedJob, str]]:
    """Each case with its job, with and without a metadata store, and a label."""
    for case in CASES:
        for metadata_store in (True, False):
            label = f"{case.name}, {'with' if metadata_store else 'without'} metadata store"
            yield case, case.mapped(metadata_store=metadata_store), label


def differences(theirs: Any, ours: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two JSON values differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in sorted(theirs.keys() | ours.keys()):
            found |= differences(theirs.get(key), ours.get(key), f"{path}.{key}" if path else key)
        return found
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) <= len(ours):
        found = {}
        for one, other in zip(theirs, ours, strict=False):
            found |= differences(one, other, f"{path}[]")
        return found | (
            {f"{path}[+]": (None, ours[len(theirs) :])} if len(ours) > len(theirs) else {}
        )
    return {} if theirs == ours and type(theirs) is type(ours) else {path: (theirs, ours)}


def taken_over(theirs: Any, ours: Any, path: str) -> None:
    """Gives their struct our value at a path of `differences`."""
    name, _, rest = path.partition(".")
    if name.endswith("[+]"):
        field = name.removesuffix("[+]")
        getattr(theirs, field).extend(getattr(ours, field)[len(getattr(theirs, field)) :])
    elif name.endswith("[]"):
        for one, other in zip(getattr(theirs, name[:-2]), getattr(ours, name[:-2]), strict=False):
            taken_over(one, other, rest)
    elif rest:
        taken_over(getattr(theirs, name), getattr(ours, name), rest)
    else:
        setattr(theirs, name, getattr(ours, name))


def compare(exchange: Exchange, **arguments: Any) -> dict[str, tuple[Any, Any]]:
    """Holds our call against a recorded one, and returns where they differ: with our values there,
    theirs has our bytes.
    """
    method = exchange.method or ""
    found = differences(exchange.request, {name: plain(value) for name, value in arguments.items()})
    theirs = decode_call(exchange.request_frame).arguments
    assert encode_call(method, theirs, 0) == exchange.request_frame
    for path in sorted(found, key=lambda each: each.endswith("[+]")):
        argument, _, rest = path.partition(".")
        taken_over(theirs[argument], arguments[argument], rest)
    assert encode_call(method, theirs, 0) == encode_call(method, arguments, 0)
    return found


def test_all_recorded_cases_are_compared() -> None:
    assert len(CASES) == 19
    assert (
        sum(len(case.exchanges) for case in CASES)
        == len([each for each in load() if each.file == "light_api"])
        == 113
    )
    listed = {
        *HIDDEN_CHANNELS,
        *FIT_OF_CASE,
        *METRICS_LEFT_OUT,
        *NO_JOB_OF_OURS,
        *(name for name, _ in METRIC_ELSEWHERE),
    }
    assert listed <= {case.name for case in CASES}


def test_jobs_without_all_tags_are_refused_before(subtests: pytest.Subtests) -> None:
    for case in CASES:
        with subtests.test(case.name):
            keys = TagKeys()
            (reported,) = (
                request["pr"]["project"] for request in case.requests("storeProjectEvent")
            )
            tags = {
                keys.sync: "",
                keys.project_name: reported.get("name", ""),
                keys.project_user: reported["author"],
                keys.project_description: reported["description"],
                keys.model_name: case.tags.model_name,
                keys.model_type: case.tags.model_type,
            }
            refused = isinstance(read_tags(tags, keys), TagsIncomplete)
            assert refused == (case.name in NO_JOB_OF_OURS)


def test_the_project_is_theirs_byte_for_byte(subtests: pytest.Subtests) -> None:
    for case, job, label in with_jobs():
        exchange = case.only("storeProjectEvent")
        event = requests.project_event(job)
        with subtests.test(label):
            if case.name == "none-tag":
                assert compare(exchange, pr=event) == {"pr.project.name": (None, "")}
            else:
                same = encode_call("storeProjectEvent", {"pr": event}, 0)
                assert same == exchange.request_frame


def test_the_experiment_is_theirs_byte_for_byte(subtests: pytest.Subtests) -> None:
    for case in CASES:
        with subtests.test(case.name):
            exchange = case.only("storeExperimentEvent")
            project_id = case.only("storeProjectEvent").response["result"]["projectId"]
            assert (
                encode_call(
                    "storeExperimentEvent", {"er": requests.default_experiment_event(project_id)}, 0
                )
                == exchange.request_frame
            )


def test_the_run_differs_by_our_mark_only(subtests: pytest.Subtests) -> None:
    for case, job, label in with_jobs():
        with subtests.test(label):
            experiment_id = case.only("storeExperimentEvent").response["result"]["experimentId"]
            found = compare(
                case.only("storeExperimentRunEvent"), er=requests.run_event(experiment_id, job)
            )
            assert found == {"er.experimentRun.description": ("", MARK)}
            assert found.keys() == RUN.keys()


def test_the_fit_differs_where_it_is_listed(subtests: pytest.Subtests) -> None:
    for case, job, label in with_jobs():
        with subtests.test(label):
            exchange = case.only("storeFitEvent")
            theirs = (exchange.request or {})["fe"]
            found = compare(exchange, fe=requests.fit_event(theirs["experimentRunId"], job))
            words = {
                f"fe.{path}"
                for path in WORDS
                if theirs["df"]["metadata"] or (path.endswith("[+]") and job.metadata is None)
            }
            assert found.keys() == FIT.keys() | words | FIT_OF_CASE.get(case.name, {}).keys()
            assert found["fe.spec.tag"] == found["fe.model.tag"] == ("", "the-model")
            assert found["fe.metadata"] == ("{}", job.metadata)
            assert found.get("fe.df.metadata[].valueType") in {None, ("<class 'str'>", "str")}
            added = [word["key"] for word in found.get("fe.df.metadata[+]", (None, []))[1]]
            has_uri = bool(job.data_frames[0].filepath)
            assert [
                key for key in added if key in {"S3DataType", "ModelArtifacts", "TrainingJobArn"}
            ] == [
                *(["S3DataType"] if has_uri else []),
                *(["ModelArtifacts"] if job.metadata is None and job.model_location else []),
                *(["TrainingJobArn"] if job.metadata is None else []),
            ]


def test_hyperparameters_keep_the_quotes_that_the_original_client_sent() -> None:
    job = case_named("quoted-hyperparameters").mapped(metadata_store=True)
    assert job.hyperparameters == (
        ("sagemaker_program", '"train.py"'),
        ("epochs", '"10"'),
        ("json", '{"a": [1, 2]}'),
    )


def test_all_channels_are_sent_as_they_send_two(subtests: pytest.Subtests) -> None:
    """The original client sends test with the first metric, we as a call of its own, and the others
    as well.
    """
    for case, job, label in with_jobs():
        with subtests.test(label):
            assert len(job.data_frames) == max(1, len(case.description["InputDataConfig"]))
            assert set(HIDDEN_CHANNELS.get(case.name, ())) <= {
                frame.tag for frame in job.data_frames
            }
            sent = [request["me"]["df"] for request in case.requests("storeMetricEvent")[:1]]
            theirs = [frame for frame in sent if frame["tag"]]
            ours = [
                plain(requests.data_frame(frame))
                for frame in job.data_frames
                if frame.tag == "test"
            ]
            assert len(theirs) == len(ours)
            for one, other in zip(theirs, ours, strict=True):
                found = differences({"df": one}, {"df": other})
                assert found.keys() == (WORDS.keys() if one["metadata"] else set())


def test_the_channel_training_is_the_training_data() -> None:
    job = case_named("training-channel").mapped(metadata_store=True)
    assert [(frame.tag, frame.filepath) for frame in job.data_frames] == [
        ("training", "s3://bucket/training/"),
        ("validation", "s3://bucket/validation/"),
    ]


def test_metrics_are_theirs_byte_for_byte_where_they_are_on_the_same_data_frame(
    subtests: pytest.Subtests,
) -> None:
    for case, job, label in with_jobs():
        with subtests.test(label):
            fit = case.only("storeFitEvent").response.get("result", {})
            run_id = case.only("storeExperimentRunEvent").response["result"]["experimentRunId"]
            metrics = {metric.name: metric for metric in job.metrics}
            reported = {
                (exchange.request or {})["me"]["metricType"]: exchange for exchange in case.metrics
            }
            assert [*metrics] == [
                name for name in reported if name not in METRICS_LEFT_OUT.get(case.name, [])
            ]
            ids = {frame.tag: 1000 + number for number, frame in enumerate(job.data_frames)}
            ids[job.data_frames[0].tag] = fit.get("dfId", -1)
            if case.metrics:
                ids |= {"test": case.metrics[0].response["result"]["dfId"]}
            for name, metric in metrics.items():
                event = requests.metric_event(
                    run_id, fit["modelId"], ids[job.data_frames[metric.channel].tag], metric
                )
                theirs = (reported[name].request or {})["me"]
                found = compare(reported[name], me=event)
                if theirs["df"]["id"] == -1:
                    assert found.keys() == {
                        path
                        for path in FIRST_METRIC
                        if path == "me.df.id" or theirs["df"][path.rpartition(".")[2]]
                    }
                else:
                    assert found.keys() == (
                        {"me.df.id"} if (case.name, name) in METRIC_ELSEWHERE else set()
                    )


@pytest.mark.parametrize(
    ("case_name", "on"),
    [
        ("sample", {"train:error": "train", "validation:error": "test"}),
        ("training-channel", {"train:error": "training", "validation:error": "validation"}),
        ("three-channels", {"a": "test", "b": "test", "c": "test"}),
        ("one-channel", {"train:rmse": "train"}),
        ("no-channels", {"train:error": "", "validation:error": ""}),
        ("infinite-metric", {"tiny": "test"}),
    ],
)
def test_metrics_are_on_the_data_they_were_measured_on(
    case_name: str, on: Mapping[str, str]
) -> None:
    job = case_named(case_name).mapped(metadata_store=True)
    assert {metric.name: job.data_frames[metric.channel].tag for metric in job.metrics} == on

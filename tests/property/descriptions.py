"""Strategies: DescribeTrainingJob responses, tags, and the runs built from them."""

from __future__ import annotations

import functools
import json
import string
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import botocore.session
from hypothesis import strategies as st

from daemon.config.settings import JobSettings
from daemon.text import cleaned
from daemon.training_job.described_job import DescribedJob
from daemon.training_job.field_readers import moment
from daemon.training_job.metric_series import bounded, metric_series
from daemon.training_job.run_reader import training_run
from daemon.training_job.tags import JobTags, TagKeys, read_tags
from daemon.training_job.tuning_job import tuning_job
from tests.property.changes import changed
from tests.property.texts import anything, json_values, numbers, texts, times
from tests.support.aws_vectors import describe, describes

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from daemon.training_job.training_run import TrainingRun

REDACT = JobSettings().redact
KEYS = TagKeys()
NEEDED_TAGS = (
    KEYS.project_name,
    KEYS.project_user,
    KEYS.project_description,
    KEYS.model_name,
    KEYS.model_type,
)

MOST_CHARACTERS = 63
"""Of a job's name."""


@functools.cache
def job_names() -> st.SearchStrategy[str]:
    letters = st.sampled_from(string.ascii_letters + string.digits)
    inner = st.text(
        st.sampled_from(string.ascii_letters + string.digits + "-"), max_size=MOST_CHARACTERS - 2
    )
    return letters | st.builds("{}{}{}".format, letters, inner, letters)


@functools.cache
def arns(names: st.SearchStrategy[str] | None = None) -> st.SearchStrategy[str]:
    return st.builds(
        "arn:{}:sagemaker:{}:{}:training-job/{}".format,
        st.sampled_from(["aws", "aws-cn", "aws-us-gov", "aws-iso-b", "AWS"]),
        st.sampled_from(["eu-west-1", "us-gov-west-1", "cn-north-1", "x" * 300]),
        st.text(st.sampled_from(string.digits), min_size=12, max_size=12),
        job_names() if names is None else names,
    )


@functools.cache
def tags() -> st.SearchStrategy[dict[str, str]]:
    """Any tags; those of this program are frequent."""
    keys = st.sampled_from(
        (
            KEYS.sync,
            *NEEDED_TAGS,
            "team",
            "Team",
            "db_password",
            "aws:x",
            "sagemaker:pipeline-step-name",
        )
    )
    return st.dictionaries(keys | texts(), texts(), max_size=12)


@functools.cache
def hyperparameter_texts() -> st.SearchStrategy[str]:
    """Typical hyperparameters: words, numbers in every spelling, JSON."""
    return st.one_of(
        texts(), numbers().map(str), json_values().map(json.dumps), st.floats().map("{:.3g}".format)
    )


@functools.cache
def descriptions() -> st.SearchStrategy[Any]:
    """Any DescribeTrainingJob response: changed recorded ones, and generated ones."""
    files = st.sampled_from([vector.file for vector in describes()])
    recorded = files.flatmap(lambda file: changed(_recorded(file), anything()))
    return st.one_of(recorded, _structures(_shape(), depth=0)).map(
        lambda found: found if isinstance(found, dict) else {}
    )


@st.composite
def usable_descriptions(draw: st.DrawFn) -> dict[str, Any]:
    """Any description with a valid identity."""
    name = draw(job_names())
    identity = {
        "TrainingJobName": name,
        "TrainingJobArn": draw(arns(st.just(name))),
        "CreationTime": draw(times().filter(has_instant)),
    }
    return {**draw(descriptions()), **draw(_telling()), **identity}


def has_instant(time: datetime) -> bool:
    """Whether `datetime` can represent a time in UTC."""
    return moment({"time": time}, "time") is not None


@st.composite
def runs(draw: st.DrawFn) -> TrainingRun:
    """Any run that the flow can pass to a target."""
    all_tags = draw(tags()) | {KEYS.sync: draw(texts())}
    found = read_tags(all_tags, KEYS)
    if not isinstance(found, JobTags):
        all_tags |= {key: "x" + draw(texts()) for key in NEEDED_TAGS}
        found = read_tags(all_tags, KEYS)
    assert isinstance(found, JobTags)
    description = draw(usable_descriptions())
    run = training_run(DescribedJob.of(description), found, all_tags, REDACT)
    known = st.sampled_from(["m", *(metric.name for metric in run.metrics)])
    names = texts().map(cleaned).filter(str.strip) | known
    read = draw(st.lists(st.builds(metric_series, names, _POINTS), max_size=4))
    series = {one.name: one for one, _ in read if one is not None}
    parent = draw(st.none() | _PARENTS)
    return replace(
        run,
        metric_series=bounded(tuple(series.values())),
        tuning=None if parent is None else tuning_job(parent, description),
    )


_POINTS = st.lists(st.tuples(st.integers(-(2**53), 2**53), st.floats()), max_size=12)
_OBJECTIVES = st.fixed_dictionaries(
    {
        "Type": st.sampled_from(["Minimize", "Maximize"]) | texts(),
        "MetricName": texts() | st.just("m"),
    }
)
_PARENTS = st.fixed_dictionaries(
    {"HyperParameterTuningJobName": texts()},
    optional={
        "HyperParameterTuningJobStatus": texts() | st.none(),
        "HyperParameterTuningJobConfig": st.fixed_dictionaries(
            {},
            optional={"Strategy": texts(), "HyperParameterTuningJobObjective": _OBJECTIVES},
        ),
        "BestTrainingJob": st.fixed_dictionaries({"TrainingJobName": texts()}) | texts(),
    },
)


@functools.cache
def _recorded(file: str) -> dict[str, Any]:
    return describe(file)


@functools.cache
def _shape() -> Any:
    model = botocore.session.get_session().get_service_model("sagemaker")
    return model.operation_model("DescribeTrainingJob").output_shape


@st.composite
def _structures(draw: st.DrawFn, shape: Any, *, depth: int) -> dict[str, Any]:
    """Some members of a structure."""
    names = (
        draw(
            st.lists(
                st.sampled_from(sorted(shape.members)), unique=True, max_size=8 if depth else 20
            )
        )
        if shape.members
        else []
    )
    return {name: draw(_values(shape.members[name], name, depth=depth + 1)) for name in names}


@functools.cache
def _values(shape: Any, name: str, *, depth: int) -> st.SearchStrategy[Any]:
    """Values that the service's model allows, and occasionally others."""
    kind = _ALLOWED.get(shape.type_name)
    allowed = texts() if kind is None else kind(shape, name, depth)
    odd = anything()
    return st.integers(0, 9).flatmap(lambda kind: odd if kind == 0 else allowed)


def _strings(shape: Any, name: str, _depth: int) -> st.SearchStrategy[Any]:
    if shape.enum:
        return st.sampled_from(shape.enum)
    return (
        hyperparameter_texts()
        if name == "HyperParameters"
        else st.one_of(texts(), st.builds("s3://b/{}".format, texts()))
    )


def _names_of_metrics() -> st.SearchStrategy[str]:
    return (
        st.sampled_from(["train:auc", "validation:auc", "train.auc", "train/auc", "loss"]) | texts()
    )


_ALLOWED: dict[str, Callable[[Any, str, int], st.SearchStrategy[Any]]] = {
    "structure": lambda shape, _name, depth: _structures(shape, depth=depth),
    "list": lambda shape, name, depth: st.lists(
        _values(shape.member, name, depth=depth), max_size=4
    ),
    "map": lambda shape, name, depth: st.dictionaries(
        st.sampled_from(["lr", "l r", "l.r", "api_key", "sagemaker_program"]) | texts(),
        _values(shape.value, name, depth=depth),
        max_size=5,
    ),
    "string": lambda shape, name, depth: (
        _names_of_metrics() if name == "MetricName" else _strings(shape, name, depth)
    ),
    "integer": lambda _shape, _name, _depth: st.integers(0, 10**6) | numbers(),
    "long": lambda _shape, _name, _depth: st.integers(0, 10**6) | numbers(),
    "float": lambda _shape, _name, _depth: numbers(),
    "double": lambda _shape, _name, _depth: numbers(),
    "boolean": lambda _shape, _name, _depth: st.booleans(),
    "timestamp": lambda _shape, _name, _depth: times(),
}


def _metrics() -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {"MetricName": _names_of_metrics(), "Value": numbers() | texts()},
        optional={"Timestamp": times()},
    )


def _instances() -> st.SearchStrategy[Any]:
    counts = st.sampled_from([1, 2**53]) | numbers()
    return st.fixed_dictionaries(
        {"InstanceType": st.just("ml.m5.large") | texts(), "InstanceCount": counts}
    )


def _channels() -> st.SearchStrategy[Any]:
    source = st.builds(lambda uri: {"S3DataSource": {"S3Uri": uri}}, texts())
    names = (
        st.sampled_from(["train", "test", "validation", "code", "sm_drivers", "tr.ain"]) | texts()
    )
    return st.fixed_dictionaries({"ChannelName": names, "DataSource": source})


@functools.cache
def _telling() -> st.SearchStrategy[dict[str, Any]]:
    """Members that become lists with keys and numbers. Every target has its own rules for them, so
    they are generated more often.
    """
    keys = st.sampled_from(["lr", "l r", "l.r", "api_key"]) | texts()
    return st.fixed_dictionaries(
        {},
        optional={
            "FinalMetricDataList": st.lists(_metrics(), max_size=4),
            "InputDataConfig": st.lists(_channels(), max_size=4),
            "HyperParameters": st.dictionaries(keys, hyperparameter_texts(), max_size=4),
            "TrainingTimeInSeconds": numbers(),
            "ResourceConfig": st.fixed_dictionaries(
                {"InstanceGroups": st.lists(_instances(), max_size=3)}
            ),
        },
    )

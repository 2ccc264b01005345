"""Whatever a job is: MLflow takes what is made of it, loses nothing of it without a word, and the
run is known as the job's afterwards.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.demo.mlflow.model import MlflowModel
from daemon.targets.mlflow import limits
from daemon.targets.mlflow.differences import Differences, differences
from daemon.targets.mlflow.mapping import WRITTEN_TAG, distinct_run_name, map_run
from daemon.targets.mlflow.preview import preview
from daemon.targets.mlflow.target import MlflowTarget
from daemon.targets.names import distinct_keys
from daemon.text import cleaned
from daemon.training_job.identity import JobMark
from tests.property.descriptions import job_names, runs
from tests.property.texts import sendable_texts, texts
from tests.support.mlflow_model_session import client_of
from tests.support.mlflow_rules import key_violations, text_violations, violations
from tests.support.modeldb_v2_rules import run_of
from tests.support.target_jobs import MemoryJournal

if TYPE_CHECKING:
    from daemon.targets.mlflow.entities import ModelVersion, Run
    from daemon.targets.mlflow.mapping import MappedRun
    from daemon.training_job.training_run import TrainingRun

Server = tuple[str, Literal["sqlite", "postgresql"]]
SERVERS: list[Server] = [("3.17.2", "sqlite"), ("3.17.2", "postgresql"), ("2.22.5", "sqlite")]

FEWER = max(30, settings().max_examples // 3)
"""Examples of what takes long."""


async def written(run: TrainingRun, model: MlflowModel) -> tuple[Run, list[ModelVersion]]:
    """The job's run and versions as the real client reads them after the target has synced it."""
    client = client_of(model)
    target = MlflowTarget(client, settle_seconds=0)
    done = await target.sync(run, MemoryJournal())
    assert done.created
    versions = await client.search_model_versions(f"run_id = '{done.ids['run_id']}'")
    return await client.get_run(done.ids["run_id"]), list(versions)


@settings(max_examples=FEWER)
@given(runs(), st.sampled_from(SERVERS))
def test_mlflow_takes_every_job_and_gives_it_back(run: TrainingRun, server: Server) -> None:
    mapped = map_run(run)
    assert violations(mapped) == []
    assert repr(map_run(run)) == repr(mapped)
    assert_hyperparameters_are_there(run, mapped)
    assert preview(mapped).sections

    ids = itertools.count(1)
    model = MlflowModel(
        version=server[0],
        database=server[1],
        now_ms=lambda: 1_763_628_000_000,
        new_id=lambda: f"{next(ids):032x}",
    )
    stored, versions = asyncio.run(written(run, model))

    assert model.stopped_parses == []
    ours = {key: value for key, value in stored.tags.items() if key in mapped.tags}
    assert ours == mapped.tags
    assert stored.tags.keys() - ours.keys() <= {WRITTEN_TAG, "mlflow.runName"}
    assert (stored.name, stored.status) == (mapped.run_name, mapped.status)
    assert (stored.start_time, stored.end_time) == (mapped.start_time, mapped.end_time)
    assert stored.params == mapped.params
    assert sorted(stored.inputs, key=repr) == sorted(mapped.inputs, key=repr)
    [found] = model.runs()
    assert sorted(map(drawn, found["points"])) == sorted(
        (point.key, str(point.value), point.timestamp, point.step) for point in mapped.metrics
    )
    [experiment] = [each for each in model.experiments() if each["name"] != "Default"]
    assert experiment["name"] == mapped.experiment_name
    assert {each["key"]: each["value"] for each in experiment["tags"]} == mapped.experiment_tags
    if mapped.model is None:
        assert versions == []
    else:
        [version] = versions
        assert (version.name, version.source) == (mapped.model.name, mapped.model.source)
        assert version.description == mapped.model.version_description
        assert version.tags == mapped.model.tags
    assert differences(stored, versions, mapped, run) == Differences()


def drawn(point: dict[str, Any]) -> tuple[str, str, int, int]:
    value = point["value"]
    return point["key"], str(float(value)), int(point["timestamp"]), int(point.get("step", 0))


def assert_hyperparameters_are_there(run: TrainingRun, mapped: MappedRun) -> None:
    """Each as a param or, if it is the SDK's own, a tag; with its text unless that is too long."""
    plumbing = {key: text for key, text in mapped.tags.items() if key.startswith("sdk/")}
    assert len(mapped.params) + len(plumbing) == len(run.hyperparameters)
    sent = {*mapped.params.values(), *plumbing.values()}
    for parameter in run.hyperparameters:
        text = parameter.value if isinstance(parameter.value, str) else parameter.text
        assert text in sent or len(text) > limits.TAG_VALUE // 2


@given(st.lists(sendable_texts(), unique=True, max_size=8), st.data())
def test_keys_stay_distinct_in_any_order(keys: list[str], data: st.DataObject) -> None:
    distinct = distinct_keys(keys, limits.clean_key, limits.equal_as)
    assert list(distinct) == keys
    assert list(key_violations("key", distinct.values())) == []
    assert all(distinct[key] == key for key in keys if distinct[key].casefold() == key)
    assert distinct_keys(data.draw(st.permutations(keys)), limits.clean_key, limits.equal_as) == (
        distinct
    )


@given(texts().map(cleaned))
def test_a_clean_key_stays_as_it_is(text: str) -> None:
    clean = limits.clean_key(text)
    assert limits.clean_key(clean) == clean


@given(st.lists(texts().map(cleaned).filter(str.strip), unique=True, min_size=2, max_size=4))
def test_names_fit_and_stay_distinct(names: list[str]) -> None:
    for of, limit in ((limits.model_name, 256), (limits.experiment_name, 256)):
        short = [of(name) for name in names]
        assert len(set(short)) == len(names)
        for name in short:
            assert list(text_violations("name", name, limit)) == []
            assert of(name) == name
    paths = [limits.experiment_name(name, "/Shared/") for name in names]
    assert len(set(paths)) == len(names)
    assert all(path.count("/") == 2 for path in paths)


@given(texts().map(cleaned), st.integers(100, 6000))
def test_values_fit(text: str, limit: int) -> None:
    for shorten in (limits.cut, limits.shortened_value):
        value = shorten(text, limit)
        assert list(text_violations("value", value, limit)) == []
        assert (value == text) == limits.fits(text, limit)


@given(texts().map(cleaned), job_names())
def test_the_second_job_of_a_name_gets_a_name_that_fits(name: str, job: str) -> None:
    mark = JobMark(f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{job}", "2025")
    other = distinct_run_name(name * 6, mark)
    assert other.endswith(mark.short_hash)
    assert list(text_violations("name", other, 250)) == []


SECRETS = st.text("abcdefghijkmnpqrstuvwxyzABCDEFGH23456789", min_size=16, max_size=40)


@given(SECRETS, SECRETS)
def test_no_secret_is_written(one: str, other: str) -> None:
    run = run_of(
        HyperParameters={"api_key": one, "sagemaker_job_name": f'"--api-key {other}"'},
        FailureReason=f"401 for {one} and {other}",
        all_tags={"api_key": other, "team": "growth"},
        OutputDataConfig={"S3OutputPath": "s3://b/out"},
        ModelArtifacts={"S3ModelArtifacts": "s3://b/out/model.tar.gz"},
    )
    mapped = map_run(replace(run, status="Completed"))
    assert mapped.model is not None
    document = f"{mapped!r} {preview(mapped)!r}"
    assert one not in document
    assert other not in document

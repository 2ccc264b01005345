"""Whatever a job is: ModelDB V2 takes what is made of it, keeps it as it was, and the run is known
as the job's afterwards.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.demo.modeldb_v2.calls import EXPERIMENT_CALLS, PROJECT_CALLS, RUN_CALLS
from daemon.demo.modeldb_v2.messages import parse_body
from daemon.demo.modeldb_v2.store import Store
from daemon.targets.modeldb_v2 import entities
from daemon.targets.modeldb_v2.limits import (
    BODY_BYTES,
    NAME_UNITS,
    attribute_key,
    fits_value,
    metric_key,
    run_key,
    shortened_tag,
    shortened_value,
)
from daemon.targets.modeldb_v2.mapping import distinct_run_name, map_run
from daemon.targets.modeldb_v2.marked_runs import carries
from daemon.targets.modeldb_v2.observations import metric_keys
from daemon.targets.names import distinct_keys, shortened_name
from daemon.text import cleaned
from daemon.training_job.channels import Channel
from tests.property.descriptions import runs
from tests.property.texts import sendable_texts, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from daemon.demo.modeldb_v2.calls import Call
    from daemon.training_job.training_run import TrainingRun

ALPHABETS = {
    "hyperparameters": re.compile(r"[A-Za-z0-9_\-/]+"),
    "metrics": re.compile(r"[A-Za-z0-9_\-/]+"),
    "datasets": re.compile(r"[A-Za-z0-9_\-/]+"),
    "artifacts": re.compile(r"[A-Za-z0-9_\-/]+"),
    "attributes": re.compile(r"[A-Za-z0-9_]+"),
}
"""What the official client takes in keys. The server takes anything, but then nobody finds it."""
RESERVED_ARTIFACTS = {
    "model.pkl",
    "model_api.json",
    "requirements.txt",
    "train_data",
    "tf_saved_model",
    "custom_modules",
    "model",
}
MOST_BYTES = 4 * 2**20
FEWER = max(10, settings().max_examples // 10)
"""Examples of what takes long."""


def answered(
    calls: Mapping[str, Call], name: str, store: Store, request: dict[str, Any]
) -> dict[str, Any]:
    """The stand-in's answer to a call, after JSON in both directions. Raises its `ApiError`."""
    call = calls[name]
    sent = json.dumps(request, allow_nan=False, separators=(",", ":")).encode()
    received = call.message.read(parse_body(sent))
    call.validate(received)
    call.check(store, received)
    answer = json.dumps(call.perform(store, received), allow_nan=False, ensure_ascii=False).encode()
    found: dict[str, Any] = json.loads(answer)
    return found


@given(runs())
def test_the_server_takes_every_job_and_gives_it_back(run: TrainingRun) -> None:
    mapped = map_run(run)
    store = Store()
    user = [{"key": "project_user", "value": mapped.project_user}]
    fields = {
        "name": mapped.project_name,
        "description": mapped.project_description,
        "attributes": user,
    }
    project = entities.Project.parse(
        answered(PROJECT_CALLS, "createProject", store, fields)["project"]
    )
    fields = {"project_id": project.id, "name": mapped.experiment_name}
    experiment = entities.Experiment.parse(
        answered(EXPERIMENT_CALLS, "createExperiment", store, fields)["experiment"]
    )
    ids = {"project_id": project.id, "experiment_id": experiment.id}
    stored = answered(RUN_CALLS, "createExperimentRun", store, mapped.body | ids)["experiment_run"]

    assert drawn(stored.get("observations", [])) == drawn(mapped.body.get("observations", []))
    assert (project.name, experiment.name) == (mapped.project_name, mapped.experiment_name)
    assert (project.description, project.attributes["project_user"]) == (
        run.project_description,
        run.project_user,
    )
    found = entities.Run.parse(stored)
    assert found.name == mapped.run_name
    assert carries(found, run.mark)
    for member in ("attributes", "hyperparameters", "metrics"):
        assert pairs(stored.get(member, [])) == pairs(mapped.body[member])
    for member in ("artifacts", "datasets"):
        sent = [(entry["key"], entry["path"]) for entry in mapped.body[member]]
        assert [(entry["key"], entry["path"]) for entry in stored.get(member, [])] == sent


def drawn(observations: list[dict[str, Any]]) -> list[tuple[str, float, int, int]]:
    return [
        (
            entry["attribute"]["key"],
            entry["attribute"]["value"],
            entry["epoch_number"],
            int(entry.get("timestamp", 0)),
        )
        for entry in observations
    ]


def pairs(entries: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(entry["key"], entry["value"]) for entry in entries]


@given(runs())
def test_no_rule_of_the_official_client_and_of_the_web_page_is_broken(run: TrainingRun) -> None:
    body = map_run(run).body
    for member, alphabet in ALPHABETS.items():
        keys = [entry["key"] for entry in body[member]]
        assert len(set(keys)) == len(keys)
        assert all(map(alphabet.fullmatch, keys)), keys
    for entry in body["attributes"] + body["hyperparameters"] + body["metrics"]:
        value = entry["value"]
        assert type(value) in {str, int, float}
        assert value.strip() if isinstance(value, str) else math.isfinite(value)
        assert not isinstance(value, int) or abs(value) <= 2**53
    curves = body.get("observations", [])
    assert {entry["attribute"]["key"] for entry in curves} == {
        metric_keys(run)[series.name] for series in run.metric_series
    }
    assert all(math.isfinite(entry["attribute"]["value"]) for entry in curves)
    assert all(
        type(entry[name]) is int for entry in curves for name in ("timestamp", "epoch_number")
    )
    assert all(
        entry["path"].strip() and entry["path_only"] is True
        for entry in body["artifacts"] + body["datasets"]
    )
    assert not RESERVED_ARTIFACTS & {entry["key"] for entry in body["artifacts"]}
    assert len(set(body["tags"])) == len(body["tags"])
    assert all(
        type(body.get(name, 0)) is int for name in ("start_time", "end_time", "date_created")
    )


@given(runs())
def test_every_hyperparameter_is_still_there(run: TrainingRun) -> None:
    """As the number that its text spells, as the text itself, or whole in an attribute."""
    body = map_run(run).body
    keys = [each.key for each in run.hyperparameters if not each.key.startswith("sagemaker_")]
    sent = {entry["key"]: entry["value"] for entry in body["hyperparameters"]}
    attributes = {entry["key"]: entry["value"] for entry in body["attributes"]}
    plumbing = [key for key in attributes if key.startswith("sdk_")]
    assert len(sent) + len(plumbing) == len(run.hyperparameters)
    names = distinct_keys(keys, run_key)
    for parameter in run.hyperparameters:
        value = sent.get(names.get(parameter.key, ""))
        reported = parameter.value if isinstance(parameter.value, str) else parameter.text
        if isinstance(value, int | float):
            exact = Decimal(repr(value)) == Decimal(parameter.text.strip())
            assert exact or parameter.text.strip() in attributes.values()
        else:
            assert value == reported or not reported.strip() or reported in attributes.values()


@settings(max_examples=FEWER)
@given(runs(), st.integers(1, 4), st.integers(1, 40))
def test_no_request_is_too_large(run: TrainingRun, megabytes: int, times: int) -> None:
    """Far beyond what SageMaker allows: values are left out, the mark never."""
    uri = "s3://é\\" + "x" * (megabytes * 1_000_000 // times)
    large = replace(
        run,
        all_tags={**run.all_tags, **{f"tag {number}": uri for number in range(times)}},
        channels=tuple(
            Channel(f"channel.{number}", f"s3://b/{number}", "s3", content_type=uri)
            for number in range(times)
        ),
    )
    mapped = map_run(large)
    assert (
        len(json.dumps(mapped.body, ensure_ascii=False).encode())
        <= BODY_BYTES + 50_000
        < MOST_BYTES
    )
    attributes = {entry["key"]: entry["value"] for entry in mapped.body["attributes"]}
    found = entities.Run("1", "1", "1", mapped.run_name, attributes)
    assert carries(found, run.mark)


@given(
    st.lists(sendable_texts(), unique=True, max_size=8),
    st.sampled_from([run_key, metric_key, attribute_key]),
    st.data(),
)
def test_keys_stay_distinct_in_any_order(
    keys: list[str], clean: Callable[[str], str], data: st.DataObject
) -> None:
    distinct = distinct_keys(keys, clean)
    assert list(distinct) == keys
    assert len(set(distinct.values())) == len(keys)
    assert all(clean(form) == form for form in distinct.values())
    assert all(distinct[key] == key for key in keys if clean(key) == key)
    assert distinct_keys(data.draw(st.permutations(keys)), clean) == distinct


@given(st.lists(texts().map(cleaned), unique=True, min_size=2, max_size=4))
def test_names_fit_and_stay_distinct(names: list[str]) -> None:
    short = [shortened_name(name, NAME_UNITS) for name in names]
    assert len(set(short)) == len(names)
    assert all(len(name.encode("utf-16-le")) // 2 <= NAME_UNITS for name in short)
    assert [shortened_name(name, NAME_UNITS) for name in short] == short


@given(texts().map(cleaned))
def test_values_and_tags_fit(text: str) -> None:
    value = shortened_value(text)
    assert fits_value(value)
    assert (value == text) == fits_value(text)
    assert len(shortened_tag(text).encode("utf-16-le")) // 2 <= 40


@given(runs())
def test_the_second_job_of_a_name_gets_a_name_that_fits(run: TrainingRun) -> None:
    other = distinct_run_name(run.name * 6, run.mark)
    assert other.endswith(run.mark.short_hash)
    assert len(other) <= NAME_UNITS

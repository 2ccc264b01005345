"""One job with every limit at its edge is stored by real servers as it was mapped, on SQLite and on
PostgreSQL, whose columns refuse what is too long.
"""

from __future__ import annotations

import contextlib
import json
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.mlflow.mapping import NOTES_TAG, WRITTEN_TAG, map_run
from daemon.training_job.channels import Channel
from daemon.training_job.hyperparameters import Hyperparameter
from daemon.training_job.metric_series import MetricSeries
from daemon.training_job.metrics import Metric
from tests.real.mlflow_lab import (
    LAB,
    install_driver,
    interpreter,
    lab_server,
    output_of,
    postgresql,
    postgresql_programs,
)
from tests.support.mlflow_rules import units, violations
from tests.support.mlflow_target import target_of
from tests.support.target_jobs import CREATED, MemoryJournal, job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from daemon.training_job.training_run import TrainingRun

EMOJI = "\U0001f600"
"""Two UTF-16 units, one code point, four bytes."""

READER = """
import json, sys
from mlflow.tracking import MlflowClient

url, run_id = sys.argv[1:]
client = MlflowClient(url, url)
run = client.get_run(run_id)
experiment = client.get_experiment(run.info.experiment_id)
versions = client.search_model_versions(f"run_id = '{run_id}'")
print(json.dumps({
    "experiment": [experiment.name, dict(experiment.tags)],
    "run": [run.info.run_name, run.info.status, run.info.start_time, run.info.end_time],
    "tags": dict(run.data.tags),
    "params": dict(run.data.params),
    "latest": dict(run.data.metrics),
    "points": [
        [point.key, repr(point.value), point.timestamp, point.step]
        for key in run.data.metrics
        for point in client.get_metric_history(run_id, key)
    ],
    "inputs": [
        [each.dataset.name, each.dataset.digest, each.dataset.source_type, each.dataset.source,
         {tag.key: tag.value for tag in each.tags}]
        for each in run.inputs.dataset_inputs
    ],
    "versions": [
        [each.name, each.source, each.run_link, each.description, dict(each.tags)]
        for each in versions
    ],
    "models": [each.description for each in client.search_registered_models()],
}))
"""
"""For MLflow's official client."""


async def read(url: str, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        await output_of(await interpreter(), "-c", READER, url, run_id)
    )
    return found


def largest_job() -> TrainingRun:
    """Every text at its limit, in units of two, three and four bytes, and at the edges of what a
    key may be.
    """
    texts = {
        "blank": "",
        "emoji": EMOJI * 3000,
        "letters": "é" * 6000,
        "cut": "x" * 6001,
        "null": "null",
    }
    keys = {
        "k" * 250: "too long for a key with a prefix",
        "Lr": "1",
        "lr": "2",
        "a:b+c@d": "3",
        "../x//y/.": "4",
        "..z": "5",
        " spaced  out ": "6",
        "größe": "7",
        "学习率": "8",
        EMOJI: "9",
        "'\"`;--": "10",
        "line\nend": "11",
    }
    more = {f"p{number}": "v" for number in range(100 - len(texts) - len(keys))}
    return job(
        "j" * 63,
        project_name=EMOJI * 128,
        project_description="d" * 6000,
        model_name="m" * 300,
        model_type="t" * 6000,
        start_time=CREATED,
        end_time=CREATED + timedelta(hours=1),
        failure_reason="r" * 1024,
        model_location=f"s3://bucket/{'p' * 488}",
        all_tags={
            **{f"{number:02}{'k' * 250}": EMOJI * 2500 for number in range(50)},
            **{f"t{number}": "" for number in range(950)},
        },
        hyperparameters=tuple(
            Hyperparameter(key, text, text) for key, text in {**texts, **keys, **more}.items()
        ),
        metrics=(
            Metric("train:auc", 0.5, CREATED),
            Metric("smallest", 5e-324),
            Metric("largest", 1.7976931348623157e308),
            Metric("negative", -0.1),
            Metric("n" * 300, 1.0),
            Metric("mAP@0.5:0.95 (B)", 2.0),
        ),
        non_finite_metrics={"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"},
        metric_series=(
            MetricSeries("train:auc", tuple(range(-2, 248)), tuple(x / 7 for x in range(250))),
            MetricSeries("far", (-(2**53), 2**53), (1.0, 2.0)),
        ),
        channels=(
            Channel("c" * 600, f"s3://bucket/{'u' * 65_000}", "s3"),
            Channel("Train", "s3://bucket/data", "s3"),
            Channel("train", "s3://bucket/data", "s3"),
            Channel("files", "efs://fs-1/data", "e" * 40),
        ),
        notes=tuple(f"note {number} {EMOJI * 40}" for number in range(100)),
    )


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Of a new server."""
    async with contextlib.AsyncExitStack() as stack:
        options: list[str] = []
        if request.param == "postgresql":
            if postgresql_programs() is None or not await install_driver():
                pytest.skip("there is no PostgreSQL, or no driver of it to be had")
            database = await stack.enter_async_context(postgresql())
            options = ["--backend-store-uri", database.uri]
        server = await stack.enter_async_context(lab_server(options=options))
        yield server.url


@pytest.mark.slow  # starts a server, with PostgreSQL too: 10 to 20 s each
@pytest.mark.timeout(300)
@pytest.mark.skipif(not LAB, reason="MLFLOW_LAB names no control script of MLflow servers")
async def test_the_largest_job_is_stored_as_it_is_mapped(url: str) -> None:
    run = largest_job()
    mapped = map_run(run)
    assert violations(mapped) == []
    model = mapped.model
    assert model is not None
    assert units(mapped.experiment_name) == len(model.name) == 256
    assert len(mapped.tags) == 999
    assert max(map(units, mapped.tags.values())) == 5000
    assert NOTES_TAG in mapped.tags
    assert max(map(units, mapped.params.values())) == 6000
    assert len(mapped.params) == 100
    assert len(model.source) == 500
    assert any(math.isnan(point.value) for point in mapped.metrics)

    async with target_of(url) as target:
        written = await target.sync(run, MemoryJournal())
        found = await read(url, written.ids["run_id"])
        again = await target.compare(run)

    assert written.notes == mapped.notes
    name, tags = found["experiment"]
    assert name == mapped.experiment_name
    assert tags.items() >= mapped.experiment_tags.items()
    assert found["run"] == [mapped.run_name, mapped.status, mapped.start_time, mapped.end_time]
    added = {WRITTEN_TAG, "mlflow.runName"}
    assert {key: text for key, text in found["tags"].items() if key not in added} == mapped.tags
    assert found["params"] == mapped.params
    assert sorted(found["points"]) == sorted(
        [point.key, repr(point.value), point.timestamp, point.step] for point in mapped.metrics
    )
    assert (found["latest"]["train/auc"], found["latest"]["far"]) == (0.5, 2.0)
    assert sorted(found["inputs"], key=repr) == sorted(
        (
            [
                data.name,
                data.digest,
                data.source_type,
                data.source,
                {"mlflow.data.context": data.context},
            ]
            for data in mapped.inputs
        ),
        key=repr,
    )
    assert found["versions"] == [
        [model.name, model.source, model.run_link, model.version_description, model.tags]
    ]
    assert found["models"] == [model.description]
    assert again is not None
    assert (again.changed, again.unchangeable) == ((), ())

"""What the demo reads of a ModelDB V1 to check itself, and the outage that it makes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from daemon.demo.modeldb_v1.demo_target import DemoModelDbV1
from daemon.demo.modeldb_v1.server import ModelDbV1StandIn
from daemon.demo.results import Evidence, Figures, shortcomings
from daemon.demo.sample_jobs import SECRETS, sample_story
from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.errors import CallErrorKind, CallFailed
from daemon.targets.modeldb_v1.mapping import marker_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from daemon.demo.sample_jobs import SampleJob

STORY = sample_story(datetime.now(UTC))
JOB = next(job for job in STORY.jobs if job.name == "fraud-vae-13")
"""Two channels, and two metrics of which one is no number."""


@pytest.fixture
async def server() -> AsyncIterator[ModelDbV1StandIn]:
    async with ModelDbV1StandIn(storage_busy_seconds=0.0) as standing_in:
        yield standing_in


def store(server: ModelDbV1StandIn, job: SampleJob) -> None:
    """The rows of a job's run, as they must be."""
    tables = server.store
    project = tables.insert(
        tables.projects, name="Fraud", author="li.wei", description="", created=1
    )
    experiment = tables.insert(
        tables.experiments, project=project, name="Default_Experiment", description="", created=1
    )
    run = tables.insert(
        tables.runs, experiment=experiment, description=marker_of(job.mark), created=1
    )
    frames = [
        tables.insert(tables.data_frames, tag=name, numRows=-1, experimentRun=run, filepath=uri)
        for name, uri in job.inputs.items()
    ]
    spec = tables.insert(
        tables.specs, transformerType="PyTorch", tag="fraud-vae", experimentRun=run
    )
    add_fit(server, run=run, spec=spec, frame=frames[0])
    for name, value in job.finite_metrics.items():
        tables.insert(
            tables.metrics,
            transformer=1,
            df=frames[0],
            metricType=name,
            metricValue=value,
            experimentRun=run,
        )


def add_fit(
    server: ModelDbV1StandIn, *, run: int | None = 1, spec: int | None = 1, frame: int | None = 1
) -> None:
    """A model in a run."""
    tables = server.store
    model = tables.insert(
        tables.models,
        transformerType="PyTorch",
        tag="fraud-vae",
        experimentRun=run,
        filepath="s3://bucket/model",
    )
    tables.insert(
        tables.fits,
        transformerSpec=spec,
        transformer=model,
        df=frame,
        predictionColumns="",
        labelColumns="",
        experimentRun=run,
        problemType="undefined",
    )


async def problems(server: ModelDbV1StandIn) -> Sequence[str]:
    """What the check says of the job whose run is stored; of the others it says that they have
    none.
    """
    evidence = Evidence(await DemoModelDbV1(server).runs(), [], [], Figures([]))
    return [
        each
        for each in shortcomings(STORY, evidence)
        if "has 0 runs" not in each and "dead letter" not in each
    ]


async def test_a_run_is_read_with_all_that_it_has(server: ModelDbV1StandIn) -> None:
    store(server, JOB)
    [run] = await DemoModelDbV1(server).runs()
    assert (run.project, run.experiment, run.name) == (
        "Fraud",
        "Default_Experiment",
        "run 1, model fraud-vae",
    )
    assert (run.run_id, run.mark) == ("1", JOB.mark)
    assert dict(run.metrics) == {"validation:loss": 0.7134}
    assert [name for name, _ in run.inputs] == ["train", "validation"]
    assert await problems(server) == []


async def test_a_run_of_nobody_has_no_mark(server: ModelDbV1StandIn) -> None:
    store(server, JOB)
    server.store.insert(server.store.runs, experiment=1, description="by hand", created=1)
    assert await problems(server) == ["ModelDB has the run run 2, which no job demands"]


async def test_the_check_counts_the_runs_of_a_mark(server: ModelDbV1StandIn) -> None:
    store(server, JOB)
    store(server, JOB)
    assert (
        f"{JOB.name} (created {JOB.mark.creation_time}) has 2 runs in ModelDB, not 1"
        in await problems(server)
    )


async def test_the_check_counts_models(server: ModelDbV1StandIn) -> None:
    store(server, JOB)
    add_fit(server)
    assert await problems(server) == [f"the run of {JOB.name} has 2 models, not 1"]
    server.store.fits.delete(2)
    assert await problems(server) == []  # a row without a fit is no model
    server.store.fits.delete(1)
    assert f"the run of {JOB.name} has 0 models, not 1" in await problems(server)


async def test_the_check_finds_metrics_that_are_missing_or_of_another_run_s_model(
    server: ModelDbV1StandIn,
) -> None:
    store(server, JOB)
    metric = server.store.metrics.get(1)
    assert metric is not None
    server.store.metrics.delete(1)
    [found] = await problems(server)
    assert found == f"the run of {JOB.name} has the metrics (none), not validation:loss=0.7134"
    server.store.insert(server.store.metrics, **{**metric, "id": 1, "transformer": 7})
    assert await problems(server) == [found]


async def test_the_check_finds_a_data_frame_that_is_missing_or_there_twice(
    server: ModelDbV1StandIn,
) -> None:
    store(server, JOB)
    frame = server.store.data_frames.get(2)
    assert frame is not None
    server.store.insert(server.store.data_frames, **{**frame, "id": -1})
    [twice] = await problems(server)
    assert "has the inputs" in twice
    server.store.data_frames.delete(3)
    server.store.data_frames.delete(2)
    [missing] = await problems(server)
    assert "has the inputs" in missing


@pytest.mark.parametrize("table", ["hyperparameters", "key_values", "documents"])
async def test_the_check_finds_a_secret_wherever_it_is(
    server: ModelDbV1StandIn, table: str
) -> None:
    store(server, JOB)
    tables = server.store
    match table:
        case "hyperparameters":
            tables.insert(
                tables.hyperparameters,
                spec=1,
                paramName="key",
                paramType="str",
                paramValue=SECRETS[0],
                experimentRun=1,
            )
        case "key_values":
            pair = tables.insert(tables.key_values, key="key", value=SECRETS[0], valueType="str")
            tables.insert(tables.data_frame_metadata, dfId=1, metadataKvId=pair)
        case "documents":
            server.stored_documents.insert({"MODELDB_model_id": 1, "CONFIG": {"key": SECRETS[0]}})
    [found] = await problems(server)
    assert "secret" in found
    assert SECRETS[0] not in found


async def test_the_outage_refuses_all_and_its_end_loses_the_answer_of_one_run(
    server: ModelDbV1StandIn,
) -> None:
    store(server, JOB)
    modeldb = DemoModelDbV1(server)
    run = INTERFACE.ExperimentRunEvent(
        INTERFACE.ExperimentRun(id=-1, experimentId=1, description="another")
    )

    async def connect() -> Connection:
        return await Connection.open(
            server.host, server.port, observe=lambda _method, _result: None
        )

    connection = await connect()
    modeldb.go_down()
    for method, arguments in (
        ("getProjectIds", {"keyValuePairs": {}}),
        ("storeExperimentRunEvent", {"er": run}),
    ):
        with pytest.raises(CallFailed) as refused:
            await connection.call(method, **arguments)
        assert refused.value.kind is CallErrorKind.STORAGE
    assert modeldb.run_count == 1

    modeldb.come_back()
    with pytest.raises(CallFailed) as lost:
        await connection.call("storeExperimentRunEvent", er=run)
    assert (lost.value.kind, lost.value.answered, modeldb.run_count) == (
        CallErrorKind.UNREACHABLE,
        False,
        2,
    )
    await connection.aclose()

    connection = await connect()
    await connection.call("storeExperimentRunEvent", er=run)
    assert modeldb.run_count == 3
    await connection.aclose()

"""Shared by tests of the ModelDB V1 target: jobs, targets, repeated attempts, and checks of what is
stored.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from daemon.errors import EdgeFault
from daemon.reasons import Reason
from daemon.targets.modeldb_v1.connection import Connection
from daemon.targets.modeldb_v1.mapping import map_job
from daemon.targets.modeldb_v1.readback import float32
from daemon.targets.modeldb_v1.target import ModelDBV1Target
from daemon.training_job.channels import Channel
from daemon.training_job.training_run import Hyperparameter, Metric
from tests.support.modeldb_v1_connections import until
from tests.support.modeldb_v2_target import job

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence

    from daemon.demo.modeldb_v1.store import Row, Store
    from daemon.targets.modeldb_v1.codec import Call
    from daemon.targets.modeldb_v1.mapping import MappedJob
    from daemon.targets.ports import TargetRun, WriteJournal
    from daemon.training_job.training_run import TrainingRun
    from tests.support.modeldb_v1_stand_in import InjectedFaults, ModelDbV1StandIn
    from tests.support.modeldb_v2_target import MemoryJournal

CHANNELS = ("train", "validation", "test")


class Stored(Protocol):
    """What a server holds."""

    store: Store

    @property
    def runs(self) -> list[Row]: ...

    @property
    def documents(self) -> list[dict[str, Any]]: ...


class Permit:
    """A `WritePermit` that a test grants and revokes."""

    def __init__(self) -> None:
        self.holds = True
        self.lasts = True
        self.released = 0
        self._ends: list[Callable[[], None]] = []

    def may_send(self) -> bool:
        return self.holds and self.lasts

    def on_end(self, end: Callable[[], None]) -> None:
        self._ends.append(end)

    async def release(self) -> None:
        self.released += 1

    def end(self) -> None:
        self.holds = False
        for end in self._ends:
            end()


@contextlib.asynccontextmanager
async def target_on(
    port: int,
    *,
    metadata_store: bool,
    permit: Permit | None = None,
    call_seconds: float = 45.0,
    settle_seconds: float = 0.0,
    observe: Callable[[str, str], None] = lambda _method, _result: None,
) -> AsyncIterator[ModelDBV1Target]:
    """A target of the server on a port of this machine."""
    target = ModelDBV1Target(
        partial(Connection.open, "127.0.0.1", port, observe=observe),
        permit or Permit(),
        server_id="test",
        metadata_store=metadata_store,
        call_seconds=call_seconds,
        settle_seconds=settle_seconds,
    )
    try:
        yield target
    finally:
        await target.aclose()


async def until_synced(
    target: ModelDBV1Target, run: TrainingRun, journal: WriteJournal, attempts: int = 50
) -> TargetRun:
    """Repeats attempts as the daemon does, after each fault of the whole server."""
    for _ in range(attempts):
        with contextlib.suppress(EdgeFault):
            return await target.sync(run, journal)
    raise AssertionError(f"not synced after {attempts} attempts")


def full_job(name: str = "churn-1", **members: Any) -> TrainingRun:
    """A job with several of everything: three data frames, four metrics, two hyperparameters."""
    several: dict[str, Any] = {
        "channels": tuple(Channel(each, f"s3://data/{name}/{each}", "s3") for each in CHANNELS),
        "metrics": (
            Metric("train:auc", 0.99),
            Metric("validation:auc", 0.95),
            Metric("test:auc", 0.94),
            Metric("loss", 0.125),
        ),
        "hyperparameters": (
            Hyperparameter("eta", "0.2", 0.2),
            Hyperparameter("optimizer", '"adam"', "adam"),
        ),
    }
    return job(name, **several | members)


def marker(run: TrainingRun) -> str:
    return map_job(run, metadata_store=False).marker


def runs_of(server: Stored, run: TrainingRun) -> list[Row]:
    """The server's runs with the job's mark."""
    return [row for row in server.runs if row["description"] == marker(run)]


def only(things: Iterable[Row]) -> Row:
    (thing,) = things
    return thing


def wrong(
    server: Stored,
    jobs: Sequence[TrainingRun],
    *,
    metadata_store: bool,
    without_document: Collection[int] = (),
) -> list[str]:
    """Deviations: a missing, incomplete, duplicate or unexpected run, or a wrong model.

    Rows that a server left when it died within a fit do not count: without its fit, no read returns
    a model.

    Args:
        server: the server to check.
        jobs: all jobs it must have.
        metadata_store: whether the models must have documents.
        without_document: ids of runs whose models need none.
    """
    found = []
    for each in jobs:
        expected = map_job(each, metadata_store=metadata_store)
        rows = runs_of(server, each)
        if len(rows) != 1:
            found.append(f"{each.name}: {len(rows)} runs")
            continue
        problems = _wrong_in_run(
            server, expected, rows[0], document_needed=rows[0]["id"] not in without_document
        )
        found += [f"{each.name}: {problem}" for problem in problems]
    known = {marker(each) for each in jobs}
    return found + [
        f"a run that nobody wanted: {row['description']}"
        for row in server.runs
        if row["description"] not in known
    ]


def _wrong_in_run(
    server: Stored, expected: MappedJob, run: Row, *, document_needed: bool
) -> list[str]:
    store = server.store
    experiment = only(row for row in store.experiments if row["id"] == run["experiment"])
    project = only(row for row in store.projects if row["id"] == experiment["project"])
    fits = [row for row in store.fits if row["experimentRun"] == run["id"]]
    models = [
        row
        for row in store.models
        if row["experimentRun"] == run["id"] and store.fits.where("transformer", row["id"])
    ]
    found = []
    if (project["name"], project["author"]) != (expected.project_name, expected.project_user):
        found.append(f"project {project['name']} of {project['author']}")
    if (len(fits), len(models)) != (1, 1):
        return [*found, f"{len(fits)} fits and {len(models)} models"]
    fit, model = fits[0], models[0]
    tags = {
        row["id"]: (row["tag"], row["filepath"])
        for row in store.data_frames
        if row["experimentRun"] == run["id"]
    }
    spec = only(row for row in store.specs if row["id"] == fit["transformerSpec"])
    parameters = sorted(
        (row["paramName"], row["paramValue"])
        for row in store.hyperparameters.where("spec", spec["id"])
    )
    metrics = {
        (row["metricType"], row["metricValue"], tags.get(row["df"]))
        for row in store.metrics.where("transformer", model["id"])
    }
    frames = [(frame.tag, frame.filepath) for frame in expected.data_frames]
    documents = [
        each["NAME"] for each in server.documents if each["MODELDB_model_id"] == model["id"]
    ]
    documents_due = (
        [expected.model_name]
        if expected.metadata is not None and (documents or document_needed)
        else []
    )
    shown = {
        "model": (
            (model["tag"], model["transformerType"]),
            (expected.model_name, expected.model_type),
        ),
        "spec": (
            (spec["tag"], spec["transformerType"]),
            (expected.model_name, expected.model_type),
        ),
        "hyperparameters": (parameters, sorted(expected.hyperparameters)),
        "training data": (tags.get(fit["df"]), frames[0]),
        "data frames": (set(tags.values()), set(frames)),
        "metrics": (
            metrics,
            {(each.name, float32(each.value), frames[each.channel]) for each in expected.metrics},
        ),
        "documents": (documents, documents_due),
    }
    return found + [
        f"{word} {got} instead of {due}" for word, (got, due) in shown.items() if got != due
    ]


def writing_connections(server: ModelDbV1StandIn) -> set[int]:
    """The connections over which something was stored, 1 for the first that was ever served."""
    return {each.connection for each in server.received if each.method.startswith("store")}


def when_it_stores_a_fit(faults: InjectedFaults, act: Callable[[], None]) -> None:
    """Runs `act` right before the next fit is stored."""

    def look(_call: Call) -> bool:
        act()
        return True

    faults.hold_before_execution(method="storeFitEvent", when=look).release()


def orphan_sets(server: ModelDbV1StandIn) -> int:
    """The largest number of times that a run's data frames were stored again."""
    frames = [(row["experimentRun"], row["tag"]) for row in server.data_frames]
    return max((frames.count(each) - 1 for each in frames), default=0)


def at_each_call(server: ModelDbV1StandIn, method: str, act: Callable[[], None]) -> None:
    """Runs `act` before each call of the method is executed."""

    def look(_call: Call) -> bool:
        act()
        return False

    server.faults.refuse(None, method=method, when=look)


async def edge_fault(work: Awaitable[object]) -> EdgeFault:
    with pytest.raises(EdgeFault) as caught:
        await work
    return caught.value


async def lose(
    target: ModelDBV1Target, server: ModelDbV1StandIn, method: str, journal: MemoryJournal
) -> None:
    """An attempt in which the answer to the method's first call is lost."""
    server.faults.drop_before_answer(method=method)
    assert (await edge_fault(target.sync(full_job(), journal))).reason is Reason.UNREACHABLE


async def cancel_in(
    target: ModelDBV1Target, server: ModelDbV1StandIn, method: str, journal: MemoryJournal
) -> Any:
    """An attempt that is cancelled during the method's first call. Returns its hold."""
    hold = server.faults.hold_before_execution(method=method)
    syncing = asyncio.create_task(target.sync(full_job(), journal))
    await hold.reached.wait()
    syncing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await syncing
    return hold


async def mixed_up(
    server: ModelDbV1StandIn, target: ModelDBV1Target, journal: MemoryJournal
) -> None:
    fault = await edge_fault(target.sync(full_job(), journal))
    assert (fault.reason, fault.curable) == (Reason.OTHER_WRITER, True)
    assert "switch off every other writer" in fault.detail
    await until(lambda: server.open_connections == 0)


def move_models(server: ModelDbV1StandIn) -> None:
    """To another job's run."""
    other = server.store.runs.insert(
        {"experiment": 1, "description": "another job's", "created": 1}
    )["id"]
    for table in (server.store.models, server.store.fits):
        for row in list(table):
            table.delete(row["id"])
            table.insert(row | {"experimentRun": other})


def add_models(server: ModelDbV1StandIn, count: int) -> None:
    """Of other jobs, each in a run of its own."""
    store = server.store
    for _ in range(count):
        run = store.runs.insert({"experiment": 1, "description": "another job's", "created": 1})[
            "id"
        ]
        frame = store.data_frames.insert(
            {
                "tag": "train",
                "numRows": -1,
                "experimentRun": run,
                "filepath": "s3://data/other/train",
            }
        )
        spec = store.specs.insert(
            {"transformerType": "XGBoost", "tag": "churn-xgb", "experimentRun": run}
        )
        model = store.models.insert(
            {"transformerType": "XGBoost", "tag": "churn-xgb", "experimentRun": run}
        )
        store.fits.insert(
            {
                "transformerSpec": spec["id"],
                "transformer": model["id"],
                "df": frame["id"],
                "predictionColumns": "",
                "labelColumns": "",
                "experimentRun": run,
                "problemType": "undefined",
            }
        )

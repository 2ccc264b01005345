"""ModelDB V1 in the suite of targets: the stand-in of the tests."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, ClassVar

from daemon.targets.modeldb_v1.codec import INTERFACE
from daemon.targets.modeldb_v1.mapping import mark_in
from daemon.training_job.identity import JobMark
from tests.support.modeldb_v1_stand_in import ModelDbV1StandIn
from tests.support.modeldb_v1_target import Permit, target_on
from tests.targets.scene import NO_MARK, StoredRun, TargetScene, some_turns, texts_in, values_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from daemon.demo.modeldb_v1.store import Row
    from daemon.targets.ports import Target
    from tests.support.modeldb_v1_stand_in import Hold

_NOT_STORED = {"label_col", "prediction_col"}
"""Columns of a metric, which the server has no place for."""
_CREATE = "storeExperimentRunEvent"
_ONE_WRITER = "takes a single writer: a second process stands by"
_NO_LOGIN = "ModelDB V1 has no login"
_NO_DELETE = (
    "its interface deletes nothing; all writes go over one connection, in order, which prevents "
    "duplicates"
)


class ModelDbV1Scene(TargetScene):
    kind = "modeldb-v1"
    cannot: ClassVar[Mapping[str, str]] = {
        "test_two_jobs_at_once_in_two_processes": _ONE_WRITER,
        "test_duplicates_are_healed_and_the_oldest_stays": _NO_DELETE,
        "test_a_write_that_comes_while_it_settles_is_healed": _NO_DELETE,
        "test_find_heals_what_unanswered_writes_left": _NO_DELETE,
        "test_paused_in_a_create": "nobody else writes before the server has carried out what the "
        "last writer sent: the grace of the writer lease",
        "test_edge_throttled": "ModelDB V1 has no rate limit",
        "test_edge_login_refused": _NO_LOGIN,
        "test_the_login_shows_nowhere": _NO_LOGIN,
    }

    def __init__(self) -> None:
        super().__init__()
        self._server = ModelDbV1StandIn(mongo_timeout_seconds=0.0, storage_busy_seconds=0.0)
        self._permit: Permit | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.clear()
        await self._stack.aclose()

    async def open(self, *, timeout_seconds: float | None = None) -> Target:
        if self._permit is not None:
            self._permit.end()
        self._permit = Permit()
        target = await self._stack.enter_async_context(
            target_on(
                self._server.port,
                metadata_store=True,
                permit=self._permit,
                call_seconds=timeout_seconds or 60.0,
                settle_seconds=1.0,
                observe=lambda *words: self.observed.append(words),
            )
        )
        target._session._sleep = self.settling
        return target

    async def runs(self) -> Sequence[StoredRun]:
        return [self._stored(row) for row in self._server.runs]

    async def drain(self) -> None:
        await some_turns()

    async def requests(self) -> int:
        return len(self._server.received)

    async def add_copy(self, key: str, *, marked: bool = True) -> str:
        assert not marked
        row = self._server.store.runs.get(int(key))
        assert row is not None
        copy = {name: value for name, value in row.items() if name != "id"}
        return str(self._server.store.runs.insert(copy | {"description": "somebody's"})["id"])

    async def delete(self, key: str) -> None:
        self._server.store.runs.delete(int(key))

    async def add_by_hand(self, key: str) -> str:
        metric = next(row for row in self._server.metrics if str(row["experimentRun"]) == key)
        values = {name: value for name, value in metric.items() if name != "id"}
        self._server.store.metrics.insert(values | {"metricType": "by hand"})
        return "by hand"

    async def damage(self, key: str) -> None:
        metric = next(row for row in self._server.metrics if str(row["experimentRun"]) == key)
        self._server.store.metrics.delete(metric["id"])

    async def clear(self) -> None:
        self._server.faults.clear()
        await self._server.accept_connections()
        await self.drain()

    async def go_down(self) -> None:
        await self._server.aclose()

    def fall_silent(self) -> None:
        self._server.faults.freeze()

    def show_web_page(self) -> None:
        for number in range(1, 100):
            self._server.faults.garbage_answer(number)

    def lose_write(self) -> None:
        self._server.faults.drop_before_execution(method=_CREATE)

    def lose_answer(self) -> None:
        self._server.faults.drop_before_answer(method=_CREATE)

    def hold_write(self) -> Hold:
        return self._server.faults.hold_before_execution(method=_CREATE)

    def refuse_write(self, words: str) -> None:
        refusal = INTERFACE.ServerLogicException(f"IllegalArgumentException: {words}")
        self._server.faults.refuse(refusal, method=_CREATE)

    def written(self, document: Mapping[str, Any]) -> Iterator[str]:
        # a text in <> stands for an id that the server gives
        for call in document["calls"]:
            for text in values_in(call["arguments"]):
                if text.startswith("{"):
                    yield from texts_in(json.loads(text))  # the metadata
                elif not text.startswith("<") and text not in _NOT_STORED:
                    yield text

    def _stored(self, run: Row) -> StoredRun:
        store = self._server.store
        fits = [row for row in store.fits if row["experimentRun"] == run["id"]]
        models = {row["transformer"] for row in fits}
        metrics = [row for model in models for row in store.metrics.where("transformer", model)]
        specs = {row["transformerSpec"] for row in fits}
        parameters = [row for spec in specs for row in store.hyperparameters.where("spec", spec)]
        frames = store.data_frames.where("experimentRun", run["id"])
        experiment = store.experiments.get(run["experiment"]) or {}
        marker = mark_in(run["description"])
        related: list[Any] = [
            *(run, experiment, store.projects.get(experiment["project"])),
            *(*fits, *metrics, *parameters, *frames),
            *(store.models.get(model) for model in models),
            *(store.specs.get(spec) for spec in specs),
            *(row for row in self._server.stored_documents if row["MODELDB_model_id"] in models),
        ]
        return StoredRun(
            key=str(run["id"]),
            mark=NO_MARK if marker is None else JobMark(*marker.split(" ")[1:]),
            name=run["description"],
            hyperparameters={row["paramName"]: row["paramValue"] for row in parameters},
            metrics={row["metricType"]: row["metricValue"] for row in metrics},
            inputs={row["tag"]: row["filepath"] for row in frames if row["tag"]},
            complete=bool(fits),
            texts=frozenset(texts_in(related)),
        )

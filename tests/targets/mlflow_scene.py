"""MLflow in the suite of targets: the stand-in of the tests."""

from __future__ import annotations

import contextlib
import copy
import json
import uuid
from typing import TYPE_CHECKING, Any, ClassVar

import stamina

from daemon.targets.http.session import HttpSession
from daemon.targets.mlflow.client import HINTS, MlflowClient
from daemon.targets.mlflow.mapping import ARN_TAG, CREATION_TIME_TAG, WRITTEN_TAG
from daemon.targets.mlflow.target import MlflowTarget
from daemon.training_job.identity import JobMark
from tests.support.mlflow_stand_in import MlflowStandIn
from tests.targets.scene import NO_MARK, StoredRun, TargetScene, some_turns, texts_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from daemon.targets.ports import Target
    from tests.support.fault_plans import Hold

_CREATE = "runs/create"
_FOREVER = 10**6
_FINAL = {"FINISHED", "FAILED", "KILLED"}


class MlflowScene(TargetScene):
    kind = "mlflow"
    login = "Bearer s3cr3t-l0g1n-0123456789"
    behaviour: ClassVar[Mapping[str, str]] = {}
    """Of the server, as `MlflowModel` takes it."""

    def __init__(self) -> None:
        super().__init__()
        login = {"Authorization": self.login or ""}
        self._server = MlflowStandIn(require_headers=login, **self.behaviour)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.enter_context(stamina.set_testing(True, attempts=3, cap=True))
        self._server.faults.database_answer_seconds = 0.0
        await self._stack.enter_async_context(self._server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.clear()
        await self._stack.aclose()
        assert self._server.model.stopped_parses == [], "a value of a wrong type was sent"

    async def open(self, *, timeout_seconds: float | None = None) -> Target:
        session = HttpSession(
            HINTS,
            headers={"Authorization": self.login or ""},
            tls=None,
            timeout_seconds=timeout_seconds or 60.0,
            max_concurrency=8,
        )
        client = MlflowClient(
            session, self._server.url, observe=lambda *words: self.observed.append(words)
        )
        target = MlflowTarget(client, settle_seconds=30.0, sleep=self.settling)
        self._stack.push_async_callback(target.aclose)
        return target

    async def runs(self) -> Sequence[StoredRun]:
        model = self._server.model
        experiments = {each["experiment_id"]: each for each in model.experiments()}
        models = {each["name"]: each for each in model.registered_models()}
        versions = model.model_versions()
        found = []
        for run in model.runs():
            if run["info"]["lifecycle_stage"] != "active":
                continue
            own = [each for each in versions if each["run_id"] == run["info"]["run_id"]]
            related = [experiments[run["info"]["experiment_id"]], *own]
            found.append(stored_run(run, [run, *related, *(models[each["name"]] for each in own)]))
        return found

    async def drain(self) -> None:
        await some_turns()
        while self._server.under_way:
            await some_turns()

    async def requests(self) -> int:
        return sum(self._server.requests.values())

    async def add_copy(self, key: str, *, marked: bool = True) -> str:
        run = copy.deepcopy(self._server.model.store.runs[key])
        run.id = uuid.uuid4().hex
        if marked:
            run.tags[WRITTEN_TAG] = "2999-01-01T00:00:00.000Z later"
        else:
            del run.tags[ARN_TAG], run.tags[CREATION_TIME_TAG]
        self._server.model.store.add_run(run)
        return run.id

    async def delete(self, key: str) -> None:
        """For good, as ``mlflow gc`` does: one in the trash is not written again."""
        store = self._server.model.store
        run = store.runs.pop(key)
        store.runs_of[run.experiment_id].remove(run)
        for versions in store.versions.values():
            for version in versions:
                version.deleted |= version.run_id == key

    async def add_by_hand(self, key: str) -> str:
        self._server.model.store.runs[key].tags["reviewed"] = "by hand"
        return "by hand"

    async def damage(self, key: str) -> None:
        run = self._server.model.store.runs[key]
        point = run.latest.pop("loss")
        del run.points[point]

    async def clear(self) -> None:
        self._server.faults.clear()
        self._server.require_headers = {"Authorization": self.login or ""}
        await self.drain()

    async def go_down(self) -> None:
        self._server.faults.database_down = True

    def fall_silent(self) -> None:
        self._server.faults.frozen = True

    def throttle(self) -> None:
        body = {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "too many requests"}
        self._server.faults.refuse_next(_FOREVER, 429, body)

    def show_web_page(self) -> None:
        self._server.faults.web_page = True

    def refuse_login(self) -> None:
        self._server.require_headers = {"Authorization": "Bearer another"}

    def lose_write(self) -> None:
        body = {"error_code": "DEADLINE_EXCEEDED", "message": "too late"}
        self._server.faults.refuse_next(1, 504, body, operation=_CREATE)

    def lose_answer(self) -> None:
        self._server.faults.lose_next_answers(1, operation=_CREATE)

    def hold_write(self) -> Hold:
        return self._server.faults.hold_next(operation=_CREATE)

    def refuse_write(self, words: str) -> None:
        body = {"error_code": "INVALID_PARAMETER_VALUE", "message": words}
        self._server.faults.refuse_next(1, 400, body, operation=_CREATE)


class Mlflow2Scene(MlflowScene):
    """The last version 2."""

    behaviour: ClassVar[Mapping[str, str]] = {"version": "2.22.5"}


class MlflowOnPostgresqlScene(MlflowScene):
    """With a database that has limits."""

    behaviour: ClassVar[Mapping[str, str]] = {"database": "postgresql"}


def stored_run(run: Mapping[str, Any], related: Sequence[Any]) -> StoredRun:
    tags, inputs = run["tags"], run["inputs"].get("dataset_inputs", ())
    datasets = {each["dataset"]["name"]: each["dataset"]["source"] for each in inputs}
    return StoredRun(
        key=run["info"]["run_id"],
        mark=JobMark(tags[ARN_TAG], tags[CREATION_TIME_TAG]) if ARN_TAG in tags else NO_MARK,
        name=run["info"]["run_name"],
        hyperparameters=run["params"],
        metrics={
            key.replace("/", ":"): float(point["value"]) for key, point in run["metrics"].items()
        },
        inputs={name: json.loads(source)["uri"] for name, source in datasets.items()},
        complete=run["info"]["status"] in _FINAL,
        texts=frozenset(texts_in(related)),
    )

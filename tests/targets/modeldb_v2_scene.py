"""ModelDB V2 in the suite of targets: the stand-in of the tests."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import stamina

from daemon.demo.modeldb_v2 import calls, store
from daemon.targets.modeldb_v2.mapping import ARN_ATTRIBUTE, CREATION_TIME_ATTRIBUTE
from daemon.training_job.identity import JobMark
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.modeldb_v2_target import CLOSING, CREATE, attributes, duplicate, target_of
from tests.targets.scene import NO_MARK, StoredRun, TargetScene, some_turns, texts_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from daemon.targets.ports import Target
    from tests.support.fault_plans import Hold

_FOREVER = 10**6


class ModelDbV2Scene(TargetScene):
    kind = "modeldb-v2"
    login = "Bearer s3cr3t-l0g1n-0123456789"

    def __init__(self) -> None:
        super().__init__()
        self._server = ModelDbV2StandIn(require_headers={"Authorization": self.login or ""})
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        patch = self._stack.enter_context(pytest.MonkeyPatch.context())
        # by the wall clock two runs may have the same millisecond, and then chance says which is
        # the oldest
        milliseconds = itertools.count(1_763_628_000_000)
        for module in (calls, store):
            patch.setattr(module, "now", lambda: str(next(milliseconds)))
        self._stack.enter_context(stamina.set_testing(True, attempts=3, cap=True))
        self._server.faults.database_answer_seconds = 0.0
        await self._stack.enter_async_context(self._server)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.clear()
        await self._stack.aclose()

    async def open(self, *, timeout_seconds: float | None = None) -> Target:
        target: Target = await self._stack.enter_async_context(
            target_of(
                self._server.url,
                self.settling,
                headers={"Authorization": self.login},
                timeout_seconds=timeout_seconds or 60.0,
                observe=lambda *words: self.observed.append(words),
            )
        )
        return target

    async def runs(self) -> Sequence[StoredRun]:
        projects = {row["id"]: row for row in self._server.projects()}
        experiments = {row["id"]: row for row in self._server.experiments()}
        return [
            _stored(row, [row, projects.get(row["project_id"]), experiments[row["experiment_id"]]])
            for row in self._server.runs()
        ]

    async def drain(self) -> None:
        await some_turns()
        while self._server.under_way:
            await some_turns()

    async def requests(self) -> int:
        return sum(self._server.requests.values())

    async def add_copy(self, key: str, *, marked: bool = True) -> str:
        changed: dict[str, Any] = {} if marked else {"attributes": []}
        return duplicate(self._server, key, later_ms=5, **changed)

    async def delete(self, key: str) -> None:
        self._server.store.runs.delete(self._server.store.run(key))

    async def add_by_hand(self, key: str) -> str:
        self._server.store.run(key).row["tags"].append("by hand")
        return "by hand"

    async def damage(self, key: str) -> None:
        self._server.store.run(key).row["metrics"].pop()

    async def clear(self) -> None:
        self._server.faults.clear()
        self._server.require_headers = {"Authorization": self.login or ""}
        await self.drain()

    async def go_down(self) -> None:
        self._server.faults.backend_down = True

    def fall_silent(self) -> None:
        self._server.faults.frozen = True

    def throttle(self) -> None:
        self._server.faults.refuse_next(_FOREVER, 429, "too many requests")

    def show_web_page(self) -> None:
        self._server.faults.web_page = True

    def refuse_login(self) -> None:
        self._server.require_headers = {"Authorization": "Bearer another"}

    def lose_write(self) -> None:
        self._server.faults.refuse_next(1, *CLOSING, operation=CREATE)

    def lose_answer(self) -> None:
        self._server.faults.lose_next_answers(1, operation=CREATE)

    def hold_write(self) -> Hold:
        return self._server.faults.hold_next(operation=CREATE)

    def refuse_write(self, words: str) -> None:
        body = {"code": 3, "message": words, "error": words}
        self._server.faults.refuse_next(1, 400, body, operation=CREATE)


def _stored(row: Mapping[str, Any], related: list[Any]) -> StoredRun:
    found = attributes(row)
    arn, parameters = found.get(ARN_ATTRIBUTE), row.get("hyperparameters", ())
    return StoredRun(
        key=row["id"],
        mark=NO_MARK if arn is None else JobMark(arn, found[CREATION_TIME_ATTRIBUTE]),
        name=row["name"],
        hyperparameters={each["key"]: str(each["value"]) for each in parameters},
        metrics={item["key"].replace("/", ":"): item["value"] for item in row.get("metrics", ())},
        inputs={item["key"]: item["path"] for item in row.get("datasets", ())},
        complete=True,  # a run is stored in one call
        texts=frozenset(texts_in(related)),
    )

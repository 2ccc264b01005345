"""A real MLflow in the suite of targets: the stand-in's faults before the server's own answers."""

from __future__ import annotations

import copy
import http.client
import json
import urllib.parse
from typing import TYPE_CHECKING, Any, ClassVar

from daemon.demo.mlflow.replies import Reply
from daemon.targets.mlflow.mapping import ARN_TAG, CREATION_TIME_TAG, DOUBLE_OF_TAG, WRITTEN_TAG
from tests.support.mlflow_stand_in import MlflowStandIn
from tests.targets.mlflow_scene import MlflowScene, stored_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Self

    from aiohttp import web

    from tests.targets.scene import StoredRun

_API = "/api/2.0/mlflow"
_ALL = {"view_type": "ALL", "max_results": 1000}


class RealServer:
    """A server's REST API, in plain blocking calls.

    Args:
        url: its base URL.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)

    def send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        try:
            connection.request(method, path, body, {**headers, "Connection": "close"})
            answer = connection.getresponse()
            kind = answer.headers.get("Content-Type", "")
            return Reply(answer.status, kind, answer.read())
        finally:
            connection.close()

    def call(self, operation: str, body: Mapping[str, Any], method: str = "POST") -> dict[str, Any]:
        path, data = f"{_API}/{operation}", b""
        if method == "GET":
            path += f"?{urllib.parse.urlencode(body)}"
        else:
            data = json.dumps(body).encode()
        reply = self.send(method, path, {"Content-Type": "application/json"}, data)
        assert reply.status == 200, (operation, reply)
        answer: dict[str, Any] = json.loads(reply.body)
        return answer

    def experiments(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("experiments/search", _ALL).get("experiments", [])
        return found

    def runs(self) -> Iterator[dict[str, Any]]:
        """Those that are not deleted, the oldest first, in the form of `MlflowModel.runs`."""
        wanted = {
            "experiment_ids": [each["experiment_id"] for each in self.experiments()],
            "run_view_type": "ACTIVE_ONLY",
            "max_results": 1000,
        }
        found = self.call("runs/search", wanted).get("runs", [])
        for run in sorted(
            found, key=lambda each: _values(each["data"], "tags").get(WRITTEN_TAG, "")
        ):
            data = run["data"]
            yield {
                **run,
                "inputs": run.get("inputs", {}),
                "tags": _values(data, "tags"),
                "params": _values(data, "params"),
                "metrics": {each["key"]: each for each in data.get("metrics", ())},
            }

    def model_versions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call("model-versions/search", {}, "GET").get(
            "model_versions", []
        )
        return found

    def registered_models(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.call(
            "registered-models/search", {"max_results": 1000}, "GET"
        ).get("registered_models", [])
        return found

    def delete_run(self, run_id: str) -> None:
        """As a duplicate, so that its job is written again."""
        mark = {"run_id": run_id, "key": DOUBLE_OF_TAG, "value": "none"}
        self.call("runs/set-tag", mark)
        self.call("runs/delete", {"run_id": run_id})

    def delete_versions(self, run_id: str | None = None) -> None:
        for each in self.model_versions():
            if run_id in {None, each["run_id"]}:
                wanted = {"name": each["name"], "version": each["version"]}
                self.call("model-versions/delete", wanted, "DELETE")


def _values(data: Mapping[str, Any], member: str) -> dict[str, str]:
    return {each["key"]: each["value"] for each in data.get(member, ())}


class _Front(MlflowStandIn):
    """What stands before the real server: it loses, holds and refuses, and forwards the rest."""

    def __init__(self, real: RealServer, **settings: Any) -> None:
        super().__init__(**settings)
        self._real = real

    def _carry_out(self, request: web.Request, body: bytes) -> Reply:
        if self.faults.database_down:
            return super()._carry_out(request, body)
        kind = request.headers.get("Content-Type")
        headers = {} if kind is None else {"Content-Type": kind}
        return self._real.send(request.method, request.raw_path, headers, body)


class RealMlflowScene(MlflowScene):
    """Empties the server at its beginning. Its runs are deleted as duplicates, for MLflow deletes
    nothing for good.
    """

    url: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()
        self._real = RealServer(self.url)
        self._server = _Front(self._real, require_headers={"Authorization": self.login or ""})

    async def __aenter__(self) -> Self:
        for run in list(self._real.runs()):
            self._real.delete_run(run["info"]["run_id"])
        self._real.delete_versions()
        return await super().__aenter__()

    async def runs(self) -> Sequence[StoredRun]:
        experiments = {each["experiment_id"]: each for each in self._real.experiments()}
        models = {each["name"]: each for each in self._real.registered_models()}
        versions = self._real.model_versions()
        found = []
        for run in self._real.runs():
            own = [each for each in versions if each["run_id"] == run["info"]["run_id"]]
            related = [experiments[run["info"]["experiment_id"]], *own]
            related += [models[each["name"]] for each in own]
            found.append(stored_run(run, [run, *related]))
        return found

    async def add_copy(self, key: str, *, marked: bool = True) -> str:
        run = next(each for each in self._real.runs() if each["info"]["run_id"] == key)
        info, tags = run["info"], copy.deepcopy(run["tags"])
        if marked:
            tags[WRITTEN_TAG] = "2999-01-01T00:00:00.000Z later"
        else:
            del tags[ARN_TAG], tags[CREATION_TIME_TAG]
        made = self._real.call(
            "runs/create",
            {
                "experiment_id": info["experiment_id"],
                "run_name": info["run_name"],
                "start_time": info["start_time"],
                "tags": _pairs(tags),
            },
        )["run"]["info"]["run_id"]
        content = {"params": _pairs(run["params"]), "metrics": list(run["metrics"].values())}
        self._real.call("runs/log-batch", {"run_id": made, **content})
        end = {"status": info["status"], "end_time": info["end_time"]}
        self._real.call("runs/update", {"run_id": made, **end})
        return str(made)

    async def delete(self, key: str) -> None:
        self._real.delete_versions(key)
        self._real.delete_run(key)

    async def add_by_hand(self, key: str) -> str:
        self._real.call("runs/set-tag", {"run_id": key, "key": "reviewed", "value": "by hand"})
        return "by hand"

    async def damage(self, key: str) -> None:
        """A tag: no call takes a metric away."""
        self._real.call("runs/delete-tag", {"run_id": key, "key": "model_type"})


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]

"""Calls of `MlflowModel` in tests: JSON in, status and JSON out, with a clock and ids that tell."""

from __future__ import annotations

import itertools
import json
import urllib.parse
from typing import Any

from daemon.demo.mlflow.model import MlflowModel

API = "/api/2.0/mlflow/"
JSON_HEADERS = {"Content-Type": "application/json", "Host": "127.0.0.1:5000"}


class ModelCalls:
    """A model and its calls.

    Args:
        behaviour: of the model.
    """

    def __init__(self, **behaviour: Any) -> None:
        ids = itertools.count(1)
        self.now_ms = 1_800_000_000_000
        self.model = MlflowModel(
            now_ms=lambda: self.now_ms, new_id=lambda: f"{next(ids):032x}", **behaviour
        )

    def raw(
        self, method: str, operation: str, body: bytes = b"", query: str = "", **headers: str
    ) -> tuple[int, str, str]:
        """Status, content type and body of an answer.

        Args:
            headers: besides or instead of those of a JSON request; "" leaves one out.
        """
        given = JSON_HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
        path = operation if operation.startswith("/") else API + operation
        given = {name: value for name, value in given.items() if value}
        reply = self.model.answer(method, path, query, given, body)
        return reply.status, reply.content_type, reply.body.decode()

    def post(self, operation: str, body: Any, method: str = "POST") -> tuple[int, Any]:
        """Status and JSON of an answer; `body` may be text, to send what JSON has no word for."""
        text = body if isinstance(body, str) else json.dumps(body)
        status, _, answer = self.raw(method, operation, text.encode())
        return status, json.loads(answer)

    def get(self, operation: str, **query: str) -> tuple[int, Any]:
        status, _, answer = self.raw("GET", operation, query=urllib.parse.urlencode(query))
        return status, json.loads(answer)

    def done(self, operation: str, body: Any) -> Any:
        """The JSON of an answer that must be 200."""
        status, answer = self.post(operation, body)
        assert status == 200, answer
        return answer

    def experiment(self, name: str = "churn") -> str:
        return str(self.done("experiments/create", {"name": name})["experiment_id"])

    def run(self, experiment_id: str = "0", **members: Any) -> str:
        body = {"experiment_id": experiment_id, **members}
        return str(self.done("runs/create", body)["run"]["info"]["run_id"])

    def stored(self, run_id: str) -> dict[str, Any]:
        """A run as `MlflowModel.runs` shows it, with ``info`` flattened into it."""
        [run] = [run for run in self.model.runs() if run["info"]["run_id"] == run_id]
        return {**run["info"], **run}

"""What real servers answered (tests/data/mlflow): each answer is read, or taken for what it is."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from daemon.targets.http.answers import Answer, Request
from daemon.targets.mlflow import entities
from daemon.targets.mlflow.errors import ApiError, ApiErrorKind, judged
from tests.support.mlflow_exchanges import FOLDER, SCRIPTS, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

READERS: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "experiments/create": entities.experiment_id,
    "experiments/get": entities.EXPERIMENT,
    "experiments/get-by-name": entities.EXPERIMENT,
    "experiments/search": entities.EXPERIMENTS,
    "runs/create": entities.RUN,
    "runs/get": entities.RUN,
    "runs/search": entities.RUNS,
    "runs/update": entities.run_status,
    "registered-models/create": entities.registered_model,
    "registered-models/get": entities.registered_model,
    "model-versions/create": entities.MODEL_VERSION,
    "model-versions/update": entities.MODEL_VERSION,
    "model-versions/search": entities.MODEL_VERSIONS,
}
"""All other calls answer an empty object."""

KINDS = {
    (400, "BAD_REQUEST"): ApiErrorKind.DATABASE_REFUSED,
    (400, "INVALID_PARAMETER_VALUE"): ApiErrorKind.INVALID,
    (400, "RESOURCE_ALREADY_EXISTS"): ApiErrorKind.EXISTS,
    (404, "RESOURCE_DOES_NOT_EXIST"): ApiErrorKind.ABSENT,
    (500, "INTERNAL_ERROR"): ApiErrorKind.INTERNAL,
    (401, None): ApiErrorKind.UNAUTHENTICATED,
    (403, None): ApiErrorKind.HOST_REFUSED,
    (404, None): ApiErrorKind.NOT_THE_API,
    (405, None): ApiErrorKind.NOT_THE_API,
    (500, None): ApiErrorKind.INTERNAL,
    (503, "TEMPORARILY_UNAVAILABLE"): ApiErrorKind.DATABASE_DOWN,
}
"""By status and error code."""

SERVERS = sorted(file.stem for file in FOLDER.glob("*.jsonl"))
WHOLE_SCRIPT = {"read", "absent", "exists", "inactive", "invalid", "not_the_api"}
SEEN = {
    "3.17.2-basic-auth": {"read", "absent", "unauthenticated", "access_denied"},
    "3.17.2-database-down": {"database_down", "invalid"},
}
"""What is at least among the answers; of all others `WHOLE_SCRIPT`."""


@pytest.mark.parametrize("server", SERVERS)
def test_what_real_servers_answer_is_understood(server: str) -> None:
    answers = recorded(server)
    taken: Counter[str] = Counter()
    for step in SCRIPTS[server]:
        found = answers[step.name]
        text = found.body if isinstance(found.body, str) else json.dumps(found.body)
        answer = Answer(found.status, found.content_type, text.encode())
        operation = step.path.removeprefix("/api/2.0/mlflow/")
        request = Request(operation, f"http://mlflow:5000{step.path}", len(step.body))
        outcome = judged_or_error(answer, request)
        if isinstance(outcome, ApiError):
            assert (outcome.kind, outcome.code) == expected(found.status, found.body), step.name
            taken[outcome.kind] += 1
        else:
            READERS.get(operation, entities.nothing)(outcome)
            taken["read"] += 1

    assert taken.total() == len(SCRIPTS[server])
    assert taken.keys() >= SEEN.get(server, WHOLE_SCRIPT)


def judged_or_error(answer: Answer, request: Request) -> dict[str, Any] | ApiError:
    try:
        return judged(answer, request)
    except ApiError as error:
        return error


def expected(status: int, body: Any) -> tuple[ApiErrorKind, str | None]:
    code = body["error_code"] if isinstance(body, dict) else None
    if code == "INVALID_PARAMETER_VALUE" and "must be in the 'active' state" in body["message"]:
        return ApiErrorKind.INACTIVE, code
    if isinstance(body, str) and "Permission denied" in body:
        return ApiErrorKind.ACCESS_DENIED, None
    if status == 200:  # such as /health
        return ApiErrorKind.NOT_THE_API, None
    return KINDS[status, code], code


def test_all_servers_are_recorded() -> None:
    assert sorted(SCRIPTS) == SERVERS
    assert {"2.22.5-sqlite", "3.17.2-postgresql", "3.17.2-sqlite"} < set(SERVERS)

"""The model of MLflow's server gives the answers that the real servers gave.

`tests/real/test_real_mlflow_exchanges.py` plays the
same script against real servers.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from daemon.demo.mlflow.model import MlflowModel
from tests.support.mlflow_exchanges import SCRIPTS, Answer, play, recorded
from tests.support.mlflow_script import LOGINS, PARTS, STEPS

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVERS: Mapping[str, Mapping[str, Any]] = {
    "3.17.2-sqlite": {"version": "3.17.2"},
    "2.22.5-sqlite": {"version": "2.22.5"},
    "3.17.2-postgresql": {"version": "3.17.2", "database": "postgresql"},
}
OTHERS: Mapping[str, Mapping[str, Any]] = {
    "3.17.2-basic-auth": {"logins": LOGINS},
    "3.17.2-database-down": {"database": "postgresql"},
}


@functools.cache
def of_model(server: str) -> Mapping[str, Answer]:
    """The model's answers to the whole script."""
    ids, times = itertools.count(1), itertools.count(1_800_000_000_000)
    model = MlflowModel(
        now_ms=lambda: next(times),
        new_id=lambda: f"{next(ids):032x}",
        **{**SERVERS, **OTHERS}[server],
    )

    def send(
        method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str, bytes]:
        reply = model.answer(method, path, query, {"Host": "127.0.0.1:5000"} | dict(headers), body)
        return reply.status, reply.content_type, reply.body

    if server == "3.17.2-database-down":
        model.database_down = True
    return play(send, SCRIPTS[server])


@functools.cache
def of_real(server: str) -> Mapping[str, Answer]:
    return recorded(server)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("server", SERVERS)
def test_the_model_answers_as_the_real_server(server: str, part: str) -> None:
    steps = [step.name for step in PARTS[part]]
    real, model = of_real(server), of_model(server)
    assert {step: model[step] for step in steps} == {step: real[step] for step in steps}


@pytest.mark.parametrize("server", ["3.17.2-basic-auth", "3.17.2-database-down"])
def test_the_model_answers_as_a_server_with_logins_or_without_a_database(server: str) -> None:
    assert of_model(server) == of_real(server)


def test_the_script_is_long_and_every_step_was_recorded() -> None:
    assert len(STEPS) >= 150
    for server, steps in SCRIPTS.items():
        assert list(of_real(server)) == [step.name for step in steps]

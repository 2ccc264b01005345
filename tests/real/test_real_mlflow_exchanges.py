"""Real MLflow servers still answer the script as recorded: what the stand-in's model imitates is
theirs. MLFLOW_LAB names the script that controls them.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.real.mlflow_lab import LAB, lab_server
from tests.support.mlflow_exchanges import http_send, play, recorded

pytestmark = [
    pytest.mark.slow,  # a server starts in 6 to 13 s and takes as long for the script
    pytest.mark.skipif(not LAB, reason="MLFLOW_LAB names no script that controls MLflow servers"),
    pytest.mark.timeout(180),
]


@pytest.mark.parametrize(("version", "name"), [(3, "3.17.2-sqlite"), (2, "2.22.5-sqlite")])
async def test_the_real_server_answers_as_recorded(version: int, name: str) -> None:
    async with lab_server(version=version) as server:
        answers = await asyncio.to_thread(play, http_send(server.url))
    assert answers == recorded(name)

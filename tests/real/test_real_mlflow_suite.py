"""The suite of targets on real MLflow servers, with faults between the target and the server.

MLFLOW_LAB names the script that controls them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.real.mlflow_lab import LAB, LabServer
from tests.real.mlflow_suite_scene import RealMlflowScene
from tests.targets.suite import TargetSuite

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,  # a server starts in 6 to 13 s, and each of its calls takes 10 ms
    pytest.mark.skipif(not LAB, reason="MLFLOW_LAB names no script that controls MLflow servers"),
    pytest.mark.timeout(180),
    pytest.mark.xdist_group("mlflow-suite"),  # share their server
]


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    server = LabServer()
    asyncio.run(server.up())
    RealMlflowScene.url = server.url
    yield
    asyncio.run(server.down())


class TestRealMlflow(TargetSuite):
    new_scene = RealMlflowScene

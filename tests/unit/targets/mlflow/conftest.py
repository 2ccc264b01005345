"""Fixtures of the MLflow target: the stand-in server and targets of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import stamina

from tests.support.mlflow_stand_in import MlflowStandIn
from tests.support.mlflow_target import TargetScene, scene_of
from tests.support.target_jobs import MemoryJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


@pytest.fixture
async def server(no_pauses: None) -> AsyncIterator[MlflowStandIn]:
    async with MlflowStandIn() as stand_in:
        yield stand_in
        assert stand_in.model.stopped_parses == [], "a value of a wrong type was sent"


@pytest.fixture
async def scene(server: MlflowStandIn) -> AsyncIterator[TargetScene]:
    async with scene_of(server, ui_url="http://ui:5000/") as scene:
        yield scene


@pytest.fixture
async def other(server: MlflowStandIn) -> AsyncIterator[TargetScene]:
    """Another process with a target of the same server."""
    async with scene_of(server) as scene:
        yield scene


@pytest.fixture
def journal() -> MemoryJournal:
    """Of a job whose write has never begun."""
    return MemoryJournal()

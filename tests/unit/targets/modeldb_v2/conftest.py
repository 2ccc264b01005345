"""Fixtures of the ModelDB V2 target: the stand-in server with a clock of its own, targets of it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import stamina

from daemon.demo.modeldb_v2 import calls, store
from tests.support.modeldb_v2_scripted import Deadlines
from tests.support.modeldb_v2_stand_in import ModelDbV2StandIn
from tests.support.modeldb_v2_target import MemoryJournal, TargetScene, scene_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def no_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


@pytest.fixture
def _ticking_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each timestamp of the server is one millisecond later than the one before. By the wall clock,
    two entities can have the same millisecond, and then a random id decides which is the oldest.
    """
    milliseconds = itertools.count(1_763_628_000_000)

    def now() -> str:
        return str(next(milliseconds))

    for module in (calls, store):
        monkeypatch.setattr(module, "now", now)


@pytest.fixture
async def server(_ticking_clock: None, no_pauses: None) -> AsyncIterator[ModelDbV2StandIn]:
    async with ModelDbV2StandIn() as stand_in:
        stand_in.faults.database_answer_seconds = 0.01
        yield stand_in


@pytest.fixture
async def scene(server: ModelDbV2StandIn) -> AsyncIterator[TargetScene]:
    async with scene_of(server) as scene:
        yield scene


@pytest.fixture
async def other(server: ModelDbV2StandIn) -> AsyncIterator[TargetScene]:
    """Another process with a target of the same server."""
    async with scene_of(server) as scene:
        yield scene


@pytest.fixture
def deadlines(monkeypatch: pytest.MonkeyPatch) -> Deadlines:
    return Deadlines(monkeypatch)


@pytest.fixture
def journal() -> MemoryJournal:
    """Of a job whose write has never begun."""
    return MemoryJournal()

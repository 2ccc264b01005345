"""Fixtures of the tests in this folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.flow_scene import flow_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.flow_scene import FlowScene


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of the checkpoint."""
    return tmp_path / "checkpoint.db"


@pytest.fixture
async def scene(path: Path) -> AsyncIterator[FlowScene]:
    async with flow_scene(path) as made:
        yield made

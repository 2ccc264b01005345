"""Fixtures of the tests of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.config_loader import Loader

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def loader(tmp_path: Path) -> Loader:
    return Loader(tmp_path)

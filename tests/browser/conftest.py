"""One Chromium for all tests, with a tab for each."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import Tab, running_chromium, tab_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_chromium(tmp_path_factory.mktemp("chromium")) as address:
        yield address


@pytest.fixture
async def tab(chromium: str) -> AsyncIterator[Tab]:
    async with tab_of(chromium) as made:
        yield made


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core: of the folder that AXE_CORE names, or else fetched by npm."""
    folder = os.environ.get("AXE_CORE")
    if folder:
        return (Path(folder) / "axe.min.js").read_text(encoding="utf-8")
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs axe-core: npm on PATH, or its folder in AXE_CORE")
    place = tmp_path_factory.mktemp("axe")
    fetched = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--silent", "axe-core@4"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"needs axe-core, which npm cannot fetch: {fetched.stderr[:200]}")
    return (place / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")

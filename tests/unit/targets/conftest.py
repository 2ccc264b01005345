"""Fixtures that both kinds of target share."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.targets import server_detection
from daemon.targets.server_detection import Server, which_server


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Server detection gives up on silent servers after 0.2 s."""

    async def impatient(host: str, port: int, **options: Any) -> Server:
        return await which_server(host, port, **options, seconds=0.2)

    monkeypatch.setattr(server_detection, "which_server", impatient)

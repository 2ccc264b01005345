from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.checkpoint.ports import HistoryFilter
from daemon.checkpoint.registry import open_checkpoint
from daemon.config.settings import SqliteSettings
from daemon.errors import SetupFault
from tests.support.checkpoint_calls import TARGET, claimed, synced

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_checkpoint_is_created_only_where_it_may_be(path: Path) -> None:
    settings = SqliteSettings(path=path)
    with pytest.raises(SetupFault, match=r"^checkpoint\.path: there is no checkpoint at .*"):
        await open_checkpoint(settings, TARGET, create=False)
    assert not path.exists()

    made = await open_checkpoint(settings, TARGET)
    await synced(made, await claimed(made))
    await made.aclose()

    found = await open_checkpoint(settings, TARGET, create=False)
    assert len(await found.history(HistoryFilter())) == 1
    await found.aclose()
